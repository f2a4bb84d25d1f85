//! The kernels behind operations on tensors.

use super::Argument::{AnyIn, AnyOut, Fault, In, Out, Scalar, Strides};
use super::ElementType::{F32, F64, U8, U16, U32, U64};
use super::{ElementType, Kernel, Source};
use crate::tensor::DType;
use crate::{Error, Result};

/// Entry points that are one template of the source for several kinds of number.
#[derive(Debug)]
pub struct Family {
    /// Where they stand.
    pub source: &'static Source,
    /// For f32 and f64; for words of 1, 2, 4 and 8 bytes; or the only one.
    pub kernels: &'static [Kernel],
}

/// An entry point and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The file.
    pub source: &'static Source,
    /// The function.
    pub kernel: &'static Kernel,
}

impl Family {
    fn entry(&self, which: usize) -> Entry {
        Entry { source: self.source, kernel: &self.kernels[which] }
    }

    /// That of a kind of number that operations compute in.
    ///
    /// # Errors
    /// Another kind.
    pub fn of(&self, op: &'static str, dtype: DType) -> Result<Entry> {
        match dtype {
            DType::F32 => Ok(self.entry(0)),
            DType::F64 => Ok(self.entry(1)),
            other => Err(Error::Unsupported { op, on: format!("with {other} values") }),
        }
    }

    /// That of words as long as a kind of number.
    pub fn words(&self, dtype: DType) -> Entry {
        self.entry(dtype.size().trailing_zeros() as usize)
    }

    /// The only one.
    pub fn only(&self) -> Entry {
        self.entry(0)
    }
}

/// One module a source: its families and its `SOURCE`.
macro_rules! source {
    (#[doc = $about:literal] $module:ident $file:literal $($kind:ident $name:ident $text:literal [$($argument:expr),*])*) => {
        #[doc = $about]
        pub mod $module {
            use super::*;

            mod lists {
                use super::*;
                $(pub const $name: &[Kernel] = entries!($kind $text [$($argument),*]);)*
            }

            $(
                #[doc = concat!("`", $text, "` in `kernels/", $file, "`.")]
                pub static $name: Family = Family { source: &SOURCE, kernels: lists::$name };
            )*

            static ALL: [&Kernel; 0 $(+ lists::$name.len())*] = flat(&[$(lists::$name),*]);

            /// The file.
            pub static SOURCE: Source = Source {
                file: $file,
                text: include_str!(concat!("../../../kernels/", $file)),
                options: &[],
                kernels: &ALL,
            };
        }
    };
}

/// The entry points of a family; `T` in their arguments is the kind of number.
macro_rules! entries {
    (floats $text:literal $arguments:tt) => {
        &[entry!(concat!($text, "_f32"), F32, $arguments), entry!(concat!($text, "_f64"), F64, $arguments)]
    };
    (words $text:literal $arguments:tt) => {
        &[
            entry!(concat!($text, "_8"), U8, $arguments),
            entry!(concat!($text, "_16"), U16, $arguments),
            entry!(concat!($text, "_32"), U32, $arguments),
            entry!(concat!($text, "_64"), U64, $arguments),
        ]
    };
    (single $text:literal $arguments:tt) => {
        &[entry!($text, U8, $arguments)]
    };
}

macro_rules! entry {
    ($name:expr, $kind:ident, [$($argument:expr),*]) => {
        Kernel {
            name: $name,
            arguments: {
                #[allow(dead_code)]
                const T: ElementType = $kind;
                &[$($argument),*]
            },
        }
    };
}

