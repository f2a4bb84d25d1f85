//! Plots as SVG text: for the report, for sweeps ("accuracy against β") and for the documentation.
//!
//! Series differ in colour *and* marker and are named at their ends. Colours follow a dark screen by rules of
//! CSS; a plot on its own carries them along.

use std::fmt::Display;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::{Deserialize, Serialize};

use super::html::{clean, escape};
use super::number::{fixed, significant, superscript};
use super::page::{Histogram, float};
use crate::error::{Error, Result};

/// A set of curves over common axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plot {
    /// Heading or caption.
    pub title: String,
    /// What is to the right, with its unit.
    pub x_label: String,
    /// What is upwards, with its unit.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// The curves.
    pub series: Vec<Series>,
}

/// A named curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Its name, written at its end where there are several.
    pub name: String,
    /// Its points, from left to right. A point that is not finite leaves a gap.
    pub points: Vec<Point>,
}

impl Series {
    /// A curve through pairs of numbers.
    ///
    /// ```
    /// let curve = ransnn::report::Series::new("test", [(1.0, 0.91), (2.0, 0.95)]);
    /// assert_eq!(curve.points.len(), 2);
    /// ```
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().map(|(x, y)| Point { x, y, spread: 0.0 }).collect(),
        }
    }
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Horizontal.
    #[serde(with = "float")]
    pub x: f64,
    /// Vertical.
    #[serde(with = "float")]
    pub y: f64,
    /// Half the height of the error bar, for example a standard deviation; 0 for none.
    #[serde(with = "float")]
    pub spread: f64,
}

/// Draws curves as a self-contained SVG document.
///
/// ```
/// use ransnn::report::{Series, line_plot};
///
/// let accuracy = Series::new("test", [(0.8, 92.1), (0.9, 93.9), (0.95, 94.4)]);
/// let svg = line_plot("Accuracy against leak", "β", "accuracy (%)", &[accuracy], false)?;
/// assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
/// # Ok::<(), ransnn::Error>(())
/// ```
///
/// # Errors
/// None that a caller can cause: whatever cannot be drawn is left out.
pub fn line_plot(
    title: &str,
    x_label: &str,
    y_label: &str,
    series: &[Series],
    log_x: bool,
) -> Result<String> {
    Plot {
        title: title.into(),
        x_label: x_label.into(),
        y_label: y_label.into(),
        log_x,
        series: series.to_vec(),
    }
    .svg()
}

impl Plot {
    /// A self-contained SVG document, 720 × 420 pixels.
    ///
    /// # Errors
    /// See [`line_plot`].
    pub fn svg(&self) -> Result<String> {
        self.draw((720, 420), true)
    }

    /// Points that have no place on the axes: not finite, or not positive on a logarithmic axis.
    pub(super) fn left_out(&self) -> usize {
        self.series.iter().flat_map(|s| &s.points).filter(|p| !self.drawable(p)).count()
    }

    fn drawable(&self, p: &Point) -> bool {
        // Beyond 1e100 differences of coordinates overflow.
        p.x.abs() <= 1e100 && p.y.abs() <= 1e100 && (!self.log_x || p.x > 0.0)
    }

