//! What this machine offers: processor, memory, GPUs, and why CUDA cannot be used where it cannot.

use crate::engine::Simd;
use crate::tensor::cuda::{Probe, probe};
use serde::Serialize;
use std::fmt;

/// Version of the layout of [`Devices`].
const SCHEMA: u32 = 1;

/// Everything that was found. `Display` is for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Devices {
    /// Version of this layout.
    pub schema: u32,
    /// The processor.
    pub cpu: Cpu,
    /// Graphics cards.
    pub cuda: Cuda,
}

/// The processor and its memory; `None` where the system does not tell (it does on Linux).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cpu {
    /// Name.
    pub model: Option<String>,
    /// Threads that may run at once.
    pub threads: usize,
    /// The instruction set that the engine uses: "avx512", "avx2" or "portable".
    pub simd: &'static str,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that could be had now.
    pub available_bytes: Option<u64>,
}

/// What there is of CUDA.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cuda {
    /// Whether it can be used.
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// CUDA version that the driver supports, for example "13.0".
    pub driver: Option<String>,
    /// Version of the run-time compiler.
    pub nvrtc: Option<String>,
    /// Whether cuBLAS was found; it is not needed.
    pub cublas: bool,
    /// The GPUs.
    pub devices: Vec<CudaDevice>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CudaDevice {
    /// How to name it in an experiment, for example "cuda:0".
    pub device: String,
    /// Name, as the driver reports it.
    pub name: String,
    /// For example "9.0".
    pub compute_capability: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
}

/// Looks. Takes milliseconds without a GPU, up to a second with one.
pub fn devices() -> Devices {
    let info = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|rest| rest.trim_matches([' ', '\t', ':']).to_owned())
    };
    let memory = |key| {
        let kib = info("/proc/meminfo", key)?.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        kib.checked_mul(1024)
    };
    let cpu = Cpu {
        model: info("/proc/cpuinfo", "model name"),
        threads: std::thread::available_parallelism().map_or(1, Into::into),
        simd: Simd::best().name(),
        memory_bytes: memory("MemTotal"),
        available_bytes: memory("MemAvailable"),
    };
    Devices { schema: SCHEMA, cpu, cuda: probe().into() }
}

impl From<Probe> for Cuda {
    fn from(probe: Probe) -> Self {
        let device = |d: crate::tensor::cuda::DeviceInfo| CudaDevice {
            device: format!("cuda:{}", d.index),
            name: d.name,
            compute_capability: d.compute_capability.to_string(),
            memory_bytes: d.memory_bytes,
            multiprocessors: d.multiprocessors,
        };
        Self {
            usable: probe.unusable.is_none(),
            reason: probe.unusable.map(|reason| reason.to_string()),
            driver: probe.driver.map(|version| version.to_string()),
            nvrtc: probe.nvrtc.map(|version| version.to_string()),
            cublas: probe.cublas,
            devices: probe.devices.into_iter().map(device).collect(),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
        let Cpu { model, threads, simd, memory_bytes, available_bytes } = &self.cpu;
        writeln!(
            f,
            "cpu       {}, {threads} threads, {simd}",
            model.as_deref().unwrap_or("of unknown model")
        )?;
        if let (Some(total), Some(available)) = (memory_bytes, available_bytes) {
            writeln!(f, "memory    {:.1} GiB, {:.1} GiB available", gib(*total), gib(*available))?;
        }
        let Cuda { reason, driver, nvrtc, cublas, devices, .. } = &self.cuda;
        match reason {
            Some(reason) => writeln!(f, "cuda      not usable: {reason}")?,
            None => writeln!(f, "cuda      usable")?,
        }
        if driver.is_some() || nvrtc.is_some() {
            let version = |found: &Option<String>| found.clone().unwrap_or_else(|| "not found".into());
            let cublas = if *cublas { "found" } else { "not found (not needed)" };
            writeln!(f, "          driver {}, NVRTC {}, cuBLAS {cublas}", version(driver), version(nvrtc))?;
        }
        for CudaDevice { device, name, compute_capability, memory_bytes, multiprocessors } in devices {
            writeln!(
                f,
                "{device:<9} {name}, compute capability {compute_capability}, {:.1} GiB, {multiprocessors} multiprocessors",
                gib(*memory_bytes)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::cuda::{DeviceInfo, Unusable, Version};

    #[test]
    fn this_machine_is_described() {
        let found = devices();
        assert!(found.cpu.threads > 0);
        assert_eq!(found.cuda.usable, found.cuda.reason.is_none());
        let text = found.to_string();
        assert!(text.contains(found.cpu.simd) && text.contains("\ncuda      "), "{text}");
        let json = serde_json::to_value(&found).expect("plain data");
        assert_eq!(json["cpu"]["simd"], Simd::best().name());
        assert!(json["cuda"]["usable"].is_boolean() && json["cuda"]["devices"].is_array(), "{json}");
    }

    #[test]
    fn gpus_and_reasons_are_told() {
        let version = |major| Version { major, minor: 0 };
        let device = DeviceInfo {
            index: 0,
            name: "Some GPU".into(),
            compute_capability: version(9),
            memory_bytes: 80 << 30,
            multiprocessors: 132,
        };
        let probe = Probe { driver: Some(version(13)), devices: vec![device], ..Probe::default() };
        let with = |cuda: Cuda| Devices { cuda, ..devices() }.to_string();
        let text = with(probe.clone().into());
        assert!(text.contains("cuda      usable\n"), "{text}");
        assert!(text.contains("driver 13.0, NVRTC not found, cuBLAS not found (not needed)"), "{text}");
        let line = "cuda:0    Some GPU, compute capability 9.0, 80.0 GiB, 132 multiprocessors\n";
        assert!(text.ends_with(line), "{text}");
        let text = with(Probe { unusable: Some(Unusable::NoDevice), ..probe }.into());
        assert!(text.contains("not usable: the driver sees no GPU"), "{text}");
    }
}
