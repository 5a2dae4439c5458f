//! Numbers in units that people read.

/// `950`, `1.2 k`, `3.4 M`, `5.6 G`.
pub fn count(number: u64) -> String {
    scaled(number as f64, &["", "k", "M", "G", "T", "P"])
}

/// `950 B`, `1.2 kB`, `3.4 MB` (powers of 1000).
pub fn bytes(number: u64) -> String {
    scaled(number as f64, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// `0.123 ms`, `12.3 ms`, `1.23 s`.
pub fn milliseconds(number: f64) -> String {
    if number < 1000.0 { format!("{} ms", three_digits(number)) } else { seconds(number / 1000.0) }
}

/// `0.12 s`, `12.3 s`, `2 min 5 s`.
pub fn seconds(number: f64) -> String {
    if number < 0.0995 {
        format!("{} ms", three_digits(number * 1000.0))
    } else if number < 119.5 {
        format!("{} s", three_digits(number))
    } else {
        let whole = number.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

/// A share of a whole: `48 %`, `0.4 %`, `99.96 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = match percent.abs() {
        _ if !percent.is_finite() => return "–".into(),
        0.0 => 0,
        size if size < 9.95 => 1,
        size if size > 99.0 && (size - size.round()).abs() > 0.005 => 2,
        _ => 0,
    };
    format!("{percent:.digits$} %")
}

/// A small number with two digits that count: `0.021`, `3.1e-7`, `12`.
pub fn number(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".into()
    } else if !number.is_finite() {
        "–".into()
    } else if !(1e-4..1e6).contains(&size) {
        format!("{number:.1e}")
    } else if size < 1.0 {
        let leading = (-size.log10()).floor() as usize;
        let text = format!("{number:.*}", leading + 2);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        three_digits(number)
    }
}

fn scaled(number: f64, units: &[&str]) -> String {
    let mut value = number;
    let mut unit = 0;
    // 999.95 would print as 1000.
    while value >= if unit == 0 { 1000.0 } else { 999.5 } && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let text = if unit == 0 { format!("{value:.0}") } else { three_digits(value) };
    let name = units.get(unit).copied().unwrap_or("");
    if name.is_empty() { text } else { format!("{text} {name}") }
}

fn three_digits(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => format!("{number:.0}"),
        size if size >= 9.995 => format!("{number:.1}"),
        size if size >= 0.9995 => format!("{number:.2}"),
        0.0 => "0".into(),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_units() {
        let counts: Vec<String> = [0, 999, 1000, 1234, 25_557_032, 999_999_999].into_iter().map(count).collect();
        assert_eq!(counts, ["0", "999", "1.00 k", "1.23 k", "25.6 M", "1.00 G"]);
        assert_eq!((bytes(512), bytes(3_400_000)), ("512 B".into(), "3.40 MB".into()));
        assert_eq!((milliseconds(12.34), milliseconds(0.1), milliseconds(1234.0)), ("12.3 ms".into(), "0.100 ms".into(), "1.23 s".into()));
        assert_eq!((seconds(0.0123), seconds(125.0)), ("12.3 ms".into(), "2 min 5 s".into()));
        let shares: Vec<String> = [0.0, 0.0042, 0.481, 0.9996, 1.0].into_iter().map(percent).collect();
        assert_eq!(shares, ["0 %", "0.4 %", "48 %", "99.96 %", "100 %"]);
        let numbers: Vec<String> = [0.0, 0.02, 0.0213, 3.12e-7, 12.0, f64::NAN].into_iter().map(number).collect();
        assert_eq!(numbers, ["0", "0.02", "0.021", "3.1e-7", "12.0", "–"]);
    }
}
