//! Times of HL7 v2: `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]` (chapter 2A, section 2.A.22, DTM).
//!
//! A time without an offset is of the site's zone. A date has no zone: like a FHIR date it is read
//! as its start in UTC, so that one birthday or onset is the same event from both.

use chrono::{DateTime, Duration, LocalResult, Offset, TimeZone};
use chrono_tz::Tz;

use super::super::time::{Stamp, days, parse_fhir, two};
use crate::events::{DAY, HOUR, Micros, SECOND};

/// Digits of a time up to its second.
const SECONDS: usize = 14;

/// What a time says, before its zone is known.
struct Parts {
    /// Microseconds since the epoch of the clock on the wall.
    local: Micros,
    /// Digits that stand before the fraction: 4, 6, 8, 10, 12 or 14.
    digits: usize,
    /// By how much the wall is ahead of UTC.
    offset: Option<Micros>,
}

/// Reads a time; `None` if it is none.
pub(super) fn parse(text: &str, zone: Tz) -> Option<Stamp> {
    let parts = parts(text)?;
    if parts.digits <= 8 {
        return Some(Stamp { at: parts.local, exact: false });
    }
    let ahead = parts.offset.or_else(|| ahead(parts.local, zone))?;
    Some(Stamp { at: parts.local - ahead, exact: parts.digits == SECONDS })
}

/// Reads a time that may be in another writing, of ISO 8601 with an offset or with a fraction without its point, and
/// says whether it is.
pub(super) fn parse_any(text: &str, zone: Tz) -> Option<(Stamp, bool)> {
    if let Some(stamp) = parse(text, zone) {
        return Some((stamp, false));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let other = match text.split_at_checked(SECONDS) {
        Some((start, fraction)) if digits > SECONDS => parse(&format!("{start}.{fraction}"), zone),
        _ => parse_fhir(text),
    };
    other.map(|stamp| (stamp, true))
}

/// The date that stands in a time, whatever the hour and the zone: of a birthday.
pub(super) fn date(text: &str) -> Option<Stamp> {
    let parts = parts(text)?;
    Some(Stamp { at: parts.local - parts.local.rem_euclid(DAY), exact: false })
}

/// A time as FHIR writes it (R4, section 2.24.0.1): the precision of the source, and an offset where there is a
/// time of day.
pub(super) fn iso(text: &str, zone: Tz) -> Option<String> {
    let parts = parts(text)?;
    let at = DateTime::from_timestamp_micros(parts.local)?;
    let date = match parts.digits {
        4 => at.format("%Y"),
        6 => at.format("%Y-%m"),
        8 => at.format("%Y-%m-%d"),
        _ => at.format("%Y-%m-%dT%H:%M:%S%.f"),
    };
    if parts.digits <= 8 {
        return Some(date.to_string());
    }
    let ahead = parts.offset.or_else(|| ahead(parts.local, zone))? / (60 * SECOND);
    let sign = if ahead < 0 { '-' } else { '+' };
    Some(format!("{date}{sign}{:02}:{:02}", ahead.abs() / 60, ahead.abs() % 60))
}

/// A time of day (TM, section 2.A.75) as FHIR writes it.
pub(super) fn time_of_day(text: &str) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (clock, _) = text.split_at(digits);
    let &[h0, h1, ref rest @ ..] = clock.as_bytes() else { return None };
    let pair = |pair: &[u8]| match *pair {
        [] => Some(0),
        [a, b, ..] => two(a, b),
        [_] => None,
    };
    let (minute, second) = (pair(rest)?, pair(rest.get(2..).unwrap_or_default())?);
    let hour = two(h0, h1)?;
    (hour < 24 && minute < 60 && second < 60).then(|| format!("{hour:02}:{minute:02}:{second:02}"))
}

