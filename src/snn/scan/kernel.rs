//! The equations of a step and of its gradient, for a tile of neurons over all steps.
//!
//! A tile is `[steps, n]`, small enough for the first-level cache; its neurons do not see each other, except through
//! [`Tile::feedback`]. Loops go over neurons, so that a compiler makes vectors of them; the steps follow one another.
//!
//! Forward, with `c` the potential that the step before left behind, `s` its spike:
//!
//! ```text
//! i ← α i + g x                                  (without a synaptic current: i = g x)
//! u = u₀ + β (c − u₀) + i                        (reset in the next step: − θ s, or u_r where s)
//! a ← ρ a + s
//! s = H(u − θ − b a)
//! c = u − θ s, or u_r where s                    (reset in the same step)
//! ```
//!
//! Backward, with `δ` the gradient by `u` of the step after, `G` the one by `c`, `κ` = 0 where the reset is detached:
//!
//! ```text
//! subtract, next step    q = (g_s − κ θ δ) σ′        δ = q + G
//! subtract, same step    q = (g_s − κ θ G) σ′        δ = q + G
//! reset to u_r           q = (g_s + κ (u_r − u) G) σ′    δ = q + (1 − s) G
//! then                   e = δ + α e,  g_x = g e,  G ← β δ
//! ```

use crate::tensor::Surrogate;
use crate::tensor::dtype::Float;

/// Number of [`Rows`].
pub(super) const PARAMETERS: usize = 6;

/// What a spike does to the potential, as [`neurons::Reset`](crate::snn::neurons::Reset).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reset {
    /// Subtracts the threshold.
    Subtract,
    /// Sets it to a value.
    To(f64),
    /// Nothing.
    None,
}

/// When a reset acts; what a spike does to the potential is [`Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acts {
    /// In the step of the spike.
    SameStep,
    /// At the end of the step after; a reset to a value loses the input of that step.
    NextStep,
    /// At the beginning of the step after: as in the same step, but the membrane that is seen is that before.
    BeforeNextStep,
    /// snnTorch's `reset_delay=False`: in the step of the spike, and again where the membrane is still above threshold
    /// after it. Its gradient goes through the first and not the second, whatever is detached.
    Corrected,
}

/// What is the same for all neurons of a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<F> {
    pub reset: Reset,
    pub acts: Acts,
    /// `u > θ` fires, and not `u ≥ θ`.
    pub above: bool,
    /// 0 if the reset is detached, else 1.
    pub kappa: F,
    pub rest: F,
    pub surrogate: Surrogate,
    /// The spike is the smooth function of the surrogate: for tests of the gradient.
    pub smooth: bool,
    /// Has a synaptic current.
    pub current: bool,
    /// Has an adaptive threshold.
    pub adaptive: bool,
}

/// Parameters, one number per neuron of the tile: β, g, θ, α, ρ, b. The last three may be empty.
pub(super) type Rows<'a, F> = [&'a [F]; PARAMETERS];

/// Weights `[n, n]` from each neuron to each, that act one step later.
pub(super) type Feedback<'a, F> = Option<&'a [F]>;

/// What the steps before leave behind, a row of each: the potential, the late reset, the synaptic current, the adaptation
/// and the spikes.
pub(super) type Past<F> = [Vec<F>; 5];

/// What the steps after leave behind on the way back, a row of each: gradients by the potential, by what it decays from,
/// by the synaptic current, by the adaptation and by the input, and the potential before a late reset.
pub(super) type Future<F> = [Vec<F>; 6];

/// Working memory of a tile.
#[derive(Default)]
pub(super) struct Scratch<F> {
    /// Of a stretch of steps between others: what is before it, which the way forth replaces by what it leaves.
    pub past: Option<Past<F>>,
    /// The same on the way back: what is after it.
    pub future: Option<Future<F>>,
    carry: Vec<F>,
    late: Vec<F>,
    current: Vec<F>,
    adaptation: Vec<F>,
    heard: Vec<F>,
    slope: Vec<F>,
    spikes: Vec<F>,
    unreset: Vec<F>,
    grad_next: Vec<F>,
    grad_carry: Vec<F>,
    grad_current: Vec<F>,
    grad_adaptation: Vec<F>,
    grad_spike: Vec<F>,
}

