//! Numbers as people read them.

/// Counts: `950`, `12.3 k`, `1.24 M`.
pub fn count(number: u64) -> String {
    scaled(number as f64, 1000.0, &["", " k", " M", " G", " T"])
}

/// Bytes, in steps of 1024.
pub fn bytes(number: u64) -> String {
    scaled(
        number as f64,
        1024.0,
        &[" B", " KiB", " MiB", " GiB", " TiB"],
    )
}

fn scaled(number: f64, step: f64, names: &[&str]) -> String {
    let (mut number, mut at) = (number, 0);
    while number >= step * 0.9995 && at + 1 < names.len() {
        number /= step;
        at += 1;
    }
    let name = names.get(at).copied().unwrap_or_default();
    if at == 0 {
        format!("{number:.0}{name}")
    } else {
        format!("{}{name}", three(number))
    }
}

/// Three digits.
fn three(number: f64) -> String {
    match number.abs() {
        n if n >= 99.95 => format!("{number:.0}"),
        n if n >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Milliseconds, in the unit that fits.
pub fn milliseconds(number: f64) -> String {
    match number {
        n if n < 0.9995 => format!("{} µs", three(n * 1e3)),
        n if n < 999.5 => format!("{} ms", three(n)),
        n => format!("{} s", three(n / 1e3)),
    }
}

/// Seconds, in the unit that fits.
pub fn seconds(number: f64) -> String {
    milliseconds(number * 1e3)
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Small numbers over many magnitudes.
pub fn error(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        n if (1e-3..1e4).contains(&n) => format!("{number:.4}"),
        _ => format!("{number:.1e}"),
    }
}

/// The ratio of what remains, `0.52×`; empty where there is nothing to compare with.
pub fn ratio(after: f64, before: f64) -> String {
    if before > 0.0 && before.is_finite() && after.is_finite() {
        format!("{:.2}×", after / before)
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 950, 12_345, 999_999, 1_240_000].map(count),
            ["0", "950", "12.3 k", "1.00 M", "1.24 M"]
        );
        assert_eq!(
            [12, 2048, 538_000].map(bytes),
            ["12 B", "2.00 KiB", "525 KiB"]
        );
        assert_eq!(
            [0.0123, 4.2, 1500.0].map(milliseconds),
            ["12.3 µs", "4.20 ms", "1.50 s"]
        );
        assert_eq!([0.0, 2.5e-7, 0.0312].map(error), ["0", "2.5e-7", "0.0312"]);
        assert_eq!(
            (ratio(1.0, 2.0), ratio(1.0, 0.0)),
            ("0.50×".to_owned(), String::new())
        );
    }
}