/// All entry points of some families.
const fn flat<const N: usize>(families: &[&'static [Kernel]]) -> [&'static Kernel; N] {
    let mut all = [&families[0][0]; N];
    let (mut family, mut at) = (0, 0);
    while family < families.len() {
        let mut i = 0;
        while i < families[family].len() {
            all[at] = &families[family][i];
            (i, at) = (i + 1, at + 1);
        }
        family += 1;
    }
    all
}

source! {
    /// Functions of one, two and three numbers.
    elementwise "elementwise.cu"
    floats MAP "map" [
        In("x", T), Out("y", T), Scalar("function", U32), Scalar("a", F64), Scalar("b", F64), Scalar("n", U64)
    ]
    floats CHAIN "chain" [
        In("grad", T), In("saved", T), Out("out", T), Scalar("function", U32), Scalar("a", F64),
        Scalar("b", F64), Scalar("c", F64), Scalar("n", U64)
    ]
    floats ZIP "zip" [In("x", T), In("y", T), Out("z", T), Scalar("function", U32), Scalar("n", U64)]
    floats ZIP_STRIDED "zip_strided" [
        In("x", T), In("y", T), Out("z", T), Scalar("function", U32), Strides("axes"), Scalar("n", U32)
    ]
    floats GREATER_EQUAL "greater_equal" [
        In("x", T), In("y", T), Out("z", U8), Strides("axes"), Scalar("n", U32)
    ]
    floats SELECT "select" [In("mask", U8), In("a", T), In("b", T), Out("out", T), Scalar("n", U64)]
    floats FILL "fill" [Out("out", T), Scalar("value", F64), Scalar("n", U64)]
    floats SWIGLU_CHAIN "swiglu_chain" [
        In("grad", T), In("gate", T), In("up", T), Out("dgate", T), Out("dup", T), Scalar("n", U64)
    ]
    floats QCFS "qcfs" [In("x", T), In("theta", T), Out("y", T), Scalar("levels", U32), Scalar("n", U64)]
    floats QCFS_CHAIN "qcfs_chain" [
        In("grad", T), In("x", T), In("theta", T), Out("dx", T), Out("dtheta", T), Scalar("levels", U32),
        Scalar("n", U64)
    ]
    floats DROPOUT "dropout" [
        In("x", T), Out("y", T), Scalar("scale", F64), Scalar("threshold", U64), Scalar("key0", U32),
        Scalar("key1", U32), Scalar("call", U64), Scalar("n", U64)
    ]
}

source! {
    /// Sums, the largest along an axis, statistics of channels.
    reduce "reduce.cu"
    floats SUM_ROWS "sum_rows" [
        In("x", T), Out("out", T), Scalar("rows", U32), Scalar("n", U64), Scalar("piece", U32),
        Scalar("pieces", U32)
    ]
    floats SUM_COLUMNS "sum_columns" [
        In("x", T), Out("out", T), Scalar("outer", U32), Scalar("n", U32), Scalar("inner", U32),
        Scalar("piece", U32), Scalar("pieces", U32)
    ]
    floats MAX_AXIS "max_axis" [
        In("x", T), Out("values", T), Out("where", U32), Scalar("outer", U32), Scalar("n", U32),
        Scalar("inner", U32)
    ]
    floats PUT "put" [
        In("x", T), In("where", U32), Out("out", T), Scalar("outer", U32), Scalar("n", U32),
        Scalar("inner", U32)
    ]
    floats CHANNEL_STATISTICS "channel_statistics" [
        In("x", T), Out("mean", T), Out("variance", T), Scalar("samples", U32), Scalar("channels", U32),
        Scalar("inner", U32)
    ]
    floats BATCH_NORM "batch_norm" [
        In("x", T), In("weight", T), In("bias", T), In("mean", T), In("variance", T), Out("y", T),
        Scalar("epsilon", F64), Scalar("channels", U32), Scalar("inner", U32), Scalar("n", U64)
    ]
    floats CHANNEL_SLOPES "channel_slopes" [
        In("grad", T), In("x", T), In("mean", T), In("variance", T), Out("dweight", T), Out("dbias", T),
        Scalar("epsilon", F64), Scalar("samples", U32), Scalar("channels", U32), Scalar("inner", U32)
    ]
    floats BATCH_NORM_CHAIN "batch_norm_chain" [
        In("grad", T), In("x", T), In("weight", T), In("mean", T), In("variance", T), In("dweight", T),
        In("dbias", T), Out("dx", T), Scalar("epsilon", F64), Scalar("channels", U32), Scalar("inner", U32),
        Scalar("n", U64)
    ]
}

source! {
    /// Memory that is moved, and conversions.
    layout "layout.cu"
    words GATHER "gather" [AnyIn("x", T), AnyOut("out", T), Strides("axes"), Scalar("n", U32)]
    words TRANSPOSE "transpose" [AnyIn("x", T), AnyOut("out", T), Scalar("rows", U32), Scalar("cols", U32)]
    words COPY_ROWS "copy_rows" [
        AnyIn("x", T), AnyOut("out", T), Scalar("from_pitch", U64), Scalar("from_start", U64),
        Scalar("to_pitch", U64), Scalar("to_start", U64), Scalar("len", U64), Scalar("n", U64)
    ]
    words INDEX_SELECT "index_select" [
        AnyIn("x", T), In("index", U32), AnyOut("out", T), Fault, Scalar("size", U32), Scalar("count", U32),
        Scalar("inner", U32), Scalar("n", U64)
    ]
    floats INDEX_ADD "index_add" [
        In("grad", T), In("index", U32), Out("out", T), Scalar("size", U32), Scalar("count", U32),
        Scalar("inner", U32)
    ]
    single CAST "cast" [
        AnyIn("x", U8), AnyOut("y", U8), Scalar("from", U32), Scalar("to", U32), Scalar("n", U64)
    ]
    floats AVG_POOL "avg_pool" [
        In("x", T), Out("y", T), Scalar("height", U32), Scalar("width", U32), Scalar("rows", U32),
        Scalar("cols", U32), Scalar("side", U32), Scalar("stride", U32), Scalar("n", U64)
    ]
    floats AVG_POOL_CHAIN "avg_pool_chain" [
        In("grad", T), Out("dx", T), Scalar("height", U32), Scalar("width", U32), Scalar("rows", U32),
        Scalar("cols", U32), Scalar("side", U32), Scalar("stride", U32), Scalar("n", U64)
    ]
    floats MAX_POOL "max_pool" [
        In("x", T), Out("y", T), Out("where", U32), Scalar("height", U32), Scalar("width", U32),
        Scalar("rows", U32), Scalar("cols", U32), Scalar("side", U32), Scalar("stride", U32), Scalar("n", U64)
    ]
    floats MAX_POOL_CHAIN "max_pool_chain" [
        In("grad", T), In("where", U32), Out("dx", T), Scalar("height", U32), Scalar("width", U32),
        Scalar("rows", U32), Scalar("cols", U32), Scalar("side", U32), Scalar("stride", U32), Scalar("n", U64)
    ]
}

source! {
    /// Softmax, its logarithm, cross-entropy.
    softmax "softmax.cu"
    floats SOFTMAX "softmax" [
        In("x", T), Out("y", T), Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32)
    ]
    floats SOFTMAX_CHAIN "softmax_chain" [
        In("grad", T), In("y", T), Out("dx", T), Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32)
    ]
    floats LOG_SOFTMAX "log_softmax" [
        In("x", T), Out("y", T), Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32)
    ]
    floats LOG_SOFTMAX_CHAIN "log_softmax_chain" [
        In("grad", T), In("y", T), Out("dx", T), Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32)
    ]
    floats CROSS_ENTROPY "cross_entropy" [
        In("x", T), In("labels", U32), Out("p", T), Out("losses", F64), Fault, Scalar("rows", U32),
        Scalar("n", U32), Scalar("wide", U32)
    ]
    floats SLOPES "slopes" [
        In("labels", U32), In("counted", F64), Out("x", T), Out("losses", F64), Fault, Scalar("rows", U32),
        Scalar("n", U32), Scalar("wide", U32)
    ]
    single COUNTED "counted" [In("labels", U32), Out("count", F64), Fault, Scalar("rows", U32)]
    floats MEAN_LOSS "mean_loss" [In("losses", F64), In("counted", F64), Out("loss", T), Scalar("rows", U32)]
    floats CROSS_ENTROPY_CHAIN "cross_entropy_chain" [
        In("grad", T), In("p", T), In("labels", U32), In("counted", F64), Out("dx", T), Scalar("n", U32),
        Scalar("all", U64)
    ]
}