    pub(super) fn draw(&self, size: (u32, u32), standalone: bool) -> Result<String> {
        let place = |p: &Point| if self.log_x { p.x.log10() } else { p.x };
        let spread = |p: &Point| if p.spread > 0.0 && p.spread <= 1e100 { p.spread } else { 0.0 };
        let points = || self.series.iter().flat_map(|s| &s.points).filter(|p| self.drawable(p));
        let x = Axis::new(points().map(place), 0.02, self.log_x, size.0 / 80);
        let y =
            Axis::new(points().flat_map(|p| [p.y - spread(p), p.y + spread(p)]), 0.06, false, size.1 / 42);
        let empty = points().next().is_none();
        let named = self.series.len() > 1;
        let name_width =
            self.series.iter().map(|s| shorten(&s.name).chars().count()).max().unwrap_or(0) as i32 * 7;
        let frame = Frame {
            title: &self.title,
            x_label: &self.x_label,
            y_label: &self.y_label,
            size,
            right: if named { name_width + 30 } else { 14 },
            standalone,
        };
        frame.draw(&x, &y, |area, at| {
            if empty {
                let style = text(13, &QUIET).pos(Pos::new(HPos::Center, VPos::Center));
                return area.draw(&Text::new(
                    "no data",
                    at((x.low + x.high) / 2.0, (y.low + y.high) / 2.0),
                    style,
                ));
            }
            let mut names = Vec::new();
            for (index, series) in self.series.iter().enumerate() {
                let stroke = SERIES[index % SERIES.len()].stroke_width(2 * SCALE as u32);
                for run in series.points.split(|p| !self.drawable(p)).filter(|run| run.len() > 1) {
                    area.draw(&PathElement::new(
                        run.iter().map(|p| at(place(p), p.y)).collect::<Vec<_>>(),
                        stroke,
                    ))?;
                }
                let marked = series.points.len().div_ceil(25).max(1);
                for (i, p) in series.points.iter().enumerate().filter(|(_, p)| self.drawable(p)) {
                    let (left, top) = at(place(p), p.y);
                    let spread = spread(p);
                    if spread > 0.0 {
                        let (low, high) = (at(place(p), p.y - spread).1, at(place(p), p.y + spread).1);
                        let cap = 4 * SCALE;
                        let thin = SERIES[index % SERIES.len()].stroke_width(SCALE as u32);
                        for bar in [
                            [(left, low), (left, high)],
                            [(left - cap, low), (left + cap, low)],
                            [(left - cap, high), (left + cap, high)],
                        ] {
                            area.draw(&PathElement::new(bar, thin))?;
                        }
                    }
                    let alone = |q: Option<&Point>| q.is_none_or(|q| !self.drawable(q));
                    let isolated = alone(i.checked_sub(1).and_then(|i| series.points.get(i)))
                        && alone(series.points.get(i + 1));
                    if i % marked == 0 || isolated || spread > 0.0 {
                        marker(area, index, (left, top))?;
                    }
                }
                if let Some(last) = series.points.iter().rev().find(|p| self.drawable(p)) {
                    names.push((at(place(last), last.y).1, index));
                }
            }
            if named {
                let left = at(x.high, y.low).0 + 10 * SCALE;
                let (top, bottom) = (at(x.high, y.high).1, at(x.high, y.low).1);
                names.sort_unstable();
                for (top, index) in spaced(names, 17 * SCALE, top, bottom) {
                    marker(area, index, (left, top))?;
                    let style = text(12, &INK).pos(Pos::new(HPos::Left, VPos::Center));
                    area.draw(&Text::new(shorten(&self.series[index].name), (left + 9 * SCALE, top), style))?;
                }
            }
            Ok(())
        })
    }
}

/// Draws a histogram of neurons over their rates, for the report.
pub(super) fn histogram(title: &str, x_label: &str, y_label: &str, of: &Histogram) -> Result<String> {
    let size = (300, 190);
    let valid = of.low.abs() <= 1e100 && of.high.abs() <= 1e100 && of.low < of.high && !of.counts.is_empty();
    let (low, high) = if valid { (of.low, of.high) } else { (0.0, 1.0) };
    let x = Axis::new([low, high].into_iter(), 0.0, false, 4);
    let top = of.counts.iter().max().copied().unwrap_or(0).max(1) as f64;
    let y = Axis { low: 0.0, ..Axis::new([0.0, top].into_iter(), 0.05, false, 5) };
    let frame = Frame { title, x_label, y_label, size, right: 12, standalone: false };
    frame.draw(&x, &y, |area, at| {
        let width = (high - low) / of.counts.len().max(1) as f64;
        for (i, &count) in of.counts.iter().enumerate().filter(|(_, count)| valid && **count > 0) {
            let left = at(low + i as f64 * width, count as f64);
            let right = at(low + (i + 1) as f64 * width, 0.0);
            // A rare neuron is still to be seen, and bars do not touch.
            let bar = [(left.0 + SCALE / 2, left.1.min(right.1 - 2 * SCALE)), (right.0 - SCALE / 2, right.1)];
            area.draw(&Rectangle::new(bar, SERIES[0].filled()))?;
        }
        Ok(())
    })
}

/// Units of the drawing per pixel of the page: plotters draws on whole numbers, so the lattice is made finer.
const SCALE: i32 = 4;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const QUIET: RGBColor = RGBColor(0x5c, 0x65, 0x6e);
const GRID: RGBColor = RGBColor(0xe4, 0xe6, 0xe9);
const AXIS: RGBColor = RGBColor(0x9a, 0xa1, 0xa9);
const SERIES: [RGBColor; 6] = [
    RGBColor(0x24, 0x66, 0xa8),
    RGBColor(0xc4, 0x55, 0x1a),
    RGBColor(0x2b, 0x7d, 0x5a),
    RGBColor(0x7c, 0x56, 0xa8),
    RGBColor(0x96, 0x70, 0x00),
    RGBColor(0x4f, 0x5b, 0x66),
];

