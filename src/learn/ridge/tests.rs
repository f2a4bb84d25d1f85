//! The regression as a whole: against scikit-learn, itself by other roads, and retraining.

use super::*;
use crate::rng::Stream;
use rand::RngExt;
use safetensors::SafeTensors;

const DIGITS: &[u8] = include_bytes!("../../../tests/fixtures/snn/ridge/digits_reservoir.safetensors");
const REGRESSION: &[u8] = include_bytes!("../../../tests/fixtures/snn/ridge/regression.safetensors");

fn tensor<T: bytemuck::Pod>(file: &SafeTensors<'_>, name: &str) -> Vec<T> {
    bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data())
}

/// As scikit-learn has it, to the last digits.
fn plain(intercept: bool) -> Form {
    Form { standardize: false, intercept, tolerance: 1e-15 }
}

fn assert_close(got: &[f64], wanted: &[f64], relative: f64, what: &str) {
    assert_eq!(got.len(), wanted.len());
    let largest = wanted.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    let worst = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= relative * largest, "{what}: {worst:e} exceeds {:e}", relative * largest);
}

/// Codes that depend on the label, with correlated, dead and rare features.
pub(super) fn problem(
    samples: usize,
    features: usize,
    classes: usize,
    code_max: u8,
    seed: u64,
) -> (Vec<u8>, Vec<u16>) {
    let mut walk = Stream::named(seed, "problem").walk(0);
    let labels: Vec<u16> = (0..samples).map(|_| walk.random_range(0..classes as u16)).collect();
    let mut rows = Vec::new();
    for &label in &labels {
        let shared: f64 = walk.random();
        for f in 0..features {
            let bump = if f % classes == usize::from(label) { 0.35 } else { 0.0 };
            let value = 0.2 * shared + bump + 0.4 * walk.random::<f64>();
            rows.push(if f % 13 == 5 { 3.min(code_max) } else { (value * f64::from(code_max)) as u8 });
        }
    }
    (rows, labels)
}

#[test]
fn equals_scikit_learn_on_counts() {
    let file = SafeTensors::deserialize(DIGITS).unwrap();
    let (train, test): (Vec<f32>, Vec<f32>) = (tensor(&file, "X_train"), tensor(&file, "X_test"));
    let codes: Vec<u8> = train.iter().map(|&x| x as u8).collect();
    assert!(codes.iter().zip(&train).all(|(&code, &x)| f32::from(code) == x), "the fixture holds counts");
    let labels: Vec<u16> = tensor::<i32>(&file, "label_train").iter().map(|&l| l as u16).collect();
    let code_max = codes.iter().copied().max().unwrap();
    for alpha in ["0.001", "1", "100", "10000"] {
        for (name, intercept) in [("i", true), ("n", false)] {
            let key = format!("a{alpha}_{name}");
            let mut integer = NormalEquations::new(100, 10, code_max).unwrap().form(plain(intercept));
            integer.add(&codes, &labels).unwrap();
            let mut real = NormalEquations::with_f32(100, 10).unwrap().form(plain(intercept));
            real.add(&train, &tensor::<f32>(&file, "Y_train")).unwrap();
            for mut equations in [integer, real] {
                let ridge = equations.solve(alpha.parse().unwrap()).unwrap();
                assert_close(&ridge.weights, &tensor::<f64>(&file, &format!("{key}.coef")), 3.9e-8, &key);
                let bias = tensor::<f64>(&file, &format!("{key}.intercept"));
                let wanted: Vec<f64> = tensor(&file, &format!("{key}.pred_test"));
                for (r, row) in test.chunks(100).enumerate() {
                    for k in 0..10 {
                        let dot: f64 =
                            row.iter().zip(&ridge.weights[k * 100..]).map(|(&x, w)| f64::from(x) * w).sum();
                        assert!((dot + ridge.bias[k] - wanted[r * 10 + k]).abs() < 1e-6, "{key}");
                    }
                }
                assert!(bias.iter().zip(&ridge.bias).all(|(a, b)| (a - b).abs() < 1e-6));
            }
        }
    }
}

#[test]
fn equals_scikit_learn_on_real_features() {
    let file = SafeTensors::deserialize(REGRESSION).unwrap();
    for alpha in ["1e-06", "0.1", "10"] {
        for (name, intercept) in [("i", true), ("n", false)] {
            let key = format!("a{alpha}_{name}");
            let mut equations = NormalEquations::with_f64(40, 3).unwrap().form(plain(intercept));
            equations.add(&tensor::<f64>(&file, "X_train"), &tensor::<f64>(&file, "Y_train")).unwrap();
            let ridge = equations.solve(alpha.parse().unwrap()).unwrap();
            assert_close(&ridge.weights, &tensor::<f64>(&file, &format!("{key}.coef")), 1e-9, &key);
            assert_close(&ridge.bias, &tensor::<f64>(&file, &format!("{key}.intercept")), 1e-9, &key);
        }
    }
}

