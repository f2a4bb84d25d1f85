//! Comparing numbers and checking gradients.

use super::{DType, Tensor, grad, ops, recorded};
use crate::rng::Stream;
use crate::{Error, Result};
use rand::RngExt;
use std::collections::BTreeMap;

/// How far a value may be from its reference: `absolute + relative · |reference|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Part that does not depend on the size of the reference.
    pub absolute: f64,
    /// Part that grows with it.
    pub relative: f64,
}

impl Tolerance {
    /// What gradients are held to: 1e-6 + 1e-5 × |reference|.
    pub const GRADIENT: Self = Self { absolute: 1e-6, relative: 1e-5 };

    /// What separates a CPU from a GPU in double precision, where sums are in another order. The absolute part is for
    /// numbers of the size of 1: where a tensor has larger ones, it grows with the largest.
    pub const DEVICE_F64: Self = Self { absolute: 1e-13, relative: 1e-12 };

    /// The same in single precision.
    pub const DEVICE_F32: Self = Self { absolute: 4e-6, relative: 2e-5 };

    /// A tolerance.
    pub const fn new(absolute: f64, relative: f64) -> Self {
        Self { absolute, relative }
    }

    /// Distance as a share of the allowance: at most 1 is close. Infinite where only one is NaN, or an infinity is missed.
    fn share(&self, got: f64, reference: f64) -> f64 {
        if got == reference || (got.is_nan() && reference.is_nan()) {
            return 0.0;
        }
        let share = (got - reference).abs() / (self.absolute + self.relative * reference.abs());
        if share.is_nan() || reference.is_infinite() { f64::INFINITY } else { share }
    }
}

/// Compares values with references.
///
/// ```
/// use ransnn::tensor::check::{Tolerance, close};
/// assert!(close(&[1.0, 2.0], &[1.0, 2.000_001], Tolerance::new(0.0, 1e-6)).is_ok());
/// let message = close(&[1.0, 2.5], &[1.0, 2.0], Tolerance::new(0.1, 0.0)).unwrap_err();
/// assert_eq!(message, "element 1 is 2.5, not 2: 5 times the allowance of 0.1 (1 of 2 elements are off)");
/// ```
///
/// # Errors
/// A text about the worst element and its share of the allowance.
pub fn close(got: &[f64], reference: &[f64], tolerance: Tolerance) -> std::result::Result<(), String> {
    if got.len() != reference.len() {
        return Err(format!("{} elements, not {}", got.len(), reference.len()));
    }
    let shares = || got.iter().zip(reference).map(|(&g, &r)| tolerance.share(g, r));
    let Some((worst, share)) = shares().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(()) };
    if share <= 1.0 {
        return Ok(());
    }
    let (g, r) = (got[worst], reference[worst]);
    let allowance = tolerance.absolute + tolerance.relative * r.abs();
    let off = shares().filter(|&share| share > 1.0).count();
    let (rounded, count) = ((share * 1000.0).round() / 1000.0, got.len());
    Err(format!(
        "element {worst} is {g}, not {r}: {rounded} times the allowance of {allowance} ({off} of {count} elements are off)"
    ))
}

/// [`close`] for tensors of one shape.
///
/// # Panics
/// If they are not close: for tests.
#[track_caller]
pub fn assert_close(got: &Tensor, reference: &Tensor, tolerance: Tolerance) {
    assert_eq!(got.shape(), reference.shape(), "shapes differ");
    let values = |tensor: &Tensor| tensor.to_f64().unwrap_or_else(|error| panic!("{error}"));
    if let Err(message) = close(&values(got), &values(reference), tolerance) {
        panic!("{message}");
    }
}