/// The colours again as they are on a dark screen, in the order ink, quiet, grid, axis, series.
const DARK: [&str; 10] = [
    "#e6e8ea", "#9da5ae", "#2c3137", "#69717a", "#7ab2e8", "#f0946a", "#6cc49f", "#bda2e4", "#d8b448",
    "#aeb8c2",
];

fn hex(c: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", c.0, c.1, c.2)
}

/// Rules of CSS that turn plots dark on a dark screen: attributes give way to them, so that programs which know
/// no CSS still show the light colours.
pub(super) fn style() -> String {
    let light = [INK, QUIET, GRID, AXIS].into_iter().chain(SERIES);
    let rules: String = light
        .zip(DARK)
        .map(|(light, dark)| {
            let light = hex(light);
            format!(
                "svg.plot [fill=\"{light}\"]{{fill:{dark}}}svg.plot [stroke=\"{light}\"]{{stroke:{dark}}}"
            )
        })
        .collect();
    format!(
        "svg.plot text{{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}}\
         @media screen and (prefers-color-scheme:dark){{{rules}}}"
    )
}

/// The series colours for the rest of the page: (light, dark).
pub(super) fn colours() -> impl Iterator<Item = (String, &'static str)> {
    SERIES.into_iter().map(hex).zip(DARK.into_iter().skip(4))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn text<'a>(pixels: i32, color: &'a RGBColor) -> TextStyle<'a> {
    // The SVG backend divides by 1.24.
    TextStyle::from(("sans-serif", f64::from(pixels * SCALE) * 1.24).into_font()).color(color)
}

fn marker(area: &Area<'_>, index: usize, at: (i32, i32)) -> Drawn {
    let color = SERIES[index % SERIES.len()];
    let r = 4 * SCALE;
    match index % 5 {
        0 => area.draw(&Circle::new(at, r - 2, color.filled())),
        1 => {
            let r = r * 7 / 8;
            area.draw(&Rectangle::new([(at.0 - r, at.1 - r), (at.0 + r, at.1 + r)], color.filled()))
        }
        2 => area.draw(&TriangleMarker::new(at, r * 5 / 4, color.filled())),
        3 => area.draw(&Cross::new(at, r, color.stroke_width(2 * SCALE as u32))),
        _ => area.draw(&Circle::new(at, r, color.stroke_width(2 * SCALE as u32))),
    }
}

fn shorten(name: &str) -> String {
    let name = clean(name);
    if name.chars().count() <= 24 { name } else { name.chars().take(23).chain(['…']).collect() }
}

/// Moves labels (sorted by height) apart, at least `gap`, and keeps them between `top` and `bottom` where they fit.
fn spaced(mut labels: Vec<(i32, usize)>, gap: i32, top: i32, bottom: i32) -> Vec<(i32, usize)> {
    let mut least = top;
    for label in &mut labels {
        label.0 = label.0.max(least);
        least = label.0 + gap;
    }
    let mut most = bottom;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(most).max(0);
        most = label.0 - gap;
    }
    labels
}

/// Range and ticks of an axis, as plotters wants them. On a logarithmic one everything is in powers of ten.
#[derive(Clone)]
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    labels: Vec<String>,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, margin: f64, log: bool, wanted: u32) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high) = if high - low <= 1e-9 * low.abs().max(high.abs()) {
            // One value only: room around it.
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.05 };
            (low - room, high + room)
        } else {
            (low - (high - low) * margin, high + (high - low) * margin)
        };
        let (ticks, labels) = if log { powers(low, high) } else { steps(low, high, wanted) };
        Self { low, high, ticks, labels }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + ((value - self.low) / (self.high - self.low) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(tick: &f64) -> String {
        tick.to_string()
    }

    fn format_ext(&self, tick: &f64) -> String {
        self.ticks.iter().position(|t| t == tick).map(|i| self.labels[i].clone()).unwrap_or_default()
    }
}

/// Round ticks, and their labels with equal decimals.
fn steps(low: f64, high: f64, wanted: u32) -> (Vec<f64>, Vec<String>) {
    let rough = (high - low) / f64::from(wanted.max(2));
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(power * 10.0);
    let first = (low / step).ceil();
    let count = ((high / step).floor() - first).clamp(0.0, 50.0) as u32;
    let ticks: Vec<f64> = (0..=count).map(|i| (first + f64::from(i)) * step).collect();
    let largest = low.abs().max(high.abs());
    let decimals = (-(step * 1.0001).log10().floor()).max(0.0);
    let label = |t: &f64| {
        if largest >= 1e7 || decimals > 5.0 {
            if t.abs() < step / 2.0 { "0".into() } else { significant(*t, 2) }
        } else {
            fixed(*t, decimals as usize)
        }
    };
    let labels = ticks.iter().map(label).collect();
    (ticks, labels)
}

