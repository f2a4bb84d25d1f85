//! The refinement against its equations, finite differences and itself.

use super::*;
use crate::learn::ridge::Form;
use crate::learn::ridge::tests::problem;

fn equations(rows: &[u8], labels: &[u16], features: usize, classes: usize, code_max: u8) -> NormalEquations {
    let mut equations = NormalEquations::new(features, classes, code_max).unwrap();
    equations.add(rows, labels).unwrap();
    equations
}

/// `1/n Σ ½ m²` of weights and bias for codes as they are, term by term.
fn hinge(weights: &[f64], bias: &[f64], rows: &[u8], labels: &[u16]) -> f64 {
    let features = weights.len() / bias.len();
    let mut sum = 0.0;
    for (row, &label) in rows.chunks(features).zip(labels) {
        for (k, (weights, bias)) in weights.chunks(features).zip(bias).enumerate() {
            let f: f64 = bias + row.iter().zip(weights).map(|(&x, w)| f64::from(x) * w).sum::<f64>();
            let y = if usize::from(label) == k { 1.0 } else { -1.0 };
            sum += 0.5 * (1.0 - y * f).max(0.0).powi(2);
        }
    }
    sum / labels.len() as f64
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let (features, classes, penalty) = (9, 3, 0.2);
    let (rows, labels) = problem(40, features, classes, 31, 1);
    let mut equations = equations(&rows, &labels, features, classes, 31);
    let ridge = equations.solve(1.0).unwrap();
    let AnySums::U8(sums) = &mut equations.sums else { panic!("u8 equations") };
    sums.flush().unwrap();
    let problem = sums.problem(equations.form).unwrap();
    let objective = Objective {
        codes: &rows,
        labels: &labels,
        features,
        outputs: classes,
        mean: &problem.mean,
        inverse_scale: &problem.inverse_scale,
        penalty,
    };
    let loss = |point: &Point| {
        let (weights, bias) = objective.raw(point);
        let square: f64 = point.weights.iter().map(|w| w * w).sum();
        hinge(&weights, &bias, &rows, &labels) + 0.5 * penalty * square
    };
    let point = start(&problem, &ridge);
    let mut scores = vec![0.0; labels.len() * classes];
    objective.scores(&point, &mut scores);
    let mut residuals = scores.clone();
    let gradient = objective.gradient(&point, &scores, &mut residuals);
    let violated = residuals.iter().filter(|r| **r != 0.0).count();
    assert!(violated > 10 && violated < residuals.len(), "both branches of the hinge: {violated}");
    let check = |what: &str, got: f64, change: &dyn Fn(&mut Point, f64)| {
        let at = |by: f64| {
            let mut moved = point.clone();
            change(&mut moved, by);
            loss(&moved)
        };
        let wanted = (at(1e-6) - at(-1e-6)) / 2e-6;
        // Scores are of order 1 and have 24 bits; differences have the root of the 53 bits of the loss.
        assert!((got - wanted).abs() < 1e-6, "{what}: {got} {wanted}");
    };
    for i in 0..features * classes {
        // A feature that never varies has no scale: its weight does nothing.
        let dead = problem.inverse_scale[i / classes] == 0.0;
        assert_eq!(dead, i / classes == 5);
        check("weight", gradient.weights[i], &|point, by| point.weights[i] += by);
        assert!(dead || gradient.weights[i].abs() > 1e-5, "weight {i}: {}", gradient.weights[i]);
    }
    for c in 0..classes {
        check("bias", gradient.bias[c], &|point, by| point.bias[c] += by);
    }
    assert!(gradient.weights[features * classes..].iter().all(|&g| g == 0.0), "padding");
}