source! {
    /// Normalisation along rows.
    norm "norm.cu"
    floats LAYER_NORM "layer_norm" [
        In("x", T), In("weight", T), In("bias", T), Out("y", T), Scalar("epsilon", F64), Scalar("rows", U32),
        Scalar("n", U32), Scalar("wide", U32)
    ]
    floats LAYER_NORM_CHAIN "layer_norm_chain" [
        In("grad", T), In("x", T), In("weight", T), Out("dx", T), Out("products", T), Scalar("epsilon", F64),
        Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32), Scalar("scales", U32)
    ]
    floats RMS_NORM "rms_norm" [
        In("x", T), In("weight", T), Out("y", T), Scalar("epsilon", F64), Scalar("rows", U32),
        Scalar("n", U32), Scalar("wide", U32)
    ]
    floats RMS_NORM_CHAIN "rms_norm_chain" [
        In("grad", T), In("x", T), In("weight", T), Out("dx", T), Out("products", T), Scalar("epsilon", F64),
        Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32), Scalar("scales", U32)
    ]
}

source! {
    /// Steps of optimisers.
    optimizer "optimizer.cu"
    floats ADAM "adam" [
        In("grad", T), Out("theta", T), Out("m", T), Out("v", T), Scalar("correction2", F64),
        Scalar("rate", F64), Scalar("gain1", F64), Scalar("beta2", F64), Scalar("gain2", F64),
        Scalar("epsilon", F64), Scalar("shrink", F64), Scalar("decay", F64), Scalar("n", U64)
    ]
    floats SGD "sgd" [
        In("grad", T), Out("theta", T), Out("momentum", T), Scalar("rate", F64), Scalar("mu", F64),
        Scalar("decay", F64), Scalar("first", U32), Scalar("nesterov", U32), Scalar("n", U64)
    ]
}