/// Ticks of a logarithmic axis: whole decades, or 1, 2, 5 of each where there are few.
fn powers(low: f64, high: f64) -> (Vec<f64>, Vec<String>) {
    let (first, last) = (low.floor() as i32, high.ceil() as i32);
    let every = ((last - first) / 8 + 1).max(1) as usize;
    let factors: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let marks: Vec<(f64, i32)> = (first..=last)
        .step_by(every)
        .flat_map(|power| factors.iter().map(move |f| (*f, power)))
        .filter(|(f, power)| (low..=high).contains(&(f.log10() + f64::from(*power))))
        .collect();
    if marks.len() < 2 {
        let (ticks, labels) = steps(10f64.powf(low), 10f64.powf(high), 4);
        return ticks
            .into_iter()
            .zip(labels)
            .filter(|t| t.0 > 0.0)
            .map(|(t, label)| (t.log10(), label))
            .unzip();
    }
    let plain = marks.iter().all(|(_, power)| (-3..5).contains(power));
    marks
        .into_iter()
        .map(|(f, power)| {
            let label = match (plain, f == 1.0) {
                (true, _) => fixed(f * 10f64.powi(power), (-power).max(0) as usize),
                (false, true) => format!("10{}", superscript(power)),
                (false, false) => format!("{f} × 10{}", superscript(power)),
            };
            (f.log10() + f64::from(power), label)
        })
        .unzip()
}

/// What surrounds the curves. Sizes in pixels.
struct Frame<'a> {
    title: &'a str,
    x_label: &'a str,
    y_label: &'a str,
    size: (u32, u32),
    right: i32,
    standalone: bool,
}

