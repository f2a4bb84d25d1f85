//! Drives pair, triplet and reward rules, one event at a time.
//!
//! Only what a spike touches is touched: the synapses of a source whose spike arrives, the synapses of a target that
//! fires. Traces are brought up to date when they are read.
//!
//! Where all synapses of a source have the same delay its trace belongs to the source. With a delay for each synapse
//! it belongs to the synapse ([`EventDriven::per_synapse`]): a spike acts on weight and trace when it arrives. Without a
//! grid of time ([`EventDriven::continuous`]) steps may be fractions.

use super::{
    Pair, Reward, Rule, Stdp,
    trace::{Decay, Moment, Trace},
};
use crate::error::{Error, Result};
use crate::units::Ms;

/// Which synapses leave a source and which enter a target. Synapses are numbered by source.
#[derive(Clone, Debug, PartialEq)]
pub struct Incidence {
    /// Source of each synapse.
    source: Vec<u32>,
    /// Target of each synapse.
    target: Vec<u32>,
    /// `[sources + 1]`: synapses `leaving[i]..leaving[i + 1]` leave source `i`.
    leaving: Vec<usize>,
    /// `[targets + 1]`, into `entering`.
    offsets: Vec<usize>,
    /// Synapses by target, ascending within each.
    entering: Vec<u32>,
}

impl Incidence {
    /// Of compressed rows: source `i` reaches `targets[offsets[i]..offsets[i + 1]]` of `size` neurons.
    ///
    /// # Errors
    /// Offsets that do not ascend to the number of targets, a target that is not there, or 2³² synapses and more.
    pub fn new(offsets: &[usize], targets: &[u32], size: usize) -> Result<Self> {
        let ends = (offsets.first(), offsets.last());
        if ends != (Some(&0), Some(&targets.len())) || offsets.windows(2).any(|pair| pair[0] > pair[1]) {
            let got = format!("{} offsets for {} synapses", offsets.len(), targets.len());
            return Err(Error::value("rows of a plastic projection", got, "ascending from 0 to the number"));
        }
        if let Some(target) = targets.iter().find(|&&target| target as usize >= size) {
            return Err(Error::value("target of a plastic synapse", target, format!("less than {size}")));
        }
        if u32::try_from(targets.len()).is_err() {
            return Err(Error::value("number of plastic synapses", targets.len(), "below 2^32"));
        }
        let mut source = Vec::with_capacity(targets.len());
        for (i, row) in offsets.windows(2).enumerate() {
            source.resize(source.len() + row[1] - row[0], i as u32);
        }
        let mut starts = vec![0; size + 1];
        targets.iter().for_each(|&target| starts[target as usize + 1] += 1);
        (0..size).for_each(|i| starts[i + 1] += starts[i]);
        let (mut next, mut entering) = (starts.clone(), vec![0; targets.len()]);
        for (synapse, &target) in targets.iter().enumerate() {
            entering[next[target as usize]] = synapse as u32;
            next[target as usize] += 1;
        }
        Ok(Self { source, target: targets.into(), leaving: offsets.into(), offsets: starts, entering })
    }

    /// Everyone to everyone, `[sources, targets]`.
    ///
    /// # Errors
    /// 2³² synapses and more.
    pub fn dense(sources: usize, targets: usize) -> Result<Self> {
        let rows: Vec<usize> = (0..=sources).map(|i| i * targets).collect();
        let all: Vec<u32> = (0..sources).flat_map(|_| 0..targets as u32).collect();
        Self::new(&rows, &all, targets)
    }

    /// Number of synapses.
    pub fn synapses(&self) -> usize {
        self.target.len()
    }

    /// Synapses that leave a source.
    pub fn leaving(&self, source: u32) -> std::ops::Range<usize> {
        self.leaving[source as usize]..self.leaving[source as usize + 1]
    }

    /// Synapses that enter a target, ascending.
    pub fn entering(&self, target: u32) -> &[u32] {
        &self.entering[self.offsets[target as usize]..self.offsets[target as usize + 1]]
    }
}

