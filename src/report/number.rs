//! Numbers as a reader likes them: sensible digits, thin separators, units with prefixes.

/// Narrow no-break space: between groups of digits, and between a number and its unit.
pub const THIN: char = '\u{202f}';

/// An integer in groups of three digits: `1 234 567`.
///
/// ```
/// assert_eq!(ransnn::report::number::grouped(1234567), "1\u{202f}234\u{202f}567");
/// ```
pub fn grouped(n: u64) -> String {
    group(&n.to_string())
}

fn group(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 2);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(THIN);
        }
        out.push(c);
    }
    out
}

/// A number with a fixed number of decimals; what is not finite is put in words.
///
/// ```
/// use ransnn::report::number::fixed;
/// assert_eq!(fixed(-0.126, 2), "−0.13");
/// assert_eq!(fixed(f64::NAN, 2), "not a number");
/// ```
pub fn fixed(x: f64, decimals: usize) -> String {
    if x.is_nan() {
        return "not a number".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "infinite" } else { "minus infinite" }.into();
    }
    let text = format!("{:.decimals$}", x.abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(w, r)| (w, Some(r)));
    let negative = x < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let sign = if negative { "−" } else { "" };
    match rest {
        Some(rest) => format!("{sign}{}.{rest}", group(whole)),
        None => format!("{sign}{}", group(whole)),
    }
}

/// Decimals that leave about `digits` significant ones for a number of this size, at most nine.
fn decimals(x: f64, digits: i32) -> usize {
    if x == 0.0 || !x.is_finite() {
        return 0;
    }
    (digits - 1 - x.abs().log10().floor() as i32).clamp(0, 9) as usize
}

/// A number with about `digits` significant digits, in powers of ten where it is very small or very large.
///
/// ```
/// use ransnn::report::number::significant;
/// assert_eq!(significant(0.012345, 3), "0.0123");
/// assert_eq!(significant(1.2e-7, 2), "1.2 × 10⁻⁷");
/// ```
pub fn significant(x: f64, digits: usize) -> String {
    let digits = digits.clamp(1, 17) as i32;
    if x == 0.0 || !x.is_finite() || (1e-4..1e7).contains(&x.abs()) {
        return fixed(x, decimals(x, digits));
    }
    let exponent = x.abs().log10().floor();
    // Powers below 1e-308 are not representable, so the scaling is done in two steps.
    let mantissa = x / 10f64.powf(exponent / 2.0) / 10f64.powf(exponent / 2.0);
    format!("{} × 10{}", fixed(mantissa, digits as usize - 1), superscript(exponent as i32))
}

/// An integer as a raised exponent.
pub(super) fn superscript(n: i32) -> String {
    n.to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            c => c.to_digit(10).and_then(|d| char::from_u32('⁰' as u32 + d)).unwrap_or(c),
        })
        .collect()
}

/// A fraction as a percentage with two decimals, unless it is not a number.
///
/// ```
/// assert_eq!(ransnn::report::number::percent(0.98765), "98.77\u{202f}%");
/// ```
pub fn percent(fraction: f64) -> String {
    unit(fraction, fixed(fraction * 100.0, 2), "%")
}

fn unit(x: f64, text: String, unit: &str) -> String {
    if x.is_finite() { format!("{text}{THIN}{unit}") } else { text }
}

/// A number with an SI prefix: `23.6 pJ`.
///
/// ```
/// assert_eq!(ransnn::report::number::prefixed(2.36e-11, "J"), "23.6\u{202f}pJ");
/// ```
pub fn prefixed(x: f64, symbol: &str) -> String {
    const PREFIXES: [(&str, f64); 9] = [
        ("G", 1e9),
        ("M", 1e6),
        ("k", 1e3),
        ("", 1.0),
        ("m", 1e-3),
        ("µ", 1e-6),
        ("n", 1e-9),
        ("p", 1e-12),
        ("f", 1e-15),
    ];
    if x == 0.0 || !x.is_finite() {
        return unit(x, fixed(x, 0), symbol);
    }
    // Slightly below one, so that 999.9996 becomes "1.00 k" and not "1000".
    let (prefix, scale) = *PREFIXES.iter().find(|p| x.abs() >= p.1 * 0.9995).unwrap_or(&("f", 1e-15));
    let value = x / scale;
    format!("{}{THIN}{prefix}{symbol}", fixed(value, decimals(value * 1.0005, 3).min(3)))
}