fn parts(text: &str) -> Option<Parts> {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (written, rest) = bytes.split_at(digits);
    let pair = |at: usize| match (written.get(at), written.get(at + 1)) {
        (Some(a), Some(b)) => two(*a, *b),
        _ => None,
    };
    let or = |at: usize, absent: i64| if digits > at { pair(at) } else { Some(absent) };
    if !matches!(digits, 4 | 6 | 8 | 10 | 12 | SECONDS) {
        return None;
    }
    let day = days(pair(0)? * 100 + pair(2)?, or(4, 1)?, or(6, 1)?)?;
    let (hour, minute, second) = (or(8, 0)?, or(10, 0)?, or(12, 0)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest {
        [b'.', rest @ ..] => {
            let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (fraction, zone) = rest.split_at(count);
            let kept = fraction.iter().chain([b'0'; 6].iter()).take(6);
            (kept.fold(0, |sum, b| sum * 10 + i64::from(b - b'0')), zone)
        }
        _ => (0, rest),
    };
    // A leap second is the last microsecond of its minute.
    let second = if second == 60 { 60 * SECOND - 1 } else { second * SECOND + fraction };
    Some(Parts { local: day * DAY + hour * HOUR + minute * 60 * SECOND + second, digits, offset: offset(zone)? })
}

/// `+ZZZZ` or `-ZZZZ`, or nothing.
fn offset(zone: &[u8]) -> Option<Option<Micros>> {
    match *zone {
        [] => Some(None),
        [b'Z'] => Some(Some(0)),
        [sign @ (b'+' | b'-'), h0, h1, m0, m1] | [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            let ahead = hours * HOUR + minutes * 60 * SECOND;
            (hours < 24 && minutes < 60).then_some(Some(if sign == b'-' { -ahead } else { ahead }))
        }
        _ => None,
    }
}

/// By how much the wall of a zone is ahead of UTC. An hour that comes twice is the earlier of the two; a time in
/// an hour that is left out is moved forward by what was left out.
fn ahead(local: Micros, zone: Tz) -> Option<Micros> {
    if zone == Tz::UTC {
        return Some(0);
    }
    let wall = DateTime::from_timestamp_micros(local)?.naive_utc();
    let offset = match zone.offset_from_local_datetime(&wall) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
        // The offset of the day before, which held up to the gap.
        LocalResult::None => zone.offset_from_utc_datetime(&wall.checked_sub_signed(Duration::hours(26))?),
    };
    Some(i64::from(offset.fix().local_minus_utc()) * SECOND)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::time::parse_rfc3339;
    use super::*;

    fn at(text: &str, zone: Tz) -> Option<i64> {
        parse(text, zone).map(|stamp| stamp.at)
    }

    #[test]
    fn precision_and_offset() {
        let utc = Tz::UTC;
        assert_eq!(parse("19700101", utc), Some(Stamp { at: 0, exact: false }));
        assert_eq!(parse("1970", utc), Some(Stamp { at: 0, exact: false }));
        assert_eq!(parse("197002", utc), Some(Stamp { at: 31 * DAY, exact: false }));
        assert_eq!(parse("1970010101", utc), Some(Stamp { at: HOUR, exact: false }));
        assert_eq!(parse("197001010100", utc), Some(Stamp { at: HOUR, exact: false }));
        assert_eq!(parse("19700101010000", utc), Some(Stamp { at: HOUR, exact: true }));
        assert_eq!(at("19700101010000.5", utc), Some(HOUR + SECOND / 2));
        assert_eq!(at("19700101010000.1234+0100", utc), Some(123_400));
        assert_eq!(at("197001010000-0500", Tz::Europe__Berlin), Some(5 * HOUR));
        assert_eq!(at("198808181126+0215", utc), parse_rfc3339("1988-08-18T11:26:00+02:15"));
        assert_eq!(at("19700101", Tz::Asia__Tokyo), Some(0), "a date has no zone");
        for bad in [
            "",
            "197",
            "19701",
            "19701301",
            "20260229",
            "1970010124",
            "197001010060",
            "1970-01",
            "19700101+01",
            "19700101000000+2400",
            "00000000",
            "19700101 ",
            "x",
        ] {
            assert_eq!(at(bad, utc), None, "{bad}");
        }
        assert_eq!(parse_any("2021-01-15T16:00:10Z", utc).map(|(_, iso)| iso), Some(true));
        assert_eq!(parse_any("20210115160010", utc).map(|(_, iso)| iso), Some(false));
        assert_eq!(parse_any("yesterday", utc), None);
        let hundredths = parse_any("2004062916580050-0500", utc).unwrap();
        assert_eq!(Some(hundredths.0.at), parse_rfc3339("2004-06-29T16:58:00.5-05:00"));
        assert!(hundredths.1);
    }

    #[test]
    fn clocks_that_change() {
        let berlin = Tz::Europe__Berlin;
        let expect = |text: &str, utc: &str| assert_eq!(at(text, berlin), parse_rfc3339(utc), "{text}");
        expect("20260115120000", "2026-01-15T11:00:00Z");
        expect("20260715120000", "2026-07-15T10:00:00Z");
        expect("20261025023000", "2026-10-25T00:30:00Z");
        expect("20261025033000", "2026-10-25T02:30:00Z");
        expect("20260329023000", "2026-03-29T01:30:00Z");
        expect("20260329030000", "2026-03-29T01:00:00Z");
        assert_eq!(at("20111230120000", Tz::Pacific__Apia), parse_rfc3339("2011-12-30T22:00:00Z"), "a day left out");
    }

    #[test]
    fn as_fhir_writes_it() {
        let berlin = Tz::Europe__Berlin;
        for (text, iso8601) in [
            ("2021", "2021"),
            ("202108", "2021-08"),
            ("20210818", "2021-08-18"),
            ("20150818060605-0500", "2015-08-18T06:06:05-05:00"),
            ("202107150800", "2021-07-15T08:00:00+02:00"),
            ("20210115080000.25", "2021-01-15T08:00:00.250+01:00"),
        ] {
            assert_eq!(iso(text, berlin).as_deref(), Some(iso8601));
        }
        assert_eq!(time_of_day("0830").as_deref(), Some("08:30:00"));
        assert_eq!(time_of_day("083015.1+0100").as_deref(), Some("08:30:15"));
        assert_eq!((time_of_day("8"), time_of_day("2460"), time_of_day("0860")), (None, None, None));
    }

    proptest! {
        #[test]
        fn agrees_with_rfc3339(day in 0_i64..30_000, second in 0_i64..86_400, ahead in -720_i64..720) {
            let at = DateTime::from_timestamp_micros(day * DAY + second * SECOND).unwrap();
            let sign = if ahead < 0 { '-' } else { '+' };
            let (h, m) = (ahead.abs() / 60, ahead.abs() % 60);
            let hl7 = format!("{}{sign}{h:02}{m:02}", at.format("%Y%m%d%H%M%S"));
            let rfc = format!("{}{sign}{h:02}:{m:02}", at.format("%Y-%m-%dT%H:%M:%S"));
            prop_assert_eq!(parse(&hl7, Tz::UTC).map(|s| s.at), parse_rfc3339(&rfc));
            prop_assert_eq!(iso(&hl7, Tz::UTC), Some(rfc));
        }

        #[test]
        fn any_text(text in "[0-9]{0,16}[.+-]?[0-9:Z]{0,6}", zone in 0_usize..4) {
            let zone = [Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Australia__Lord_Howe][zone];
            let _ = (parse_any(&text, zone), iso(&text, zone), date(&text), time_of_day(&text));
        }
    }
}
