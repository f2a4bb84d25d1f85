//! Time, memory and energy: what the result has cost.

use super::html::{escape, table};
use super::number::{bytes, fixed, grouped, prefixed, seconds};
use super::page::{Energy, Measured, Page, Part};

/// What an operation costs, by whom.
struct Cost {
    what: &'static str,
    picojoules: f64,
    source: &'static str,
}

/// Energy of a 32-bit floating-point addition in 45 nm logic, in pJ (Horowitz, ISSCC 2014).
pub const ADDITION_PICOJOULES: f64 = 0.9;

/// Energy of a 32-bit floating-point multiplication and addition in 45 nm logic, in pJ (Horowitz, ISSCC 2014).
pub const MULTIPLY_ADD_PICOJOULES: f64 = 4.6;

/// One addition in ordinary logic.
const ADDITION: Cost = Cost {
    what: "One 32-bit floating-point addition in 45 nm logic",
    picojoules: ADDITION_PICOJOULES,
    source: "M. Horowitz, “Computing’s energy problem (and what we can do about it)”, ISSCC 2014, pp. 10–14",
};
/// One operation on a neuromorphic chip.
const LOIHI: Cost = Cost {
    what: "One synaptic operation on Loihi, 14 nm",
    picojoules: 23.6,
    source: "M. Davies et al., “Loihi: a neuromorphic manycore processor with on-chip learning”, IEEE Micro 38(1), \
             2018, pp. 82–99 (stated minimum)",
};
/// Multiplication and addition: 3.7 + 0.9.
const MULTIPLY_ADD: Cost = Cost {
    what: "For comparison, a dense pass: one 32-bit multiply-accumulate in 45 nm logic",
    picojoules: MULTIPLY_ADD_PICOJOULES,
    source: "Horowitz 2014: multiplication 3.7 pJ and addition 0.9 pJ",
};

/// Time and memory as bars over their tables.
pub(super) fn breakdown(page: &Page) -> String {
    let time = bar("Time", &page.time, seconds, "");
    let peak = page
        .peak_rss_bytes
        .map(|peak| {
            format!("Largest resident memory of the process: {}. ", bytes(peak as f64))
                + "Parts may live at different times, so they need not add up to it."
        })
        .unwrap_or_default();
    let memory = bar("Memory", &page.memory, bytes, &peak);
    if time.is_empty() && memory.is_empty() {
        return String::new();
    }
    format!("<div class=\"columns\">{time}{memory}</div>")
}

fn bar(title: &str, parts: &[Part], format: impl Fn(f64) -> String, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!("<p class=\"note\">{note}</p>") };
    if parts.is_empty() {
        return if note.is_empty() { note } else { format!("<div><h3>{title}</h3>{note}</div>") };
    }
    let sound = |x: f64| if x.is_finite() && x > 0.0 { x } else { 0.0 };
    let total: f64 = parts.iter().map(|p| sound(p.value)).sum();
    let share = |p: &Part| if total > 0.0 { sound(p.value) / total * 100.0 } else { 0.0 };
    let mut segments = String::new();
    let mut rows = String::new();
    for (i, part) in parts.iter().enumerate() {
        let (color, name, share) = (i % 6 + 1, escape(&part.name), share(part));
        if share > 0.0 {
            // A name is written where it has room; the table has them all.
            let room = share / 100.0 * 440.0 > 8.0 * part.name.chars().count() as f64 + 10.0;
            let label = if room { name.as_str() } else { "" };
            segments
                .push_str(&format!("<span class=\"c{color}\" style=\"flex-grow:{share:.4}\">{label}</span>"));
        }
        rows.push_str(&format!(
            "<tr><th scope=\"row\"><i class=\"swatch c{color}\"></i>{name}</th><td>{}</td><td>{}</td></tr>",
            format(part.value),
            if part.value.is_finite() { format!("{}\u{202f}%", fixed(share, 1)) } else { String::new() },
        ));
    }
    let alt = parts.iter().map(|p| format!("{} {}", p.name, format(p.value))).collect::<Vec<_>>().join(", ");
    format!(
        "<div><h3>{title}</h3><div class=\"bar\" role=\"img\" aria-label=\"{title}: {}\">{segments}</div>\
         <table class=\"parts\"><caption class=\"unseen\">{title} by part</caption><tbody>{rows}</tbody><tfoot><tr>\
         <th scope=\"row\">total</th><td>{}</td><td></td></tr></tfoot></table>{note}</div>",
        escape(&alt),
        format(total)
    )
}

/// The energy estimate with its assumptions.
pub(super) fn energy(energy: &Energy) -> String {
    let operations = energy.synaptic_operations_per_sample;
    let row = |cost: &Cost, number: f64| {
        vec![
            cost.what.to_owned(),
            format!("{}\u{202f}pJ", fixed(cost.picojoules, 1)),
            prefixed(number, ""),
            prefixed(number * cost.picojoules * 1e-12, "J"),
            cost.source.to_owned(),
        ]
    };
    let mut rows = vec![row(&ADDITION, operations), row(&LOIHI, operations)];
    if let Some(macs) = energy.dense_macs_per_sample {
        rows.push(row(&MULTIPLY_ADD, macs as f64));
    }
    if let Some(Measured { joules, samples, what }) = &energy.measured {
        rows.push(vec![
            "Measured on this machine".into(),
            "–".into(),
            "–".into(),
            prefixed(joules / *samples as f64, "J"),
            format!("{what}: {} for {} samples", prefixed(*joules, "J"), grouped(*samples)),
        ]);
    }
    let head = ["Assumption", "Energy per operation", "Operations per sample", "Energy per sample", "Source"];
    format!(
        "<p>Estimate for classifying one sample: counted synaptic operations (each spike, once for every synapse it \
         reaches) times a published energy per operation.</p>{}<p class=\"note\">Not counted: updates of membrane \
         potentials, moving data to and from memory, encoding of the input, and the readout. On a real machine \
         these add to the figure, and often dominate it; compare ratios rather than joules.</p>",
        table("energy", "Energy per sample under each assumption", &head, &rows, &[])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String) -> String {
        text.replace('\u{202f}', " ")
    }

    #[test]
    fn energy_is_operations_times_cost() {
        let html = plain(energy(&Energy {
            synaptic_operations_per_sample: 1e6,
            dense_macs_per_sample: Some(1_000_000),
            measured: Some(Measured { joules: 5.0, samples: 1000, what: "RAPL <package>".into() }),
        }));
        for text in ["900 nJ", "23.6 µJ", "4.60 µJ", "5.00 mJ", "Horowitz", "Davies", "RAPL &lt;package&gt;"]
        {
            assert!(html.contains(text), "{text}: {html}");
        }
        let silent = plain(energy(&Energy::default()));
        assert!(silent.contains("0 J") && !silent.contains("Measured"));
    }

    #[test]
    fn shares_of_bars() {
        let parts = [Part::new("features", 3.0), Part::new("fit", 1.0), Part::new("lost", f64::NAN)];
        let page = Page { time: parts.to_vec(), peak_rss_bytes: Some(1 << 30), ..Page::default() };
        let html = plain(breakdown(&page));
        for text in ["75.0 %", "25.0 %", "not a number", "4.00 s", "1.00 GiB"] {
            assert!(html.contains(text), "{text}: {html}");
        }
        assert_eq!(html.matches("flex-grow").count(), 2);
        let none = Page { time: vec![Part::new("a", 0.0)], ..Page::default() };
        assert!(!breakdown(&none).contains("NaN"));
        assert_eq!(breakdown(&Page::default()), "");
    }
}
