//! Spans of time as ACES writes them: the language of `pytimeparse`.
//!
//! `24h`, `2 hours`, `365 days`, `1 day, 14:20:16`, `1w 2d 3h`, `1.5 hours`, `4:30`
//! (minutes and seconds), `2:04:30`, `1:02:04:30`, `:30`. Exact: fractions are carried in
//! billionths of a second, and cut to whole seconds unless the seconds themselves have a
//! fraction, as upstream does.

use crate::events::Micros;

/// Seconds of each unit, in the order in which they must come, with all its spellings.
const UNITS: [(i128, &[&str]); 5] = [
    (604_800, &["weeks", "week", "wks", "wk", "w"]),
    (86_400, &["days", "day", "dys", "dy", "d"]),
    (3_600, &["hours", "hour", "hrs", "hr", "h"]),
    (60, &["minutes", "minute", "mins", "min", "m"]),
    (1, &["seconds", "second", "secs", "sec", "s"]),
];
/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;
/// About a thousand years: a longer span is a slip of the finger.
const LONGEST: i128 = 366_000 * 86_400 * SECOND;

/// A span without sign in microseconds; `None` if it is none, or longer than a thousand years.
pub(super) fn parse(text: &str) -> Option<Micros> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    let nanos = by_units(&text).or_else(|| by_clock(&text))?;
    (nanos <= LONGEST).then(|| Micros::try_from(nanos / 1_000).ok()).flatten()
}

/// `1w 2d, 3 hours`: every unit at most once, the larger first.
fn by_units(text: &str) -> Option<i128> {
    let (sum, rest) = units(text, &UNITS)?;
    rest.is_empty().then_some(sum)
}

/// Reads as many of `units` as there are; the sum and what is left.
fn units<'a>(mut rest: &'a str, units: &[(i128, &[&str])]) -> Option<(i128, &'a str)> {
    let (mut whole, mut seconds_have_fraction) = (0, false);
    for (seconds, names) in units {
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let after = rest[number..].trim_start();
        let Some(name) = names.iter().find(|name| after.starts_with(**name)) else { continue };
        if number == 0 {
            return None;
        }
        whole += decimal(&rest[..number])?.checked_mul(*seconds)?;
        seconds_have_fraction |= *seconds == 1 && rest[..number].contains('.');
        rest = after[name.len()..].trim_start();
        if *seconds != 1 {
            rest = rest.strip_prefix([',', '/']).unwrap_or(rest).trim_start();
        }
    }
    Some((if seconds_have_fraction { whole } else { whole / SECOND * SECOND }, rest))
}

/// `4:30`, `2:04:30`, `1 day, 2:04:30`, `1:02:04:30`, `1-02:04:30`, `:30`.
fn by_clock(text: &str) -> Option<i128> {
    let (larger, clock) = units(text, &UNITS[..2])?;
    let normal = clock.replacen('-', ":", 1);
    let fields: Vec<&str> = normal.split(':').collect();
    let whole = |text: &str, widths: std::ops::RangeInclusive<usize>| -> Option<i128> {
        let digits = widths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let seconds = |text: &str| -> Option<i128> {
        let (head, fraction) = text.split_once('.').unwrap_or((text, "0"));
        whole(head, 2..=2)?;
        if fraction.is_empty() { None } else { decimal(text) }
    };
    let has_dash = clock.contains('-');
    let clock = match fields.as_slice() {
        [d, h, m, s] if larger == 0 => {
            seconds(s)? + SECOND * (whole(d, 1..=9)? * 86_400 + whole(h, 2..=2)? * 3_600 + whole(m, 2..=2)? * 60)
        }
        [h, m, s] if !has_dash => seconds(s)? + SECOND * (whole(h, 1..=9)? * 3_600 + whole(m, 2..=2)? * 60),
        ["", s] if !has_dash && larger == 0 => seconds(s)?,
        [m, s] if !has_dash && larger == 0 => seconds(s)? + SECOND * whole(m, 1..=2)? * 60,
        _ => return None,
    };
    Some(larger + clock)
}

/// A decimal number in billionths, digits beyond the ninth cut off.
fn decimal(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 15 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let ninth: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    Some(whole * SECOND + ninth.parse::<i128>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// Values of pytimeparse 1.1.8.
    #[test]
    fn spans_are_read_as_pytimeparse_reads_them() {
        let seconds = |text| parse(text).map(|us| us as f64 / 1e6);
        for (text, expected) in [
            ("24h", 86_400.0),
            ("2 hours", 7_200.0),
            ("365 days", 31_536_000.0),
            ("1 day, 14:20:16", 138_016.0),
            ("1 days 2 hours 3 minutes 4 seconds", 93_784.0),
            ("1w2d3h4m5s", 788_645.0),
            ("1 week", 604_800.0),
            ("4.1m", 246.0),
            ("1.2 minutes", 72.0),
            ("1.2 seconds", 1.2),
            ("1.001m", 60.0),
            ("4:30", 270.0),
            ("2:04:30", 7_470.0),
            ("1:02:04:30", 93_870.0),
            ("1-02:04:30", 93_870.0),
            (":30", 30.0),
            ("2 HRS / 5 min", 7_500.0),
            ("0h", 0.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for wrong in
            ["", "h", "24", "1 month", "1.2.3h", ".", "2h 1d", "1h 1h", "4:3", "1d 4:30", "-1h", "99999999d", "é"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