#[test]
fn the_loss_falls_to_its_minimum() {
    // Few samples and weak classes: the ridge is far from the minimum.
    let (features, classes) = (60, 4);
    let (rows, labels) = problem(300, features, classes, 31, 2);
    let mut equations = equations(&rows, &labels, features, classes, 31);
    let ridge = equations.solve(30.0).unwrap();
    let penalty = 1e-2;
    let refine = |equations: &mut NormalEquations, ridge: &Ridge, iterations| {
        equations.refine(ridge, &rows, &labels, Refine { iterations, penalty }).unwrap()
    };
    let (refined, losses) = refine(&mut equations, &ridge, 100);
    assert!(losses.len() > 4 && losses.len() < 100, "stops by itself: {}", losses.len());
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]), "{losses:?}");
    assert!(losses[3] < 0.9 * losses[0], "{losses:?}");
    assert_eq!(refined.steps, ridge.steps + losses.len() - 1);
    assert!(refined.dead == ridge.dead && !ridge.dead.is_empty());
    for &dead in &refined.dead {
        assert!((0..classes).all(|k| refined.weights[k * features + dead] == 0.0));
    }

    // The reported losses are those of the readouts, from the equation; weights × σ are the standardised ones.
    let deviation: Vec<f64> = (0..features)
        .map(|f| {
            let column = || rows.iter().skip(f).step_by(features).map(|&x| f64::from(x));
            let mean = column().sum::<f64>() / labels.len() as f64;
            (column().map(|x| (x - mean).powi(2)).sum::<f64>() / labels.len() as f64).sqrt()
        })
        .collect();
    let loss = |weights: &[f64], bias: &[f64]| {
        let square: f64 = weights
            .chunks(features)
            .flat_map(|w| w.iter().zip(&deviation))
            .map(|(w, d)| (w * d).powi(2))
            .sum();
        hinge(weights, bias, &rows, &labels) + 0.5 * penalty * square
    };
    let doubled: Vec<f64> = ridge.weights.iter().map(|w| 2.0 * w).collect();
    let moved: Vec<f64> = ridge.bias.iter().map(|b| 2.0 * b - 1.0).collect();
    assert!((loss(&doubled, &moved) / losses[0] - 1.0).abs() < 1e-6);
    let least = losses[losses.len() - 1];
    assert!((loss(&refined.weights, &refined.bias) / least - 1.0).abs() < 1e-6);

    // Convex: from another ridge to the same minimum.
    let other = equations.solve(3000.0).unwrap();
    let (_, others) = refine(&mut equations, &other, 100);
    assert!((others[0] / losses[0] - 1.0).abs() > 0.01);
    assert!((others[others.len() - 1] / least - 1.0).abs() < 1e-4, "{others:?} {losses:?}");
}

#[test]
fn a_separable_problem_keeps_its_classes() {
    let (features, classes) = (30, 3);
    let (rows, labels) = problem(200, features, classes, 31, 3);
    let mut equations = equations(&rows, &labels, features, classes, 31);
    let ridge = equations.solve(1.0).unwrap();
    assert_eq!(ridge.classify(&rows).unwrap(), labels, "separable");
    let (refined, losses) = equations.refine(&ridge, &rows, &labels, Refine::default()).unwrap();
    assert!(losses.len() > 1 && losses[losses.len() - 1] < losses[0], "{losses:?}");
    assert_eq!(refined.classify(&rows).unwrap(), labels);
    // No steps: the same readout on the other scale.
    let none = Refine { iterations: 0, ..Refine::default() };
    let (same, start) = equations.refine(&ridge, &rows, &labels, none).unwrap();
    assert_eq!(start, losses[..1]);
    let (before, after) = (ridge.predict(&rows).unwrap(), same.predict(&rows).unwrap());
    assert!(before.iter().zip(&after).all(|(a, b)| (2.0 * a - 1.0 - b).abs() < 1e-5));
}

#[test]
fn the_penalty_shrinks_weights() {
    let (features, classes) = (40, 3);
    let (rows, labels) = problem(100, features, classes, 31, 4);
    let mut equations = equations(&rows, &labels, features, classes, 31);
    let ridge = equations.solve(10.0).unwrap();
    let mut square = |penalty| {
        let options = Refine { iterations: 20, penalty };
        let (refined, losses) = equations.refine(&ridge, &rows, &labels, options).unwrap();
        assert!(losses.len() > 1);
        refined.weights.iter().map(|w| w * w).sum::<f64>()
    };
    let squares = [0.0, 1e-2, 1.0, 100.0].map(&mut square);
    assert!(squares.windows(2).all(|pair| pair[1] < 0.9 * pair[0]), "{squares:?}");
}

