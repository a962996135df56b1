//! Spans of time as people write them: `500ms`, `30s`, `15min`, `8h`, `7d`.

use std::time::Duration;

const UNITS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("min", 60_000_000), ("s", 1_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// Reads a span: a whole number and one of us, ms, s, min (or m), h, d. `None` if it is no span.
pub fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let unit = if unit == "m" { "min" } else { unit };
    let micros = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    // Beyond a thousand years a span is a slip of the finger.
    number.checked_mul(micros).filter(|us| *us <= 366_000 * 86_400_000_000).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_a_number_and_a_unit() {
        assert_eq!(parse_span("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_span("15min"), parse_span("15m"));
        assert_eq!(parse_span("48h"), parse_span("2d"));
        for wrong in ["", "h", "-1h", "1.5h", "8 weeks", "99999999999999999999d", "9999999999d", "8é"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }
}
