//! The hybrid of BOFT and LoRA-GA of arXiv:2507.18076: both on one map, weighted by a coefficient λ for each layer that
//! follows the norms of their gradients.
//!
//! The paper's formula of λ could not be recovered. What is here is a reconstruction with the alternatives as settings:
//! λ = n_L / (n_L + n_B), smoothed, with n_L the norm of the gradient of A and B and n_B that of R. Adam does not care
//! for the size of gradients, so λ weighs updates ([`step`]), never gradients.

use std::collections::BTreeMap;

use super::boft::BoftAdapter;
use super::lora::{LoraAdapter, like};
use super::manage::{self, each};
use super::{Adapter, Below, Boft, Host, Kind, LoraGa};
use crate::tensor::{Grads, Tensor, Trainable};
use crate::{Error, Result};

/// What λ weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `W = s_o ⊙ ((W + s (B A − B₀ A₀)) Rᵀ)`; steps of A and B are multiplied by 2 λ, those of R and s_o by 2 (1 − λ).
    /// Continuous in time.
    #[default]
    StepScale,
    /// `W + λ s (B A − B₀ A₀) + (1 − λ) (s_o ⊙ W Rᵀ − W)`: two branches. Jumps when λ changes.
    Blend,
    /// After each step λ times what LoRA-GA changed and 1 − λ times what BOFT changed go into a weight of its own.
    Accumulate,
}

/// How λ follows the gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rule {
    /// n_L / (n_L + n_B).
    #[default]
    Ratio,
    /// n_B / (n_L + n_B).
    InverseRatio,
    /// 1 / (1 + exp(−(ln n_L − ln n_B) / τ)).
    Sigmoid(f64),
    /// From the first to the second number within so many steps.
    Linear(f64, f64, u64),
    /// Always this.
    Constant(f64),
}

/// Settings of the hybrid.
#[derive(Clone, Debug, PartialEq)]
pub struct Hybrid {
    /// The low-rank branch.
    pub lora_ga: LoraGa,
    /// The orthogonal branch.
    pub boft: Boft,
    /// What λ weighs.
    pub mode: Mode,
    /// How λ follows the gradients.
    pub rule: Rule,
    /// μ of `λ ← μ λ + (1 − μ) rule`.
    pub momentum: f64,
    /// Lower and upper bound of what the rule says.
    pub bounds: (f64, f64),
    /// Whether norms are divided by the root of how many numbers there are.
    pub mean_square: bool,
    /// The step after which λ stays as it is.
    pub frozen_after: Option<u64>,
}

impl Default for Hybrid {
    /// The ratio of norms, μ = 0.9, within 0.05 … 0.95; blocks of 8, two factors.
    fn default() -> Self {
        Self {
            lora_ga: LoraGa::default(),
            boft: Boft { blocks: super::Blocks::Size(8), factors: 2, dropout: 0.0 },
            mode: Mode::StepScale,
            rule: Rule::Ratio,
            momentum: 0.9,
            bounds: (0.05, 0.95),
            mean_square: false,
            frozen_after: None,
        }
    }
}

impl Hybrid {
    /// The adapter of a map from the mean gradient of its weight.
    ///
    /// # Errors
    /// As of its branches; a λ or a momentum outside of 0 … 1.
    pub fn start(
        &self,
        path: &str,
        weight: &Tensor,
        gradient: &Tensor,
        kind: Kind,
        seed: u64,
    ) -> Result<HybridAdapter> {
        let lora = self.lora_ga.start(path, weight, gradient, kind, seed)?;
        self.with(lora, self.boft.adapter(path, weight, kind)?, weight)
    }

    /// The adapter from its branches.
    ///
    /// # Errors
    /// A λ or a momentum outside of 0 … 1.
    pub fn with(&self, lora: LoraAdapter, boft: BoftAdapter, weight: &Tensor) -> Result<HybridAdapter> {
        let (low, high) = self.bounds;
        let constant = if let Rule::Constant(x) = self.rule { x } else { 0.5 };
        for (what, value) in
            [("momentum", self.momentum), ("lower bound", low), ("upper bound", high), ("λ", constant)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::value(format!("the {what} of the hybrid"), value, "between 0 and 1"));
            }
        }
        let lambda = match self.rule {
            Rule::Constant(lambda) | Rule::Linear(lambda, ..) => lambda,
            _ => 0.5,
        };
        let own = (self.mode == Mode::Accumulate).then(|| weight.clone());
        Ok(HybridAdapter { lora, boft, lambda, own, settings: self.clone() })
    }
}

