//! Times as the formats write them, into microseconds since the epoch.
//!
//! A parser of our own for the one shape that feeds send, because two times stand in
//! every event of the hot path. Promises the civil calendar of ISO 8601 (proleptic
//! Gregorian) for the years 0001 to 9999, and nothing that lacks an offset.

use crate::events::{DAY, HOUR, Micros, SECOND};

/// A time with what is known of its precision.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// The time; of a date, a month or a year its start in UTC.
    pub(super) at: Micros,
    /// Whether the source gave the second.
    pub(super) exact: bool,
}

/// Reads RFC 3339: `YYYY-MM-DDTHH:MM:SS[.f](Z|+hh:mm|-hh:mm)`, lower case `t` and `z` and a
/// space for the `T` included (section 5.6).
///
/// Digits beyond the microsecond are cut off. A leap second is read as the last microsecond
/// of its minute, and only stands at 23:59:60 UTC (section 5.7).
pub(super) fn parse_rfc3339(text: &str) -> Option<Micros> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't' | b' ', ref clock @ ..] = text.as_bytes() else {
        return None;
    };
    let &[h0, h1, b':', i0, i1, b':', s0, s1, ref rest @ ..] = clock else { return None };
    let day = days(two(y0, y1)? * 100 + two(y2, y3)?, two(m0, m1)?, two(d0, d1)?)?;
    let (hour, minute, second) = (two(h0, h1)?, two(i0, i1)?, two(s0, s1)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(rest)?;
    let midnight = day * DAY - offset(zone)?;
    if second == 60 {
        let next = midnight + hour * HOUR + (minute + 1) * 60 * SECOND;
        return (next % DAY == 0).then_some(next - 1);
    }
    Some(midnight + hour * HOUR + (minute * 60 + second) * SECOND + fraction)
}

/// Reads a FHIR `date`, `dateTime` or `instant` (R4, section 2.24.0.1): RFC 3339 where a time
/// of day stands, else `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, which need no offset.
pub(super) fn parse_fhir(text: &str) -> Option<Stamp> {
    let start = match *text.as_bytes() {
        [y0, y1, y2, y3] => days(two(y0, y1)? * 100 + two(y2, y3)?, 1, 1)?,
        [y0, y1, y2, y3, b'-', m0, m1] => days(two(y0, y1)? * 100 + two(y2, y3)?, two(m0, m1)?, 1)?,
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] => {
            days(two(y0, y1)? * 100 + two(y2, y3)?, two(m0, m1)?, two(d0, d1)?)?
        }
        _ => return parse_rfc3339(text).map(|at| Stamp { at, exact: true }),
    };
    Some(Stamp { at: start * DAY, exact: false })
}

/// Two decimal digits.
pub(super) fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Microseconds of `[.f]`, and what follows.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', tail @ ..] = rest else { return Some((0, rest)) };
    let digits = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, zone) = tail.split_at(digits);
    let kept = digits.iter().take(6).fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
    let missing = 6_usize.saturating_sub(digits.len()) as u32;
    (!digits.is_empty()).then_some((kept * 10_i64.pow(missing), zone))
}

/// Microseconds by which local time is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            let ahead = hours * HOUR + minutes * 60 * SECOND;
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

/// Days from 1970-01-01 to a civil date.
///
/// The year is counted from March, so that the leap day is its last; then a month's start is
/// `(153 m + 2) / 5` (H. Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
pub(super) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if year == 0 || day == 0 || day > length {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let century = year / 100;
    Some(365 * year + year / 4 - century + century / 4 + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, NaiveTime};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(parse_rfc3339("1970-01-01T01:30:00.5+01:30"), Some(SECOND / 2));
        assert_eq!(parse_rfc3339("1970-01-01t00:00:00.0000019-00:00"), Some(1));
        assert_eq!(parse_rfc3339("2000-02-29 00:00:00z"), Some(11_016 * DAY));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(-719_162 * DAY));
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59Z"), Some(253_402_300_799 * SECOND));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00,5Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00+00:60",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01T00:00:00Z ",
            "+2026-01-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "２026-01-01T00:00:00Z",
            "2026/01/01T00:00:00Z",
            "20260101T000000Z",
            "1767225600",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_end_of_its_minute() {
        let last = parse_rfc3339("2016-12-31T23:59:59.999999Z");
        assert!(last.is_some());
        assert_eq!(parse_rfc3339("2016-12-31T23:59:60Z"), last);
        assert_eq!(parse_rfc3339("2016-12-31T18:29:60.25-05:30"), last);
        assert_eq!(parse_rfc3339("2016-12-31T23:58:60Z"), None);
        assert_eq!(parse_rfc3339("2016-12-31T23:59:60+01:00"), None);
    }

    #[test]
    fn dates_are_read_as_their_start() {
        let date = |at| Some(Stamp { at, exact: false });
        assert_eq!(parse_fhir("1970"), date(0));
        assert_eq!(parse_fhir("1970-02"), date(31 * DAY));
        assert_eq!(parse_fhir("1970-02-03"), date(33 * DAY));
        assert_eq!(parse_fhir("1970-01-01T00:00:01Z"), Some(Stamp { at: SECOND, exact: true }));
        for text in ["", "197", "19 0", "1970-", "1970-2", "1970-02-30", "1970-01-01T00:00:01", "0000", "1970-00"] {
            assert_eq!(parse_fhir(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(
            day in -719_162_i32..2_932_897, second in 0_u32..86_400, fraction in "(\\.[0-9]{1,9})?",
            east in -1439_i32..1440, t in "[Tt ]", zulu in any::<bool>(),
        ) {
            let date = NaiveDate::from_num_days_from_ce_opt(day + 719_163).unwrap();
            let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap();
            let zone = if zulu {
                "Z".to_owned()
            } else {
                format!("{}{:02}:{:02}", if east < 0 { '-' } else { '+' }, east.abs() / 60, east.abs() % 60)
            };
            let text = format!("{date}{t}{time}{fraction}{zone}");
            let theirs = DateTime::parse_from_rfc3339(&text).unwrap().timestamp_micros();
            prop_assert_eq!(parse_rfc3339(&text), Some(theirs), "{}", text);
            prop_assert_eq!(parse_fhir(&text), Some(Stamp { at: theirs, exact: true }));
            prop_assert_eq!(parse_fhir(&date.to_string()), Some(Stamp { at: i64::from(day) * DAY, exact: false }));
        }

        #[test]
        fn never_reads_what_chrono_does_not(text in "[0-9]{4}-[0-9]{2}-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,3})?([Zz]|[+-][0-2][0-9]:[0-7][0-9])?") {
            if let Some(ours) = parse_rfc3339(&text) {
                let theirs = DateTime::parse_from_rfc3339(&text).unwrap();
                // chrono counts a leap second as a second of more than a second.
                prop_assert!(text[17..].starts_with("60") || ours == theirs.timestamp_micros(), "{}", text);
            }
        }

        #[test]
        fn any_text_is_read_or_not(text in ".{0,40}") {
            let _ = (parse_rfc3339(&text), parse_fhir(&text));
        }
    }
}