source! {
    /// Dense products and convolutions.
    matmul "matmul.cu"
    floats MATMUL "matmul" [
        In("a", T), In("b", T), In("bias", T), Out("c", T), Strides("batch"), Scalar("m", U32),
        Scalar("n", U32), Scalar("k", U64), Scalar("a_row", U64), Scalar("a_col", U64), Scalar("b_row", U64),
        Scalar("b_col", U64), Scalar("alpha", F64), Scalar("add", U32), Scalar("biased", U32),
        Scalar("chunk", U64), Scalar("splits", U32)
    ]
    single MATMUL_BF16 "matmul_bf16" [
        In("a", F32), AnyIn("b", U16), In("bias", F32), Out("c", F32), Strides("batch"), Scalar("m", U32),
        Scalar("n", U32), Scalar("k", U64), Scalar("a_row", U64), Scalar("a_col", U64), Scalar("b_row", U64),
        Scalar("b_col", U64), Scalar("alpha", F64), Scalar("add", U32), Scalar("biased", U32),
        Scalar("chunk", U64), Scalar("splits", U32)
    ]
    floats CONVOLVE "convolve" [
        In("x", T), In("w", T), In("bias", T), Out("y", T), Scalar("channels", U32), Scalar("height", U32),
        Scalar("width", U32), Scalar("outputs", U32), Scalar("rows", U32), Scalar("cols", U32),
        Scalar("ky", U32), Scalar("kx", U32), Scalar("stride", U32), Scalar("padding", U32),
        Scalar("samples", U32), Scalar("biased", U32)
    ]
    floats BY_INPUT "by_input" [
        In("grad", T), In("w", T), Out("dx", T), Scalar("channels", U32), Scalar("height", U32),
        Scalar("width", U32), Scalar("outputs", U32), Scalar("rows", U32), Scalar("cols", U32),
        Scalar("ky", U32), Scalar("kx", U32), Scalar("stride", U32), Scalar("padding", U32),
        Scalar("samples", U32)
    ]
    floats BY_WEIGHT "by_weight" [
        In("grad", T), In("x", T), Out("dw", T), Scalar("channels", U32), Scalar("height", U32),
        Scalar("width", U32), Scalar("outputs", U32), Scalar("rows", U32), Scalar("cols", U32),
        Scalar("ky", U32), Scalar("kx", U32), Scalar("stride", U32), Scalar("padding", U32),
        Scalar("samples", U32), Scalar("chunk", U64)
    ]
}