/// A weight in the precision in which somebody stores it.
pub trait Weight: Copy {
    /// As `f64`.
    fn get(self) -> f64;
    /// From `f64`, rounded.
    fn put(value: f64) -> Self;
}

impl Weight for f64 {
    fn get(self) -> f64 {
        self
    }
    fn put(value: f64) -> Self {
        value
    }
}

impl Weight for f32 {
    fn get(self) -> f64 {
        self.into()
    }
    fn put(value: f64) -> Self {
        value as f32
    }
}

/// Two traces of one neuron or synapse, as they were at step `at`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Traces<T> {
    pub value: [f64; 2],
    pub at: T,
}

/// What a synapse is owed until a reward comes, as it was at step `at`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Owed<T> {
    pub value: f64,
    pub at: T,
}

/// Everything that a rule remembers, to be written down and put back.
#[derive(Debug)]
pub(crate) struct Memory<'a, T> {
    /// By source, or by synapse.
    pub pre: &'a mut [Traces<T>],
    /// By target.
    pub post: &'a mut [Traces<T>],
    /// By synapse; empty for rules without reward.
    pub owed: &'a mut [Owed<T>],
}

/// The factors and spikes of two traces.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    trace: [Trace; 2],
    decay: [Decay; 2],
}

impl Side {
    fn new(trace: [Trace; 2], dt: Ms) -> Self {
        Self { trace, decay: trace.map(|trace| Decay::new(trace.tau, dt)) }
    }

    #[inline]
    fn read<T: Moment>(&self, traces: Traces<T>, step: T) -> [f64; 2] {
        let [a, b] = traces.value;
        [a * T::decay(&self.decay[0], traces.at, step), b * T::decay(&self.decay[1], traces.at, step)]
    }

    #[inline]
    fn spike<T: Moment>(&self, traces: &mut Traces<T>, step: T) {
        let [a, b] = self.read(*traces, step);
        traces.value = [self.trace[0].pairing.spike(a), self.trace[1].pairing.spike(b)];
        traces.at = step;
    }
}

/// What synapses are owed until a reward comes.
#[derive(Clone, Debug, PartialEq)]
struct Eligibility<T> {
    decay: Decay,
    rate: f64,
    /// Per synapse.
    of: Vec<Owed<T>>,
}

/// A rule at work on the synapses of a projection. Weights are the caller's; steps must not go backwards.
///
/// ```
/// use ransnn::{snn::plasticity::{EventDriven, Incidence, Pair}, units::Ms};
/// let mut weights = [0.5f32];
/// let mut stdp = EventDriven::new(Pair::default(), Ms(1.0), Incidence::dense(1, 1)?)?;
/// stdp.arrive(3, &[0], &mut weights)?; // the source's spike arrives in step 3,
/// stdp.fire(5, &[0], &mut weights)?;   // the target fires in step 5: + 0.01 · exp(−2 / 20)
/// assert!((weights[0] - 0.509_048).abs() < 1e-6);
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EventDriven<T = u64> {
    rule: Rule,
    synapses: Incidence,
    sides: [Side; 2],
    /// By source, or by synapse.
    pre: Vec<Traces<T>>,
    per_synapse: bool,
    post: Vec<Traces<T>>,
    eligibility: Option<Eligibility<T>>,
    now: T,
}

impl EventDriven {
    /// A rule on synapses whose delay depends on their source only.
    ///
    /// # Errors
    /// Parameters outside their range.
    pub fn new(rule: impl Into<Rule>, dt: Ms, synapses: Incidence) -> Result<Self> {
        Self::build(rule.into(), dt, synapses, false)
    }

    /// A rule on synapses that each have a delay: presynaptic traces are kept for each of them, and arrivals are told
    /// by synapse with [`EventDriven::arrive_at`].
    ///
    /// # Errors
    /// Parameters outside their range.
    pub fn per_synapse(rule: impl Into<Rule>, dt: Ms, synapses: Incidence) -> Result<Self> {
        Self::build(rule.into(), dt, synapses, true)
    }
}