impl Frame<'_> {
    /// Draws axes and grid, then calls `paint` with the area and the map from values to its coordinates.
    fn draw(
        &self,
        x: &Axis,
        y: &Axis,
        paint: impl FnOnce(&Area<'_>, &dyn Fn(f64, f64) -> (i32, i32)) -> Drawn,
    ) -> Result<String> {
        let (width, height) = (self.size.0 * SCALE as u32, self.size.1 * SCALE as u32);
        let mut drawing = String::new();
        {
            let area = SVGBackend::with_string(&mut drawing, (width, height)).into_drawing_area();
            let broken = |e: &dyn Display| Error::Internal(format!("plot `{}`: {e}", self.title));
            let y_width = y.labels.iter().map(|l| l.chars().count()).max().unwrap_or(1) as i32 * 7 + 34;
            let mut chart = ChartBuilder::on(&area)
                .margin_top(if self.standalone { 40 * SCALE } else { 10 * SCALE })
                .margin_right(self.right * SCALE)
                .margin_bottom(4 * SCALE)
                .margin_left(if self.standalone { 12 * SCALE } else { 0 })
                .x_label_area_size(44 * SCALE)
                .y_label_area_size(y_width * SCALE)
                .build_cartesian_2d(x.clone(), y.clone())
                .map_err(|e| broken(&e))?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .bold_line_style(GRID.stroke_width(SCALE as u32))
                .light_line_style(TRANSPARENT)
                .axis_style(AXIS.stroke_width(SCALE as u32))
                .set_all_tick_mark_size(4 * SCALE)
                .label_style(text(12, &QUIET))
                .axis_desc_style(text(12, &INK))
                .x_desc(clean(self.x_label))
                .y_desc(clean(self.y_label))
                .draw()
                .map_err(|e| broken(&e))?;
            let plane = chart.plotting_area();
            paint(&area, &|x, y| plane.map_coordinate(&(x, y))).map_err(|e| broken(&e))?;
            if self.standalone {
                let style = text(15, &INK).pos(Pos::new(HPos::Left, VPos::Top));
                area.draw(&Text::new(clean(self.title), (12 * SCALE, 12 * SCALE), style))
                    .map_err(|e| broken(&e))?;
            }
            area.present().map_err(|e| broken(&e))?;
        }
        // plotters' own opening tag knows no names; ours says what is to be seen.
        let body = drawing.split_once('\n').map_or("", |(_, body)| body);
        let sizes = if self.standalone {
            format!("width=\"{}\" height=\"{}\" ", self.size.0, self.size.1)
        } else {
            String::new()
        };
        let style = if self.standalone { format!("<style>{}</style>\n", style()) } else { String::new() };
        let title = escape(self.title);
        Ok(format!(
            "<svg class=\"plot\" role=\"img\" aria-label=\"{title}\" {sizes}viewBox=\"0 0 {width} {height}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n<title>{title}</title>\n{style}{body}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.labels.iter().map(String::as_str).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            ticks(&Axis::new([0.0, 10.0].into_iter(), 0.0, false, 5)),
            ["0", "2", "4", "6", "8", "10"]
        );
        assert_eq!(
            ticks(&Axis::new([0.913, 0.987].into_iter(), 0.0, false, 4)),
            ["0.92", "0.94", "0.96", "0.98"]
        );
        let log = Axis::new([-6.0, 2.0].into_iter(), 0.0, true, 5);
        assert_eq!(ticks(&log).first(), Some(&"10⁻⁶"));
        assert_eq!(ticks(&Axis::new([2.0, 3.5].into_iter(), 0.0, true, 5)).len(), 5, "100 200 500 1000 2000");
        assert!(ticks(&Axis::new([0.1, 0.11].into_iter(), 0.0, true, 5)).len() >= 2);
    }

    #[test]
    fn curves_and_markers() {
        let curves = [
            Series::new("train", [(1.0, 0.5), (2.0, 0.7)]),
            Series::new("test <b>", [(1.0, 0.4), (2.0, 0.6)]),
        ];
        let svg = line_plot("a & b", "epoch", "accuracy", &curves, false).unwrap();
        let curves = svg.matches("#2466A8").count();
        assert!(curves > 3, "line, markers, key");
        assert!(svg.contains("a &amp; b") && svg.contains("test &lt;b&gt;") && !svg.contains("<b>"));
        assert!(svg.contains("prefers-color-scheme:dark"));
        for label in ["epoch", "accuracy", "train", "0.70"] {
            assert!(svg.contains(label), "{label}");
        }
    }

    #[test]
    fn odd_values_are_left_out() {
        let points =
            [(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (0.0, 1.0), (4.0, f64::INFINITY), (5.0, 1e300)];
        let mut plot = Plot { series: vec![Series::new("s", points)], ..Plot::default() };
        assert_eq!(plot.left_out(), 3);
        plot.log_x = true;
        assert_eq!(plot.left_out(), 4);
        let svg = plot.svg().unwrap();
        assert!(svg.contains("<circle"), "single points stand as markers");
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn degenerate_plots() {
        for series in [
            vec![],
            vec![Series::new("none", [])],
            vec![Series::new("one", [(0.0, 0.0)])],
            vec![Series::new("flat", [(1.0, 5.0), (1e9, 5.0)])],
            vec![Series::new("wide", [(-1e100, -1e100), (1e100, 1e100)])],
            vec![Series::new("fine", [(1e-99, 1e-99), (2e-99, 3e-99)])],
            (0..40)
                .map(|i| Series::new(format!("series number {i} with a name"), [(1.0, 1.0), (2.0, 2.0)]))
                .collect(),
        ] {
            for log_x in [false, true] {
                let empty = series.iter().all(|s| s.points.iter().all(|p| log_x && p.x <= 0.0));
                let svg = line_plot("t", "x", "y", &series, log_x).unwrap();
                assert!(!svg.contains("NaN") && !svg.contains("-2147483648"), "{svg}");
                assert_eq!(svg.contains("no data"), empty);
            }
        }
    }

    #[test]
    fn error_bars_widen_the_axis() {
        let mut series = Series::new("s", [(1.0, 50.0), (2.0, 51.0)]);
        let narrow = line_plot("", "", "", std::slice::from_ref(&series), false).unwrap();
        series.points[0].spread = 40.0;
        let wide = line_plot("", "", "", &[series], false).unwrap();
        assert!(wide.contains(">\n80\n") && !narrow.contains(">\n80\n"));
        let lines =
            |svg: &str| svg.lines().filter(|l| l.contains("<polyline") && l.contains("#2466A8")).count();
        assert_eq!((lines(&narrow), lines(&wide)), (1, 4), "a bar and two caps more");
    }

    #[test]
    fn histograms() {
        let svg =
            histogram("h", "rate", "neurons", &Histogram { low: 0.0, high: 1.0, counts: vec![5, 0, 1] })
                .unwrap();
        assert_eq!(svg.matches("<rect").count(), 2);
        for odd in [
            Histogram::default(),
            Histogram { low: f64::NAN, high: 1.0, counts: vec![1] },
            Histogram { low: 1.0, high: 0.0, counts: vec![1] },
            Histogram { low: 0.0, high: 1.0, counts: vec![0, 0] },
        ] {
            assert_eq!(histogram("h", "x", "y", &odd).unwrap().matches("<rect").count(), 0);
        }
    }
}
