//! What there is of CUDA on this machine, found out without ever panicking.
#![cfg_attr(feature = "cuda", allow(unsafe_code))] // calls into the driver's and NVRTC's C interfaces

use std::fmt;

/// Version of a driver's interface or of NVRTC, for example 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// One GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Number, as in `cuda:0`.
    pub index: usize,
    /// Name, as the driver reports it.
    pub name: String,
    /// Compute capability: 9.0 for an H100.
    pub compute_capability: Version,
    /// Total memory in bytes.
    pub memory_bytes: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

/// What there is, and why it cannot be used where it cannot.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Probe {
    /// The CUDA version that the driver supports.
    pub driver: Option<Version>,
    /// The run-time compiler.
    pub nvrtc: Option<Version>,
    /// Whether cuBLAS was found. It is not needed.
    pub cublas: bool,
    /// The GPUs.
    pub devices: Vec<DeviceInfo>,
    /// Why CUDA is not usable; `None` where it is.
    pub unusable: Option<Unusable>,
}

/// Why CUDA is not usable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// Built without the feature.
    #[error("this program was built without the feature `cuda`")]
    NotBuilt,
    /// No driver.
    #[error("the NVIDIA driver's library ({0}) was not found")]
    NoDriver(&'static str),
    /// An old driver.
    #[error("the NVIDIA driver supports CUDA {found}; {needed} or newer is needed")]
    DriverTooOld {
        /// What it supports.
        found: Version,
        /// What is needed.
        needed: Version,
    },
    /// The driver refused a call.
    #[error("{call} failed: {message}")]
    Driver {
        /// The call.
        call: &'static str,
        /// What the driver said.
        message: String,
    },
    /// A driver without GPUs.
    #[error("the driver sees no GPU")]
    NoDevice,
    /// No compiler.
    #[error(
        "NVRTC ({0}), which compiles the kernels, was not found; it comes with the CUDA toolkit and with the Python package nvidia-cuda-nvrtc"
    )]
    NoNvrtc(&'static str),
    /// An old compiler.
    #[error("NVRTC is version {found}; {needed} or newer is needed")]
    NvrtcTooOld {
        /// What was found.
        found: Version,
        /// What is needed.
        needed: Version,
    },
    /// A compiler whose programs the driver cannot load.
    #[error("NVRTC {nvrtc} is of a newer generation than the driver, which supports CUDA {driver}: update the driver, or install NVRTC {}", driver.major)]
    NvrtcTooNew {
        /// The compiler.
        nvrtc: Version,
        /// The driver.
        driver: Version,
    },
}

/// Looks for driver, GPUs and compiler. Takes milliseconds without a driver, up to a second with one.
#[cfg(not(feature = "cuda"))]
pub fn probe() -> Probe {
    Probe { unusable: Some(Unusable::NotBuilt), ..Probe::default() }
}

#[cfg(feature = "cuda")]
pub use found::probe;

#[cfg(feature = "cuda")]
mod found {
    use super::{DeviceInfo, Probe, Unusable, Version};
    use cudarc::driver::sys::CUdevice_attribute as Attribute;
    use cudarc::driver::{DriverError, result, sys};

    // Every function that this crate calls exists since these versions. A missing one would make cudarc panic, hence
    // the check of the versions before anything else.
    const OLDEST_DRIVER: Version = Version { major: 12, minor: 0 };
    const OLDEST_NVRTC: Version = Version { major: 12, minor: 0 };
    const DRIVER_FILE: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    const NVRTC_FILE: &str = if cfg!(windows) { "nvrtc64_*.dll" } else { "libnvrtc.so" };

    /// Looks for driver, GPUs and compiler. Takes milliseconds without a driver, up to a second with one.
    pub fn probe() -> Probe {
        let mut probe = Probe { nvrtc: nvrtc_version(), ..Probe::default() };
        // SAFETY: only looks whether the library can be loaded.
        probe.cublas = unsafe { cudarc::cublas::sys::is_culib_present() };
        probe.unusable = driver(&mut probe).and_then(|version| compiler(probe.nvrtc, version)).err();
        probe
    }

