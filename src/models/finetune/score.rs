//! Scores of classifications, as GLUE counts them.

/// Share of predictions that are right; 0 without any.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(p, l)| p == l).count();
    right as f64 / labels.len().max(1) as f64
}

/// Numbers of (predicted, true) pairs of the classes 0 and 1: `[[true negative, missed], [false alarm, found]]`.
fn table(predicted: &[u32], labels: &[u32]) -> [[f64; 2]; 2] {
    let mut table = [[0.0; 2]; 2];
    for (&p, &l) in predicted.iter().zip(labels) {
        table[usize::from(p == 1)][usize::from(l == 1)] += 1.0;
    }
    table
}

/// F1 of class 1: harmonic mean of precision and recall; 0 where nothing is found.
///
/// ```
/// use ransnn::models::finetune::score::f1;
/// assert_eq!(f1(&[1, 1, 0, 0], &[1, 0, 1, 0]), 0.5);
/// ```
pub fn f1(predicted: &[u32], labels: &[u32]) -> f64 {
    let [[_, missed], [alarm, found]] = table(predicted, labels);
    if found == 0.0 { 0.0 } else { 2.0 * found / (2.0 * found + missed + alarm) }
}

/// Matthews correlation of class 1 against class 0; 0 where it is not defined.
///
/// ```
/// use ransnn::models::finetune::score::matthews;
/// assert_eq!(matthews(&[1, 0, 1, 0], &[1, 0, 1, 0]), 1.0);
/// assert_eq!(matthews(&[0, 1, 0, 1], &[1, 0, 1, 0]), -1.0);
/// assert_eq!(matthews(&[1, 1, 1, 1], &[1, 0, 1, 0]), 0.0);
/// ```
pub fn matthews(predicted: &[u32], labels: &[u32]) -> f64 {
    let [[silent, missed], [alarm, found]] = table(predicted, labels);
    let spread = (found + alarm) * (found + missed) * (silent + alarm) * (silent + missed);
    if spread == 0.0 { 0.0 } else { (found * silent - alarm * missed) / spread.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_scikit_learn() {
        let predicted = [1, 1, 1, 0, 0, 1, 0, 0, 1, 0];
        let labels = [1, 0, 1, 0, 1, 1, 0, 0, 1, 1];
        assert_eq!(accuracy(&predicted, &labels), 0.7);
        assert!((f1(&predicted, &labels) - 8.0 / 11.0).abs() < 1e-12);
        // (4·3 − 1·2) / √(5·6·4·5)
        assert!((matthews(&predicted, &labels) - 10.0 / 600f64.sqrt()).abs() < 1e-12);
        assert_eq!(accuracy(&[], &[]), 0.0);
    }
}