fn reset<F>(values: &mut Vec<F>, len: usize, value: F)
where
    F: Copy,
{
    values.clear();
    values.resize(len, value);
}

/// The row before that of step `t`: `first` in the beginning, which is empty where there are no steps before.
fn before<'a, F>(rows: &'a [F], first: &'a [F], t: usize, n: usize) -> &'a [F] {
    if t > 0 { &rows[(t - 1) * n..][..n] } else { first }
}

impl<F: Float> Rule<F> {
    /// Spikes of potentials above threshold `x`.
    #[inline(always)]
    fn fire(&self, x: &[F], spikes: &mut [F]) {
        let n = x.len();
        let spikes = &mut spikes[..n];
        if self.smooth {
            for j in 0..n {
                spikes[j] = F::of_f64(self.surrogate.smooth(x[j].to_f64()));
            }
        } else if self.above {
            for j in 0..n {
                spikes[j] = if x[j] > F::ZERO { F::ONE } else { F::ZERO };
            }
        } else {
            for j in 0..n {
                spikes[j] = if x[j] >= F::ZERO { F::ONE } else { F::ZERO };
            }
        }
    }

    /// Whether the spike of a step acts on the potential of the step after.
    pub fn late(&self) -> bool {
        self.reset != Reset::None && matches!(self.acts, Acts::NextStep | Acts::Corrected)
    }

    /// The membrane after a step, as frameworks return it, from potential, spikes and the late reset `r`.
    #[inline(always)]
    fn after(&self, u: &[F], s: &[F], r: &[F], theta: &[F], out: &mut [F]) {
        let n = u.len();
        let (s, theta, out) = (&s[..n], &theta[..n], &mut out[..n]);
        match (self.reset, self.acts) {
            (Reset::None, _) | (_, Acts::NextStep) => out.copy_from_slice(u),
            (Reset::Subtract, Acts::Corrected) => {
                let r = &r[..n];
                for j in 0..n {
                    out[j] = u[j] - theta[j] * (s[j] - r[j]);
                }
            }
            (Reset::To(value), Acts::Corrected) => {
                let (value, r) = (F::of_f64(value), &r[..n]);
                for j in 0..n {
                    out[j] = u[j] + (s[j] - r[j]) * (value - u[j]);
                }
            }
            (Reset::Subtract, _) => {
                for j in 0..n {
                    out[j] = u[j] - theta[j] * s[j];
                }
            }
            (Reset::To(value), _) => {
                let value = F::of_f64(value);
                for j in 0..n {
                    out[j] = blend(u[j], value, s[j]);
                }
            }
        }
    }