/// A duration: `45 ms`, `3.21 s`, `2 min 03 s`, `1 h 05 min`.
pub fn seconds(x: f64) -> String {
    match x {
        x if !x.is_finite() || x < 0.0 => unit(x, fixed(x, 2), "s"),
        x if x < 0.9995 => prefixed(x, "s"),
        x if x < 9.995 => format!("{}{THIN}s", fixed(x, 2)),
        x if x < 99.95 => format!("{}{THIN}s", fixed(x, 1)),
        x if x < 3599.5 => {
            let s = x.round() as u64;
            format!("{}{THIN}min {:02}{THIN}s", s / 60, s % 60)
        }
        x => {
            let minutes = (x / 60.0).round() as u64;
            format!("{}{THIN}h {:02}{THIN}min", grouped(minutes / 60), minutes % 60)
        }
    }
}

/// A size in memory, in binary units: `512 MiB`.
///
/// ```
/// assert_eq!(ransnn::report::number::bytes(1536.0), "1.50\u{202f}KiB");
/// ```
pub fn bytes(x: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if !x.is_finite() || x < 1000.0 {
        return unit(x, fixed(x, 0), "bytes");
    }
    let (mut value, mut name) = (x / 1024.0, UNITS[0]);
    for next in &UNITS[1..] {
        if value >= 999.5 {
            (value, name) = (value / 1024.0, next);
        }
    }
    format!("{}{THIN}{name}", fixed(value, decimals(value, 3).min(2)))
}

/// Arithmetic mean and sample standard deviation; the latter is `None` for fewer than two values.
pub fn mean_std(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.len() > 1)
        .then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    (mean, std)
}

/// "mean ± standard deviation" with the same decimals in both, about four significant digits in the mean.
/// Without a deviation, the mean alone.
pub fn plus_minus(mean: f64, std: Option<f64>) -> String {
    let decimals = decimals(mean, 4).min(4);
    match std {
        Some(std) if mean.is_finite() && std.is_finite() => {
            format!("{} ± {}", fixed(mean, decimals), fixed(std, decimals))
        }
        _ => fixed(mean, decimals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String) -> String {
        text.replace(THIN, " ")
    }

    #[test]
    fn groups_of_three() {
        assert_eq!(plain(grouped(0)), "0");
        assert_eq!(plain(grouped(999)), "999");
        assert_eq!(plain(grouped(1000)), "1 000");
        assert_eq!(plain(grouped(u64::MAX)), "18 446 744 073 709 551 615");
        assert_eq!(plain(fixed(-12345.678, 1)), "−12 345.7");
        assert_eq!(fixed(-0.001, 2), "0.00", "no negative zero");
    }

    #[test]
    fn significant_digits() {
        assert_eq!(significant(0.0, 3), "0");
        assert_eq!(significant(1.0, 3), "1.00");
        assert_eq!(plain(significant(123456.0, 3)), "123 456");
        assert_eq!(significant(3.2e12, 2), "3.2 × 10¹²");
        assert_eq!(significant(-5e-300, 2), "−5.0 × 10⁻³⁰⁰");
        assert_eq!(significant(f64::NEG_INFINITY, 2), "minus infinite");
    }

    #[test]
    fn units() {
        assert_eq!(plain(prefixed(0.000236, "J")), "236 µJ");
        assert_eq!(plain(prefixed(999.9996, "J")), "1.00 kJ");
        assert_eq!(plain(prefixed(10_400_000.0, "")), "10.4 M");
        assert_eq!(plain(prefixed(0.0, "J")), "0 J");
        assert_eq!(prefixed(f64::NAN, "J"), "not a number");
        assert_eq!(plain(seconds(0.0452)), "45.2 ms");
        assert_eq!(plain(seconds(3.2149)), "3.21 s");
        assert_eq!(plain(seconds(123.4)), "2 min 03 s");
        assert_eq!(plain(seconds(3600.0 * 26.0 + 300.0)), "26 h 05 min");
        assert_eq!(plain(seconds(0.0)), "0 s");
        assert_eq!(plain(bytes(999.0)), "999 bytes");
        assert_eq!(plain(bytes(512.0 * 1024.0 * 1024.0)), "512 MiB");
        assert_eq!(plain(bytes(1.5e9)), "1.40 GiB");
        assert_eq!(percent(f64::NAN), "not a number");
    }

    #[test]
    fn mean_and_deviation() {
        let (mean, std) = mean_std(&[0.98, 0.99, 1.0]);
        assert!((mean - 0.99).abs() < 1e-12 && (std.unwrap() - 0.01).abs() < 1e-12);
        assert_eq!(mean_std(&[0.5]), (0.5, None));
        assert!(mean_std(&[]).0.is_nan());
        assert_eq!(plus_minus(98.87432, Some(0.04123)), "98.87 ± 0.04");
        assert_eq!(plain(plus_minus(9812.4, Some(3.2))), "9 812 ± 3");
        assert_eq!(plus_minus(f64::NAN, Some(1.0)), "not a number");
    }
}
