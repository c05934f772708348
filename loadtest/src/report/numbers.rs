//! Figures as people read them.

/// For a cell: all digits of a whole number in groups of three, else four significant ones.
pub(super) fn grouped(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let decimals = decimals(value);
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let sign = if value < 0.0 { "-" } else { "" };
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", in_threes(whole))
}

fn decimals(value: f64) -> usize {
    let magnitude = value.abs();
    if value.fract() == 0.0 || magnitude >= 1000.0 {
        0
    } else if magnitude >= 1.0 {
        3 - magnitude.log10() as usize
    } else {
        4
    }
}

fn in_threes(digits: &str) -> String {
    let head = digits.len() % 3;
    let (first, rest) = digits.split_at(head);
    let groups = rest.as_bytes().chunks(3).map(|group| std::str::from_utf8(group).expect("digits are ASCII"));
    let groups: Vec<&str> = Some(first).filter(|first| !first.is_empty()).into_iter().chain(groups).collect();
    groups.join(",")
}

/// For a tick: at most three digits and a prefix of the SI.
pub(super) fn short(value: f64) -> String {
    const PREFIXES: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let prefix = PREFIXES.into_iter().find(|(unit, _)| value.abs() >= *unit);
    let (unit, letter) = prefix.unwrap_or((1.0, ""));
    format!("{}{letter}", rounded(value / unit))
}

/// Free of the tails that steps such as 0.1 leave.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_keep_all_digits_in_groups() {
        assert_eq!(
            [0.0, 7.0, 999.0, 1000.0, 880_000.0, -1_234_567.0].map(grouped),
            ["0", "7", "999", "1,000", "880,000", "-1,234,567"]
        );
    }

    #[test]
    fn fractions_keep_four_digits() {
        assert_eq!(
            [5.1234, 24.5, 0.913_44, 123.456, 65_432.1].map(grouped),
            ["5.123", "24.5", "0.9134", "123.5", "65,432"]
        );
        assert_eq!(grouped(f64::NAN), "-");
    }

    #[test]
    fn ticks_carry_a_prefix() {
        assert_eq!([0.0, 0.05, 250.0, 1500.0, 2e6, 3e9].map(short), ["0", "0.05", "250", "1.5k", "2M", "3G"]);
        assert_eq!(short(0.1 + 0.2), "0.3");
    }
}
