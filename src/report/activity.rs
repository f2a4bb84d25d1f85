//! What a simulated network did: a raster over all populations, their statistics, intervals between spikes.

use serde::{Deserialize, Serialize};

use super::html::{escape, table};
use super::number::{fixed, grouped, significant};
use super::page::Histogram;
use super::plot;
use crate::error::{Error, Result};

/// Activity of all populations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// Beginning of the raster in milliseconds.
    pub from_ms: f64,
    /// Its end.
    pub until_ms: f64,
    /// Populations of the raster, from below.
    pub bands: Vec<Band>,
    /// Statistics.
    pub populations: Vec<PopulationActivity>,
}

/// A population of a raster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Band {
    /// Its name.
    pub name: String,
    /// Neurons that are shown.
    pub shown: u32,
    /// Neurons that it has.
    pub of: u64,
    /// Times in milliseconds, and rows below `shown`.
    pub spikes: Vec<(f64, u32)>,
}

/// Statistics of a population.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PopulationActivity {
    /// Its name.
    pub name: String,
    /// Its size.
    pub neurons: u64,
    /// Mean rate.
    pub rate_hz: f64,
    /// Mean coefficient of variation of the intervals.
    pub cv: Option<f64>,
    /// Mean correlation of pairs.
    pub correlation: Option<f64>,
    /// Variance over mean of the population's spike count.
    pub fano: Option<f64>,
    /// Numbers of intervals by their length in milliseconds; nothing where spikes were not recorded.
    pub intervals: Histogram,
}

/// Width of the raster in pixels; the left margin is for names.
const WIDTH: f64 = 800.0;
const MARGIN: f64 = 96.0;
/// Pixels of a neuron, and between populations.
const ROW: f64 = 2.0;
const GAP: f64 = 6.0;

