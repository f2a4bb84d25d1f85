//! Synapses that nobody keeps: what it takes to draw the row of one source again, the same as it was drawn first.
//!
//! A row can be drawn again where it has counters of its own: rules that draw source by source, with weights and delays
//! that are constant or uniform, since a uniform number takes two words at a place that is known.

use super::draw::{Pen, SOURCES_PER_PIECE, rows};
use super::torus::Torus;
use crate::error::{Error, Result};
use crate::parallel;
use crate::rng::Stream;
use crate::snn::connect::Rule;
use crate::snn::init::{Base, Init, Recipe};
use crate::snn::network::{Network, Projection};

/// Synapses that are drawn at once while they are counted, as expected.
const SYNAPSES_AT_ONCE: usize = 1 << 22;

/// A projection whose rows can be drawn again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Procedural {
    /// How a row is drawn.
    pub targets: Targets,
    /// Targets to choose among: one fewer than there are where a neuron is left out of its own row.
    pub choices: usize,
    /// Whether it is; targets from its own number on are then one higher.
    pub skips_itself: bool,
    /// Where the targets come from.
    pub connect: Stream,
    /// Weights.
    pub weights: Numbers,
    /// Delays: steps where they are all the same, milliseconds where they are drawn.
    pub delays: Numbers,
}

/// How the targets of a source are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Targets {
    /// All of them.
    All,
    /// The one of the same number.
    Same,
    /// Jumps of ⌊ln(1 − u) / `miss`⌋ from hit to hit.
    Jumps { miss: f64 },
    /// So many different ones (Floyd's algorithm).
    Distinct { k: usize },
    /// So many, drawn with replacement.
    Repeated { k: usize },
    /// Each with `p_max` · exp(−d² / `spread`).
    Near { p_max: f64, spread: f64, from: Torus, to: Torus },
}

/// One number per synapse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// The same for all.
    Same(f64),
    /// `low` + `span` · u.
    Uniform { low: f64, span: f64, stream: Stream },
}

impl Procedural {
    /// A projection of a network; [`Error::Network`] says why it cannot be drawn again.
    pub fn new(net: &Network, projection: usize) -> Result<Self> {
        let p = &net.projections[projection];
        if let Some(why) = problem(p) {
            return Err(Error::Network(vec![format!("projection `{}`: {why}", p.name)]));
        }
        let pen = Pen::new(net, p, false)?;
        let numbers = |recipe: &Option<Recipe<'_>>, same: f64, stream: Stream| match recipe {
            Some(Recipe { base: Base::Uniform { low, high }, .. }) => {
                Numbers::Uniform { low: *low, span: high - low, stream }
            }
            _ => Numbers::Same(same),
        };
        let [from, to] = [p.pre, p.post].map(|pop| &net.populations[pop.0]);
        let skips_itself = !self_connected(p);
        let choices = to.size() - usize::from(skips_itself);
        Ok(Self {
            targets: match p.rule {
                Rule::OneToOne => Targets::Same,
                Rule::FixedProbability { p } if p <= 0.0 => Targets::Repeated { k: 0 },
                Rule::FixedProbability { p } if p < 1.0 => Targets::Jumps { miss: (-p).ln_1p() },
                Rule::FixedOutDegree { k } => Targets::Distinct { k: k.min(choices) },
                Rule::FixedOutDegreeMultapses { k } => Targets::Repeated { k },
                Rule::Gaussian { p_max, sigma } => Targets::Near {
                    p_max,
                    spread: 2.0 * sigma * sigma,
                    from: Torus::of(&from.shape),
                    to: Torus::of(&to.shape),
                },
                _ => Targets::All,
            },
            choices,
            skips_itself,
            connect: Stream::named(net.seed, &format!("projection/{}/connect", p.name)),
            weights: numbers(&pen.weights, pen.same, pen.weight_stream),
            delays: numbers(&pen.delays, pen.delay.into(), pen.delay_stream),
        })
    }

    /// Synapses of a row, where they need not be drawn to be counted.
    fn row(&self) -> Option<usize> {
        match self.targets {
            Targets::All => Some(self.choices),
            Targets::Same => Some(1),
            Targets::Distinct { k } | Targets::Repeated { k } => Some(k),
            Targets::Jumps { .. } | Targets::Near { .. } => None,
        }
    }
}

