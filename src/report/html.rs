//! A page as one HTML file.

use super::cost;
use super::image;
use super::number::{THIN, bytes, fixed, grouped, mean_std, percent, plus_minus, prefixed, seconds};
use super::page::{Example, Layer, Page, Picture, Table, Tile};
use super::plot;
use crate::error::{Error, Result};

impl Page {
    /// The page as one self-contained HTML document.
    ///
    /// # Errors
    /// [`Error::Value`] where sizes do not agree with contents: counts that are no square, pixels that are no
    /// rectangle, spikes outside their raster.
    pub fn html(&self) -> Result<String> {
        self.check()?;
        let energy = self.energy.as_ref().map(cost::energy).unwrap_or_default();
        let sections = [
            ("results", "Results", self.results() + &self.tables()),
            (
                "activity",
                "Activity",
                self.activity.as_ref().map(|a| a.html()).transpose()?.unwrap_or_default(),
            ),
            ("details", "Details", self.lines()),
            ("curves", "Curves", self.plots()?),
            ("pictures", "Pictures", self.gallery()?),
            ("confusion", "Confusion matrix", self.confusion.as_ref().map(|c| c.html()).unwrap_or_default()),
            ("examples", "Examples", self.samples()?),
            ("rates", "Firing rates", self.rates()?),
            ("cost", "Time and memory", cost::breakdown(self)),
            ("energy", "Energy", energy),
            ("data", "Data", self.data()),
            ("configuration", "Configuration", self.configuration()),
            ("environment", "Environment", pairs(&self.environment)),
        ];
        let shown = || sections.iter().filter(|s| !s.2.is_empty());
        let links: String = shown().map(|(id, name, _)| format!("<a href=\"#{id}\">{name}</a>")).collect();
        let body: String = shown()
            .map(|(id, name, body)| format!("<section id=\"{id}\"><h2>{name}</h2>\n{body}</section>\n"))
            .collect();
        let notices: String = self
            .notices
            .iter()
            .map(|n| format!("<p class=\"notice\" role=\"note\"><b>Please note.</b> {}</p>\n", escape(n)))
            .collect();
        let title = if self.title.is_empty() { "Untitled run" } else { &self.title };
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src \
             'unsafe-inline'\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title} – report</title>\n<style>\n{}{}\n{}</style>\n</head>\n<body>\n<header>\n{}\
             <h1>{title}</h1>\n{}</header>\n<main>\n{notices}{}{}{body}</main>\n<footer>Written by ransnn {}. This \
             file needs no network and runs no scripts.</footer>\n</body>\n</html>\n",
            palette(),
            include_str!("style.css"),
            plot::style(),
            self.state(),
            paragraph("subtitle", &self.subtitle),
            self.headline(),
            if links.is_empty() {
                String::new()
            } else {
                format!("<nav aria-label=\"Sections\">{links}</nav>\n")
            },
            env!("CARGO_PKG_VERSION"),
            title = escape(title),
        ))
    }

    fn state(&self) -> String {
        if self.status.is_empty() {
            return String::new();
        }
        let class = if self.status == "done" { "status" } else { "status odd" };
        format!("<p class=\"{class}\">Status: <b>{}</b></p>\n", escape(&self.status))
    }

    fn headline(&self) -> String {
        let mut tiles = Vec::new();
        let mut tile =
            |label: &str, value: String, note: String| tiles.push(Tile { label: label.into(), value, note });
        let seeds = match self.runs.len() {
            1 => "one seed".to_owned(),
            n => format!("mean of {n} seeds"),
        };
        if !self.runs.is_empty() {
            let column = |f: fn(&super::Run) -> f64| self.runs.iter().map(f).collect::<Vec<f64>>();
            let (mean, std) = mean_std(&column(|r| r.test_accuracy * 100.0));
            let on = if self.dataset.is_empty() { String::new() } else { format!(" on {}", self.dataset) };
            let value = match std {
                Some(std) if mean.is_finite() => format!("{} ± {}{THIN}%", fixed(mean, 2), fixed(std, 2)),
                _ => percent(mean / 100.0),
            };
            tile("Test accuracy", value, seeds.clone() + &on);
            tile("Time", seconds(mean_std(&column(|r| r.seconds)).0), "for a whole run".into());
            let spikes = mean_std(&column(|r| r.spikes_per_sample)).0;
            tile("Spikes per sample", plus_minus(spikes, None), "all layers together".into());
        }
        if let Some(peak) = self.peak_rss_bytes {
            tile("Peak memory", bytes(peak as f64), "resident, whole process".into());
        }
        if let Some(p) = self.parameters {
            let amount = |n: u64| if n < 100_000 { grouped(n) } else { prefixed(n as f64, "") };
            tile("Trained values", amount(p.trained), format!("{} random and frozen", amount(p.frozen)));
        }
        let tiles: String = tiles
            .iter()
            .chain(&self.tiles)
            .map(|Tile { label, value, note }| {
                let (label, value, note) = (escape(label), escape(value), escape(note));
                format!("<div><dt>{label}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>")
            })
            .collect();
        if tiles.is_empty() { tiles } else { format!("<dl class=\"tiles\">{tiles}</dl>\n") }
    }

    fn results(&self) -> String {
        if self.runs.is_empty() {
            return String::new();
        }
        let rows: Vec<_> = self
            .runs
            .iter()
            .map(|r| {
                let accuracy = [r.train_accuracy, r.test_accuracy].map(|a| fixed(a * 100.0, 2));
                let [train, test] = accuracy;
                vec![
                    r.seed.to_string(),
                    train,
                    test,
                    plus_minus(r.spikes_per_sample, None),
                    fixed(r.seconds, 2),
                ]
            })
            .collect();
        let column = |f: &dyn Fn(&super::Run) -> f64, decimals: Option<usize>| {
            let (mean, std) = mean_std(&self.runs.iter().map(f).collect::<Vec<_>>());
            match (decimals, std) {
                (Some(d), Some(std)) if mean.is_finite() => format!("{} ± {}", fixed(mean, d), fixed(std, d)),
                (Some(d), _) => fixed(mean, d),
                (None, std) => plus_minus(mean, std),
            }
        };
        let summary = vec![
            "mean ± std".into(),
            column(&|r| r.train_accuracy * 100.0, Some(2)),
            column(&|r| r.test_accuracy * 100.0, Some(2)),
            column(&|r| r.spikes_per_sample, None),
            column(&|r| r.seconds, Some(2)),
        ];
        let several = self.runs.len() > 1;
        let foot = if several { vec![summary] } else { vec![] };
        let head = [
            "Seed",
            "Training accuracy (%)",
            "Test accuracy (%)",
            "Spikes per sample",
            "Wall-clock time (s)",
        ];
        let note = if several {
            paragraph("note", "Std is the sample standard deviation over seeds.")
        } else {
            "".into()
        };
        table("results", "Result of each seed", &head, &rows, &foot) + &note
    }

    fn tables(&self) -> String {
        let one = |of: &Table| {
            let head: Vec<&str> = of.head.iter().map(String::as_str).collect();
            table("results", &of.caption, &head, &of.rows, &[])
        };
        self.tables.iter().map(one).collect()
    }

    fn plots(&self) -> Result<String> {
        let (size, class) = if self.curves.len() > 1 { ((460, 300), "columns") } else { ((900, 340), "") };
        let mut html = String::new();
        for curve in &self.curves {
            let note = match curve.left_out() {
                0 => String::new(),
                1 => " One point is not a number, or outside the axes, and is not drawn.".into(),
                n => format!(" {n} points are not numbers, or outside the axes, and are not drawn."),
            };
            let (svg, title) = (curve.draw(size, false)?, escape(&curve.title));
            html.push_str(&format!("<figure><figcaption><b>{title}</b>{note}</figcaption>{svg}</figure>"));
        }
        Ok(if html.is_empty() { html } else { format!("<div class=\"{class}\">{html}</div>\n") })
    }

    fn lines(&self) -> String {
        let items: String = self.details.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
        if items.is_empty() { items } else { format!("<ul>{items}</ul>\n") }
    }

    fn gallery(&self) -> Result<String> {
        let figure = |picture: &Picture| {
            let (image, caption) = (&picture.image, escape(&picture.caption));
            let address =
                image::data_address(image).map_err(|e| Error::Internal(format!("picture as PNG: {e}")))?;
            let width = image.width.min(900);
            Ok(format!(
                "<figure><figcaption><b>{caption}</b></figcaption><img src=\"{address}\" alt=\"{caption}\" \
                 width=\"{width}\"></figure>"
            ))
        };
        self.pictures.iter().map(figure).collect()
    }

    fn samples(&self) -> Result<String> {
        let Some(first) = self.examples.first() else { return Ok(String::new()) };
        let cards: String = self.examples.iter().map(card).collect::<Result<_>>()?;
        let shown = if u64::from(first.raster.neurons) < first.raster.of {
            format!("{} of {} neurons are shown", first.raster.neurons, grouped(first.raster.of))
        } else {
            "every neuron is shown".into()
        };
        let layer = match first.raster.layer.as_str() {
            "" => "the hidden layer".to_owned(),
            name => format!("layer <b>{}</b>", escape(name)),
        };
        Ok(format!(
            "<p>Samples of the test set, and the spikes they cause in {layer} ({shown}; time to the right, one mark \
             per spike).</p><div class=\"columns cards\">{cards}</div>",
        ))
    }

    fn rates(&self) -> Result<String> {
        let mut html = String::new();
        for layer in &self.layers {
            let Layer { name, neurons, mean_rate, silent, saturated, rates } = layer;
            let alt = format!("Histogram of firing rates in {name}");
            let svg = plot::histogram(&alt, "spikes per step", "neurons", rates)?;
            html.push_str(&format!(
                "<figure><figcaption><b>{}</b>, {} neurons</figcaption>{svg}<p>Mean rate {} spikes per step. \
                 Silent (never fired): {}. Saturated (fired in nearly every step): {}.</p></figure>",
                escape(name),
                grouped(*neurons),
                super::number::significant(*mean_rate, 3),
                some(*silent),
                some(*saturated)
            ));
        }
        Ok(if html.is_empty() { html } else { format!("<div class=\"columns narrow\">{html}</div>") })
    }

    fn data(&self) -> String {
        let name = if self.dataset.is_empty() {
            String::new()
        } else {
            format!("<p>Data set: <b>{}</b>.</p>", escape(&self.dataset))
        };
        if self.files.is_empty() {
            return name;
        }
        let rows: Vec<_> =
            self.files.iter().map(|f| vec![f.name.clone(), grouped(f.bytes), f.sha256.clone()]).collect();
        let head = ["File", "Bytes", "SHA-256 of the decompressed content"];
        name + &table("files", "Data files and their checksums", &head, &rows, &[])
    }

    fn configuration(&self) -> String {
        if self.config.is_empty() {
            return String::new();
        }
        format!(
            "<p>As resolved, with every default written out.</p><pre tabindex=\"0\"><code>{}</code></pre>",
            escape(&self.config)
        )
    }
}

