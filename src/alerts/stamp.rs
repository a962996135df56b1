//! Times and spans as ISO 8601 writes them, without a round through a calendar library:
//! a score is written for every prediction.

use std::fmt;
use std::str;

use serde::{Serialize, Serializer, ser};

use crate::events::{DAY, Micros, SECOND};

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: RFC 3339 has no other years.
const RANGE: (Micros, Micros) = (-62_167_219_200 * SECOND, 253_402_300_800 * SECOND - 1);

/// A time that is written as RFC 3339 in UTC: `2026-01-03T00:00:00Z`, with six decimals if it
/// has a fraction. A time outside the years 0 to 9999 is written as the nearest inside.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Stamp(pub(super) Micros);

impl Stamp {
    fn digits(self) -> ([u8; 27], usize) {
        let at = self.0.clamp(RANGE.0, RANGE.1);
        let (year, month, day) = civil(at.div_euclid(DAY));
        let micros = at.rem_euclid(DAY);
        let (seconds, fraction) = (micros / SECOND, micros % SECOND);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (end, width, mut number) in [
            (4, 4, year),
            (7, 2, month),
            (10, 2, day),
            (13, 2, seconds / 3600),
            (16, 2, seconds / 60 % 60),
            (19, 2, seconds % 60),
            (26, 6, fraction),
        ] {
            for place in (end - width..end).rev() {
                text[place] = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        if fraction == 0 {
            text[19] = b'Z';
            return (text, 20);
        }
        (text, 27)
    }
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar
/// (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, length) = self.digits();
        f.write_str(str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (text, length) = self.digits();
        serializer.serialize_str(str::from_utf8(&text[..length]).map_err(ser::Error::custom)?)
    }
}

/// A span that is written as an ISO 8601 duration in hours, minutes and seconds: `PT24H`.
/// A negative one is written as none.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) struct Span(pub(super) Micros);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, fraction) = (self.0.max(0) / SECOND, self.0.max(0) % SECOND);
        f.write_str("PT")?;
        if seconds >= 3600 {
            write!(f, "{}H", seconds / 3600)?;
        }
        if seconds / 60 % 60 > 0 {
            write!(f, "{}M", seconds / 60 % 60)?;
        }
        match (seconds % 60, fraction) {
            (0, 0) if seconds > 0 => Ok(()),
            (rest, 0) => write!(f, "{rest}S"),
            (rest, fraction) => write!(f, "{rest}.{fraction:06}S"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_iso_8601() {
        for (micros, text) in [
            (0, "PT0S"),
            (-1, "PT0S"),
            (86_400_000_000, "PT24H"),
            (5_400_000_000, "PT1H30M"),
            (3_601_500_000, "PT1H1.500000S"),
            (90_000_000, "PT1M30S"),
        ] {
            assert_eq!(Span(micros).to_string(), text);
        }
    }

    #[test]
    fn times_beyond_the_calendar_stay_four_digit_years() {
        assert_eq!(Stamp(Micros::MAX).to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Stamp(Micros::MIN).to_string(), "0000-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn times_are_as_chrono_writes_them(seconds in -62_167_219_200_i64..253_402_300_800, fraction in 0..SECOND) {
            for at in [seconds * SECOND, seconds * SECOND + fraction] {
                let format = if at % SECOND == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
                let expected = DateTime::from_timestamp_micros(at).unwrap().to_rfc3339_opts(format, true);
                prop_assert_eq!(Stamp(at).to_string(), expected);
            }
        }
    }
}
