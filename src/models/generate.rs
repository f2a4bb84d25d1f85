//! Text from a model: the likeliest next token, or one drawn by its probability.

use rand::RngExt;

use super::{Batch, Model};
use crate::progress::{Progress, Unit};
use crate::rng::Stream;
use crate::{Error, Result};

/// How the next token is chosen, and when to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// At most so many new tokens.
    pub tokens: usize,
    /// 0 takes the likeliest token; above, probabilities are those of logits divided by it.
    pub temperature: f64,
    /// Draw only from the likeliest tokens whose probabilities add up to this; 1 for all.
    pub top_p: f64,
    /// Root of the random numbers. A text depends on it, its number and its prompt alone.
    pub seed: u64,
    /// Tokens that end a text; they are not part of it.
    pub stop: Vec<u32>,
}

impl Default for Generation {
    /// 128 of the likeliest tokens.
    fn default() -> Self {
        Self { tokens: 128, temperature: 0.0, top_p: 1.0, seed: 0, stop: vec![] }
    }
}

impl Model {
    /// Continues texts of one length. Returns the new tokens of each, without the one that stopped it.
    ///
    /// ```no_run
    /// # use ransnn::{models::{Generation, Model}, tensor::DType};
    /// let model = Model::open("models/gpt2".as_ref(), DType::F32)?;
    /// let texts = model.generate(&[vec![464, 3290]], &Generation::default(), &mut ())?;
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// An encoder, prompts of different length, more tokens than learnt positions, logits that are not finite, an
    /// interrupt.
    pub fn generate(
        &self,
        prompts: &[Vec<i64>],
        how: &Generation,
        progress: &mut dyn Progress,
    ) -> Result<Vec<Vec<u32>>> {
        check(how)?;
        let batch = Batch::new(prompts)?;
        let (rows, width) = batch.sizes();
        let mut cache = self.new_cache(rows, width + how.tokens)?;
        let mut texts = vec![vec![]; rows];
        let mut running = vec![true; rows];
        progress.start("generate", Some(how.tokens as u64), Unit::Steps);
        let mut next = batch;
        for step in 0..how.tokens {
            let logits = self.read(&next, &mut cache)?.to_f32()?;
            let mut chosen = vec![];
            for (row, logits) in logits.chunks(self.config().vocab).enumerate() {
                let token = choose(logits, how, row, step)?;
                if running[row] && how.stop.contains(&token) {
                    running[row] = false;
                }
                if running[row] {
                    texts[row].push(token);
                }
                chosen.push([i64::from(token)]);
            }
            progress.advance(1);
            if !running.contains(&true) || step + 1 == how.tokens {
                break;
            }
            if progress.interrupted() {
                return Err(Error::Interrupted { checkpoint: None });
            }
            next = Batch::new(&chosen)?;
        }
        progress.finish();
        Ok(texts)
    }
}

fn check(how: &Generation) -> Result<()> {
    if !(how.temperature >= 0.0 && how.temperature.is_finite()) {
        return Err(Error::value("the temperature", how.temperature, "0 or more"));
    }
    if !(how.top_p > 0.0 && how.top_p <= 1.0) {
        return Err(Error::value("top-p", how.top_p, "above 0 and at most 1"));
    }
    Ok(())
}

/// The next token of a text.
fn choose(logits: &[f32], how: &Generation, row: usize, step: usize) -> Result<u32> {
    if logits.iter().any(|x| !x.is_finite()) {
        return Err(Error::Diverged("the model's scores are not finite".into()));
    }
    let (likeliest, &largest) = logits
        .iter()
        .enumerate()
        // The first of equals.
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)))
        .ok_or_else(|| Error::Internal("no scores".into()))?;
    if how.temperature == 0.0 {
        return Ok(likeliest as u32);
    }
    let weight = |x: f32| (f64::from(x - largest) / how.temperature).exp();
    let mut order: Vec<(f64, usize)> = logits.iter().enumerate().map(|(i, &x)| (weight(x), i)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let total: f64 = order.iter().map(|(w, _)| w).sum();
    let mut sum = 0.0;
    let kept = order.iter().take_while(|(w, _)| {
        let before = sum;
        sum += w;
        before < how.top_p * total
    });
    let kept: Vec<(f64, usize)> = kept.copied().collect();
    let total: f64 = kept.iter().map(|(w, _)| w).sum();
    let stream = Stream::named(how.seed, &format!("generate/{row}"));
    let mut left = stream.walk(step as u64).random::<f64>() * total;
    for &(w, token) in &kept {
        left -= w;
        if left < 0.0 {
            return Ok(token as u32);
        }
    }
    Ok(kept.last().map_or(likeliest, |&(_, token)| token) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0, 2f32.ln(), -100.0, 5f32.ln()];
        let counts = |how: &Generation| {
            let mut counts = [0; 4];
            (0..4000).for_each(|i| counts[choose(&logits, how, 0, i).expect("runs") as usize] += 1);
            counts
        };
        let how = Generation { temperature: 1.0, ..Generation::default() };
        let all = counts(&how);
        for (count, p) in all.iter().zip([0.125, 0.25, 0.0, 0.625]) {
            assert!((f64::from(*count) - 4000.0 * p).abs() < 4.0 * (4000.0 * p).sqrt() + 1.0, "{all:?}");
        }
        let most = counts(&Generation { top_p: 0.7, ..how.clone() });
        assert!(most[0] == 0 && most[1] > 0 && most[3] > 0, "{most:?}");
        assert_eq!(counts(&Generation { top_p: 0.1, ..how })[3], 4000);
        assert_eq!(counts(&Generation::default())[3], 4000);
        assert!(choose(&[f32::NAN], &Generation::default(), 0, 0).is_err());
    }
}
