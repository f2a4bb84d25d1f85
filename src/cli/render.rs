//! What people read: errors with the place underlined, and the table of results.

use super::args::Color;
use crate::error::Error;
use crate::experiment::simulate::Summary as Simulation;
use crate::experiment::summary::{Stat, Summary};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};
use std::io::{IsTerminal, Write};

/// Whether stderr gets colours.
fn colored(color: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto => set("CLICOLOR_FORCE") || std::io::stderr().is_terminal(),
    }
}

/// An error with its causes and one hint, on stderr.
pub fn error(error: &Error, color: Color) {
    let text = error_text(error, colored(color));
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The text of [`error`].
pub fn error_text(error: &Error, color: bool) -> String {
    let renderer =
        if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Unicode);
    let mut text = String::new();
    if let Error::Config { file, text: source, problems } = error {
        for problem in problems {
            let mut group = Level::ERROR
                .primary_title(problem.message.as_str())
                .elements(std::iter::empty::<Snippet<'_, annotate_snippets::Annotation<'_>>>());
            match &problem.span {
                Some(span) => {
                    let snippet = Snippet::source(source.as_str()).path(file.as_str());
                    group = group.element(snippet.annotation(AnnotationKind::Primary.span(span.clone())));
                }
                None => group = group.element(annotate_snippets::Origin::path(file.as_str())),
            }
            if let Some(help) = &problem.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            text.push_str(&renderer.render(&[group]));
            text.push_str("\n\n");
        }
        text.push_str(&format!("error: {error}\n"));
        return text;
    }
    let (on, off) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    text.push_str(&format!("{on}error{off}: {error}\n"));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("  caused by: {cause}\n"));
        source = cause.source();
    }
    if let Error::Missing { attempts, .. } = error {
        for attempt in attempts {
            text.push_str(&format!("  - {attempt}\n"));
        }
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// The table of results, as `ransnn run` prints it.
pub fn summary(summary: &Summary) -> String {
    let mut out = String::new();
    if let Some(reason) = &summary.fallback {
        out.push_str(&format!("  NOTE: these results are on `{}`: {reason}\n\n", summary.dataset));
    }
    summary.notices.iter().for_each(|notice| out.push_str(&format!("  NOTE: {notice}\n")));
    out.push_str(&format!("  seed    train {:>12}  spikes/sample   seconds\n", summary.judged_on));
    for seed in &summary.seeds {
        out.push_str(&format!(
            "  {:>4}  {:>6.2} %  {:>9.2} %  {:>13}  {:>8.1}\n",
            seed.seed,
            100.0 * seed.train_accuracy,
            100.0 * seed.test_accuracy,
            thousands(seed.spikes_per_sample),
            seed.seconds.features + seed.seconds.fit + seed.seconds.test,
        ));
    }
    if let (Stat::Many { mean, std, .. }, train) = (&summary.test.accuracy, &summary.train.accuracy) {
        out.push_str(&format!(
            "  mean  {:>6.2} %  {:>9.2} % ± {:.2}\n",
            100.0 * train.mean(),
            100.0 * mean,
            100.0 * std
        ));
    }
    if !summary.details.is_empty() {
        out.push('\n');
    }
    summary.details.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
    let s = &summary.seconds;
    out.push_str(&format!(
        "\n  {:.1} s in all: data {:.1}, features {:.1}, fit {:.1}, test {:.1}   peak memory {} MB\n",
        s.total,
        s.data,
        s.features,
        s.fit,
        s.test,
        summary.memory.peak_rss_bytes / 1_000_000
    ));
    out.push_str(&format!(
        "  {} weights trained, {} random and frozen   {} on {} thread{}\n",
        thousands(summary.parameters.trained as f64),
        thousands(summary.parameters.frozen as f64),
        summary.device,
        summary.threads,
        if summary.threads == 1 { "" } else { "s" }
    ));
    if let Some(path) = &summary.run_directory {
        out.push_str(&format!("\n{path}\n"));
    }
    out
}

/// The table of a simulation, as `ransnn run` prints it.
pub fn simulation(summary: &Simulation) -> String {
    let width = summary.populations.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(10);
    let mut out = format!("  {:<width$}   neurons     rate / Hz   CV     correlation\n", "population");
    for (name, p) in &summary.populations {
        let number = |value: Option<f64>, decimals| value.map_or("–".into(), |v| format!("{v:.decimals$}"));
        out.push_str(&format!(
            "  {name:<width$} {:>9} {:>13.3}   {:>5}  {:>11}\n",
            thousands(p.neurons as f64),
            p.rate_hz,
            number(p.cv, 3),
            number(p.correlation, 4)
        ));
    }
    let s = &summary.seconds;
    out.push_str(&format!(
        "\n  {} neurons, {} synapses of {:.2} bytes\n",
        thousands(summary.neurons as f64),
        thousands(summary.synapses as f64),
        summary.bytes_per_synapse
    ));
    out.push_str(&format!(
        "  {} ms simulated in {:.2} s (built in {:.2}, written in {:.2}): real-time factor {:.3}, {} synaptic events/s\n",
        summary.duration_ms,
        s.simulate,
        s.build,
        s.write,
        summary.real_time_factor,
        thousands(summary.synaptic_events_per_second)
    ));
    out.push_str(&format!(
        "  {} on {} thread{}   peak memory {} MB\n\n{}\n",
        summary.device,
        summary.threads,
        if summary.threads == 1 { "" } else { "s" },
        summary.memory.peak_rss_bytes / 1_000_000,
        summary.run_directory
    ));
    out
}

/// `12345.6` as `12 346`.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{check, diagnose::Source};

    #[test]
    fn a_config_error_underlines_the_place() {
        let text = include_str!("../../experiments/strokes.toml").replace("beta", "betta");
        let source = Source::new("my.toml", &text, &[]).expect("parses");
        let text = error_text(&check::load(&source).expect_err("misspelt"), false);
        assert!(text.contains("unknown key `betta`"), "{text}");
        assert!(text.contains("my.toml:"), "{text}");
        assert!(text.contains("━━━━━"), "{text}");
        assert!(text.contains("did you mean `beta`?"), "{text}");
        assert!(text.ends_with("error: 1 mistake in my.toml\n"), "{text}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(-999.0), "-999");
    }
}
