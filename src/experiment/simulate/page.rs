//! The report of a simulation: raster, statistics, intervals, rates, variables.

use super::config::Config;
use super::summary::Summary;
use crate::engine::clock::SpikeTrain;
use crate::experiment::annotate;
use crate::experiment::run_dir::RunDir;
use crate::report::number::{grouped, prefixed, seconds, significant};
use crate::report::{Activity, Band, Histogram, Page, Part, Plot, PopulationActivity, Series, Tile};
use crate::units::Ms;
use std::ops::Range;

/// Rows of the raster, over all populations.
const ROWS: usize = 200;
/// Least rows of a population.
const LEAST_ROWS: usize = 8;
/// Most spikes of the raster: it shows less time where there are more.
const MOST_SPIKES: usize = 20_000;
/// Most time of the raster.
const MOST_MS: f64 = 1000.0;
/// Most time of a variable.
const TRACE_MS: f64 = 300.0;
/// Most points of a curve.
const POINTS: usize = 500;
/// Bars of a histogram of intervals.
const BARS: usize = 40;

/// What the page shows of a population: kept after its spikes are not in memory any more.
pub(super) struct Shown {
    name: String,
    size: usize,
    /// Spikes of the neurons that may be shown, in the last second: step and neuron.
    recent: Vec<(u64, u32)>,
    intervals: Histogram,
}

impl Shown {
    /// Of a population's spikes in these steps.
    pub fn new(name: &str, size: usize, train: &SpikeTrain, dt: Ms, steps: Range<u64>) -> Self {
        let from = steps.end.saturating_sub((MOST_MS / dt.0).round() as u64).max(steps.start);
        let rows = ROWS.min(size);
        let recent = train
            .iter()
            .filter(|&(step, n)| (from..steps.end).contains(&step) && row(n, rows, size).is_some())
            .collect();
        Self { name: name.into(), size, recent, intervals: intervals(train, size, dt, &steps) }
    }
}

/// The row of a neuron, where it is among `rows` that stand at equal distances.
fn row(neuron: u32, rows: usize, size: usize) -> Option<u32> {
    let row = (neuron as usize * rows).div_ceil(size);
    (row < rows && row * size / rows == neuron as usize).then_some(row as u32)
}

/// Intervals between spikes of each neuron, up to four times their mean.
fn intervals(train: &SpikeTrain, size: usize, dt: Ms, steps: &Range<u64>) -> Histogram {
    let each = |take: &mut dyn FnMut(f64)| {
        let mut last = vec![None; size];
        for (step, neuron) in train.iter().filter(|(step, _)| steps.contains(step)) {
            if let Some(before) = last[neuron as usize].replace(step) {
                take((step - before) as f64 * dt.0);
            }
        }
    };
    let (mut sum, mut many) = (0.0, 0u64);
    each(&mut |interval| (sum, many) = (sum + interval, many + 1));
    if many == 0 {
        return Histogram::default();
    }
    // Whole steps in a bar, so that none gets more of them than another.
    let width = (4.0 * sum / many as f64 / BARS as f64 / dt.0).ceil().max(1.0) * dt.0;
    let mut counts = vec![0u64; BARS];
    // In the middle of the steps, so that rounding moves none into the next bar.
    each(&mut |interval| {
        if let Some(count) = counts.get_mut(((interval - 0.5 * dt.0) / width) as usize) {
            *count += 1;
        }
    });
    Histogram { low: 0.0, high: width * BARS as f64, counts }
}

/// The end of a recorded variable.
pub(super) struct Drawn<'a> {
    pub title: String,
    pub what: &'a str,
    /// Numbers of the neurons or synapses.
    pub columns: &'a [u32],
    /// Milliseconds between two rows.
    pub every_ms: f64,
    /// Number of the first row.
    pub first: usize,
    /// `[rows, columns]`
    pub values: Vec<f64>,
}

