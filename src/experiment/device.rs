//! Where the work of a run is done: `run.device`, made into a device.

use crate::error::{Error, Result};
use crate::tensor::cuda::{Gpu, probe};
use std::fmt;
use std::path::Path;

/// Where a run's work is done.
#[derive(Clone, Debug)]
pub enum Device {
    /// On the processor's cores.
    Cpu,
    /// On a GPU.
    Gpu {
        /// It.
        gpu: Gpu,
        /// Whether it was asked for by name: then what has no kernel is an error, and not left to the CPU.
        named: bool,
    },
}

impl Device {
    /// What `work` makes on the GPU. `None` where the CPU is to do it: without a GPU, or, where none was asked for by
    /// name, without the kernels or the memory.
    ///
    /// # Errors
    /// As `work`.
    pub fn try_gpu<T>(&self, work: impl FnOnce(&Gpu) -> Result<T>) -> Result<Option<T>> {
        let Self::Gpu { gpu, named } = self else { return Ok(None) };
        match work(gpu) {
            Err(Error::Unsupported { .. } | Error::Memory { .. }) if !named => Ok(None),
            result => result.map(Some),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu { gpu, .. } => f.write_str(&describe(gpu)),
        }
    }
}

/// Whether `name` is `auto`, `cpu`, `cuda` or `cuda:N`.
pub fn is_name(name: &str) -> bool {
    let numbered = name.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
    numbered || ["auto", "cpu", "cuda"].contains(&name)
}

/// Number and name of a GPU.
pub(super) fn describe(gpu: &Gpu) -> String {
    format!("cuda:{} ({})", gpu.index(), gpu.name())
}

/// The device that `name` (`auto`, `cpu`, `cuda` or `cuda:N`) asks for. `work` names what is to be done there, and
/// `kernels` says whether a GPU can do any of it; compiled ones are kept in the folder `cache`.
///
/// # Errors
/// A GPU that is asked for by name and cannot be used, or for work that has no kernels.
pub fn device(name: &str, work: &str, kernels: bool, cache: Option<&Path>) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" if !kernels || probe().unusable.is_some() => return Ok(Device::Cpu),
        "auto" | "cuda" => 0,
        numbered => {
            let number = numbered.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            number.ok_or_else(|| Error::value("run.device", name, "auto, cpu, cuda or cuda:N"))?
        }
    };
    if !kernels {
        return Err(Error::Unsupported {
            op: "an experiment",
            on: format!("on `{name}`: {work} has no kernels yet; use device = \"cpu\" or \"auto\""),
        });
    }
    Ok(Device::Gpu { gpu: Gpu::open(index, cache)?, named: name != "auto" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_what_remains() {
        for (name, kernels) in [("cpu", true), ("cpu", false), ("auto", false)] {
            let device = device(name, "[train.stdp]", kernels, None).expect("the CPU");
            assert_eq!(device.to_string(), "cpu");
            assert_eq!(device.try_gpu(|_| Ok(1)).expect("no work"), None);
        }
    }

    #[test]
    fn a_gpu_for_what_has_no_kernels_is_refused_by_name() {
        for name in ["cuda", "cuda:1"] {
            let error = device(name, "[train.stdp]", false, None).expect_err("refused").to_string();
            assert!(error.contains(name) && error.contains("[train.stdp] has no kernels"), "{error}");
        }
        let error = device("gpu", "[train.ransnn]", true, None).expect_err("refused").to_string();
        assert!(error.contains("cuda:N"), "{error}");
    }
}