/// BOFT and LoRA-GA on one map.
#[derive(Clone, Debug)]
pub struct HybridAdapter {
    /// The low-rank branch.
    pub lora: LoraAdapter,
    /// The orthogonal branch.
    pub boft: BoftAdapter,
    /// λ.
    pub lambda: f64,
    /// The weight that [`Mode::Accumulate`] changes.
    pub own: Option<Tensor>,
    /// Settings.
    pub settings: Hybrid,
}

impl HybridAdapter {
    pub(super) fn forward(&self, x: &Tensor, below: &Below<'_>, bias: Option<&Tensor>) -> Result<Tensor> {
        if self.settings.mode == Mode::Blend {
            let low_rank = self.lora.forward(x, below, None)?.mul_scalar(self.lambda)?;
            let rotated = self.boft.forward(x, below, None)?.mul_scalar(1.0 - self.lambda)?;
            let y = low_rank.add(&rotated)?;
            return bias.map_or(Ok(y.clone()), |bias| y.add(bias));
        }
        let (a, b) = self.lora.factors()?;
        let below = self.own.as_ref().map_or(*below, Below::plain);
        self.boft.forward_with(x, &below, Some((&a, &b, self.lora.scaling)), bias)
    }

    pub(super) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        match (self.settings.mode, &self.own) {
            (Mode::Blend, _) => {
                let low_rank = self.lora.merged(weight)?.mul_scalar(self.lambda)?;
                low_rank.add(&self.boft.merged(weight)?.mul_scalar(1.0 - self.lambda)?)
            }
            (_, Some(own)) => self.boft.merged(&self.lora.merged(own)?),
            (_, None) => self.boft.merged(&self.lora.merged(weight)?),
        }
    }

    /// Where LoRA-GA began, λ and the weight of its own; see [`Adapter::memory`].
    pub(super) fn memory(&self, f: &mut dyn FnMut(&str, &Tensor)) -> Result<()> {
        self.lora.memory(f);
        f("hybrid_lambda", &self.lambda()?);
        self.own.iter().for_each(|own| f("hybrid_weight", own));
        Ok(())
    }

    pub(super) fn remember(&mut self, find: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<()> {
        self.lora.remember(find)?;
        self.lambda = like("hybrid_lambda", &self.lambda()?, find)?.to_scalar()?;
        if let Some(own) = &mut self.own {
            *own = like("hybrid_weight", own, find)?;
        }
        Ok(())
    }

    /// λ as files hold it.
    fn lambda(&self) -> Result<Tensor> {
        Tensor::from_f64(vec![self.lambda], &[1])
    }

    /// λ after the gradients of a step.
    fn follow(&mut self, n_lora: f64, n_boft: f64, step: u64) {
        if self.settings.frozen_after.is_some_and(|last| step > last) {
            return;
        }
        let (low, high) = self.settings.bounds;
        let sum = n_lora + n_boft + 1e-12;
        let raw = match self.settings.rule {
            Rule::Constant(lambda) => return self.lambda = lambda,
            Rule::Linear(from, to, steps) => {
                let done = step as f64 / steps.max(1) as f64;
                return self.lambda = from + (to - from) * done.min(1.0);
            }
            Rule::Ratio => n_lora / sum,
            Rule::InverseRatio => n_boft / sum,
            // 1 / (1 + exp(−(ln a − ln b) / τ)) = a^(1/τ) / (a^(1/τ) + b^(1/τ))
            Rule::Sigmoid(tau) => {
                let ratio = (n_boft + 1e-300) / (n_lora + 1e-300);
                1.0 / (1.0 + ratio.powf(1.0 / tau))
            }
        };
        let mu = self.settings.momentum;
        self.lambda = mu * self.lambda + (1.0 - mu) * raw.clamp(low, high);
    }

    /// Puts what the last step changed into the weight of its own, and begins anew from there.
    fn settle(&mut self) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let low_rank = self.lora.delta()?.mul_scalar(self.lambda)?;
        let rotated = self.boft.merged(own)?.sub(own)?.mul_scalar(1.0 - self.lambda)?;
        self.own = Some(own.add(&low_rank.to_dtype(own.dtype())?)?.add(&rotated)?);
        self.lora.begun = Some((self.lora.a.clone(), self.lora.b.clone()));
        self.boft.r = self.boft.r.mul_scalar(0.0)?;
        self.boft.s = self.boft.s.affine(0.0, 1.0)?;
        Ok(())
    }
}