/// A function of tensors.
pub type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// One gradient to check.
pub struct Case {
    /// Operation, shapes and settings.
    pub what: String,
    /// Inputs in f64; the gradient by each is checked.
    pub inputs: Vec<Tensor>,
    /// What is differentiated on the tape.
    pub run: Function,
    /// What is differentiated by differences instead, where the tape's gradient is not that of the value: for a spike the
    /// smooth function whose derivative is the surrogate.
    pub twin: Option<Function>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("what", &self.what).field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Case {
    /// A case without a twin.
    pub fn new(
        what: impl Into<String>,
        inputs: Vec<Tensor>,
        run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> Self {
        Self { what: what.into(), inputs, run: Box::new(run), twin: None }
    }
}

/// An operation and the cases its gradient is checked on; the file in `ops/` has the same name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name of the operation.
    pub name: &'static str,
    /// Builds the cases.
    pub cases: fn() -> Vec<Case>,
    /// Whether there is a gradient; without one the cases check that it is refused.
    pub differentiable: bool,
}

/// Every operation.
pub fn registry() -> &'static [Entry] {
    ops::REGISTRY
}

/// Compares the gradients of a case with central differences in f64, of the output weighted by fixed random numbers.
/// Returns the names of the operations that were recorded.
///
/// # Errors
/// [`Error::Value`] naming the case and the worst element; what the function returns; a gradient that is zero
/// everywhere, because then the check could not fail.
pub fn gradcheck(case: &Case, tolerance: Tolerance) -> Result<Vec<&'static str>> {
    let failed =
        |why: String| Error::value(format!("the gradient of {}", case.what), why, "that of its differences");
    let weights = random("weights", (case.run)(&case.inputs)?.shape(), 0.5, 1.5)?;
    let weigh = |y: Tensor| y.mul(&weights)?.sum_all();
    let named: BTreeMap<String, Tensor> =
        case.inputs.iter().enumerate().map(|(i, x)| (format!("{i:02}"), x.clone())).collect();
    let mut operations = Vec::new();
    let (_, grads) = grad(&named, || {
        let y = (case.run)(&case.inputs)?;
        operations = recorded().map(|tape| tape.operations).unwrap_or_default();
        weigh(y)
    })?;
    let measured = case.twin.as_ref().unwrap_or(&case.run);
    let mut nonzero = false;
    for (i, input) in case.inputs.iter().enumerate() {
        let values = input.to_f64()?;
        let at = |element: usize, value: f64| {
            let mut moved = values.clone();
            moved[element] = value;
            let mut inputs = case.inputs.clone();
            inputs[i] = Tensor::from_f64(moved, input.shape())?;
            weigh(measured(&inputs)?)?.to_scalar()
        };
        let differences = values
            .iter()
            .enumerate()
            .map(|(element, &x)| {
                let step = 1e-5 * x.abs().max(1.0);
                Ok((at(element, x + step)? - at(element, x - step)?) / (2.0 * step))
            })
            .collect::<Result<Vec<f64>>>()?;
        let got = grads.get(&format!("{i:02}"))?.to_f64()?;
        nonzero |= got.iter().any(|g| g.abs() > 1e-3);
        close(&got, &differences, tolerance).map_err(|why| failed(format!("off: input {i}, {why}")))?;
    }
    // A single element may well lie where the slope is zero.
    match nonzero || case.inputs.iter().map(Tensor::len).sum::<usize>() <= 1 {
        true => Ok(operations),
        false => Err(failed("zero everywhere".into())),
    }
}

/// Reproducible values, evenly distributed between two bounds, in f64.
pub fn random(name: &str, shape: &[usize], low: f64, high: f64) -> Result<Tensor> {
    let mut walk = Stream::named(0, name).walk(0);
    let len = shape.iter().product();
    Tensor::from_f64((0..len).map(|_| low + (high - low) * walk.random::<f64>()).collect(), shape)
}

/// Shapes around the edges: no axes, sizes of 1, sizes that fill no vector register.
const SHAPES: [&[usize]; 6] = [&[], &[1], &[7], &[2, 3], &[1, 4, 1], &[3, 17]];

pub(super) fn inputs(what: &str, shapes: &[&[usize]], low: f64, high: f64) -> Vec<Tensor> {
    let named = |(i, shape): (usize, &&[usize])| random(&format!("{what}/{i}"), shape, low, high);
    // Shapes are literals of ours; a failure leaves too few inputs and the case fails with them.
    shapes.iter().enumerate().flat_map(named).collect()
}