/// `W = X_cᵀ (X_c X_cᵀ + λ I)⁻¹ Y_c` on standardised features, by a dense factorisation in 64 bits.
fn dual(rows: &[u8], labels: &[u16], features: usize, classes: usize, lambda: f64) -> Vec<f64> {
    use nalgebra::DMatrix;
    let n = labels.len();
    let mut x = DMatrix::from_fn(n, features, |i, f| f64::from(rows[i * features + f]));
    let mut scales = Vec::new();
    for f in 0..features {
        let mean = (0..n).map(|i| x[(i, f)]).sum::<f64>() / n as f64;
        let scale = ((0..n).map(|i| (x[(i, f)] - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
        scales.push(if scale > 0.0 { scale } else { 1.0 });
        (0..n).for_each(|i| x[(i, f)] = (x[(i, f)] - mean) / scales[f]);
    }
    let mut y = DMatrix::from_fn(n, classes, |i, k| if usize::from(labels[i]) == k { 1.0 } else { 0.0 });
    for k in 0..classes {
        let mean = (0..n).map(|i| y[(i, k)]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| y[(i, k)] -= mean);
    }
    let mut gram = &x * x.transpose();
    (0..n).for_each(|i| gram[(i, i)] += lambda);
    let weights = x.transpose() * gram.cholesky().unwrap().solve(&y);
    (0..classes)
        .flat_map(|k| (0..features).map(move |f| (k, f)))
        .map(|(k, f)| weights[(f, k)] / scales[f])
        .collect()
}

#[test]
fn streaming_equals_batch_equals_dual() {
    let (features, classes) = (300, 4);
    let (rows, labels) = problem(500, features, classes, 31, 1);
    let form = Form { tolerance: 1e-13, ..Form::default() };
    let mut batch = NormalEquations::new(features, classes, 31).unwrap().form(form);
    batch.add(&rows, &labels).unwrap();
    let batch = batch.solve(10.0).unwrap();
    let mut stream = NormalEquations::new(features, classes, 31).unwrap().form(form);
    for (rows, labels) in rows.chunks(7 * features).zip(labels.chunks(7)) {
        stream.add(rows, labels).unwrap();
        if stream.samples() == 70 {
            stream.solve(1.0).unwrap(); // a look in between changes nothing
        }
    }
    assert_eq!(stream.solve(10.0).unwrap(), batch);
    assert_eq!(batch.dead, (0..features).filter(|f| f % 13 == 5).collect::<Vec<_>>());
    assert!(batch.dead.iter().all(|&f| batch.weights[f] == 0.0));
    assert_close(&batch.weights, &dual(&rows, &labels, features, classes, 10.0), 1e-10, "dual");
    let right = batch.classify(&rows).unwrap().iter().zip(&labels).filter(|(a, b)| a == b).count();
    assert!(right > 490, "{right} of 500");
}

#[test]
fn real_features_do_not_depend_on_the_calls_and_agree_with_codes() {
    let (features, classes) = (40, 3);
    let (rows, labels) = problem(700, features, classes, 255, 2);
    let reals: Vec<f32> = rows.iter().map(|&x| f32::from(x) / 255.0).collect();
    let solve = |step: usize| {
        let mut equations = NormalEquations::with_f32(features, classes).unwrap();
        for (rows, labels) in reals.chunks(step * features).zip(labels.chunks(step)) {
            equations.add(rows, labels).unwrap();
        }
        equations.solve(5.0).unwrap()
    };
    assert_eq!(solve(700), solve(11));
    let form = Form { tolerance: 1e-13, ..Form::default() };
    let mut integer = NormalEquations::new(features, classes, 255).unwrap().form(form);
    integer.add(&rows, &labels).unwrap();
    let integer = integer.solve(5.0).unwrap();
    let mut wide = NormalEquations::with_f64(features, classes).unwrap().form(form);
    wide.add(&rows.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), &labels).unwrap();
    assert_close(&wide.solve(5.0).unwrap().weights, &integer.weights, 1e-11, "f64");
    // Rounding at random, a sum of N = 256 products in f32 is off by √N / 3 · 2⁻²⁴ = 3e-7 of itself, the sum over three
    // blocks by 2e-7, and relative to the variance by the five times more that the square of the mean is. A random
    // symmetric matrix of 40 rows with such entries has the norm 2 √40 · 1e-6 n = 9e-3; the smallest eigenvalue of the
    // regression is at least n (1 − √(40 / n))² · 0.3 + λ = 127 (0.3 of the variance is independent noise).
    let scaled: Vec<f64> = integer.weights.iter().map(|w| w * 255.0).collect();
    assert_close(&solve(700).weights, &scaled, 9e-3 / 127.0, "f32 sums of 256 products");
}

#[test]
fn threads_do_not_matter() {
    let (features, classes) = (600, 5);
    let (rows, labels) = problem(2100, features, classes, 31, 3);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let mut equations = NormalEquations::new(features, classes, 31).unwrap().keep_rows(200, 1);
            equations.add(&rows, &labels).unwrap();
            equations.select(&[3.0, 30.0], Criterion::LeaveOneOut).unwrap()
        })
    };
    let (one, two, three) = (run(1), run(2), run(3));
    assert!(one == two && two == three);
    assert!(one.0.weights.iter().any(|w| w.abs() > 1e-3));
}