impl EventDriven<f64> {
    /// A rule without a grid of time: steps may be fractions. Presynaptic traces are kept for each synapse, as by
    /// [`EventDriven::per_synapse`].
    ///
    /// ```
    /// use ransnn::{snn::plasticity::{EventDriven, Incidence, Pair}, units::Ms};
    /// let mut weights = [0.5f64];
    /// let mut stdp = EventDriven::continuous(Pair::default(), Ms(1.0), Incidence::dense(1, 1)?)?;
    /// stdp.arrive_at(3.25, &[0], &mut weights)?;
    /// stdp.fire(3.75, &[0], &mut weights)?; // + 0.01 · exp(−0.5 / 20)
    /// assert!((weights[0] - 0.509_753).abs() < 1e-6);
    /// # Ok::<(), ransnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Parameters outside their range.
    pub fn continuous(rule: impl Into<Rule>, dt: Ms, synapses: Incidence) -> Result<Self> {
        Self::build(rule.into(), dt, synapses, true)
    }
}

impl<T: Moment> EventDriven<T> {
    fn build(rule: Rule, dt: Ms, synapses: Incidence, per_synapse: bool) -> Result<Self> {
        rule.validate()?;
        if !(dt.0.is_finite() && dt.0 > 0.0) {
            return Err(Error::value("time step of a plastic projection", dt.0, "above 0 ms"));
        }
        let sides = match &rule {
            Rule::Pair(rule) => [rule.pre(), rule.post()],
            Rule::Triplet(rule) => [rule.pre(), rule.post()],
            Rule::Reward(rule) => [rule.pair.pre(), rule.pair.post()],
        };
        let eligibility = match &rule {
            Rule::Reward(rule) => Some(Eligibility {
                decay: Decay::new(rule.tau, dt),
                rate: rule.rate,
                of: vec![Owed::default(); synapses.synapses()],
            }),
            _ => None,
        };
        let pre = if per_synapse { synapses.synapses() } else { synapses.leaving.len() - 1 };
        Ok(Self {
            rule,
            sides: sides.map(|traces| Side::new(traces, dt)),
            pre: vec![Traces::default(); pre],
            per_synapse,
            post: vec![Traces::default(); synapses.offsets.len() - 1],
            synapses,
            eligibility,
            now: T::default(),
        })
    }

    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The synapses.
    pub fn synapses(&self) -> &Incidence {
        &self.synapses
    }

    /// Spikes of these sources arrive in `step`, each once.
    ///
    /// # Errors
    /// A source that is not there, a step before the last one, another number of weights, or traces per synapse.
    pub fn arrive<W: Weight>(&mut self, step: T, sources: &[u32], weights: &mut [W]) -> Result<()> {
        if self.per_synapse {
            return Err(Error::Internal("arrivals by source at synapses with own delays".into()));
        }
        self.check(step, sources, self.pre.len(), weights.len())?;
        sources.iter().for_each(|&source| self.arrive_from(step, source, weights));
        Ok(())
    }

    /// The spike of one source of [`EventDriven::arrive`], unchecked.
    pub(crate) fn arrive_from<W: Weight>(&mut self, step: T, source: u32, weights: &mut [W]) {
        let mut traces = self.pre[source as usize];
        for synapse in self.synapses.leaving(source) {
            self.depress(step, synapse, traces, &mut weights[synapse]);
        }
        self.sides[0].spike(&mut traces, step);
        self.pre[source as usize] = traces;
    }

    /// Spikes arrive at these synapses in `step`, each once.
    ///
    /// # Errors
    /// A synapse that is not there, a step before the last one, another number of weights, or traces per source.
    pub fn arrive_at<W: Weight>(&mut self, step: T, synapses: &[u32], weights: &mut [W]) -> Result<()> {
        if !self.per_synapse {
            return Err(Error::Internal("arrivals by synapse where traces are kept by source".into()));
        }
        self.check(step, synapses, self.pre.len(), weights.len())?;
        for &synapse in synapses {
            self.arrive_through(step, synapse as usize, &mut weights[synapse as usize]);
        }
        Ok(())
    }

