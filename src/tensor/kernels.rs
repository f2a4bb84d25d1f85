//! The table of CUDA kernels: embedded sources, entry points and the kinds of their arguments.
//!
//! [`cuda::Gpu::launch`](super::cuda::Gpu::launch) checks every launch against this table, and a test compares the
//! table with the `extern "C" __global__` lines of `kernels/*.cu`.

pub mod operations;

use half::{bf16, f16};

/// Kind of number in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// `unsigned char`
    U8,
    /// `signed char`
    I8,
    /// `unsigned short`
    U16,
    /// `unsigned int`
    U32,
    /// `int`
    I32,
    /// `unsigned long long`
    U64,
    /// `long long`
    I64,
    /// `__half`
    F16,
    /// `__nv_bfloat16`
    Bf16,
    /// `float`
    F32,
    /// `double`
    F64,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Its name in the kernels; the short integer names are defined in `common.cuh`.
    pub fn c_name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::I32 => "int",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "__half",
            Self::Bf16 => "__nv_bfloat16",
            Self::F32 => "float",
            Self::F64 => "double",
        }
    }
}

/// A Rust type that a kernel can read from device memory.
pub trait Element: bytemuck::Pod {
    /// Its kind.
    const TYPE: ElementType;
}

macro_rules! element {
    ($($rust:ty: $kind:ident),*) => {
        $(impl Element for $rust { const TYPE: ElementType = ElementType::$kind; })*
    };
}
element!(u8: U8, i8: I8, u16: U16, u32: U32, i32: I32, u64: U64, i64: I64, f16: F16, bf16: Bf16, f32: F32, f64: F64);