/// Weights of a plastic projection at the end.
pub(super) fn weights_plot(name: &str, weights: &[f64]) -> Plot {
    let (low, high) =
        weights.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &w| (low.min(w), high.max(w)));
    let width = ((high - low) / BARS as f64).max(f64::MIN_POSITIVE);
    let mut counts = [0u32; BARS];
    for weight in weights {
        counts[(((weight - low) / width) as usize).min(BARS - 1)] += 1;
    }
    let points = counts.iter().enumerate().map(|(i, &n)| (low + (i as f64 + 0.5) * width, n.into()));
    Plot {
        title: format!("Weights of {name} at the end"),
        x_label: "weight".into(),
        y_label: "synapses".into(),
        log_x: false,
        series: vec![Series::new(name, points)],
    }
}

/// Rows of a variable that a page shows.
pub(super) fn trace_rows(every_ms: f64) -> usize {
    (TRACE_MS / every_ms) as usize + 1
}

/// The page.
pub(super) fn page(
    config: &Config,
    run_dir: &RunDir,
    summary: &Summary,
    shown: Vec<Shown>,
    rates: &[(&str, Vec<f64>)],
    traces: &[Drawn<'_>],
    weights: Vec<Plot>,
) -> Page {
    let tile =
        |label: &str, value: String, note: &str| Tile { label: label.into(), value, note: note.into() };
    let tiles = vec![
        tile("Simulated", seconds(summary.duration_ms / 1000.0), "of the network's time"),
        tile(
            "Real-time factor",
            significant(summary.real_time_factor, 3),
            "seconds for a second; below 1 is faster than nature",
        ),
        tile("Synaptic events", prefixed(summary.synaptic_events_per_second, ""), "in a second"),
        tile("Spikes", prefixed(summary.spikes as f64, ""), "of all populations"),
        tile("Synapses", prefixed(summary.synapses as f64, ""), "in the network"),
        tile("Memory", significant(summary.bytes_per_synapse, 3), "bytes for each synapse"),
    ];
    let populations = summary
        .populations
        .iter()
        .map(|(name, p)| PopulationActivity {
            name: name.clone(),
            neurons: p.neurons,
            rate_hz: p.rate_hz,
            cv: p.cv,
            correlation: p.correlation,
            fano: p.fano,
            intervals: shown
                .iter()
                .find(|shown| &shown.name == name)
                .map_or_else(Histogram::default, |shown| shown.intervals.clone()),
        })
        .collect();
    let mut activity = raster(config, &shown);
    activity.populations = populations;
    let mut curves = vec![];
    if !rates.is_empty() {
        curves.push(rate_plot(rates, config.record.rate_bin_ms));
    }
    curves.extend(traces.iter().map(trace_plot));
    curves.extend(weights);
    let time = [("build", summary.seconds.build), ("simulate", summary.seconds.simulate)];
    Page {
        title: config.name.clone(),
        subtitle: format!(
            "{} neurons, {} synapses, steps of {} ms, seed {}",
            grouped(summary.neurons),
            grouped(summary.synapses),
            summary.step_ms,
            summary.seed
        ),
        status: "done".into(),
        tiles,
        activity: Some(activity),
        curves,
        time: time.into_iter().map(|(name, value)| Part::new(name, value)).collect(),
        peak_rss_bytes: Some(summary.memory.peak_rss_bytes),
        config: annotate::annotated(config),
        environment: vec![
            ("ransnn".into(), env!("CARGO_PKG_VERSION").into()),
            ("device".into(), summary.device.clone()),
            ("threads".into(), summary.threads.to_string()),
            ("instruction set".into(), crate::engine::Simd::best().name().into()),
            ("run directory".into(), run_dir.path().display().to_string()),
        ],
        ..Page::default()
    }
}

/// The end of the simulation, as much of it as can be told apart.
fn raster(config: &Config, shown: &[Shown]) -> Activity {
    let dt = config.simulate.step_ms;
    let end = config.simulate.duration_ms;
    let all: usize = shown.iter().map(|s| s.size).sum();
    let rows = |s: &Shown| {
        let fair = (ROWS as f64 * s.size as f64 / all.max(1) as f64).round() as usize;
        fair.max(LEAST_ROWS).min(s.size).min(ROWS)
    };
    // Those in `recent` stand at the distances of ROWS; a part of them stands at equal distances again.
    let place = |s: &Shown, neuron: u32| {
        let kept = ROWS.min(s.size);
        row(neuron, kept, s.size).and_then(|at| row(at, rows(s), kept))
    };
    let mut span = MOST_MS.min(end - config.simulate.warmup_ms);
    let visible = |span: f64, s: &Shown| -> Vec<(f64, u32)> {
        let spikes = s.recent.iter().filter_map(|&(step, n)| {
            let time = step as f64 * dt;
            let row = place(s, n)?;
            (time >= end - span && time <= end).then_some((time, row))
        });
        spikes.collect()
    };
    while shown.iter().map(|s| visible(span, s).len()).sum::<usize>() > MOST_SPIKES {
        span /= 2.0;
    }
    let band = |s: &Shown| Band {
        name: s.name.clone(),
        shown: rows(s) as u32,
        of: s.size as u64,
        spikes: visible(span, s),
    };
    Activity {
        from_ms: end - span,
        until_ms: end,
        bands: shown.iter().map(band).collect(),
        populations: vec![],
    }
}

fn rate_plot(rates: &[(&str, Vec<f64>)], bin_ms: f64) -> Plot {
    let series = rates.iter().map(|(name, rates)| {
        // Bins are put together where there are too many of them; the last one may be shorter.
        let together = rates.len().div_ceil(POINTS).max(1);
        let points = rates.chunks(together).enumerate().map(|(i, bins)| {
            let middle = (i * together) as f64 * bin_ms + bins.len() as f64 * bin_ms / 2.0;
            (middle, bins.iter().sum::<f64>() / bins.len() as f64)
        });
        Series::new(*name, points)
    });
    let series = series.collect();
    Plot {
        title: "Population rates".into(),
        x_label: "time / ms".into(),
        y_label: "rate / Hz".into(),
        log_x: false,
        series,
    }
}

/// At most six columns: more have no colours of their own.
fn trace_plot(drawn: &Drawn<'_>) -> Plot {
    let Drawn { title, what, columns, every_ms, first, values } = drawn;
    let width = columns.len().max(1);
    let rows = values.len() / width;
    let stride = rows.div_ceil(4 * POINTS).max(1);
    let series = columns.iter().enumerate().take(6).map(|(column, number)| {
        let points = (0..rows).step_by(stride);
        Series::new(
            format!("{number}"),
            points.map(|row| ((first + row) as f64 * every_ms, values[row * width + column])),
        )
    });
    Plot {
        title: title.clone(),
        x_label: "time / ms".into(),
        y_label: (*what).into(),
        log_x: false,
        series: series.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_equal_distances() {
        let rows: Vec<u32> = (0..100).filter(|&n| row(n, 7, 100).is_some()).collect();
        assert_eq!(rows, [0, 14, 28, 42, 57, 71, 85]);
        assert_eq!((0..5).filter_map(|n| row(n, 5, 5)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn intervals_fall_into_whole_steps() {
        // A neuron every 3 steps, another every 5.
        let mut all: Vec<(u64, u32)> =
            (0..20).flat_map(|k| [(3 * k, 0), (5 * k, 1)]).filter(|s| s.0 < 60).collect();
        all.sort_unstable();
        let (steps, neurons) = all.into_iter().unzip();
        let histogram = intervals(&SpikeTrain { steps, neurons }, 2, Ms(0.1), &(0..60));
        let filled: Vec<_> = histogram.counts.iter().enumerate().filter(|(_, n)| **n > 0).collect();
        // Bars are one step wide: intervals of 3 steps are in the third.
        assert_eq!(filled, [(2, &19), (4, &11)]);
        assert!((histogram.high - 4.0).abs() < 1e-12);
    }
}