    /// Potentials of all steps: `x` is `[steps, n]`, as are the potentials `u` before a reset, the spikes `s`, and the
    /// membrane `v` after a step where it is wanted.
    #[inline(always)]
    pub fn forward(
        &self,
        rows: &Rows<'_, F>,
        feedback: Feedback<'_, F>,
        x: &mut [F],
        (u, s, v): (&mut [F], &mut [F], &mut [F]),
        scratch: &mut Scratch<F>,
    ) {
        let [decay, gain, theta, alpha, rho, strength] = *rows;
        let n = theta.len();
        let Scratch { past, carry, late, current, adaptation, slope, heard, .. } = scratch;
        reset(carry, n, self.rest);
        reset(late, n, F::ZERO);
        reset(current, n, F::ZERO);
        reset(adaptation, n, F::ZERO);
        reset(slope, n, F::ZERO);
        let mut fired: &[F] = &[];
        if let Some([of_carry, of_late, of_current, of_adaptation, spikes]) = past {
            carry.copy_from_slice(of_carry);
            late.copy_from_slice(of_late);
            current.copy_from_slice(of_current);
            adaptation.copy_from_slice(of_adaptation);
            fired = spikes;
        }
        let (carry, late, current, above) =
            (&mut carry[..n], &mut late[..n], &mut current[..n], &mut slope[..n]);
        let (decay, gain) = (&decay[..n], &gain[..n]);
        for t in 0..x.len() / n {
            let (done, rest_of_s) = s.split_at_mut(t * n);
            let (x, u, s) = (&mut x[t * n..][..n], &mut u[t * n..][..n], &mut rest_of_s[..n]);
            let done = before(done, fired, t, n);
            if let Some(weights) = feedback {
                // Apart from the input, as the engine adds up each projection by itself.
                reset(heard, n, F::ZERO);
                let heard = &mut heard[..n];
                for (row, &spike) in weights.chunks_exact(n).zip(done) {
                    if spike != F::ZERO {
                        for j in 0..n {
                            heard[j] += spike * row[j];
                        }
                    }
                }
                for j in 0..n {
                    x[j] += heard[j];
                }
            }
            if self.current {
                for j in 0..n {
                    current[j] = alpha[j] * current[j] + gain[j] * x[j];
                }
            } else {
                for j in 0..n {
                    current[j] = gain[j] * x[j];
                }
            }
            if let (Reset::To(value), Acts::Corrected) = (self.reset, self.acts) {
                let value = F::of_f64(value);
                for j in 0..n {
                    carry[j] = blend(carry[j], value, late[j]);
                }
            }
            for j in 0..n {
                u[j] = self.rest + decay[j] * (carry[j] - self.rest) + current[j];
            }
            match (self.reset, self.acts) {
                (Reset::Subtract, Acts::NextStep | Acts::Corrected) => {
                    for j in 0..n {
                        u[j] -= theta[j] * late[j];
                    }
                }
                (Reset::To(value), Acts::NextStep) => {
                    let value = F::of_f64(value);
                    for j in 0..n {
                        u[j] = blend(u[j], value, late[j]);
                    }
                }
                _ => {}
            }
            for j in 0..n {
                above[j] = u[j] - theta[j];
            }
            if self.adaptive {
                if !done.is_empty() {
                    for j in 0..n {
                        adaptation[j] = rho[j] * adaptation[j] + done[j];
                    }
                }
                for j in 0..n {
                    above[j] -= strength[j] * adaptation[j];
                }
            }
            self.fire(above, s);
            self.after(u, s, late, theta, carry);
            if !v.is_empty() {
                v[t * n..][..n].copy_from_slice(match self.acts {
                    Acts::BeforeNextStep => u,
                    _ => carry,
                });
            }
            match self.acts {
                Acts::NextStep => late.copy_from_slice(s),
                Acts::Corrected => {
                    for j in 0..n {
                        above[j] = carry[j] - theta[j];
                    }
                    self.fire(above, late);
                }
                _ => {}
            }
        }
        if let Some([of_carry, of_late, of_current, of_adaptation, spikes]) = past {
            of_carry.copy_from_slice(carry);
            of_late.copy_from_slice(late);
            of_current.copy_from_slice(current);
            of_adaptation.copy_from_slice(adaptation);
            spikes.copy_from_slice(&s[s.len() - n..]);
        }
    }