#[test]
fn threads_do_not_matter() {
    let (features, classes) = (300, 5);
    let (rows, labels) = problem(CHUNK + 900, features, classes, 31, 5);
    let mut equations = equations(&rows, &labels, features, classes, 31);
    let ridge = equations.solve(30.0).unwrap();
    let mut run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| equations.refine(&ridge, &rows, &labels, Refine::default()).unwrap())
    };
    let (one, two, three) = (run(1), run(2), run(3));
    assert!(one == two && two == three);
    assert!(one.1.len() == 5 && one.0.weights.iter().all(|w| w.is_finite()));
}

#[test]
fn the_first_part_of_the_samples_is_enough_to_begin() {
    let (features, classes, part) = (80, 4, 250);
    let (mut rows, labels) = problem(1000, features, classes, 31, 6);
    // Alive only later: without a scale it stays unused.
    rows.iter_mut().skip(7).step_by(features).take(part).for_each(|x| *x = 4);
    let refine = |samples: usize| {
        let mut equations = equations(&rows[..samples * features], &labels[..samples], features, classes, 31);
        let ridge = equations.solve(0.02 * samples as f64).unwrap();
        let options = Refine { iterations: 60, penalty: 1e-2 };
        let (refined, losses) = equations.refine(&ridge, &rows, &labels, options).unwrap();
        (ridge, refined, losses)
    };
    let (ridge, refined, losses) = refine(part);
    let (_, whole, _) = refine(1000);
    assert!(ridge.dead.contains(&7) && (0..classes).all(|k| refined.weights[k * features + 7] == 0.0));
    assert!(!whole.dead.contains(&7));
    assert!(losses[losses.len() - 1] < 0.8 * losses[0], "{losses:?}");
    let [refined, whole] = [refined, whole].map(|r| hinge(&r.weights, &r.bias, &rows, &labels));
    assert!((refined / whole - 1.0).abs() < 0.05, "{refined} {whole}");
}

#[test]
fn bad_input_is_refused() {
    let (rows, labels) = ([1u8, 0, 0, 1, 2, 0], [0u16, 1, 0]);
    let mut equations = equations(&rows, &labels, 2, 2, 31);
    let ridge = equations.solve(1.0).unwrap();
    let mut refine = |ridge: &Ridge, rows: &[u8], labels: &[u16], penalty: f64| {
        equations.refine(ridge, rows, labels, Refine { iterations: 2, penalty })
    };
    assert!(refine(&ridge, &rows, &labels, 0.0).is_ok());
    assert!(matches!(refine(&ridge, &rows[1..], &labels, 0.0), Err(Error::Shape { .. })));
    assert!(matches!(refine(&ridge, &rows, &labels[1..], 0.0), Err(Error::Shape { .. })));
    assert!(matches!(refine(&ridge, &[], &[], 0.0), Err(Error::Value { .. })));
    assert!(matches!(refine(&ridge, &rows, &[0, 1, 2], 0.0), Err(Error::Value { .. })));
    for penalty in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(refine(&ridge, &rows, &labels, penalty), Err(Error::Value { .. })));
    }
    let endless = Ridge { bias: vec![f64::NAN, 0.0], ..ridge.clone() };
    assert!(matches!(refine(&endless, &rows, &labels, 0.0), Err(Error::Diverged(_))));
    let other = Ridge { features: 1, weights: vec![0.0; 2], ..ridge.clone() };
    assert!(matches!(refine(&other, &rows, &labels, 0.0), Err(Error::Shape { .. })));

    let form = Form { intercept: false, ..Form::default() };
    let mut without = NormalEquations::new(2, 2, 31).unwrap().form(form);
    without.add(&rows[..], &labels[..]).unwrap();
    let refined = without.refine(&ridge, &rows, &labels, Refine::default());
    assert!(matches!(refined, Err(Error::Unsupported { .. })));
    let mut real = NormalEquations::with_f32(2, 2).unwrap();
    let refined = real.refine(&ridge, &rows, &labels, Refine::default());
    assert!(matches!(refined, Err(Error::Unsupported { .. })));
}
