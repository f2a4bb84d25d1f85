//! The confusion matrix as a table that is also a heat map.

use super::html::escape;
use super::number::{fixed, grouped};
use super::page::Confusion;

/// More classes than this are listed, not drawn.
const MAX_DRAWN: usize = 100;

impl Confusion {
    fn row(&self, class: usize) -> &[u64] {
        let k = self.classes.len();
        &self.counts[class * k..(class + 1) * k]
    }

    fn column_sum(&self, class: usize) -> u64 {
        self.counts.iter().skip(class).step_by(self.classes.len()).sum()
    }

    /// Table, key, and the most frequent errors in words. Empty without classes.
    pub(super) fn html(&self) -> String {
        let k = self.classes.len();
        if k == 0 {
            return String::new();
        }
        let total: u64 = self.counts.iter().sum();
        let right: u64 = (0..k).map(|c| self.row(c)[c]).sum();
        let summary = format!(
            "<p>{} of {} test samples are classified correctly. {}</p>",
            grouped(right),
            grouped(total),
            self.errors()
        );
        if k > MAX_DRAWN {
            return format!(
                "{summary}<p class=\"note\">A matrix of {k} classes is too large to be drawn.</p>"
            );
        }
        summary + &self.table()
    }

    fn table(&self) -> String {
        let k = self.classes.len();
        let (size, room) = match k {
            0..=12 => ("large", 8),
            13..=30 => ("medium", 3),
            _ => ("small", 2),
        };
        let upright = if self.classes.iter().any(|c| c.chars().count() > room) { " upright" } else { "" };
        // Where cells are small the unit is in the heading only.
        let share = |part: u64, of: u64| match (of, size) {
            (0, "small") => "–".into(),
            (0, _) => "none".into(),
            (_, "large") => format!("{}\u{202f}%", fixed(part as f64 / of as f64 * 100.0, 1)),
            (_, "medium") => fixed(part as f64 / of as f64 * 100.0, 1),
            _ => fixed(part as f64 / of as f64 * 100.0, 0),
        };
        let mut html = format!(
            "<figure><div class=\"scroll\"><table class=\"confusion {size}{upright}\"><caption class=\"unseen\">Rows are true \
             classes, columns predicted classes</caption><thead><tr><td></td><th class=\"side\" colspan=\"{k}\" \
             scope=\"colgroup\">predicted</th><td></td></tr><tr><th scope=\"col\" class=\"corner\">true</th>"
        );
        for name in &self.classes {
            html.push_str(&format!("<th scope=\"col\">{}</th>", escape(name)));
        }
        html.push_str("<th scope=\"col\" class=\"sum\">recall<span class=\"percent\"> %</span></th></tr></thead><tbody>");
        for (class, name) in self.classes.iter().enumerate() {
            let of: u64 = self.row(class).iter().sum();
            html.push_str(&format!("<tr><th scope=\"row\">{}</th>", escape(name)));
            for (predicted, &count) in self.row(class).iter().enumerate() {
                html.push_str(&cell(count, of, class == predicted));
            }
            html.push_str(&format!("<td class=\"sum\">{}</td></tr>", share(self.row(class)[class], of)));
        }
        html.push_str("</tbody><tfoot><tr><th scope=\"row\">precision<span class=\"percent\"> %</span></th>");
        for class in 0..k {
            html.push_str(&format!("<td>{}</td>", share(self.row(class)[class], self.column_sum(class))));
        }
        html.push_str(
            "<td></td></tr></tfoot></table></div><figcaption>Numbers of test samples. <b>Diagonal, framed</b>: correct, \
             shaded by recall. <b>Elsewhere</b>: errors, shaded by the square root of their share of the row, so \
             that rare ones show; empty cells are zero. Recall is the share of a row, precision the share of a \
             column, that is on the diagonal.</figcaption></figure>",
        );
        html
    }

    /// The most frequent errors, as a sentence.
    fn errors(&self) -> String {
        let k = self.classes.len();
        let mut errors: Vec<(u64, usize, usize)> = (0..k * k)
            .map(|i| (self.counts[i], i / k, i % k))
            .filter(|&(count, truth, predicted)| count > 0 && truth != predicted)
            .collect();
        errors.sort_unstable_by_key(|&(count, truth, predicted)| (u64::MAX - count, truth, predicted));
        if errors.is_empty() {
            return String::new();
        }
        let list: Vec<String> = errors
            .iter()
            .take(6)
            .map(|&(count, truth, predicted)| {
                let (truth, predicted) = (escape(&self.classes[truth]), escape(&self.classes[predicted]));
                format!("<b>{truth}</b> taken for <b>{predicted}</b>&nbsp;({})", grouped(count))
            })
            .collect();
        format!("Most frequent errors: {}.", list.join(", "))
    }
}

fn cell(count: u64, of: u64, diagonal: bool) -> String {
    let class = if diagonal { " class=\"d\"" } else { "" };
    if count == 0 {
        return format!("<td{class}></td>");
    }
    let share = count as f64 / of as f64;
    let depth = if diagonal { 0.12 + 0.88 * share } else { (2.0 * share.sqrt()).min(1.0) };
    let class = match (diagonal, depth > if diagonal { 0.6 } else { 0.8 }) {
        (true, true) => "d deep",
        (true, false) => "d",
        (false, true) => "e deep",
        (false, false) => "e",
    };
    format!("<td class=\"{class}\" style=\"--a:{depth:.2}\">{}</td>", grouped(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_precision_and_errors() {
        let it = Confusion { classes: vec!["cat".into(), "<i>".into()], counts: vec![3, 1, 0, 1] };
        let html = it.html().replace(crate::report::number::THIN, " ");
        assert!(html.contains("4 of 5 test samples") && html.contains("confusion large\""));
        assert!(html.contains("75.0 %"), "recall of cat: {html}");
        assert!(html.contains("50.0 %"), "precision of the other");
        assert!(html.contains("<b>cat</b> taken for <b>&lt;i&gt;</b>&nbsp;(1)") && !html.contains("<i>"));
        assert_eq!(html.matches("<tr>").count(), 2 + 2 + 1);
    }

    #[test]
    fn from_none_to_too_many() {
        let square = |k: usize| Confusion { classes: vec!["c".into(); k], counts: vec![0; k * k] };
        assert_eq!(square(0).html(), "");
        assert!(square(1).html().contains("0 of 0") && square(1).html().contains("none"));
        let many = square(62).html();
        assert!(many.contains("confusion small"));
        assert_eq!(many.matches("<td").count(), 2 + 62 * 63 + 63);
        let long = Confusion { classes: vec!["a long name".into()], counts: vec![1] };
        assert!(long.html().contains("confusion large upright"));
        assert!(square(101).html().contains("too large"));
    }
}
