//! Collects what the report of a run shows.

use super::annotate;
use super::config::{Config, Train};
use super::run_dir::RunDir;
use super::summary::Summary;
use super::train::Outcome;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::report::{Confusion, Energy, FileRecord, Page, Parameters, Part, Run};

/// The page of a run.
pub(super) fn page(
    config: &Config,
    data: &Dataset,
    summary: &Summary,
    outcomes: &[Outcome],
    run: &RunDir,
) -> Result<Page> {
    let shown = &outcomes[0].shown;
    let runs = summary.seeds.iter().map(|seed| Run {
        seed: seed.seed,
        train_accuracy: seed.train_accuracy,
        test_accuracy: seed.test_accuracy,
        spikes_per_sample: seed.spikes_per_sample,
        seconds: seed.seconds.total,
    });
    let mut confusion = vec![0u64; data.classes * data.classes];
    for outcome in outcomes {
        confusion.iter_mut().zip(&outcome.confusion).for_each(|(sum, n)| *sum += n);
    }
    let seconds = &summary.seconds;
    let time = [
        ("data", seconds.data),
        ("frozen layers", seconds.features),
        (if matches!(config.train, Train::Ransnn { .. }) { "readout" } else { "training" }, seconds.fit),
        ("test", seconds.test),
    ];
    let env: serde_json::Value = serde_json::from_slice(
        &std::fs::read(run.file("env.json")).map_err(Error::io("read", run.file("env.json")))?,
    )
    .map_err(|e| Error::data(run.file("env.json"), e.to_string()))?;
    let environment =
        env.as_object().into_iter().flatten().map(|(key, value)| {
            (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_string))
        });
    Ok(Page {
        activity: None,
        tables: vec![],
        title: config.name.clone(),
        subtitle: shown.subtitle.clone(),
        status: "done".into(),
        dataset: data.name.clone(),
        notices: summary
            .fallback
            .iter()
            .map(|reason| {
                format!(
                    "These results are on the built-in `strokes` digits, not on what was asked for. {reason}"
                )
            })
            .chain(summary.notices.iter().cloned())
            .collect(),
        runs: runs.collect(),
        parameters: Some(Parameters {
            trained: summary.parameters.trained as u64,
            frozen: summary.parameters.frozen as u64,
        }),
        tiles: shown.tiles.clone(),
        curves: shown.curves.clone(),
        pictures: shown.pictures.clone(),
        details: summary.details.clone(),
        confusion: Some(Confusion {
            classes: (0..data.classes).map(|class| data.class_name(class)).collect(),
            counts: confusion,
        }),
        examples: shown.examples.clone(),
        layers: shown.layers.clone(),
        time: time.iter().filter(|(_, s)| *s > 0.0).map(|(name, s)| Part::new(*name, *s)).collect(),
        memory: shown.memory.clone(),
        peak_rss_bytes: Some(summary.memory.peak_rss_bytes).filter(|&bytes| bytes > 0),
        energy: Some(Energy {
            synaptic_operations_per_sample: summary.synaptic_operations.per_sample,
            dense_macs_per_sample: Some(summary.analogue_operations.per_sample as u64).filter(|&n| n > 0),
            measured: None,
        }),
        files: data
            .origin
            .files
            .iter()
            .map(|file| FileRecord {
                name: file.name.clone(),
                bytes: file.bytes,
                sha256: file.sha256.clone(),
            })
            .collect(),
        config: annotate::annotated(config),
        environment: environment.collect(),
    })
}