fn self_connected(p: &Projection) -> bool {
    p.wiring.autapses || p.pre != p.post
}

/// Why the rows of a projection cannot be drawn again; the first words say which of its parts is in the way.
fn problem(p: &Projection) -> Option<String> {
    let drawn = |init: &Init| !matches!(init, Init::Constant(_));
    let (delays, kind) = (p.wiring.delays.as_ref(), p.rule.kind());
    let none = "no procedural connectivity";
    if p.wiring.plasticity.is_some() {
        return Some(format!("its rule of plasticity changes weights, which have to be stored: {none}"));
    }
    match p.rule {
        Rule::FixedInDegree { .. } | Rule::FixedInDegreeMultapses { .. } | Rule::FixedTotal { .. } => {
            return Some(format!(
                "{none}: {kind} draws target by target; fixed-probability and fixed-out-degree draw source by source"
            ));
        }
        Rule::Explicit { .. } => return Some(format!("{none}: its pairs are listed, not drawn")),
        _ if !p.weights.is_deferred() => {
            return Some(format!("weights are held by the network: {none}; begin with Network::simulation"));
        }
        Rule::FixedOutDegreeMultapses { .. } if drawn(&p.init) || delays.is_some_and(drawn) => {
            let what = if drawn(&p.init) { "weights" } else { "delays" };
            return Some(format!(
                "{what} are drawn in the order of the sorted targets, which {kind} draws unsorted: {none}; make them constant"
            ));
        }
        _ => {}
    }
    let sequence = |what: &str, init: &Init| match init {
        Init::Constant(_) | Init::Uniform { .. } => None,
        Init::Listed(_) | Init::ListedF64(_) => Some(format!("{what} are listed, not drawn: {none}")),
        _ => Some(format!(
            "{what} are drawn again until they fit, so that it is not known where each begins: {none}; constant and uniform ones can be"
        )),
    };
    sequence("weights", &p.init).or_else(|| sequence("delays", delays?))
}

/// What is known of synapses that were drawn and dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Survey {
    /// Their number.
    pub synapses: u64,
    /// Shortest and longest delay in steps; `None` where there is none.
    pub delays: Option<(u32, u32)>,
}

/// Counts the synapses of a projection without keeping them. Magnitudes of their weights are added to `largest`, one
/// number for each target, in the order in which [`Synapses`](super::Synapses) has them; where it is empty, they are not.
pub(crate) fn survey(net: &Network, projection: usize, largest: &mut [f64]) -> Result<Survey> {
    let (p, procedural) = (&net.projections[projection], Procedural::new(net, projection)?);
    let sources = net.populations[p.pre.0].size();
    let same = match procedural.delays {
        Numbers::Same(steps) => Some((steps as u32, steps as u32)),
        Numbers::Uniform { .. } => None,
    };
    if let (Some(row), Some(delays), true) = (procedural.row(), same, largest.is_empty()) {
        return Ok(Survey { synapses: sources as u64 * row as u64, delays: Some(delays) });
    }
    let pen = Pen::new(net, p, false)?;
    let [from, to] = [p.pre, p.post].map(|pop| &net.populations[pop.0].shape);
    let row = (p.rule.weights(from, to) / sources as f64).max(1.0);
    let piece = (SYNAPSES_AT_ONCE / row as usize).clamp(1, SOURCES_PER_PIECE);
    let at_once = (SYNAPSES_AT_ONCE / row as usize).clamp(1, sources);
    let mut survey = Survey { synapses: 0, delays: same };
    for start in (0..sources).step_by(at_once) {
        let end = (start + at_once).min(sources);
        let pieces = parallel::map((end - start).div_ceil(piece), |i| {
            let first = start + i * piece;
            rows(net, p, &pen, &[], first..(first + piece).min(end), self_connected(p))
        });
        for rows in &pieces {
            survey.synapses += rows.targets.len() as u64;
            if same.is_none() {
                let both = [survey.delays, rows.delays.range()];
                survey.delays = both.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            }
            if !largest.is_empty() {
                let weights = (0..rows.targets.len()).map(|i| rows.weights.get(i).abs());
                rows.targets
                    .iter()
                    .zip(weights)
                    .for_each(|(&target, weight)| largest[target as usize] += weight);
            }
        }
    }
    Ok(survey)
}