fn some(share: f64) -> String {
    match share {
        0.0 => "none".into(),
        s => percent(s),
    }
}

fn card(example: &Example) -> Result<String> {
    let Example { image, raster, label, predicted } = example;
    let picture = match image {
        Some(it) => {
            let address =
                image::data_address(it).map_err(|e| Error::Internal(format!("example as PNG: {e}")))?;
            format!("<img src=\"{address}\" alt=\"Input of class {}\" width=\"84\">", escape(label))
        }
        None => String::new(),
    };
    let (class, verdict) = if label == predicted { ("right", "✓ correct") } else { ("wrong", "✗ wrong") };
    Ok(format!(
        "<figure class=\"card {class}\"><div class=\"input\">{picture}<dl><dt>true</dt><dd>{}</dd><dt>predicted</dt>\
         <dd>{}</dd></dl><p class=\"verdict\">{verdict}</p></div><div class=\"response\">{}<figcaption>{} \
         spikes</figcaption></div></figure>",
        escape(label),
        escape(predicted),
        image::raster(raster),
        grouped(raster.spikes.len() as u64)
    ))
}

/// Colours of the series as variables, for bars and keys.
fn palette() -> String {
    let set = |pick: fn((String, &'static str)) -> String| -> String {
        plot::colours().enumerate().map(|(i, c)| format!("--c{}:{};", i + 1, pick(c))).collect()
    };
    format!(
        ":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        set(|c| c.0),
        set(|c| c.1.to_owned())
    )
}

fn paragraph(class: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<p class=\"{class}\">{}</p>\n", escape(text)) }
}