    /// Gradients by the input, into `gx`, and by the parameters, added to `sums` where those are not empty.
    ///
    /// `x` (with feedback included) is read for the parameters g and α and for a late reset to a value that is not
    /// detached; `gs`, `gu` and `gv` are the gradients by spikes, potentials and membranes, `[steps, n]` or empty.
    #[allow(clippy::too_many_arguments, reason = "what is read, what is written, and memory to work in")]
    #[inline(always)]
    pub fn backward(
        &self,
        rows: &Rows<'_, F>,
        feedback: Feedback<'_, F>,
        (x, u): (&[F], &[F]),
        [gs, gu, gv]: [&[F]; 3],
        gx: &mut [F],
        sums: &mut [Vec<F>; PARAMETERS],
        scratch: &mut Scratch<F>,
    ) {
        let [decay, gain, theta, alpha, rho, strength] = *rows;
        let n = theta.len();
        let steps = u.len() / n;
        self.replay(rows, x, u, sums, scratch);
        let Scratch {
            past,
            future,
            carry,
            late,
            current,
            adaptation,
            slope,
            spikes,
            unreset,
            grad_next,
            grad_carry,
            grad_current,
            grad_adaptation,
            grad_spike,
            ..
        } = scratch;
        self.surrogate.at_each(slope);
        for grad in
            [&mut *grad_next, &mut *grad_carry, &mut *grad_current, &mut *grad_adaptation, &mut *grad_spike]
        {
            reset(grad, n, F::ZERO);
        }
        let (delta, big, e, h, g) = (
            &mut grad_next[..n],
            &mut grad_carry[..n],
            &mut grad_current[..n],
            &mut grad_adaptation[..n],
            &mut grad_spike[..n],
        );
        let (mut of_current, mut of_adaptation): (&[F], &[F]) = (&[], &[]);
        if let Some([_, _, current, adaptation, _]) = past {
            of_current = current;
            of_adaptation = adaptation;
        }
        let mut after: &[F] = &[];
        if let Some([of_delta, of_carry, of_current, of_adaptation, gx, row]) = future {
            delta.copy_from_slice(of_delta);
            big.copy_from_slice(of_carry);
            e.copy_from_slice(of_current);
            h.copy_from_slice(of_adaptation);
            after = gx;
            if let Some(last) = unreset.len().checked_sub(n) {
                unreset[last..].copy_from_slice(row);
            }
        }
        let (decay, gain, theta) = (&decay[..n], &gain[..n], &theta[..n]);
        let [d_decay, d_gain, d_theta, d_alpha, d_rho, d_strength] = sums;
        let hard = if let Reset::To(value) = self.reset { F::of_f64(value) } else { F::ZERO };
        for t in (0..steps).rev() {
            let at = t * n..(t + 1) * n;
            let (u, s, slope) = (&u[at.clone()], &spikes[at.clone()], &mut slope[at.clone()]);
            let r = if late.is_empty() { &[] } else { &late[at.clone()] };
            if gs.is_empty() {
                g.fill(F::ZERO)
            } else {
                g.copy_from_slice(&gs[at.clone()])
            }
            let next = if t + 1 < steps { &gx[(t + 1) * n..][..n] } else { after };
            if let (Some(weights), false) = (feedback, next.is_empty()) {
                for (g, row) in g.iter_mut().zip(weights.chunks_exact(n)) {
                    let mut sum = F::ZERO;
                    row.iter().zip(next).for_each(|(&w, &d)| sum += w * d);
                    *g += sum;
                }
            }
            if self.adaptive {
                for j in 0..n {
                    g[j] += h[j];
                }
            }
            // The gradient of the membrane that the framework shows: of what is carried on, or of the potential.
            let shows_carry = self.acts != Acts::BeforeNextStep;
            if !gv.is_empty() && shows_carry {
                big.iter_mut().zip(&gv[at.clone()]).for_each(|(big, &g)| *big += g);
            }
            // q, the gradient by u − θ − b a, takes the place of the slope; δ that of the next step's.
            match (self.reset, self.acts) {
                (Reset::None, _) => {
                    for j in 0..n {
                        slope[j] = g[j] * slope[j];
                        delta[j] = slope[j] + big[j];
                    }
                }
                (Reset::Subtract, Acts::NextStep) => {
                    if !d_theta.is_empty() {
                        for j in 0..n {
                            d_theta[j] -= delta[j] * s[j];
                        }
                    }
                    for j in 0..n {
                        slope[j] = (g[j] - self.kappa * theta[j] * delta[j]) * slope[j];
                        delta[j] = slope[j] + big[j];
                    }
                }
                (Reset::To(_), Acts::NextStep) => {
                    for j in 0..n {
                        let pull = if unreset.is_empty() { F::ZERO } else { hard - unreset[(t + 1) * n + j] };
                        slope[j] = (g[j] + self.kappa * pull * delta[j]) * slope[j];
                        // `big` has its factor 1 − s from the step after.
                        delta[j] = slope[j] + big[j];
                    }
                }
                (Reset::Subtract, Acts::Corrected) => {
                    for j in 0..n {
                        slope[j] = (g[j] - theta[j] * big[j]) * slope[j];
                        delta[j] = slope[j] + big[j];
                    }
                    if !d_theta.is_empty() {
                        for j in 0..n {
                            d_theta[j] -= big[j] * (s[j] - r[j]) + delta[j] * r[j];
                        }
                    }
                }
                (Reset::To(_), Acts::Corrected) => {
                    for j in 0..n {
                        slope[j] = (g[j] + (hard - u[j]) * big[j]) * slope[j];
                        delta[j] = slope[j] + big[j] * (F::ONE - (s[j] - r[j]));
                    }
                }
                (Reset::Subtract, _) => {
                    if !d_theta.is_empty() {
                        for j in 0..n {
                            d_theta[j] -= big[j] * s[j];
                        }
                    }
                    for j in 0..n {
                        slope[j] = (g[j] - self.kappa * theta[j] * big[j]) * slope[j];
                        delta[j] = slope[j] + big[j];
                    }
                }
                (Reset::To(_), _) => {
                    for j in 0..n {
                        slope[j] = (g[j] + self.kappa * (hard - u[j]) * big[j]) * slope[j];
                        delta[j] = slope[j] + blend(big[j], F::ZERO, s[j]);
                    }
                }
            }
            if !gu.is_empty() {
                delta.iter_mut().zip(&gu[at.clone()]).for_each(|(delta, &g)| *delta += g);
            }
            if !gv.is_empty() && !shows_carry {
                delta.iter_mut().zip(&gv[at.clone()]).for_each(|(delta, &g)| *delta += g);
            }
            if !d_theta.is_empty() {
                for j in 0..n {
                    d_theta[j] -= slope[j];
                }
            }
            if self.adaptive {
                let a = &adaptation[at.clone()];
                for j in 0..n {
                    h[j] = rho[j] * h[j] - strength[j] * slope[j];
                }
                for j in 0..d_strength.len() {
                    d_strength[j] -= slope[j] * a[j];
                }
                if !d_rho.is_empty() {
                    let old = before(adaptation, of_adaptation, t, n);
                    for j in 0..old.len() {
                        d_rho[j] += h[j] * old[j];
                    }
                }
            }
            // What a late reset to a value overwrites reaches neither the input nor the past.
            let g = &mut *g;
            match (self.reset, self.acts) {
                (Reset::To(_), Acts::NextStep) => {
                    for j in 0..n {
                        g[j] = blend(delta[j], F::ZERO, r[j]);
                    }
                }
                _ => g.copy_from_slice(delta),
            }
            if !d_decay.is_empty() {
                let carry = &carry[at.clone()];
                for j in 0..n {
                    d_decay[j] += g[j] * (carry[j] - self.rest);
                }
            }
            for j in 0..n {
                big[j] = decay[j] * g[j];
            }
            if let (Reset::To(_), Acts::Corrected) = (self.reset, self.acts) {
                for j in 0..n {
                    big[j] = blend(big[j], F::ZERO, r[j]);
                }
            }
            if self.current {
                for j in 0..n {
                    e[j] = g[j] + alpha[j] * e[j];
                }
                if !d_alpha.is_empty() {
                    let old = before(current, of_current, t, n);
                    for j in 0..old.len() {
                        d_alpha[j] += e[j] * old[j];
                    }
                }
            } else {
                e.copy_from_slice(g);
            }
            if !d_gain.is_empty() {
                let x = &x[at.clone()];
                for j in 0..n {
                    d_gain[j] += e[j] * x[j];
                }
            }
            let gx = &mut gx[at];
            for j in 0..n {
                gx[j] = gain[j] * e[j];
            }
        }
        if let Some([of_delta, of_carry, of_current, of_adaptation, of_gx, row]) = future {
            of_delta.copy_from_slice(delta);
            of_carry.copy_from_slice(big);
            of_current.copy_from_slice(e);
            of_adaptation.copy_from_slice(h);
            of_gx.copy_from_slice(&gx[..n]);
            if !unreset.is_empty() {
                row.copy_from_slice(&unreset[..n]);
            }
        }
    }