    /// The spike at one synapse of [`EventDriven::arrive_at`], unchecked.
    pub(crate) fn arrive_through<W: Weight>(&mut self, step: T, synapse: usize, weight: &mut W) {
        let mut traces = self.pre[synapse];
        self.depress(step, synapse, traces, weight);
        self.sides[0].spike(&mut traces, step);
        self.pre[synapse] = traces;
    }

    /// These targets fire in `step`, after what arrived in it.
    ///
    /// # Errors
    /// A target that is not there, a step before the last one, or another number of weights.
    pub fn fire<W: Weight>(&mut self, step: T, targets: &[u32], weights: &mut [W]) -> Result<()> {
        self.check(step, targets, self.post.len(), weights.len())?;
        targets.iter().for_each(|&target| self.fire_one(step, target, weights));
        Ok(())
    }

    /// The spike of one target of [`EventDriven::fire`], unchecked.
    pub(crate) fn fire_one<W: Weight>(&mut self, step: T, target: u32, weights: &mut [W]) {
        let mut traces = self.post[target as usize];
        let post = self.sides[1].read(traces, step);
        for &synapse in self.synapses.entering(target) {
            let synapse = synapse as usize;
            let owner = if self.per_synapse { synapse } else { self.synapses.source[synapse] as usize };
            let pre = self.sides[0].read(self.pre[owner], step);
            let weight = &mut weights[synapse];
            match &self.rule {
                Rule::Pair(rule) => *weight = W::put(rule.potentiate(weight.get(), pre, post)),
                Rule::Triplet(rule) => *weight = W::put(rule.potentiate(weight.get(), pre, post)),
                Rule::Reward(rule) => {
                    let change = rule.pair.a_plus * pre[0];
                    earn(&mut self.eligibility, synapse, step, change);
                }
            }
        }
        self.sides[1].spike(&mut traces, step);
        self.post[target as usize] = traces;
    }

    #[inline]
    fn depress<W: Weight>(&mut self, step: T, synapse: usize, traces: Traces<T>, weight: &mut W) {
        let pre = self.sides[0].read(traces, step);
        let post = self.sides[1].read(self.post[self.synapses.target[synapse] as usize], step);
        match &self.rule {
            Rule::Pair(rule) => *weight = W::put(rule.depress(weight.get(), pre, post)),
            Rule::Triplet(rule) => *weight = W::put(rule.depress(weight.get(), pre, post)),
            Rule::Reward(rule) => {
                let change = -rule.pair.a_minus * post[0];
                earn(&mut self.eligibility, synapse, step, change);
            }
        }
    }

    /// Gives a reward in `step`, after its spikes: every weight moves by rate · reward · eligibility.
    ///
    /// # Errors
    /// A rule without eligibility, a reward that is not a number, or another number of weights.
    pub fn reward<W: Weight>(&mut self, step: T, reward: f64, weights: &mut [W]) -> Result<()> {
        self.check(step, &[], 0, weights.len())?;
        if !reward.is_finite() {
            return Err(Error::value("reward", reward, "a finite number"));
        }
        let (Rule::Reward(Reward { pair: Pair { bounds: [min, max], .. }, .. }), Some(owed)) =
            (&self.rule, &self.eligibility)
        else {
            return Err(Error::Unsupported {
                op: "a reward",
                on: format!("by the rule {}", self.rule.kind()),
            });
        };
        for (weight, &Owed { value, at }) in weights.iter_mut().zip(&owed.of) {
            let eligible = value * T::decay(&owed.decay, at, step);
            *weight = W::put((weight.get() + owed.rate * reward * eligible).max(*min).min(*max));
        }
        Ok(())
    }

    /// Forgets all spikes; weights stay.
    pub fn reset(&mut self) {
        self.pre.fill(Traces::default());
        self.post.fill(Traces::default());
        if let Some(owed) = &mut self.eligibility {
            owed.of.fill(Owed::default());
        }
        self.now = T::default();
    }