/// What a kernel expects in one place of its argument list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Device memory that is read.
    In(&'static str, ElementType),
    /// Device memory that is written.
    Out(&'static str, ElementType),
    /// Device memory that is read, of any kind of number as long as this one; of any at all for bytes.
    AnyIn(&'static str, ElementType),
    /// Device memory that is written, likewise.
    AnyOut(&'static str, ElementType),
    /// A number passed by value.
    Scalar(&'static str, ElementType),
    /// An [`Axes`](super::cuda::Axes) passed by value.
    Strides(&'static str),
    /// Where the kernel says what is wrong with its data.
    Fault,
}

/// A file of `kernels/`, embedded.
#[derive(Debug)]
pub struct Source {
    /// Name of the file.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Options beyond [`OPTIONS`].
    pub options: &'static [&'static str],
    /// Its entry points.
    pub kernels: &'static [&'static Kernel],
}

/// An entry point.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the function.
    pub name: &'static str,
    /// Its arguments, in order.
    pub arguments: &'static [Argument],
}

/// Every source file.
pub static SOURCES: &[&Source] = &[
    &RESERVOIR,
    &RESERVOIR_CONV,
    &POOL,
    &SIMULATE,
    &PROCEDURAL,
    &PLASTIC,
    &operations::attention::SOURCE,
    &operations::butterfly::SOURCE,
    &operations::elementwise::SOURCE,
    &operations::layout::SOURCE,
    &operations::matmul::SOURCE,
    &operations::norm::SOURCE,
    &operations::online::SOURCE,
    &operations::optimizer::SOURCE,
    &operations::reduce::SOURCE,
    &operations::scan::SOURCE,
    &operations::softmax::SOURCE,
    &operations::unitary::SOURCE,
];

/// Files that sources include: name and text.
pub static HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../kernels/common.cuh")),
    ("lif.cuh", include_str!("../../kernels/lif.cuh")),
    ("math.cuh", include_str!("../../kernels/math.cuh")),
    ("tensor.cuh", include_str!("../../kernels/tensor.cuh")),
    ("scan.cuh", include_str!("../../kernels/scan.cuh")),
    ("neurons.cuh", include_str!("../../kernels/neurons.cuh")),
];

/// Compiler options of every source. Nothing is fused: spikes are to equal those of the CPU.
pub static OPTIONS: &[&str] = &["--std=c++17", "-default-device", "--fmad=false"];

use Argument::{In, Out, Scalar};
use ElementType::{F32, F64, I8, I32, U8, U16, U32, U64};

/// The reservoir pass: encoder, frozen weights, LIF over all steps, spike counts.
pub static RESERVOIR: Source = Source {
    file: "reservoir.cu",
    text: include_str!("../../kernels/reservoir.cu"),
    options: &[],
    kernels: &[
        &RESERVOIR_BERNOULLI_DENSE,
        &RESERVOIR_BERNOULLI_SPARSE,
        &RESERVOIR_CONSTANT_DENSE,
        &RESERVOIR_CONSTANT_SPARSE,
    ],
};

/// The arguments that all reservoir passes share, after encoder and weights.
macro_rules! reservoir_arguments {
    ($($before:expr),*) => {
        &[
            $($before,)*
            In("factor", F32),
            In("bias", F32),
            Scalar("decay", F32),
            Scalar("gain", F32),
            Scalar("rest", F32),
            Scalar("threshold", F32),
            Scalar("reset_value", F32),
            Scalar("dialect", U32),
            Scalar("refractory_steps", I32),
            Scalar("samples", I32),
            Scalar("sources", I32),
            Scalar("targets", I32),
            Scalar("steps", I32),
            Out("counts", U16),
            Out("activity", U64),
        ]
    };
}

/// Bernoulli encoder, dense rows.
pub static RESERVOIR_BERNOULLI_DENSE: Kernel = Kernel {
    name: "reservoir_bernoulli_dense",
    arguments: reservoir_arguments![
        In("pixels", U8),
        In("sample_ids", U64),
        In("thresholds", U32),
        Scalar("key0", U32),
        Scalar("key1", U32),
        In("weights", U8)
    ],
};

/// Bernoulli encoder, sparse rows.
pub static RESERVOIR_BERNOULLI_SPARSE: Kernel = Kernel {
    name: "reservoir_bernoulli_sparse",
    arguments: reservoir_arguments![
        In("pixels", U8),
        In("sample_ids", U64),
        In("thresholds", U32),
        Scalar("key0", U32),
        Scalar("key1", U32),
        In("offsets", U32),
        In("entries", U16)
    ],
};

/// Constant current, dense rows.
pub static RESERVOIR_CONSTANT_DENSE: Kernel = Kernel {
    name: "reservoir_constant_dense",
    arguments: reservoir_arguments![In("pixels", U8), In("weights", U8)],
};

/// Constant current, sparse rows.
pub static RESERVOIR_CONSTANT_SPARSE: Kernel = Kernel {
    name: "reservoir_constant_sparse",
    arguments: reservoir_arguments![In("pixels", U8), In("offsets", U32), In("entries", U16)],
};

/// The reservoir pass behind a convolution.
pub static RESERVOIR_CONV: Source = Source {
    file: "reservoir_conv.cu",
    text: include_str!("../../kernels/reservoir_conv.cu"),
    options: &[],
    kernels: &[&RESERVOIR_CONV_COUNTS],
};

/// Constant current through a convolution.
pub static RESERVOIR_CONV_COUNTS: Kernel = Kernel {
    name: "reservoir_conv",
    arguments: &[
        In("pixels", U8),
        In("weights", I8),
        In("factor", F32),
        In("bias", F32),
        Scalar("decay", F32),
        Scalar("gain", F32),
        Scalar("rest", F32),
        Scalar("threshold", F32),
        Scalar("reset_value", F32),
        Scalar("dialect", U32),
        Scalar("refractory_steps", I32),
        Scalar("channels_in", I32),
        Scalar("height", I32),
        Scalar("width", I32),
        Scalar("channels", I32),
        Scalar("rows", I32),
        Scalar("columns", I32),
        Scalar("kernel", I32),
        Scalar("stride", I32),
        Scalar("padding", I32),
        Scalar("steps", I32),
        Out("counts", U16),
        Out("activity", U64),
    ],
};

/// Sums of spike counts.
pub static POOL: Source = Source {
    file: "pool.cu",
    text: include_str!("../../kernels/pool.cu"),
    options: &[],
    kernels: &[&POOL_COUNTS],
};

/// Windows of an image.
pub static POOL_COUNTS: Kernel = Kernel {
    name: "pool_counts",
    arguments: &[
        In("counts", U16),
        In("rows", U32),
        In("columns", U32),
        Scalar("maps", U64),
        Scalar("height", I32),
        Scalar("width", I32),
        Scalar("windows_y", I32),
        Scalar("windows_x", I32),
        Out("pooled", U16),
    ],
};

/// Simulations on a grid of time.
pub static SIMULATE: Source = Source {
    file: "simulate.cu",
    text: include_str!("../../kernels/simulate.cu"),
    options: &[],
    kernels: &[&SIMULATE_DELIVER, &SIMULATE_ADVANCE],
};

/// Spikes of a stretch into the rings.
pub static SIMULATE_DELIVER: Kernel = Kernel {
    name: "simulate_deliver",
    arguments: &[
        In("layout", U32),
        In("bases", U64),
        In("offsets", U32),
        In("targets", U16),
        In("weights", F32),
        In("delays", U8),
        In("long_delays", U16),
        In("fired", U64),
        In("fired_count", U32),
        In("inputs", U64),
        Scalar("inputs_from", U32),
        Scalar("inputs_until", U32),
        Scalar("list", I32),
        Scalar("slot", I32),
        Scalar("slots", I32),
        Scalar("fan", I32),
        Out("counts", U32),
        Out("sums", U64),
        Out("events", U64),
    ],
};

/// Neurons through a stretch.
pub static SIMULATE_ADVANCE: Kernel = Kernel {
    name: "simulate_advance",
    arguments: &[
        In("layout", U32),
        In("constants", F32),
        In("probe_offsets", U32),
        In("probe_entries", U32),
        Scalar("probe_from", U64),
        Scalar("probed", I32),
        Scalar("step", U64),
        Scalar("steps", I32),
        Scalar("slots", I32),
        Scalar("list", I32),
        Scalar("mask_row", I32),
        Scalar("mask_words", I32),
        Out("state", F32),
        Out("counts", U32),
        Out("sums", U64),
        Out("fired", U64),
        Out("fired_count", U32),
        Out("spikes", U64),
        Out("masks", U32),
        Out("traces", F32),
    ],
};

/// Synapses of simulations that are drawn again whenever their source fires.
pub static PROCEDURAL: Source = Source {
    file: "procedural.cu",
    text: include_str!("../../kernels/procedural.cu"),
    options: &[],
    kernels: &[&PROCEDURAL_DELIVER],
};

/// Spikes of a stretch into the rings.
pub static PROCEDURAL_DELIVER: Kernel = Kernel {
    name: "procedural_deliver",
    arguments: &[
        In("fans", U32),
        In("tables", U32),
        In("numbers", F64),
        In("fired", U64),
        In("fired_count", U32),
        In("inputs", U64),
        Scalar("inputs_from", U32),
        Scalar("inputs_until", U32),
        Scalar("list", I32),
        Scalar("slot", I32),
        Scalar("slots", I32),
        Scalar("fan", I32),
        Scalar("words", I32),
        Out("counts", U32),
        Out("sums", U64),
        Out("events", U64),
    ],
};

/// Plastic synapses of simulations.
pub static PLASTIC: Source = Source {
    file: "plastic.cu",
    text: include_str!("../../kernels/plastic.cu"),
    options: &[],
    kernels: &[&PLASTIC_ARRIVE, &PLASTIC_SPIKES],
};

/// What arrives in a step.
pub static PLASTIC_ARRIVE: Kernel = Kernel {
    name: "plastic_arrive",
    arguments: &[
        In("tables", U32),
        In("rules", F64),
        In("decays", F64),
        In("offsets", U32),
        In("targets", U16),
        In("arrivals", U64),
        In("arrival_count", U32),
        Scalar("capacity", U32),
        Scalar("step", U64),
        Scalar("slot", I32),
        Out("weights", F32),
        Out("values", F64),
        Out("since", U64),
        Out("sums", U64),
    ],
};

/// Who fired in a step.
pub static PLASTIC_SPIKES: Kernel = Kernel {
    name: "plastic_spikes",
    arguments: &[
        In("tables", U32),
        Scalar("table_count", I32),
        In("rules", F64),
        In("decays", F64),
        In("offsets", U32),
        In("columns", U32),
        In("entering", U32),
        In("sources", U32),
        In("fired", U64),
        In("fired_count", U32),
        In("inputs", U64),
        Scalar("inputs_from", U32),
        Scalar("inputs_until", U32),
        Scalar("list", I32),
        Scalar("capacity", U32),
        Scalar("step", U64),
        Scalar("slot", I32),
        Scalar("slots", I32),
        Out("weights", F32),
        Out("values", F64),
        Out("since", U64),
        Out("arrivals", U64),
        Out("arrival_count", U32),
        Out("events", U64),
    ],
};

#[cfg(test)]
mod tests {
    use super::Argument::{AnyIn, AnyOut, Fault, Strides};
    use super::*;
    use std::collections::BTreeMap;

    fn normal(argument: &str) -> String {
        let spaced =
            argument.replace("__restrict__", " ").replace("__grid_constant__", " ").replace('*', " * ");
        spaced.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What `macro(name, (parameters), ..)` of `tensor.cuh` stands for: one entry point for each kind of number.
    fn families(code: &str, mark: &str, kinds: &[(&str, &str)], found: &mut BTreeMap<String, Vec<String>>) {
        for part in code.split(mark).skip(1) {
            let (name, rest) = part.split_once(',').unwrap();
            let parameters = rest.trim().strip_prefix('(').unwrap().split_once(')').unwrap().0;
            for (suffix, kind) in kinds {
                let typed = |argument: &str| {
                    normal(argument)
                        .split(' ')
                        .map(|w| if w == "T" { kind } else { w })
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                found.insert(format!("{}{suffix}", name.trim()), parameters.split(',').map(typed).collect());
            }
        }
    }

    /// The entry points of a source: name and one normalised string per argument.
    fn entry_points(text: &str) -> BTreeMap<String, Vec<String>> {
        let code: String =
            text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join(" ");
        let mut found = BTreeMap::new();
        families(&code, "FLOATS(", &[("_f32", "float"), ("_f64", "double")], &mut found);
        families(
            &code,
            "WORDS(",
            &[("_8", "u8"), ("_16", "u16"), ("_32", "u32"), ("_64", "u64")],
            &mut found,
        );
        for part in code.split("extern \"C\" __global__").skip(1) {
            let part = part.split('{').next().unwrap().trim().strip_prefix("void").unwrap().trim();
            let part = match part.strip_prefix("__launch_bounds__(") {
                Some(rest) => rest.split_once(')').unwrap().1,
                None => part,
            };
            let (name, arguments) = part.split_once('(').unwrap();
            let arguments = arguments.trim().strip_suffix(')').unwrap();
            found.insert(name.trim().to_string(), arguments.split(',').map(normal).collect());
        }
        found
    }

    fn expected(argument: &Argument) -> String {
        match argument {
            In(name, kind) | AnyIn(name, kind) => format!("const {} * {name}", kind.c_name()),
            Out(name, kind) | AnyOut(name, kind) => format!("{} * {name}", kind.c_name()),
            Scalar(name, kind) => format!("{} {name}", kind.c_name()),
            Strides(name) => format!("const Axes {name}"),
            Fault => "u32 * fault".into(),
        }
    }

    #[test]
    fn parser_sees_names_and_arguments() {
        let text = "// extern \"C\" __global__ void ghost(int a)\n\
                    extern \"C\" __global__ void __launch_bounds__(256) f(const u8 *__restrict__ a, // comment\n int b) { g(); }";
        let found = entry_points(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found["f"], ["const u8 * a", "int b"]);
    }

    #[test]
    fn parser_sees_families() {
        let found = entry_points("FLOATS(f, (const T *a, u32 n), (a, n)) WORDS(g, (T *b), (b))");
        assert_eq!(found.len(), 6);
        assert_eq!(found["f_f64"], ["const double * a", "u32 n"]);
        assert_eq!(found["g_16"], ["u16 * b"]);
    }

    #[test]
    fn table_equals_the_sources() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut files: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut listed: Vec<&str> =
            SOURCES.iter().map(|s| s.file).chain(HEADERS.iter().map(|(name, _)| *name)).collect();
        listed.sort();
        assert_eq!(files, listed, "kernels/ and the table list different files");

        for source in SOURCES {
            let found = entry_points(source.text);
            let table: BTreeMap<String, Vec<String>> = source
                .kernels
                .iter()
                .map(|kernel| (kernel.name.to_string(), kernel.arguments.iter().map(expected).collect()))
                .collect();
            assert!(!found.is_empty(), "{} has no entry point", source.file);
            assert_eq!(found, table, "{} and the table differ", source.file);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = SOURCES.iter().flat_map(|s| s.kernels).map(|k| k.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