impl Activity {
    pub(super) fn check(&self) -> Result<()> {
        let inside = |time: f64| (self.from_ms..=self.until_ms).contains(&time);
        for band in &self.bands {
            if let Some((time, row)) = band.spikes.iter().find(|s| !inside(s.0) || s.1 >= band.shown) {
                return Err(Error::value(
                    format!("a spike in the raster of {}", band.name),
                    format!("({time} ms, {row})"),
                    format!("between {} and {} ms, below {}", self.from_ms, self.until_ms, band.shown),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn html(&self) -> Result<String> {
        let mut html = String::new();
        if self.bands.iter().any(|band| band.shown > 0) {
            let spikes: usize = self.bands.iter().map(|band| band.spikes.len()).sum();
            html += &format!(
                "<figure>{}<figcaption>{} spikes of a sample of neurons, one mark each.</figcaption></figure>\n",
                self.raster(),
                grouped(spikes as u64)
            );
        }
        html += &self.statistics();
        let drawn: Vec<_> = self.populations.iter().filter(|p| !p.intervals.counts.is_empty()).collect();
        if drawn.is_empty() {
            return Ok(html);
        }
        let mut figures = String::new();
        for population in drawn {
            let alt = format!("Histogram of intervals between spikes in {}", population.name);
            let svg = plot::histogram(&alt, "interval / ms", "intervals", &population.intervals)?;
            let name = escape(&population.name);
            figures += &format!(
                "<figure><figcaption><b>{name}</b>, intervals between spikes</figcaption>{svg}</figure>"
            );
        }
        Ok(html + &format!("<div class=\"columns narrow\">{figures}</div>\n"))
    }

    fn statistics(&self) -> String {
        if self.populations.is_empty() {
            return String::new();
        }
        let number = |value: Option<f64>, decimals| value.map_or("–".into(), |v| fixed(v, decimals));
        let rows: Vec<_> = self
            .populations
            .iter()
            .map(|p| {
                vec![
                    p.name.clone(),
                    grouped(p.neurons),
                    significant(p.rate_hz, 4),
                    number(p.cv, 3),
                    number(p.correlation, 4),
                    number(p.fano, 2),
                ]
            })
            .collect();
        let head = ["Population", "Neurons", "Rate (Hz)", "CV of intervals", "Correlation", "Fano factor"];
        table("results", "Statistics of each population", &head, &rows, &[])
    }

    fn raster(&self) -> String {
        let span = (self.until_ms - self.from_ms).max(f64::MIN_POSITIVE);
        let bands: Vec<&Band> = self.bands.iter().filter(|band| band.shown > 0).collect();
        let height = |band: &Band| f64::from(band.shown) * ROW;
        let field: f64 = bands.iter().map(|band| height(band) + GAP).sum::<f64>() + GAP;
        let mut marks = String::new();
        // From below: the first population stands at the bottom.
        let mut bottom = field - GAP;
        for (i, band) in bands.iter().enumerate() {
            let path: String = band
                .spikes
                .iter()
                .map(|(time, row)| {
                    let x = (time - self.from_ms) / span * WIDTH;
                    let y = bottom - (f64::from(*row) + 1.0) * ROW;
                    format!("M{x:.1} {y:.0}h1.2v1.8h-1.2z")
                })
                .collect();
            let middle = bottom - height(band) / 2.0 + 4.0;
            marks += &format!(
                "<path style=\"fill:var(--c{})\" d=\"{path}\"/><text x=\"-6\" y=\"{middle:.0}\" \
                 text-anchor=\"end\">{}</text>",
                i % 6 + 1,
                escape(&short(&band.name))
            );
            bottom -= height(band) + GAP;
        }
        let ticks: String = (0..=4)
            .map(|i| {
                let share = f64::from(i) / 4.0;
                let anchor = ["start", "middle", "middle", "middle", "end"][i as usize];
                format!(
                    "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\">{}</text>",
                    share * WIDTH,
                    field + 16.0,
                    ((self.from_ms + share * span) * 10.0).round() / 10.0
                )
            })
            .collect();
        format!(
            "<svg class=\"raster bands\" role=\"img\" aria-label=\"Spike raster of {} populations\" viewBox=\"0 0 \
             {:.0} {:.0}\"><g transform=\"translate({MARGIN} 1)\"><rect class=\"field\" x=\"0\" y=\"0\" \
             width=\"{WIDTH}\" height=\"{field:.0}\"/>{marks}{ticks}<text x=\"{:.0}\" y=\"{:.0}\" \
             text-anchor=\"middle\">time / ms</text></g></svg>",
            bands.len(),
            MARGIN + WIDTH + 2.0,
            field + 40.0,
            WIDTH / 2.0,
            field + 34.0,
        )
    }
}

/// A name that fits into the margin.
fn short(name: &str) -> String {
    match name.char_indices().nth(14) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity {
        let band = Band { name: "exc<".into(), shown: 3, of: 100, spikes: vec![(10.0, 0), (20.0, 2)] };
        let intervals = Histogram { low: 0.0, high: 10.0, counts: vec![1, 2] };
        let one = PopulationActivity { name: "exc<".into(), cv: Some(0.5), intervals, ..Default::default() };
        Activity { from_ms: 10.0, until_ms: 20.0, bands: vec![band], populations: vec![one] }
    }

    #[test]
    fn every_spike_is_a_mark() -> Result<()> {
        let html = activity().html()?;
        assert_eq!(html.matches("h1.2v1.8").count(), 2);
        assert!(html.contains("exc&lt;") && !html.contains("exc<"), "{html}");
        assert!(html.contains("0.500") && html.contains("interval / ms"), "{html}");
        Ok(())
    }

    #[test]
    fn spikes_outside_are_refused() {
        let mut late = activity();
        late.bands[0].spikes.push((20.1, 0));
        let mut high = activity();
        high.bands[0].spikes.push((15.0, 3));
        assert!(activity().check().is_ok() && late.check().is_err() && high.check().is_err());
    }
}
