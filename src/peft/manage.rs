//! What is done to all adapters of a model at once: attach, detach, enable, merge, train.

use std::collections::BTreeMap;

use super::{Entry, Host, Kind, Method, Site, Targets};
use crate::rng::Stream;
use crate::tensor::{Tensor, Trainable};
use crate::{Error, Result};

/// What [`attach`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Maps that got an adapter.
    pub modules: usize,
    /// Numbers that are trained.
    pub trained: usize,
    /// Numbers of all maps of the model, which stay as they are.
    pub frozen: usize,
}

/// Calls `f` for every site until one fails.
pub(super) fn each(host: &mut dyn Host, f: &mut dyn FnMut(Site<'_>) -> Result<()>) -> Result<()> {
    let mut result = Ok(());
    host.visit_sites(&mut |site| {
        if result.is_ok() {
            result = f(site);
        }
    });
    result
}

/// Puts an adapter named `name` on every map that is meant. Random numbers depend on the seed and the paths alone.
///
/// # Errors
/// No map is meant, settings that do not fit one, or a name that is taken. Nothing is attached then.
pub fn attach(
    host: &mut dyn Host,
    method: &Method,
    targets: &Targets,
    name: &str,
    seed: u64,
) -> Result<Report> {
    attach_with(host, targets, name, &mut |site| {
        method.adapter(site.path, site.weight, None, site.kind, seed)
    })
}

/// [`attach`] with the adapter of each map made by the caller.
pub(super) fn attach_with(
    host: &mut dyn Host,
    targets: &Targets,
    name: &str,
    make: &mut dyn FnMut(&Site<'_>) -> Result<super::Adapter>,
) -> Result<Report> {
    let matcher = targets.matcher()?;
    let mut report = Report::default();
    // A name that is taken fails at the first map; what was there before must not be taken off then.
    let mut done = Vec::new();
    let attached = each(host, &mut |site| {
        report.frozen += site.weight.len() + site.bias.as_ref().map_or(0, |bias| bias.len());
        if !matcher.matches(site.path, site.kind) {
            return Ok(());
        }
        let adapter = make(&site)?;
        adapter.visit(&mut |_, tensor| report.trained += tensor.len());
        site.slot.push(Entry { name: name.into(), adapter, bias: None, enabled: true })?;
        report.modules += 1;
        done.push(site.path.to_string());
        Ok(())
    });
    match (attached, report.modules) {
        (Ok(()), 0) => Err(no_target(host, targets)),
        (Ok(()), _) => Ok(report),
        (Err(error), _) => {
            undo(host, name, &done);
            Err(error)
        }
    }
}

/// Takes off what was attached to some paths.
fn undo(host: &mut dyn Host, name: &str, paths: &[String]) {
    host.visit_sites(&mut |site| {
        if paths.iter().any(|path| path == site.path) {
            site.slot.stack.retain(|entry| entry.name != name);
        }
    });
}

fn no_target(host: &mut dyn Host, targets: &Targets) -> Error {
    let mut names = Vec::new();
    host.visit_sites(&mut |site| {
        let last = site.path.rsplit('.').next().unwrap_or(site.path).to_string();
        if !names.contains(&last) {
            names.push(last);
        }
    });
    names.truncate(20);
    Error::value(
        "the target of an adapter",
        targets.describe(),
        format!("one of the model's maps: {}", names.join(", ")),
    )
}

/// Takes the adapters of a name off again: the model is as it was. Returns how many there were.
///
/// # Errors
/// Adapters are merged into the weights.
pub fn detach(host: &mut dyn Host, name: &str) -> Result<usize> {
    let mut count = 0;
    each(host, &mut |site| {
        if site.slot.merged.is_some() {
            return Err(merged_already());
        }
        let before = site.slot.stack.len();
        site.slot.stack.retain(|entry| entry.name != name);
        count += before - site.slot.stack.len();
        Ok(())
    })?;
    Ok(count)
}

/// Switches the adapters of a name on or off. Returns how many there are.
///
/// # Errors
/// Adapters are merged into the weights.
pub fn enable(host: &mut dyn Host, name: &str, enabled: bool) -> Result<usize> {
    let mut count = 0;
    each(host, &mut |site| {
        if site.slot.merged.is_some() {
            return Err(merged_already());
        }
        if let Some(entry) = site.slot.get_mut(name) {
            entry.enabled = enabled;
            count += 1;
        }
        Ok(())
    })?;
    Ok(count)
}

fn merged_already() -> Error {
    Error::value("the state of the adapters", "merged", "unmerged first")
}

/// Computes the enabled adapters into the weights, which then cost nothing any more. The old weights are kept, so that
/// [`unmerge`] gives back every bit; [`merge_and_unload`] does not keep them. Returns how many weights changed.
///
/// # Errors
/// A weight that would hold NaN or infinity: nothing is merged then.
pub fn merge(host: &mut dyn Host) -> Result<usize> {
    // All weights first: a failure in the middle must not leave half of them.
    let mut weights = Vec::new();
    each(host, &mut |site| {
        if !site.slot.is_active() {
            weights.push(None);
            return Ok(());
        }
        let (weight, finite) = site.slot.merged_and_finite(site.weight)?;
        if !finite {
            return Err(Error::value(
                format!("the merged weight of `{}`", site.path),
                "NaN or infinite",
                "finite",
            ));
        }
        weights.push(Some(weight));
        Ok(())
    })?;
    let mut weights = weights.into_iter();
    let mut count = 0;
    host.visit_sites(&mut |site| {
        let Some(weight) = weights.next().flatten() else { return };
        let old = std::mem::replace(site.weight, weight);
        let trained = site.slot.stack.iter().rev().filter(|e| e.enabled).find_map(|e| e.bias.clone());
        let mut old_bias = None;
        if let (Some(bias), Some(trained)) = (site.bias, trained) {
            old_bias = Some(std::mem::replace(bias, trained));
        }
        site.slot.merged = Some((old, old_bias));
        count += 1;
    });
    Ok(count)
}

/// [`merge`]s and takes the adapters off: what is left is a plain model. Returns how many weights changed.
///
/// # Errors
/// As [`merge`].
pub fn merge_and_unload(host: &mut dyn Host) -> Result<usize> {
    let count = merge(host)?;
    host.visit_sites(&mut |site| {
        site.slot.merged = None;
        site.slot.stack.clear();
    });
    Ok(count)
}

/// Undoes [`merge`] bit for bit. Returns how many weights changed.
pub fn unmerge(host: &mut dyn Host) -> usize {
    let mut count = 0;
    host.visit_sites(&mut |site| {
        let Some((weight, bias)) = site.slot.merged.take() else { return };
        *site.weight = weight;
        if let (Some(to), Some(bias)) = (site.bias, bias) {
            *to = bias;
        }
        count += 1;
    });
    count
}

/// The trained tensors of all enabled adapters, under `<path of the map>.<name in the file>`; what
/// [`grad`](crate::tensor::grad) and optimisers take. Give them back with [`store`] after a step.
///
/// The tensors are those that the slots compute with: gradients reach them through the model.
pub fn parameters(host: &mut dyn Host) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    host.visit_sites(&mut |site| {
        let several = site.slot.stack.iter().filter(|entry| entry.enabled).count() > 1;
        for entry in site.slot.stack.iter().filter(|entry| entry.enabled) {
            let prefix = prefix(site.path, &entry.name, several);
            entry.adapter.visit(&mut |key, tensor| {
                all.insert(format!("{prefix}.{key}"), tensor.clone());
            });
            entry.bias.iter().for_each(|bias| {
                all.insert(format!("{prefix}.{}", entry.adapter.bias_key()), bias.clone());
            });
        }
    });
    all
}

/// Where several adapters are enabled on a map, their names tell them apart.
pub(super) fn prefix(path: &str, name: &str, several: bool) -> String {
    if several { format!("{path}.{name}") } else { path.into() }
}

/// Puts tensors that [`parameters`] lent back into the adapters. Names of other parts of a model are passed over.
///
/// # Errors
/// A tensor is missing or has another shape.
pub fn store(host: &mut dyn Host, params: &BTreeMap<String, Tensor>) -> Result<()> {
    each(host, &mut |site| {
        let several = site.slot.stack.iter().filter(|entry| entry.enabled).count() > 1;
        for entry in site.slot.stack.iter_mut().filter(|entry| entry.enabled) {
            let prefix = prefix(site.path, &entry.name, several);
            let mut result = Ok(());
            let mut put = |key: &str, tensor: &mut Tensor| {
                let name = format!("{prefix}.{key}");
                match params.get(&name) {
                    Some(new) if new.meta() == tensor.meta() => *tensor = new.clone(),
                    Some(new) => {
                        let want = format!("{:?}, as it is", tensor.shape());
                        result = Err(Error::value(
                            format!("the shape of `{name}`"),
                            format!("{:?}", new.shape()),
                            want,
                        ));
                    }
                    None => {
                        result = Err(Error::value("the parameters", format!("without `{name}`"), "complete"))
                    }
                }
            };
            entry.adapter.visit_mut(&mut put);
            let key = entry.adapter.bias_key();
            entry.bias.iter_mut().for_each(|bias| put(key, bias));
            result?;
        }
        Ok(())
    })
}

/// Switches dropout on: before each training step, with its number. Which inputs are dropped depends on the seed, the
/// path and the step.
pub fn train(host: &mut dyn Host, seed: u64, step: u64) {
    host.visit_sites(&mut |site| {
        site.slot.dropout = Some((Stream::named(seed, &format!("peft/{}/dropout", site.path)), step));
    });
}

/// Switches dropout off.
pub fn evaluate(host: &mut dyn Host) {
    host.visit_sites(&mut |site| site.slot.dropout = None);
}

/// Paths, kinds and shapes of all maps of a model.
pub fn sites(host: &mut dyn Host) -> Vec<(String, Kind, Vec<usize>)> {
    let mut all = Vec::new();
    host.visit_sites(&mut |site| all.push((site.path.to_string(), site.kind, site.weight.shape().to_vec())));
    all
}