#[test]
fn leave_one_out_and_generalized_equal_retraining() {
    let (n, features, classes, lambda) = (60, 9, 3, 7.0);
    let (rows, labels) = problem(n, features, classes, 31, 4);
    let reals: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
    let form = Form { standardize: false, ..plain(true) };
    let (mut squares, mut wrong) = (0.0, 0);
    for left in 0..n {
        let mut without = NormalEquations::with_f64(features, classes).unwrap().form(form);
        for i in (0..n).filter(|&i| i != left) {
            without.add(&reals[i * features..][..features], &labels[i..=i]).unwrap();
        }
        let ridge = without.solve(lambda).unwrap();
        let x = &reals[left * features..][..features];
        let outputs: Vec<f64> = (0..classes)
            .map(|k| {
                ridge.bias[k] + x.iter().zip(&ridge.weights[k * features..]).map(|(x, w)| x * w).sum::<f64>()
            })
            .collect();
        for (k, output) in outputs.iter().enumerate() {
            squares += (output - if usize::from(labels[left]) == k { 1.0 } else { 0.0 }).powi(2);
        }
        wrong += usize::from(select::largest(&outputs) != usize::from(labels[left]));
    }
    let wanted = squares / (n * classes) as f64;
    let mut all = NormalEquations::with_f64(features, classes).unwrap().form(form).keep_rows(n, 0);
    all.add(&reals, &labels).unwrap();
    let (_, scores) = all.select(&[lambda], Criterion::LeaveOneOut).unwrap();
    assert!((scores[0].squared_error / wanted - 1.0).abs() < 1e-10, "{} {wanted}", scores[0].squared_error);
    assert_eq!(scores[0].error_rate, Some(wrong as f64 / n as f64));
    // Codes have their factor in 32 bits.
    let mut codes = NormalEquations::new(features, classes, 31).unwrap().form(form).keep_rows(n, 0);
    codes.add(&rows, &labels).unwrap();
    let (_, codes) = codes.select(&[lambda], Criterion::LeaveOneOutErrorRate).unwrap();
    assert!((codes[0].squared_error / wanted - 1.0).abs() < 1e-5);
    // GCV: the trace of the hat matrix is the derivative of the fit, summed: here by leverages of all rows.
    let (ridge, gcv) = all.select(&[lambda], Criterion::Generalized).unwrap();
    let residual: f64 = ridge.squared_error.iter().sum::<f64>() / classes as f64;
    let mut freedom = 0.0;
    for i in 0..n {
        // hᵢᵢ = ∂ŷᵢ/∂yᵢ, exact because the fit is linear in y.
        let mut unit = vec![0.0; n];
        unit[i] = 1.0;
        let mut equations = NormalEquations::with_f64(features, 1).unwrap().form(form);
        equations.add(&reals, &unit).unwrap();
        let one = equations.solve(lambda).unwrap();
        let x = &reals[i * features..][..features];
        freedom += one.bias[0] + x.iter().zip(&one.weights).map(|(x, w)| x * w).sum::<f64>();
    }
    let wanted = residual / (1.0 - freedom / n as f64).powi(2);
    assert!(freedom > 2.0 && (gcv[0].squared_error / wanted - 1.0).abs() < 1e-9);
}

#[test]
fn selection_finds_the_best_of_a_grid() {
    let (rows, labels) = problem(150, 100, 3, 15, 5);
    let mut equations = NormalEquations::new(100, 3, 15).unwrap().keep_rows(120, 3);
    equations.add(&rows, &labels).unwrap();
    let grid = [1e-1, 1e1, 1e2, 1e5];
    let (ridge, scores) = equations.select(&grid, Criterion::LeaveOneOut).unwrap();
    let best = scores.iter().map(|s| s.squared_error).fold(f64::INFINITY, f64::min);
    assert!(scores.iter().any(|s| s.squared_error > 1.2 * best), "λ matters: {scores:?}");
    assert_eq!(scores.iter().find(|s| s.squared_error == best).unwrap().lambda, ridge.lambda);
    let (_, search) = equations.search(1e-1, 1e5, 8, Criterion::LeaveOneOut).unwrap();
    assert_eq!(search.len(), 8);
    assert!(search.iter().map(|s| s.squared_error).fold(f64::INFINITY, f64::min) <= best * 1.01);
}