source! {
    /// Neurons over all steps.
    scan "scan.cu"
    floats SCAN "scan" [
        In("x", T), In("decay", T), In("gain", T), In("theta", T), In("alpha", T), In("rho", T),
        In("strength", T), In("before", T), Out("spikes", T), Out("potentials", T), Out("membranes", T),
        Out("left", T), Scalar("steps", U32), Scalar("batch", U32), Scalar("neurons", U32),
        Scalar("spread", U32), Scalar("reset", U32), Scalar("acts", U32), Scalar("flags", U32),
        Scalar("rest", F64), Scalar("value", F64)
    ]
    floats SCAN_CHAIN "scan_chain" [
        In("x", T), In("decay", T), In("gain", T), In("theta", T), In("alpha", T), In("rho", T),
        In("strength", T), In("before", T), In("potentials", T), In("grad_s", T), In("grad_u", T),
        In("grad_v", T), In("after", T), Out("dx", T), Out("sums", T), Out("back", T), Out("history", T),
        Scalar("steps", U32), Scalar("batch", U32), Scalar("neurons", U32), Scalar("spread", U32),
        Scalar("reset", U32), Scalar("acts", U32), Scalar("flags", U32), Scalar("wanted", U32),
        Scalar("rest", F64), Scalar("value", F64), Scalar("kind", U32), Scalar("a", F64), Scalar("b", F64),
        Scalar("c", F64)
    ]
    floats SPREAD_SPIKES "spread_spikes" [
        In("offsets", U32), In("indices", U32), In("values", F64), Out("out", T), Scalar("rows", U32),
        Scalar("columns", U32), Scalar("binary", U32)
    ]
}

source! {
    /// Training forward in time.
    online "online.cu"
    single STEP "online_step" [
        In("x", F32), In("decay", F32), In("gain", F32), In("theta", F32), In("alpha", F32), In("rho", F32),
        In("strength", F32), In("before", F32), Out("carry", F32), Out("current", F32), Out("adaptation", F32),
        Out("spikes", F32), Out("membranes", F32), Out("slope", F32), Scalar("reset", U32),
        Scalar("acts", U32), Scalar("flags", U32), Scalar("rest", F64), Scalar("value", F64),
        Scalar("kind", U32), Scalar("a", F64), Scalar("b", F64), Scalar("c", F64), Scalar("n", U64)
    ]
    single FILTER "online_filter" [
        In("spikes", F32), In("decay", F32), In("alpha", F32), Out("current", F32), Out("trace", F32),
        Scalar("filters", U32), Scalar("n", U64)
    ]
    single LOSS "online_loss" [
        In("scores", F32), In("labels", U32), Out("signal", F32), Out("outputs", F32), Out("losses", F64),
        Scalar("rows", U32), Scalar("n", U32), Scalar("wide", U32), Scalar("share", F64)
    ]
    single DELTA "online_delta" [
        In("signal", F32), In("slope", F32), In("gain", F32), Out("delta", F32), Scalar("through", U32),
        Scalar("n", U64)
    ]
    single COLLECT "online_collect" [
        In("trace", F32), In("delta", F32), Out("sum", F32), Scalar("rows", U32), Scalar("n", U64)
    ]
    single SYNAPSES "online_synapses" [
        In("trace", F32), In("signal", F32), In("slope", F32), In("kappa", F32), In("gain", F32),
        In("rho", F32), In("strength", F32), Out("filtered", F32), Out("adaptation", F32), Out("sum", F32),
        Scalar("sources", U32), Scalar("batch", U32), Scalar("neurons", U32), Scalar("shared", U32),
        Scalar("adapts", U32)
    ]
}

