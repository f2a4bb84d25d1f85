//! From spikes to classes: neurons that learnt without labels are given some afterwards.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How neurons vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vote {
    /// Each for the class to which it is assigned; the mean over the neurons of a class decides.
    AllActivity,
    /// As all activity, each spike weighted by the share of its class in what the neuron responds to.
    Proportion,
}

/// What each neuron stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    classes: usize,
    /// The class to which each neuron responds most; none for one that never fired.
    assigned: Vec<Option<u16>>,
    /// Share of that class in its mean responses to all classes.
    share: Vec<f32>,
}

impl Labels {
    /// Assigns each neuron to the class on whose samples it fires most, in the mean. `responses` is
    /// `[samples, neurons]`, as from [`Trainer::responses`](super::Trainer::responses).
    ///
    /// # Errors
    /// Labels that are not below `classes`, or responses that do not fit them.
    pub fn assign(responses: &[u32], labels: &[u16], classes: usize) -> Result<Self> {
        if labels.is_empty() || !responses.len().is_multiple_of(labels.len()) {
            let expected = format!("a row for each of the {} labels", labels.len());
            return Err(Error::value("responses", responses.len(), expected));
        }
        if let Some((i, label)) = labels.iter().enumerate().find(|&(_, &label)| usize::from(label) >= classes)
        {
            return Err(Error::value(format!("label of sample {i}"), label, format!("below {classes}")));
        }
        let neurons = responses.len() / labels.len();
        let mut samples = vec![0u64; classes];
        let mut sums = vec![0u64; classes * neurons];
        for (row, &label) in responses.chunks_exact(neurons.max(1)).zip(labels) {
            let class = usize::from(label);
            samples[class] += 1;
            sums[class * neurons..][..neurons].iter_mut().zip(row).for_each(|(sum, &n)| *sum += u64::from(n));
        }
        let mean = |class: usize, j: usize| sums[class * neurons + j] as f64 / samples[class].max(1) as f64;
        let (mut assigned, mut share) = (vec![None; neurons], vec![0.0; neurons]);
        for j in 0..neurons {
            let all: f64 = (0..classes).map(|class| mean(class, j)).sum();
            let best =
                (1..classes).fold(0, |best, class| if mean(class, j) > mean(best, j) { class } else { best });
            if all > 0.0 {
                assigned[j] = Some(best as u16);
                share[j] = (mean(best, j) / all) as f32;
            }
        }
        Ok(Self { classes, assigned, share })
    }

    /// The class of each neuron.
    pub fn assigned(&self) -> &[Option<u16>] {
        &self.assigned
    }

    /// The class of each sample; the first one of equals.
    ///
    /// # Errors
    /// Responses that are not whole rows.
    pub fn classify(&self, responses: &[u32], vote: Vote) -> Result<Vec<u16>> {
        let neurons = self.assigned.len();
        if neurons == 0 || !responses.len().is_multiple_of(neurons) {
            let expected = format!("a multiple of the {neurons} neurons");
            return Err(Error::value("responses", responses.len(), expected));
        }
        let mut voters = vec![0u32; self.classes];
        self.assigned.iter().flatten().for_each(|&class| voters[usize::from(class)] += 1);
        let classes = responses.chunks_exact(neurons).map(|row| {
            let mut votes = vec![0.0f64; self.classes];
            for ((&n, class), &share) in row.iter().zip(&self.assigned).zip(&self.share) {
                if let (Some(class), true) = (class, n > 0) {
                    let weight = if vote == Vote::Proportion { f64::from(share) } else { 1.0 };
                    votes[usize::from(*class)] += weight * f64::from(n);
                }
            }
            votes.iter_mut().zip(&voters).for_each(|(vote, &n)| *vote /= f64::from(n.max(1)));
            (1..self.classes).fold(0, |best, k| if votes[k] > votes[best] { k } else { best }) as u16
        });
        Ok(classes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_counted_as_defined() -> Result<()> {
        // Neurons: one for class 0; one for class 1 that also likes 0; one that never fires; another for class 1.
        let responses = [6, 2, 0, 0, /**/ 0, 6, 0, 4];
        let labels = Labels::assign(&responses, &[0, 1], 2)?;
        assert_eq!(labels.assigned(), [Some(0), Some(1), None, Some(1)]);
        // Class 1: all activity (5 + 0) / 2 against 2; weighted 5 · 0.75 / 2 = 1.875 against 2.
        let sample = [2, 5, 9, 0];
        assert_eq!(labels.classify(&sample, Vote::AllActivity)?, [1]);
        assert_eq!(labels.classify(&sample, Vote::Proportion)?, [0]);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let text = |error: Error| error.to_string();
        assert_eq!(
            text(Labels::assign(&[1, 2], &[0, 7], 2).unwrap_err()),
            "label of sample 1 is 7; it must be below 2"
        );
        assert!(text(Labels::assign(&[1, 2, 3], &[0, 1], 2).unwrap_err()).starts_with("responses is 3"));
        let labels = Labels::assign(&[1, 2, 3, 4], &[0, 1], 2).expect("fits");
        assert!(labels.classify(&[1], Vote::AllActivity).is_err());
    }
}