/// A table whose first column names the row. Cells are text and are escaped here.
pub(super) fn table(
    class: &str,
    caption: &str,
    head: &[&str],
    rows: &[Vec<String>],
    foot: &[Vec<String>],
) -> String {
    let row = |cells: &Vec<String>| {
        let cells: String = cells
            .iter()
            .enumerate()
            .map(|(i, cell)| match i {
                0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
                _ => format!("<td>{}</td>", escape(cell)),
            })
            .collect();
        format!("<tr>{cells}</tr>")
    };
    let head: String = head.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
    let body: String = rows.iter().map(row).collect();
    let foot: String = foot.iter().map(row).collect();
    let foot = if foot.is_empty() { foot } else { format!("<tfoot>{foot}</tfoot>") };
    format!(
        "<div class=\"scroll\"><table class=\"{class}\"><caption class=\"unseen\">{}</caption><thead><tr>{head}</tr>\
         </thead><tbody>{body}</tbody>{foot}</table></div>\n",
        escape(caption)
    )
}

fn pairs(list: &[(String, String)]) -> String {
    let rows: Vec<_> = list.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    if rows.is_empty() {
        String::new()
    } else {
        table("pairs", "Environment of the run", &["Name", "Value"], &rows, &[])
    }
}

/// Text with everything that HTML would read as markup made harmless, for content and quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Text without control characters, which have no place in HTML, and without those that turn the direction of
/// writing, which hide what a name really is.
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    text.replace(harmful, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Confusion, Image, Part, Plot, Raster, Run, Series, sample};

    /// Names of the elements that are opened and not closed, or closed and not open.
    fn unbalanced(html: &str) -> Vec<String> {
        const VOID: [&str; 4] = ["meta", "img", "!DOCTYPE", "br"];
        let (mut open, mut wrong) = (Vec::new(), Vec::new());
        let style = html.find("</style>").unwrap_or(0);
        assert!(!html[..style].contains("</script"));
        for tag in html.split('<').skip(1) {
            let (inside, rest) = tag.split_once('>').expect("every tag ends");
            assert!(
                !rest.contains('>') || rest.contains('{'),
                "a `>` outside of tags and style sheets: {rest}"
            );
            assert!(inside.matches('"').count() % 2 == 0, "quotes in {inside}");
            let name = inside.split_whitespace().next().unwrap_or("").trim_end_matches('/');
            if let Some(name) = name.strip_prefix('/') {
                if open.pop().as_deref() != Some(name) {
                    wrong.push(name.to_owned());
                }
            } else if !VOID.contains(&name) && !inside.ends_with('/') {
                open.push(name.to_owned());
            }
        }
        open.extend(wrong);
        open
    }

    #[test]
    fn the_check_of_tags_can_fail() {
        assert_eq!(unbalanced("<p><b></p>"), ["p", "p"]);
        assert!(unbalanced("<p>a<img src=\"b\"><rect/></p>").is_empty());
    }

    #[test]
    fn everything_is_there() {
        let html = sample::page().html().unwrap();
        assert_eq!(unbalanced(&html), [""; 0]);
        let plain = html.replace(THIN, " ");
        for text in [
            "MNIST could not be fetched",
            "Status: <b>done</b>",
            "98.72 ± 0.06 %",
            "9 812",
            "Learning curve",
            "regularisation",
            "Confusion matrix",
            "taken for",
            "data:image/png;base64,",
            "class=\"raster\"",
            "✗ wrong",
            "Silent (never fired): 4.15 %",
            "Saturated (fired in nearly every step): none",
            "Time and memory",
            "Horowitz",
            "Davies",
            "RAPL",
            "[network]",
            "SHA-256",
            "rustc",
        ] {
            assert!(plain.contains(text), "{text}");
        }
        for id in
            ["results", "curves", "confusion", "examples", "rates", "cost", "energy", "data", "configuration"]
        {
            assert!(
                html.contains(&format!("href=\"#{id}\"")) && html.contains(&format!("id=\"{id}\"")),
                "{id}"
            );
        }
    }

    #[test]
    fn needs_nothing_from_outside() {
        let html = sample::page().html().unwrap();
        let html = html.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "<script", "url(", "@import", "<link", "src=\"/", "onload"] {
            assert!(!html.contains(word), "{word}");
        }
    }

    #[test]
    fn names_are_escaped_everywhere() {
        let evil = "\"><script>alert('x')</script>&\u{202e}\0";
        let mut page = sample::page();
        // Through JSON every text of the page is reached, also those that are added later.
        fn poison(value: &mut serde_json::Value, evil: &str) -> usize {
            match value {
                serde_json::Value::String(text) => {
                    *text = evil.into();
                    1
                }
                serde_json::Value::Array(list) => list.iter_mut().map(|v| poison(v, evil)).sum(),
                serde_json::Value::Object(map) => map.values_mut().map(|v| poison(v, evil)).sum(),
                _ => 0,
            }
        }
        let mut json = serde_json::to_value(&page).unwrap();
        assert!(poison(&mut json, evil) > 60);
        page = serde_json::from_value(json).unwrap();
        let html = page.html().unwrap();
        assert!(html.contains("&lt;script&gt;"));
        assert!(
            !html.contains("<script") && !html.contains("alert('") && !html.contains("\">&lt;script\u{0}")
        );
        assert!(!html.contains('\u{202e}') && !html.contains('\0'));
        assert_eq!(unbalanced(&html), [""; 0]);
    }

    #[test]
    fn little_is_enough() {
        let html = Page::default().html().unwrap();
        assert_eq!(unbalanced(&html), [""; 0]);
        assert!(html.contains("Untitled run") && !html.contains("<section") && !html.contains("<nav"));

        let page = Page {
            curves: vec![Plot::default(), Plot { series: vec![Series::default()], ..Plot::default() }],
            confusion: Some(Confusion { classes: vec!["only".into()], counts: vec![7] }),
            examples: vec![Example::default()],
            layers: vec![Layer::default()],
            time: vec![Part::default()],
            ..Page::default()
        };
        let html = page.html().unwrap();
        assert_eq!(unbalanced(&html), [""; 0]);
        assert!(html.contains("no data") && html.contains("0 spikes") && !html.contains("NaN"));
    }

    #[test]
    fn sixty_two_classes() {
        let k = 62;
        let classes = (0..k).map(|i| char::from_u32('A' as u32 + i).unwrap().to_string()).collect();
        let counts = (0..k * k).map(|i| if i / k == i % k { 400 } else { u64::from(i % 3) }).collect();
        let page = Page { confusion: Some(Confusion { classes, counts }), ..Page::default() };
        assert_eq!(unbalanced(&page.html().unwrap()), [""; 0]);
    }

    #[test]
    fn not_a_number_is_said_in_words() {
        let nan = f64::NAN;
        let run =
            Run { seed: 1, train_accuracy: nan, test_accuracy: nan, spikes_per_sample: nan, seconds: nan };
        let page = Page {
            runs: vec![run.clone(), Run { seed: 2, test_accuracy: 0.5, ..run }],
            curves: vec![Plot {
                series: vec![Series::new("loss", [(1.0, 2.0), (2.0, nan)])],
                ..Plot::default()
            }],
            layers: vec![Layer { mean_rate: nan, silent: nan, ..Layer::default() }],
            ..Page::default()
        };
        let html = page.html().unwrap();
        assert!(!html.contains("NaN"));
        assert!(html.matches("not a number").count() >= 8, "{}", html.matches("not a number").count());
        assert!(html.contains("One point is not a number"));
        assert_eq!(unbalanced(&html), [""; 0]);
    }

    #[test]
    fn contents_that_do_not_fit_are_errors() {
        let example = |image, raster| Page {
            examples: vec![Example { image, raster, ..Example::default() }],
            ..Page::default()
        };
        let raster = |neurons, spikes| Raster { steps: 5, neurons, of: 9, spikes, ..Raster::default() };
        for page in [
            Page {
                confusion: Some(Confusion { classes: vec!["a".into(); 2], counts: vec![1; 3] }),
                ..Page::default()
            },
            example(Some(Image { width: 2, height: 2, pixels: vec![0; 3] }), Raster::default()),
            example(Some(Image::default()), Raster::default()),
            example(Some(Image { width: usize::MAX, height: 2, pixels: vec![0; 3] }), Raster::default()),
            example(None, raster(4, vec![(5, 0)])),
            example(None, raster(4, vec![(0, 4)])),
            example(None, raster(201, vec![])),
        ] {
            assert!(matches!(page.html(), Err(Error::Value { .. })), "{page:?}");
        }
        assert!(example(None, raster(4, vec![(4, 3)])).html().is_ok());
    }

    /// For looking at: `cargo test report`, then open the files in a browser.
    #[test]
    fn sample_pages_for_the_eye() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report");
        std::fs::create_dir_all(&dir).unwrap();
        sample::page().write_html(&dir.join("mnist.html")).unwrap();
        sample::clothes().write_html(&dir.join("fashion.html")).unwrap();
        sample::letters().write_html(&dir.join("emnist.html")).unwrap();
        std::fs::write(dir.join("sweep.svg"), sample::sweep().svg().unwrap()).unwrap();
    }
}