impl Trainable for HybridAdapter {
    fn visit(&self, f: &mut dyn FnMut(&str, &Tensor)) {
        self.lora.visit(f);
        self.boft.visit(f);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&str, &mut Tensor)) {
        self.lora.visit_mut(f);
        self.boft.visit_mut(f);
    }
}

/// One step of training for adapters of any method: sets the λ of hybrids by the gradients (before they are clipped),
/// lets `optimise` change the parameters, weighs the changes of hybrids and stores everything in the model. Returns the λ
/// of each map that has one, for the log.
///
/// `params` may hold other parts of the model, too; they are for the caller to put back.
///
/// # Errors
/// Those of `optimise`; parameters that do not fit the model.
pub fn step(
    host: &mut dyn Host,
    params: &mut BTreeMap<String, Tensor>,
    grads: &Grads,
    number: u64,
    optimise: &mut dyn FnMut(&mut BTreeMap<String, Tensor>) -> Result<()>,
) -> Result<BTreeMap<String, f64>> {
    let mut lambdas = BTreeMap::new();
    let mut weighed: Vec<(String, f64, Tensor)> = Vec::new();
    each_hybrid(host, &mut |path, prefix, hybrid| {
        let norm = |keys: &[&str]| -> Result<f64> {
            let (mut squares, mut count) = (0.0, 0);
            for key in keys {
                let g = grads.get(&format!("{prefix}.{key}"))?;
                squares += g.mul(g)?.sum_all()?.to_scalar()?;
                count += g.len();
            }
            let divisor = if hybrid.settings.mean_square { count as f64 } else { 1.0 };
            Ok((squares / divisor).sqrt())
        };
        let norms = (norm(&["lora_A.weight", "lora_B.weight"])?, norm(&["boft_R"])?);
        hybrid.follow(norms.0, norms.1, number);
        lambdas.insert(path.to_string(), hybrid.lambda);
        if hybrid.settings.mode == Mode::StepScale {
            let weight =
                |key: &str| 2.0 * if key.starts_with("lora") { hybrid.lambda } else { 1.0 - hybrid.lambda };
            hybrid.visit(&mut |key, tensor| {
                weighed.push((format!("{prefix}.{key}"), weight(key), tensor.clone()))
            });
        }
        Ok(())
    })?;
    optimise(params)?;
    for (name, weight, before) in weighed {
        if let Some(after) = params.get_mut(&name) {
            // Steps are linear in the learning rate: this is the step with the rate multiplied.
            *after = before.add(&after.sub(&before)?.mul_scalar(weight)?)?;
        }
    }
    manage::store(host, params)?;
    let mut settled = false;
    each_hybrid(host, &mut |_, _, hybrid| {
        settled |= hybrid.own.is_some();
        hybrid.settle()
    })?;
    if settled {
        params.extend(manage::parameters(host));
    }
    Ok(lambdas)
}

/// Calls `f` with path, prefix of parameters and adapter of every enabled hybrid.
fn each_hybrid(
    host: &mut dyn Host,
    f: &mut dyn FnMut(&str, &str, &mut HybridAdapter) -> Result<()>,
) -> Result<()> {
    each(host, &mut |site| {
        let several = site.slot.entries().iter().filter(|entry| entry.enabled).count() > 1;
        for entry in site.slot.stack.iter_mut().filter(|entry| entry.enabled) {
            if let Adapter::Hybrid(hybrid) = &mut entry.adapter {
                f(site.path, &manage::prefix(site.path, &entry.name, several), hybrid)?;
            }
        }
        Ok(())
    })
}
