//! The operations: one file each, with docs, rule for shapes, definition, gradient and tests.
//!
//! | | methods of [`Tensor`](super::Tensor) |
//! |---|---|
//! | arithmetic, broadcast | `add` `sub` `mul` `div` `greater_equal` |
//! | with numbers | `affine` `mul_scalar` `add_scalar` `neg` `powf` |
//! | functions | `exp` `ln` `sqrt` `tanh` `sigmoid` `relu` `gelu` `gelu_tanh` `silu` `dropout` `clamp` |
//! | orthogonal maps | `cayley` `butterfly` `unitary` |
//! | spikes | `spike` `spike_above` `qcfs` |
//! | images | `conv2d` `avg_pool2d` `max_pool2d` |
//! | products | `matmul` `matmul_nt` `matmul_tn` `linear` `adapted_linear` |
//! | language models | `rope` `attention` `swiglu` `linear_cross_entropy` |
//! | reductions | `sum` `sum_all` `sum_to` `mean` `mean_all` `max` `argmax` |
//! | normalisation, loss | `softmax` `log_softmax` `batch_norm` `batch_norm_with` `layer_norm` `rms_norm` `cross_entropy` |
//! | shape | `reshape` `permute` `transpose` `broadcast_to` `narrow` `split` `concat` |
//! | choice | `index_select` `embedding` `select` |
//! | other | `to_dtype` `detach` |
//!
//! To add one: a file here, and its line in the two lists below. A test fails until its gradient is checked.

pub(crate) mod adapted_linear;
mod add;
mod affine;
pub(crate) mod attention;
mod avg_pool2d;
mod batch_norm;
mod broadcast_to;
mod butterfly;
mod cast;
mod cayley;
mod clamp;
mod concat;
mod conv2d;
pub(crate) mod cross_entropy;
mod detach;
mod div;
mod dropout;
mod exp;
mod gelu;
mod greater_equal;
mod index_select;
mod layer_norm;
mod linear;
mod linear_cross_entropy;
mod ln;
mod log_softmax;
mod matmul;
mod max;
mod max_pool2d;
mod mul;
mod narrow;
mod permute;
mod powf;
mod qcfs;
mod relu;
mod reshape;
mod rms_norm;
mod rope;
mod select;
mod sigmoid;
mod silu;
mod softmax;
mod spike;
mod split;
mod sqrt;
mod sub;
mod sum;
mod swiglu;
mod tanh;
mod unitary;

use super::check::Entry;

/// Every operation with the cases its gradient is checked on.
pub(crate) const REGISTRY: &[Entry] = &[
    Entry { name: "adapted_linear", cases: adapted_linear::cases, differentiable: true },
    Entry { name: "add", cases: add::cases, differentiable: true },
    Entry { name: "affine", cases: affine::cases, differentiable: true },
    Entry { name: "attention", cases: attention::cases, differentiable: true },
    Entry { name: "avg_pool2d", cases: avg_pool2d::cases, differentiable: true },
    Entry { name: "batch_norm", cases: batch_norm::cases, differentiable: true },
    Entry { name: "broadcast_to", cases: broadcast_to::cases, differentiable: true },
    Entry { name: "butterfly", cases: butterfly::cases, differentiable: true },
    Entry { name: "cast", cases: cast::cases, differentiable: true },
    Entry { name: "cayley", cases: cayley::cases, differentiable: true },
    Entry { name: "clamp", cases: clamp::cases, differentiable: true },
    Entry { name: "concat", cases: concat::cases, differentiable: true },
    Entry { name: "conv2d", cases: conv2d::cases, differentiable: true },
    Entry { name: "cross_entropy", cases: cross_entropy::cases, differentiable: true },
    Entry { name: "detach", cases: detach::cases, differentiable: true },
    Entry { name: "div", cases: div::cases, differentiable: true },
    Entry { name: "dropout", cases: dropout::cases, differentiable: true },
    Entry { name: "exp", cases: exp::cases, differentiable: true },
    Entry { name: "gelu", cases: gelu::cases, differentiable: true },
    Entry { name: "greater_equal", cases: greater_equal::cases, differentiable: false },
    Entry { name: "index_select", cases: index_select::cases, differentiable: true },
    Entry { name: "layer_norm", cases: layer_norm::cases, differentiable: true },
    Entry { name: "linear", cases: linear::cases, differentiable: true },
    Entry { name: "linear_cross_entropy", cases: linear_cross_entropy::cases, differentiable: true },
    Entry { name: "ln", cases: ln::cases, differentiable: true },
    Entry { name: "log_softmax", cases: log_softmax::cases, differentiable: true },
    Entry { name: "matmul", cases: matmul::cases, differentiable: true },
    Entry { name: "max", cases: max::cases, differentiable: true },
    Entry { name: "max_pool2d", cases: max_pool2d::cases, differentiable: true },
    Entry { name: "mul", cases: mul::cases, differentiable: true },
    Entry { name: "narrow", cases: narrow::cases, differentiable: true },
    Entry { name: "permute", cases: permute::cases, differentiable: true },
    Entry { name: "powf", cases: powf::cases, differentiable: true },
    Entry { name: "qcfs", cases: qcfs::cases, differentiable: true },
    Entry { name: "relu", cases: relu::cases, differentiable: true },
    Entry { name: "reshape", cases: reshape::cases, differentiable: true },
    Entry { name: "rms_norm", cases: rms_norm::cases, differentiable: true },
    Entry { name: "rope", cases: rope::cases, differentiable: true },
    Entry { name: "select", cases: select::cases, differentiable: true },
    Entry { name: "sigmoid", cases: sigmoid::cases, differentiable: true },
    Entry { name: "silu", cases: silu::cases, differentiable: true },
    Entry { name: "softmax", cases: softmax::cases, differentiable: true },
    Entry { name: "spike", cases: spike::cases, differentiable: true },
    Entry { name: "split", cases: split::cases, differentiable: true },
    Entry { name: "sqrt", cases: sqrt::cases, differentiable: true },
    Entry { name: "sub", cases: sub::cases, differentiable: true },
    Entry { name: "sum", cases: sum::cases, differentiable: true },
    Entry { name: "swiglu", cases: swiglu::cases, differentiable: true },
    Entry { name: "tanh", cases: tanh::cases, differentiable: true },
    Entry { name: "unitary", cases: unitary::cases, differentiable: true },
];
