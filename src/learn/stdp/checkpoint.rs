//! A trained or half-trained network in a file, and as a description that the engine runs.

use super::diehl_cook::{DiehlCook, INHIBITION_DELAY};
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::snn::{Init, Network, Rule, Source};
use crate::tensor::{Tensor, safetensors};
use crate::units::Ms;
use std::collections::BTreeMap;
use std::path::Path;

impl Trainer {
    /// Writes constants, weights, ϑ and how far training is. What goes on from it gives the same bits.
    ///
    /// # Errors
    /// Unwritable, disk full.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (inputs, neurons) = (self.inputs, self.net.neurons);
        let tensors = BTreeMap::from([
            ("weights".to_string(), Tensor::from_f32(self.weights(), &[inputs, neurons])?),
            ("shift".to_string(), Tensor::from_f32(self.shift().to_vec(), &[neurons])?),
        ]);
        let net = serde_json::to_string(&self.net).map_err(|e| Error::Internal(e.to_string()))?;
        let metadata =
            [("diehl_cook", net), ("seed", self.seed.to_string()), ("seen", self.seen.to_string())];
        let metadata = metadata.into_iter().map(|(key, text)| (key.to_string(), text)).collect();
        safetensors::write_summed(path, &tensors, &metadata)
    }

    /// Reads what [`Trainer::save`] wrote.
    ///
    /// # Errors
    /// Not such a file, a damaged one, or one whose parts do not fit together.
    pub fn load(path: &Path) -> Result<Self> {
        let file = safetensors::File::open(path)?;
        file.check_sum()?;
        let metadata = file.metadata();
        let text = |key: &str| {
            metadata
                .get(key)
                .ok_or_else(|| Error::data(path, format!("it has no `{key}`: not of this trainer")))
        };
        let number = |key: &str| {
            text(key)?.parse::<u64>().map_err(|e| Error::data(path, format!("`{key}` is not a number: {e}")))
        };
        let net: DiehlCook = serde_json::from_str(text("diehl_cook")?)
            .map_err(|e| Error::data(path, format!("its constants cannot be read: {e}")))?;
        let (weights, shift) = (file.tensor("weights")?, file.tensor("shift")?);
        let inputs = match *weights.shape() {
            [inputs, neurons] if neurons == net.neurons && *shift.shape() == [neurons] => inputs,
            ref shape => {
                let what = format!("weights of {shape:?} and thresholds of {:?} neurons", shift.shape());
                return Err(Error::data(path, format!("{what} do not fit {} neurons", net.neurons)));
            }
        };
        let mut trainer = Self::new(net, inputs, number("seed")?)?;
        trainer.seen = number("seen")?;
        let (weights, shift) = (weights.to_f32()?, shift.to_f32()?);
        if weights.iter().chain(&shift).any(|x| !x.is_finite()) {
            return Err(Error::data(path, "some weights or thresholds are not finite numbers"));
        }
        let neurons = trainer.net.neurons;
        let rows = trainer.weights.chunks_exact_mut(trainer.constants.stride);
        rows.zip(weights.chunks_exact(neurons)).for_each(|(row, w)| row[..neurons].copy_from_slice(w));
        trainer.shift[..neurons].copy_from_slice(&shift);
        Ok(trainer)
    }

    /// The network as it is now, for [`Simulator`](crate::engine::Simulator): an input population that fires as listed
    /// in `spikes` (step, input), and the excitatory one with its weights, its ϑ and its folded inhibition.
    ///
    /// A description has no rule by which one of several neurons wins a step: with [`DiehlCook::one_winner`], neurons
    /// that cross in the same step all fire here.
    ///
    /// # Errors
    /// Spikes of inputs that are not there.
    pub fn network(&self, spikes: Vec<(u64, u32)>) -> Result<Network> {
        let (dt, n) = (self.net.neuron.dt, self.net.neurons);
        let mut net = Network::simulation(dt);
        let input = net.source("input", self.inputs, Source::Spikes(spikes));
        let excitatory = net.population("excitatory", n, self.net.neuron);
        net.initial(excitatory, "threshold shift", Init::Listed(self.shift().to_vec()));
        net.connect(input, excitatory, Rule::Dense)
            .weights(Init::Listed(self.weights()))
            .receptor("excitatory")
            .delay(dt);
        let others = (0..n as u32).flat_map(|i| (0..n as u32).filter(move |&j| j != i).map(move |j| (i, j)));
        net.connect(excitatory, excitatory, Rule::Explicit { edges: others.collect() })
            .weights(Init::Constant(self.net.inhibition.into()))
            .receptor("inhibitory")
            .delay(Ms(INHIBITION_DELAY as f64 * dt.0));
        net.build(self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::present::{Layer, Table, Weights};
    use super::super::spikes::{Key, Spikes};
    use super::*;
    use crate::engine::{Input, Options, Simulator};
    use crate::progress::{Progress, Unit};
    use crate::rng::Stream;

    fn digits(n: usize) -> Vec<u8> {
        match crate::data::strokes(3, n, 0).train.samples {
            crate::data::Samples::U8(images) => images,
            crate::data::Samples::F32(_) => unreachable!("strokes are bytes"),
        }
    }

    /// Stops after so many samples.
    struct Stop(u64);

    impl Progress for Stop {
        fn start(&mut self, _: &str, _: Option<u64>, _: Unit) {}
        fn advance(&mut self, n: u64) {
            self.0 = self.0.saturating_sub(n);
        }
        fn finish(&mut self) {}
        fn interrupted(&self) -> bool {
            self.0 == 0
        }
    }

    #[test]
    fn an_interrupted_training_goes_on_bit_for_bit_on_any_number_of_threads() -> Result<()> {
        let images = digits(30);
        for batch in [1, 4] {
            let net = DiehlCook { batch, ..DiehlCook::bindsnet(20) };
            let mut whole = Trainer::new(net.clone(), 784, 5)?;
            whole.train(Input::U8(&images), 2, &mut ())?;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
            let mut part = Trainer::new(net, 784, 5)?;
            assert!(pool.install(|| part.train(Input::U8(&images), 2, &mut Stop(17)))?.interrupted);
            let file = tempfile::NamedTempFile::new().expect("a file");
            part.save(file.path())?;
            let mut rest = Trainer::load(file.path())?;
            assert_eq!(rest.seen(), part.seen());
            assert!(!rest.train(Input::U8(&images), 2, &mut ())?.interrupted);
            assert_eq!((rest.weights(), rest.shift(), rest.seen()), (whole.weights(), whole.shift(), 60));
            assert_eq!(
                rest.responses(Input::U8(&images), "test")?,
                pool.install(|| whole.responses(Input::U8(&images), "test"))?
            );
        }
        Ok(())
    }

    #[test]
    fn foreign_files_are_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), b"nothing").expect("written");
        assert!(Trainer::load(file.path()).is_err());
        let tensors = BTreeMap::from([("a".to_string(), Tensor::from_f32(vec![1.0], &[1]).expect("fits"))]);
        safetensors::write_summed(file.path(), &tensors, &BTreeMap::new()).expect("written");
        let error = Trainer::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("has no `diehl_cook`"), "{error}");
        Trainer::new(DiehlCook::bindsnet(5), 9, 1).and_then(|t| t.save(file.path())).expect("written");
        let mut bytes = std::fs::read(file.path()).expect("read");
        *bytes.last_mut().expect("weights") ^= 1;
        std::fs::write(file.path(), bytes).expect("written");
        let error = Trainer::load(file.path()).unwrap_err().to_string();
        assert!(error.contains("does not have the SHA-256 that it states"), "{error}");
    }

    #[test]
    fn the_engine_fires_as_the_trainer_does() -> Result<()> {
        let images = digits(12);
        for net in [DiehlCook::original(20), DiehlCook { one_winner: false, ..DiehlCook::bindsnet(20) }] {
            let mut trainer = Trainer::new(net, 784, 5)?;
            trainer.train(Input::U8(&images), 1, &mut ())?;
            let steps = trainer.constants.steps;
            let (rows, mut spikes) = ((0..784).collect::<Vec<u32>>(), Spikes::default());
            let chances: Vec<f32> = images[..784].iter().map(|&x| f32::from(x) / 255.0 * 0.1).collect();
            let key = Key { sample: 0, attempt: 0 };
            spikes.draw(&Stream::named(1, "engine"), key, &rows, &chances, steps);
            let list = (0..steps).flat_map(|t| spikes.step(t).iter().map(move |&i| (t as u64, i))).collect();
            let (mut layer, mut shift) = (Layer::default(), trainer.shift.clone());
            let begins: Vec<u32> = rows.iter().map(|i| i * trainer.constants.stride as u32).collect();
            let table = Table { weights: Weights::Frozen(&trainer.weights), rows: &begins };
            layer.present(&trainer.constants, &spikes, key, table, &mut shift);

            let described = trainer.network(list)?;
            let excitatory = described.population("excitatory").expect("there");
            let mut simulator = Simulator::new(&described, Options::default())?;
            simulator.record_spikes(excitatory)?;
            simulator.run_steps(steps as u64);
            let mut counts = vec![0u32; trainer.constants.stride];
            let train = simulator.spikes(excitatory).expect("recorded");
            train.neurons.iter().for_each(|&j| counts[j as usize] += 1);
            assert!(layer.spikes() > 5);
            assert_eq!(counts, layer.counts);
        }
        Ok(())
    }
}