/// Why simulations cannot have procedural connectivity, projection by projection; empty where they can.
pub(crate) fn problems(net: &Network) -> Vec<String> {
    let named = |p: &Projection| problem(p).map(|why| format!("projection `{}`: {why}", p.name));
    net.projections.iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::neurons::Iaf;
    use crate::snn::synapses::Synapses;
    use crate::units::Ms;

    fn network(rules: &[Rule], weights: &Init, delays: &Init, autapses: bool) -> Result<Network> {
        let dt = Ms(0.5);
        let mut net = Network::simulation(dt);
        let cells = net.population("cells", 150, Iaf::delta(Ms(10.0), dt));
        for (i, rule) in rules.iter().enumerate() {
            let edge = net.connect(cells, cells, rule.clone()).name(format!("p{i}"));
            let edge = edge.weights(weights.clone()).delays(delays.clone());
            if !autapses {
                edge.no_autapses();
            }
        }
        net.build(7)
    }

    #[test]
    fn what_is_counted_is_what_is_drawn() -> Result<()> {
        let rules = [
            Rule::Dense,
            Rule::FixedProbability { p: 0.0 },
            Rule::FixedProbability { p: 0.2 },
            Rule::FixedProbability { p: 1.0 },
            Rule::FixedOutDegree { k: 149 },
            Rule::Gaussian { p_max: 0.5, sigma: 0.2 },
        ];
        let uniform = Init::Uniform { low: -1.0, high: 2.0 };
        let (constant, late) = (Init::Constant(1.5), Init::Uniform { low: 0.6, high: 40.0 });
        for (weights, delays) in
            [(&constant, &constant), (&uniform, &constant), (&constant, &late), (&uniform, &late)]
        {
            for autapses in [true, false] {
                let net = network(&rules, weights, delays, autapses)?;
                for index in 0..rules.len() {
                    let stored = Synapses::draw(&net, index, &[0..64, 64..150], false)?;
                    let mut wanted = vec![0.25; 150];
                    for source in 0..150 {
                        stored.each(source, |target, weight, _| wanted[target as usize] += weight.abs());
                    }
                    let mut largest = vec![0.25; 150];
                    for largest in [&mut largest[..], &mut []] {
                        let found = survey(&net, index, largest)?;
                        assert_eq!(
                            (found.synapses, found.delays),
                            (stored.len(), stored.delay_range()),
                            "{index}"
                        );
                    }
                    assert_eq!(largest, wanted, "{index}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn jumps_and_places_follow_the_rule() -> Result<()> {
        let (one, two) = (Init::Constant(1.0), Init::Uniform { low: 1.0, high: 3.0 });
        let net = network(&[Rule::FixedProbability { p: 0.25 }], &two, &one, false)?;
        let row = Procedural::new(&net, 0)?;
        assert_eq!(row.targets, Targets::Jumps { miss: (-0.25f64).ln_1p() });
        assert_eq!((row.choices, row.skips_itself, row.delays), (149, true, Numbers::Same(2.0)));
        let stream = Stream::named(7, "projection/p0/weights");
        assert_eq!(row.weights, Numbers::Uniform { low: 1.0, span: 2.0, stream });
        let refused = network(&[Rule::FixedInDegree { k: 2 }, Rule::Dense], &one, &one, true)?;
        assert!(matches!(Procedural::new(&refused, 0), Err(Error::Network(_))));
        assert_eq!(problems(&refused).len(), 1);
        Ok(())
    }
}