    /// What the way back needs of the way forth, recomputed from potentials and input: spikes, `u − θ − b a` (in
    /// `slope`), and where they are read the potential that decays, late resets, currents and adaptation.
    #[inline(always)]
    fn replay(
        &self,
        rows: &Rows<'_, F>,
        x: &[F],
        u: &[F],
        sums: &[Vec<F>; PARAMETERS],
        scratch: &mut Scratch<F>,
    ) {
        let [decay, gain, theta, alpha, rho, strength] = *rows;
        let n = theta.len();
        let Scratch { past, carry, late, current, adaptation, slope, spikes, unreset, grad_spike, .. } =
            scratch;
        let has_late = self.late();
        let pulls = self.pulls();
        let wants_carry = !sums[0].is_empty() || pulls || self.acts == Acts::Corrected;
        let wants_current = self.current && (!sums[3].is_empty() || pulls);
        for values in [&mut *spikes, &mut *slope] {
            values.resize(u.len(), F::ZERO);
        }
        reset(carry, if wants_carry { u.len() } else { 0 }, self.rest);
        reset(late, if has_late { u.len() } else { 0 }, F::ZERO);
        reset(current, if wants_current { u.len() } else { 0 }, F::ZERO);
        reset(adaptation, if self.adaptive { u.len() } else { 0 }, F::ZERO);
        reset(unreset, if pulls { u.len() + n } else { 0 }, F::ZERO);
        reset(grad_spike, n, F::ZERO);
        let (mut of_current, mut of_adaptation, mut fired): (&[F], &[F], &[F]) = (&[], &[], &[]);
        if let Some([of_carry, of_late, current, adaptation, spikes]) = past {
            if has_late {
                late[..n].copy_from_slice(of_late);
            }
            if wants_carry {
                self.overwrite(of_carry, of_late, &mut carry[..n]);
            }
            of_current = current;
            of_adaptation = adaptation;
            fired = spikes;
        }
        for t in 0..u.len() / n {
            let at = t * n..(t + 1) * n;
            let next = (t + 1) * n;
            let (u, above) = (&u[at.clone()], &mut slope[at.clone()]);
            for j in 0..n {
                above[j] = u[j] - theta[j];
            }
            if self.adaptive {
                let (done, now) = adaptation.split_at_mut(at.start);
                let (old, s) = (before(done, of_adaptation, t, n), before(spikes, fired, t, n));
                if !old.is_empty() {
                    for j in 0..n {
                        now[j] = rho[j] * old[j] + s[j];
                    }
                }
                for j in 0..n {
                    above[j] -= strength[j] * now[j];
                }
            }
            self.fire(above, &mut spikes[at.clone()]);
            let s = &spikes[at.clone()];
            if wants_current {
                let (done, now) = current.split_at_mut(at.start);
                let old = before(done, of_current, t, n);
                for j in 0..n {
                    let old = if old.is_empty() { F::ZERO } else { old[j] };
                    now[j] = alpha[j] * old + gain[j] * x[at.start + j];
                }
            }
            if pulls {
                for j in 0..n {
                    let i = if self.current { current[at.start + j] } else { gain[j] * x[at.start + j] };
                    unreset[at.start + j] = self.rest + decay[j] * (carry[at.start + j] - self.rest) + i;
                }
            }
            if next == spikes.len() {
                break;
            }
            let r = if has_late { &late[at.clone()] } else { &[] };
            if wants_carry {
                self.after(u, s, r, theta, &mut carry[next..][..n]);
            }
            if has_late && self.acts == Acts::Corrected {
                for j in 0..n {
                    grad_spike[j] = carry[next + j] - theta[j];
                }
                self.fire(grad_spike, &mut late[next..][..n]);
                grad_spike.copy_from_slice(&carry[next..][..n]);
                self.overwrite(grad_spike, &late[next..][..n], &mut carry[next..][..n]);
            } else if has_late {
                late[next..][..n].copy_from_slice(s);
            }
        }
    }

    /// The potential that decays, of the one that was left: a corrected reset to a value acts once more.
    #[inline(always)]
    fn overwrite(&self, left: &[F], late: &[F], carry: &mut [F]) {
        carry.copy_from_slice(left);
        if let (Reset::To(value), Acts::Corrected) = (self.reset, self.acts) {
            let value = F::of_f64(value);
            carry.iter_mut().zip(late).for_each(|(carry, &late)| *carry = blend(*carry, value, late));
        }
    }

    /// Whether the gradient needs the potential before a late reset to a value.
    pub fn pulls(&self) -> bool {
        matches!((self.reset, self.acts), (Reset::To(_), Acts::NextStep)) && self.kappa != F::ZERO
    }
}

/// `a` where `s` is 0, `b` where it is 1, exactly; in between for smooth spikes.
#[inline(always)]
fn blend<F: Float>(a: F, b: F, s: F) -> F {
    (F::ONE - s) * a + s * b
}