    /// Fills in driver and devices; the driver's version where it can be used.
    fn driver(probe: &mut Probe) -> Result<Version, Unusable> {
        // SAFETY: only looks whether the library can be loaded.
        if !unsafe { sys::is_culib_present() } {
            return Err(Unusable::NoDriver(DRIVER_FILE));
        }
        let mut number = 0;
        // SAFETY: writes one integer; this call exists in every driver and needs no initialisation.
        unsafe { sys::cuDriverGetVersion(&mut number) }.result().map_err(failed("cuDriverGetVersion"))?;
        let found = Version { major: number as u32 / 1000, minor: number as u32 % 1000 / 10 };
        probe.driver = Some(found);
        if found < OLDEST_DRIVER {
            return Err(Unusable::DriverTooOld { found, needed: OLDEST_DRIVER });
        }
        result::init().map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => Unusable::NoDevice,
            _ => failed("cuInit")(error),
        })?;
        let devices = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
        probe.devices = (0..devices).map(device).collect::<Result<_, _>>()?;
        if devices == 0 { Err(Unusable::NoDevice) } else { Ok(found) }
    }

    fn device(index: i32) -> Result<DeviceInfo, Unusable> {
        let handle = result::device::get(index).map_err(failed("cuDeviceGet"))?;
        // SAFETY: `handle` was just returned by the driver.
        let attribute = |attribute| unsafe { result::device::get_attribute(handle, attribute) };
        let attribute = |which| attribute(which).map(|n| n as u32).map_err(failed("cuDeviceGetAttribute"));
        Ok(DeviceInfo {
            index: index as usize,
            name: result::device::get_name(handle).map_err(failed("cuDeviceGetName"))?,
            compute_capability: Version {
                major: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                minor: attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            },
            // SAFETY: `handle` was just returned by the driver.
            memory_bytes: unsafe { result::device::total_mem(handle) }.map_err(failed("cuDeviceTotalMem"))?
                as u64,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        })
    }

    fn failed(call: &'static str) -> impl Fn(DriverError) -> Unusable {
        move |error| Unusable::Driver { call, message: super::super::driver::describe(error) }
    }

    /// Whether `nvrtc` is there and makes programs that `driver` loads.
    fn compiler(nvrtc: Option<Version>, driver: Version) -> Result<(), Unusable> {
        match nvrtc {
            None => Err(Unusable::NoNvrtc(NVRTC_FILE)),
            Some(found) if found < OLDEST_NVRTC => Err(Unusable::NvrtcTooOld { found, needed: OLDEST_NVRTC }),
            Some(nvrtc) if nvrtc.major > driver.major => Err(Unusable::NvrtcTooNew { nvrtc, driver }),
            Some(_) => Ok(()),
        }
    }

    /// The version of NVRTC, where it can be loaded.
    pub fn nvrtc_version() -> Option<Version> {
        use cudarc::nvrtc::sys as nvrtc;
        // SAFETY: only looks whether the library can be loaded.
        if !unsafe { nvrtc::is_culib_present() } {
            return None;
        }
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two integers.
        unsafe { nvrtc::nvrtcVersion(&mut major, &mut minor) }.result().ok()?;
        Some(Version { major: major as u32, minor: minor as u32 })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn generations_of_compiler_and_driver() {
            let version = |major, minor| Version { major, minor };
            assert_eq!(compiler(Some(version(12, 4)), version(13, 0)), Ok(()));
            assert_eq!(compiler(Some(version(12, 9)), version(12, 2)), Ok(()));
            assert!(matches!(
                compiler(Some(version(13, 0)), version(12, 9)),
                Err(Unusable::NvrtcTooNew { .. })
            ));
            assert!(matches!(
                compiler(Some(version(11, 8)), version(12, 9)),
                Err(Unusable::NvrtcTooOld { .. })
            ));
            assert!(matches!(compiler(None, version(12, 9)), Err(Unusable::NoNvrtc(_))));
        }

        #[test]
        fn usable_or_a_reason() {
            let probe = probe();
            match probe.unusable {
                None => assert!(probe.driver.is_some() && probe.nvrtc.is_some() && !probe.devices.is_empty()),
                Some(Unusable::NoDriver(_)) => assert!(probe.driver.is_none() && probe.devices.is_empty()),
                Some(reason) => assert!(!reason.to_string().is_empty()),
            }
        }
    }
}
#[cfg(feature = "cuda")]
pub(super) use found::nvrtc_version;