    /// Whether presynaptic traces are kept for each synapse.
    pub(crate) fn by_synapse(&self) -> bool {
        self.per_synapse
    }

    /// What it remembers.
    pub(crate) fn memory(&mut self) -> Memory<'_, T> {
        let owed = self.eligibility.as_mut().map_or(&mut [][..], |eligibility| &mut eligibility.of);
        Memory { pre: &mut self.pre, post: &mut self.post, owed }
    }

    fn check(&mut self, step: T, of: &[u32], size: usize, weights: usize) -> Result<()> {
        if step < self.now {
            return Err(Error::value("step", step, format!("at least {}, where the rule is", self.now)));
        }
        if weights != self.synapses.synapses() {
            return Err(Error::value("number of weights", weights, self.synapses.synapses().to_string()));
        }
        if let Some(index) = of.iter().find(|&&index| index as usize >= size) {
            return Err(Error::value("index of a spike", index, format!("less than {size}")));
        }
        self.now = step;
        Ok(())
    }
}

#[inline]
fn earn<T: Moment>(owed: &mut Option<Eligibility<T>>, synapse: usize, step: T, change: f64) {
    if let Some(Eligibility { decay, of, .. }) = owed {
        let Owed { value, at } = &mut of[synapse];
        *value = *value * T::decay(decay, *at, step) + change;
        *at = step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::plasticity::{Pairing, Triplet};

    fn one(rule: impl Into<Rule>) -> EventDriven {
        EventDriven::new(rule, Ms(1.0), Incidence::dense(1, 1).unwrap()).unwrap()
    }

    #[test]
    fn doublets_tell_all_to_all_from_nearest() {
        let change = |pairing| {
            let (mut stdp, mut w) = (one(Pair { pairing, ..Pair::default() }), [0.5f64]);
            stdp.arrive(0, &[0], &mut w).unwrap();
            stdp.arrive(10, &[0], &mut w).unwrap();
            stdp.fire(20, &[0], &mut w).unwrap();
            w[0] - 0.5
        };
        let pair = |steps: f64| 0.01 * (-steps / 20.0).exp();
        assert!((change(Pairing::Nearest) - pair(10.0)).abs() < 1e-15);
        assert!((change(Pairing::AllToAll) - pair(10.0) - pair(20.0)).abs() < 1e-15);
    }

    #[test]
    fn triplets_without_third_spikes_are_pairs() {
        let pair = Pair { tau_plus: Ms(16.8), tau_minus: Ms(33.7), ..Pair::default() };
        let triplet = Triplet {
            a2_plus: pair.a_plus,
            a2_minus: pair.a_minus,
            a3_plus: 0.0,
            a3_minus: 0.0,
            ..Triplet::visual()
        };
        let (mut a, mut b) = (one(pair), one(triplet));
        let (mut wa, mut wb) = ([0.5f64], [0.5f64]);
        for step in 0..300 {
            if step % 7 == 0 {
                a.arrive(step, &[0], &mut wa).unwrap();
                b.arrive(step, &[0], &mut wb).unwrap();
            }
            if step % 11 == 3 {
                a.fire(step, &[0], &mut wa).unwrap();
                b.fire(step, &[0], &mut wb).unwrap();
            }
        }
        assert!((wa[0] - 0.5).abs() > 1e-3);
        assert_eq!(wa, wb);
    }

    /// Pfister & Gerstner's finding: at 10 ms before, potentiation grows with the rate; at 10 ms after, depression
    /// turns into potentiation.
    #[test]
    fn triplets_depend_on_the_rate() {
        let change = |hertz: f64, lag: i64| {
            let rule = Triplet { bounds: [-10.0, 10.0], ..Triplet::visual() };
            let (mut stdp, mut w) = (one(rule), [0.5f64]);
            let period = (1000.0 / hertz) as i64;
            let mut spikes: Vec<(i64, bool)> =
                (0..60).flat_map(|n| [(100 + n * period, true), (100 + n * period + lag, false)]).collect();
            spikes.sort_by_key(|&(at, pre)| (at, !pre));
            for (at, pre) in spikes {
                let step = at as u64;
                if pre { stdp.arrive(step, &[0], &mut w) } else { stdp.fire(step, &[0], &mut w) }.unwrap();
            }
            w[0] - 0.5
        };
        assert!(change(50.0, 10) > 2.0 * change(10.0, 10) && change(10.0, 10) > change(1.0, 10));
        assert!(change(1.0, -10) < 0.0 && change(50.0, -10) > 0.0);
    }

    /// The recurrences of MSTDPET, every trace advanced in every step, against the events.
    #[test]
    fn eligibility_follows_its_recurrence() {
        let rule = Reward { rate: 0.5, ..Reward::default() };
        let (sources, targets) = (3, 2);
        let mut stdp = EventDriven::new(rule, Ms(1.0), Incidence::dense(sources, targets).unwrap()).unwrap();
        let mut w = [0.5f64; 6];
        let mut expected = w;
        let (mut plus, mut minus, mut e) = ([0.0; 3], [0.0; 2], [0.0; 6]);
        let decay = |tau: f64| (-1.0 / tau).exp();
        let mut moved = 0.0f64;
        for step in 0..200u64 {
            plus.iter_mut().for_each(|p| *p *= decay(20.0));
            minus.iter_mut().for_each(|p| *p *= decay(20.0));
            e.iter_mut().for_each(|e| *e *= decay(25.0));
            let pre: Vec<u32> = (0..3).filter(|i| (step + 5 * u64::from(*i)) % 13 == 0).collect();
            let post: Vec<u32> = (0..2).filter(|j| (step + 3 * u64::from(*j)) % 17 == 4).collect();
            for &i in &pre {
                (0..2).for_each(|j| e[i as usize * 2 + j] -= minus[j]);
                plus[i as usize] += 1.0;
            }
            for &j in &post {
                (0..3).for_each(|i| e[i * 2 + j as usize] += plus[i]);
                minus[j as usize] += 1.0;
            }
            stdp.arrive(step, &pre, &mut w).unwrap();
            stdp.fire(step, &post, &mut w).unwrap();
            if step % 40 == 39 {
                let r = if step < 100 { 1e-2 } else { -2e-2 };
                stdp.reward(step, r, &mut w).unwrap();
                expected.iter_mut().zip(e).for_each(|(w, e)| *w += 0.5 * r * e);
                moved += (w[0] - 0.5).abs();
            }
        }
        assert!(moved > 1e-3);
        assert!(w.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{w:?} {expected:?}");
    }

    #[test]
    fn misuse_is_an_error() {
        let mut stdp = one(Pair::default());
        let mut w = [0.5f32];
        assert!(stdp.arrive(0, &[1], &mut w).is_err());
        assert!(stdp.fire(0, &[1], &mut w).is_err());
        assert!(stdp.arrive(0, &[0], &mut [0.0f32; 2]).is_err());
        assert!(stdp.arrive_at(0, &[0], &mut w).is_err());
        assert!(stdp.reward(0, 1.0, &mut w).is_err());
        stdp.arrive(5, &[0], &mut w).unwrap();
        assert!(stdp.fire(4, &[0], &mut w).unwrap_err().to_string().contains("at least 5"));
        assert!(one(Reward::default()).reward(0, f64::NAN, &mut w).is_err());
        assert!(EventDriven::new(Pair::default(), Ms(0.0), Incidence::dense(1, 1).unwrap()).is_err());
        assert!(Incidence::new(&[0, 1], &[2], 2).is_err());
        assert!(Incidence::new(&[0, 2], &[1], 2).is_err());
    }

    #[test]
    fn a_reset_forgets_spikes_and_keeps_weights() {
        let (mut stdp, mut w) = (one(Pair::default()), [0.5f32]);
        stdp.arrive(5, &[0], &mut w).unwrap();
        stdp.reset();
        stdp.fire(0, &[0], &mut w).unwrap();
        assert_eq!(w, [0.5]);
    }
}