#[test]
fn a_saved_state_continues_as_if_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (features, classes) = (270, 3);
    let (rows, labels) = problem(2500, features, classes, 31, 6);
    let cut = 2100; // past one block, inside the next
    let whole = |equations: NormalEquations| {
        let mut equations = equations;
        equations.add(&rows[cut * features..], &labels[cut..]).unwrap();
        equations.select(&[3.0], Criterion::LeaveOneOut).unwrap()
    };
    let mut first = NormalEquations::new(features, classes, 31).unwrap().keep_rows(50, 9);
    first.add(&rows[..cut * features], &labels[..cut]).unwrap();
    first.save(&path).unwrap();
    assert_eq!(whole(NormalEquations::load(&path).unwrap()), whole(first));

    let reals: Vec<f32> = rows.iter().map(|&x| f32::from(x) * 0.1).collect();
    let mut first = NormalEquations::with_f32(features, classes).unwrap();
    first.add(&reals[..cut * features], &labels[..cut]).unwrap();
    first.save(&path).unwrap();
    let mut second = NormalEquations::load(&path).unwrap();
    for equations in [&mut first, &mut second] {
        equations.add(&reals[cut * features..], &labels[cut..]).unwrap();
    }
    assert_eq!(first.solve(1.0).unwrap(), second.solve(1.0).unwrap());

    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(NormalEquations::load(&path), Err(Error::Data { .. })), "{length} bytes");
    }
}

#[test]
fn bad_input_is_refused_and_adds_nothing() {
    assert!(NormalEquations::new(0, 2, 31).is_err());
    assert!(NormalEquations::new(2, 0, 31).is_err());
    assert!(NormalEquations::new(2, 2, 0).is_err());
    let mut equations = NormalEquations::new(2, 2, 31).unwrap();
    assert!(equations.solve(1.0).is_err(), "no samples");
    assert!(equations.add(&[32u8, 0][..], &[0u16][..]).is_err(), "code above the largest");
    assert!(equations.add(&[1u8, 0][..], &[2u16][..]).is_err(), "label");
    assert!(equations.add(&[1u8, 0, 1][..], &[0u16][..]).is_err(), "row");
    assert!(equations.add(&[1u8, 0][..], &[0u16, 1][..]).is_err(), "labels");
    assert!(equations.add(&[1.0f32, 0.0][..], &[0u16][..]).is_err(), "type");
    assert!(equations.add(&[1u8, 0][..], &[f32::NAN, 0.0][..]).is_err(), "target");
    assert_eq!(equations.samples(), 0);
    equations.add(&[1u8, 0, 0, 1][..], &[0u16, 1][..]).unwrap();
    assert!(equations.solve(-1.0).is_err());
    assert!(equations.solve(f64::NAN).is_err());
    assert!(equations.select(&[], Criterion::LeaveOneOut).is_err());
    assert!(equations.select(&[1.0], Criterion::LeaveOneOut).is_err(), "no kept rows");
    assert!(equations.solve(1.0).unwrap().predict(&[1u8][..]).is_err());
    let mut real = NormalEquations::with_f32(1, 1).unwrap();
    assert!(real.add(&[f32::INFINITY][..], &[0.0f32][..]).is_err());
}

#[test]
fn singular_problems_are_solved_in_the_limit_or_refused() {
    // Two equal features and λ = 0: the fit is unique though the weights are not.
    let rows: Vec<f64> =
        (0..20).flat_map(|i| [f64::from(i % 7), f64::from(i % 7), f64::from(i % 3)]).collect();
    let targets: Vec<f64> = rows.chunks(3).map(|x| 2.0 * x[0] - x[2] + 1.0).collect();
    let mut equations = NormalEquations::with_f64(3, 1).unwrap();
    equations.add(&rows, &targets).unwrap();
    match equations.solve(0.0) {
        Ok(ridge) => assert!(ridge.squared_error[0] < 1e-6 && ridge.weights.iter().all(|w| w.abs() < 10.0)),
        Err(error) => assert!(matches!(error, Error::Diverged(_))),
    }
    // Nothing varies at all.
    let mut constant = NormalEquations::new(3, 1, 31).unwrap();
    constant.add(&[4u8; 30][..], &[1.5f64; 10][..]).unwrap();
    let ridge = constant.solve(1.0).unwrap();
    assert_eq!((ridge.dead.len(), ridge.bias[0], ridge.weights), (3, 1.5, vec![0.0; 3]));
}
