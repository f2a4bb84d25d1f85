//! Which populations hear of one another: in which order a network runs, and how many steps at once.

use super::network::{Network, Pop, Projection, sort};
use crate::error::Result;
use crate::units::Ms;
use std::ops::Range;

/// Populations that run together: one, or several with projections around in a loop.
///
/// ```
/// use ransnn::snn::{Network, Pop, Rule, neurons::Lif};
/// use ransnn::units::Ms;
/// let mut net = Network::builder(Ms(1.0));
/// let pixels = net.input("pixels", 4);
/// let [exc, inh, out] = ["exc", "inh", "out"].map(|name| net.population(name, 2, Lif::default()));
/// net.connect(pixels, exc, Rule::Dense);
/// net.connect(exc, inh, Rule::Dense);
/// net.connect(inh, exc, Rule::Dense).delay(Ms(3.0));
/// net.connect(exc, out, Rule::Dense).delay(Ms(2.0));
/// let components = net.build(1)?.components()?;
/// assert_eq!(components[1].populations, [exc, inh]);
/// assert_eq!(components[1].most_steps, Some(3));
/// assert_eq!((&components[2].populations[..], components[2].most_steps), (&[out][..], None));
/// # Ok::<(), ransnn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Sources before the targets that they reach without delay.
    pub populations: Vec<Pop>,
    /// Steps that all of them can take one population after the other, before what a spike sets off comes back: the
    /// shortest delay of a projection that leads back in this order. `None` where none does.
    pub most_steps: Option<usize>,
}

impl Component {
    /// Some steps, cut into stretches that all populations can take one after the other.
    pub fn stretches(&self, steps: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = self.most_steps.unwrap_or(usize::MAX).max(1);
        let end = steps.end;
        steps.step_by(length).map(move |start| start..end.min(start.saturating_add(length)))
    }
}

impl Projection {
    /// The delay in steps of `dt`; 0 where a spike acts in its own step.
    pub fn delay_steps(&self, dt: Ms) -> usize {
        self.delay.map_or(0, |delay| (delay.0 / dt.0).round() as usize)
    }
}

impl Network {
    /// The populations in the order in which they can run: sources come before targets, and those that reach one another
    /// stand together.
    ///
    /// # Errors
    /// As [`order`](Self::order).
    pub fn components(&self) -> Result<Vec<Component>> {
        let order = self.order()?;
        let reached: Vec<Vec<bool>> = (0..self.populations.len()).map(|from| self.reached(from)).collect();
        let mut components: Vec<Component> = vec![];
        let mut of = vec![0; order.len()];
        for &pop in &order {
            let together = |c: &Component| {
                let Pop(first) = c.populations[0];
                reached[first][pop.0] && reached[pop.0][first]
            };
            of[pop.0] = match components.iter_mut().position(|c| together(c)) {
                Some(component) => {
                    components[component].populations.push(pop);
                    component
                }
                None => {
                    components.push(Component { populations: vec![pop], most_steps: None });
                    components.len() - 1
                }
            };
        }
        let place = |pop: Pop| order.iter().position(|&p| p == pop);
        let mut between = vec![];
        for p in &self.projections {
            let [from, to] = [of[p.pre.0], of[p.post.0]];
            if from != to {
                between.push((from, to));
            } else if place(p.pre) >= place(p.post) {
                let most = &mut components[to].most_steps;
                let delay = p.delay_steps(self.dt);
                *most = Some(most.map_or(delay, |most| most.min(delay)));
            }
        }
        // Between components there is no loop.
        let order = sort(components.len(), &between).unwrap_or_default();
        Ok(order.into_iter().map(|i| components[i].clone()).collect())
    }

    /// Which populations the spikes of one reach.
    fn reached(&self, from: usize) -> Vec<bool> {
        let mut reached = vec![false; self.populations.len()];
        let mut left = vec![from];
        while let Some(at) = left.pop() {
            for p in self.projections.iter().filter(|p| p.pre.0 == at) {
                if !std::mem::replace(&mut reached[p.post.0], true) {
                    left.push(p.post.0);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::{Rule, neurons::Lif};

    #[test]
    fn loops_stand_together_behind_what_they_hear() {
        let mut net = Network::builder(Ms(0.5));
        // Declared in an order in which it cannot run.
        let [out, d, c, b, a] =
            ["out", "d", "c", "b", "a"].map(|name| net.population(name, 3, Lif::default()));
        let x = net.input("x", 3);
        net.connect(x, a, Rule::Dense).delay(Ms(4.0));
        net.connect(a, b, Rule::Dense);
        net.connect(b, a, Rule::Dense).delay(Ms(2.5));
        net.connect(b, b, Rule::Dense).delay(Ms(1.5));
        net.connect(b, c, Rule::Dense);
        net.connect(c, d, Rule::Dense).delay(Ms(0.5));
        net.connect(d, c, Rule::Dense).delay(Ms(5.0));
        net.connect(d, out, Rule::Dense);
        let components = net.build(1).unwrap().components().unwrap();
        let of = |i: usize| (components[i].populations.as_slice(), components[i].most_steps);
        assert_eq!(components.len(), 4);
        assert_eq!(of(0), (&[x][..], None));
        assert_eq!(of(1), (&[a, b][..], Some(3)));
        // `d` was declared first, so that what leads back is the projection with the short delay.
        assert_eq!(of(2), (&[d, c][..], Some(1)));
        assert_eq!(of(3), (&[out][..], None));
        let cut: Vec<_> = components[1].stretches(2..9).collect();
        assert_eq!(cut, [2..5, 5..8, 8..9]);
        assert!(components[0].stretches(2..9).eq(std::iter::once(2..9)));
    }
}