source! {
    /// Attention and rotary embedding.
    attention "attention.cu"
    floats ATTENTION "attention" [
        In("q", T), In("k", T), In("v", T), In("mask", U8), Out("out", T), Out("sums", T),
        Scalar("heads", U32), Scalar("groups", U32), Scalar("queries", U32), Scalar("keys", U32),
        Scalar("room", U32), Scalar("width", U32), Scalar("causal", U32), Scalar("window", U32),
        Scalar("scale", F64), Scalar("masked", U32)
    ]
    floats ATTENTION_QUERY "attention_query" [
        In("q", T), In("k", T), In("v", T), In("mask", U8), In("grad", T), In("sums", T), Out("along", T),
        Out("dq", T), Scalar("heads", U32), Scalar("groups", U32), Scalar("queries", U32),
        Scalar("keys", U32), Scalar("room", U32), Scalar("width", U32), Scalar("causal", U32),
        Scalar("window", U32), Scalar("scale", F64), Scalar("masked", U32)
    ]
    floats ATTENTION_KEY "attention_key" [
        In("q", T), In("k", T), In("v", T), In("mask", U8), In("grad", T), In("sums", T), In("along", T),
        Out("dk", T), Out("dv", T), Scalar("heads", U32), Scalar("groups", U32), Scalar("queries", U32),
        Scalar("keys", U32), Scalar("room", U32), Scalar("width", U32), Scalar("causal", U32),
        Scalar("window", U32), Scalar("scale", F64), Scalar("masked", U32)
    ]
    floats ROPE "rope" [
        In("x", T), In("cos", T), In("sin", T), Out("out", T), Scalar("batch", U32), Scalar("times", U32),
        Scalar("heads", U32), Scalar("width", U32), Scalar("shared", U32), Scalar("back", U32)
    ]
}

source! {
    /// Maps of orthogonal adapters.
    butterfly "butterfly.cu"
    floats BUTTERFLY "butterfly" [
        In("x", T), In("q", T), Out("out", T), Scalar("n", U32), Scalar("factors", U32), Scalar("b", U32),
        Scalar("transposed", U32)
    ]
    floats BUTTERFLY_CHAIN "butterfly_chain" [
        In("grad", T), In("x", T), In("q", T), Out("dx", T), Out("dq", T), Out("before", T), Scalar("n", U32),
        Scalar("factors", U32), Scalar("b", U32), Scalar("transposed", U32), Scalar("rows", U32),
        Scalar("chunk", U32)
    ]
    floats CAYLEY "cayley" [In("r", T), Out("q", T), Out("work", F64), Scalar("b", U32)]
    floats CAYLEY_CHAIN "cayley_chain" [
        In("grad", T), In("q", T), Out("dr", T), Out("work", T), Scalar("b", U32)
    ]
}

source! {
    /// The structured unitary map.
    unitary "unitary.cu"
    floats UNITARY_PLAN "unitary_plan" [In("theta", T), In("v", T), Out("plan", T), Scalar("k", U32)]
    floats UNITARY "unitary" [
        In("x", T), In("plan", T), In("v", T), In("from", U32), Out("out", T), Out("work", T), Fault,
        Scalar("k", U32), Scalar("rows", U32), Scalar("chunk", U32), Scalar("inverse", U32)
    ]
    floats UNITARY_CHAIN "unitary_chain" [
        In("grad", T), In("y", T), In("plan", T), In("v", T), In("from", U32), Out("dx", T), Out("dtheta", T),
        Out("dv", T), Out("work", T), Fault, Scalar("k", U32), Scalar("rows", U32), Scalar("chunk", U32),
        Scalar("inverse", U32)
    ]
}