pub(super) fn unary_cases(
    what: &str,
    low: f64,
    high: f64,
    f: impl Fn(&Tensor) -> Result<Tensor> + Copy + 'static,
) -> Vec<Case> {
    let case = |shape: &&[usize]| {
        Case::new(format!("{what} {shape:?}"), inputs(what, &[shape], low, high), move |x| f(&x[0]))
    };
    SHAPES.iter().map(case).collect()
}

pub(super) fn binary_cases(
    what: &str,
    low: f64,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Copy + 'static,
) -> Vec<Case> {
    let pairs: [(&[usize], &[usize]); 9] = [
        (&[], &[]),
        (&[1], &[1]),
        (&[5], &[5]),
        (&[2, 3], &[3]),
        (&[2, 3], &[]),
        (&[2, 1], &[3]),
        (&[3], &[4, 1, 3]),
        (&[2, 1, 4], &[1, 3, 1]),
        (&[1, 17], &[3, 17]),
    ];
    let case = |(a, b): &(&[usize], &[usize])| {
        Case::new(format!("{what} {a:?} {b:?}"), inputs(what, &[a, b], low, 2.0), move |x| f(&x[0], &x[1]))
    };
    pairs.iter().map(case).collect()
}

/// Labels or indices that walk through `0..below`.
pub(super) fn indices(shape: &[usize], below: u32) -> Result<Tensor> {
    let len: usize = shape.iter().product();
    Tensor::from_u32((0..len as u32).map(|i| (i * 7 + 2) % below).collect(), shape)
}

/// What a case holds beside its inputs, where and as they are: cases run on every device and in both widths.
pub(super) fn beside(x: &Tensor, held: &Tensor) -> Result<Tensor> {
    let float = held.dtype() == CHECKED && x.dtype().is_computing();
    if float { held.to_dtype(x.dtype())? } else { held.clone() }.to_device(x.device())
}

/// The kind of number that gradients are checked in.
pub(super) const CHECKED: DType = DType::F64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_operation_has_a_checked_gradient() {
        for entry in registry() {
            let cases = (entry.cases)();
            assert!(!cases.is_empty(), "{} has no case", entry.name);
            for case in &cases {
                assert!(
                    !case.inputs.is_empty() && case.inputs.iter().all(|x| x.dtype() == CHECKED),
                    "{case:?}"
                );
                match gradcheck(case, Tolerance::GRADIENT) {
                    Ok(operations) => {
                        assert!(entry.differentiable, "{} was expected to refuse", case.what);
                        let runs = operations.iter().any(|name| name.starts_with(entry.name));
                        assert!(runs, "{} does not run {}, but {operations:?}", case.what, entry.name);
                    }
                    Err(Error::NoGradient { .. }) if !entry.differentiable => {}
                    Err(error) => panic!("{}: {error}", case.what),
                }
            }
        }
    }

    #[test]
    fn every_file_is_registered() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tensor/ops");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the sources are there")
            .map(|entry| {
                entry.expect("readable").path().file_stem().expect("a name").to_string_lossy().into_owned()
            })
            .filter(|name| name != "mod")
            .collect();
        let registered: BTreeSet<String> = registry().iter().map(|entry| entry.name.to_string()).collect();
        assert!(files.len() > 25);
        assert_eq!(files, registered);
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let mut case = Case::new("wrong", inputs("wrong", &[&[3]], 0.5, 1.0), |x| x[0].exp());
        case.twin = Some(Box::new(|x| x[0].mul(&x[0])));
        let error = gradcheck(&case, Tolerance::GRADIENT).expect_err("found");
        assert!(error.to_string().contains("input 0, element"), "{error}");
        let flat = Case::new("flat", inputs("flat", &[&[3]], -2.0, -1.0), |x| x[0].relu());
        assert!(gradcheck(&flat, Tolerance::GRADIENT).is_err(), "a check that cannot fail is refused");
    }

    #[test]
    fn nan_and_infinity_are_not_close_to_numbers() {
        let t = Tolerance::new(1.0, 1.0);
        assert!(close(&[f64::NAN], &[0.0], t).is_err() && close(&[1.0], &[f64::INFINITY], t).is_err());
        assert!(close(&[f64::NAN, f64::INFINITY], &[f64::NAN, f64::INFINITY], t).is_ok());
        assert!(close(&[1.0], &[1.0, 2.0], t).is_err());
    }
}
