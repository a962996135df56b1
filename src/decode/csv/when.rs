//! Times as tables write them: by a pattern, in a zone, or as a time since something.

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone as _};
use chrono_tz::Tz;

use super::super::time::parse_rfc3339;
use super::number;
use crate::events::Micros;

/// Farthest time that is read, in microseconds from the epoch: the year 9999.
const FARTHEST: f64 = 253_402_300_799e6;

/// How a cell says a time.
#[derive(Clone, PartialEq, Debug)]
pub enum Clock {
    /// RFC 3339 with an offset.
    Rfc3339,
    /// A pattern.
    Pattern(Pattern),
    /// A number of units since `start`.
    Since {
        /// What is counted from.
        start: Micros,
        /// The unit, in microseconds.
        unit: f64,
    },
    /// `hh:mm` or `hh:mm:ss` since `start`, any number of hours.
    HoursSince(Micros),
}

/// A pattern of strftime, as chrono reads it.
#[derive(Clone, PartialEq, Debug)]
pub struct Pattern {
    items: Vec<Item<'static>>,
    shape: Shape,
    zone: Option<Tz>,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Shape {
    Offset,
    Local,
    Date,
}

impl Pattern {
    /// Prepares a pattern; times that name no offset are of `zone`.
    ///
    /// # Errors
    /// What is wrong with the pattern.
    pub fn new(pattern: &str, zone: Option<Tz>) -> Result<Self, &'static str> {
        const NO_DATE: &str = "does not name a whole date (such as %Y-%m-%d), or an hour without a minute";
        let items = StrftimeItems::new(pattern).parse_to_owned().map_err(|_| "is no pattern of strftime")?;
        // What a time becomes and says again shows what the pattern holds of it.
        let date = NaiveDate::from_ymd_opt(2001, 2, 3).ok_or(NO_DATE)?;
        let sample = NaiveDateTime::new(date, NaiveTime::from_hms_opt(4, 5, 6).ok_or(NO_DATE)?).and_utc();
        let text = sample.fixed_offset().format_with_items(items.iter()).to_string();
        let mut parsed = Parsed::new();
        parse(&mut parsed, &text, items.iter()).map_err(|_| NO_DATE)?;
        if parsed.to_naive_date() != Ok(date) {
            return Err(NO_DATE);
        }
        let shape = match (parsed.to_naive_time().is_ok(), parsed.offset(), parsed.hour_mod_12()) {
            (true, Some(_), _) => Shape::Offset,
            (true, None, _) => Shape::Local,
            (false, _, None) => Shape::Date,
            (false, _, Some(_)) => return Err(NO_DATE),
        };
        match (shape, zone) {
            (Shape::Offset, Some(_)) => Err("names the offset itself, and so needs no zone"),
            (Shape::Local | Shape::Date, None) => Err("names no offset, and so needs a zone"),
            _ => Ok(Pattern { items, shape, zone }),
        }
    }

    fn read(&self, cell: &str) -> Option<DateTime<chrono::Utc>> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, cell, self.items.iter()).ok()?;
        let local = match self.shape {
            Shape::Offset => return parsed.to_datetime().ok().map(|at| at.to_utc()),
            Shape::Local => NaiveDateTime::new(parsed.to_naive_date().ok()?, parsed.to_naive_time().ok()?),
            Shape::Date => NaiveDateTime::new(parsed.to_naive_date().ok()?, NaiveTime::MIN),
        };
        match self.zone?.from_local_datetime(&local) {
            // Of an hour that a clock shows twice the first is taken.
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
            LocalResult::None => None,
        }
    }
}

impl Clock {
    /// The time of a cell; `None` if it is none.
    pub(super) fn read(&self, cell: &str, decimal: char) -> Option<Micros> {
        match self {
            Clock::Rfc3339 => parse_rfc3339(cell),
            Clock::Pattern(pattern) => {
                pattern.read(cell).map(|at| at.timestamp_micros()).filter(|at| (*at as f64).abs() <= FARTHEST)
            }
            Clock::Since { start, unit } => add(*start, number(cell, decimal)? * unit),
            Clock::HoursSince(start) => {
                let mut parts = cell.split(':');
                let hours: u32 = digits(parts.next()?)?;
                let minutes = digits(parts.next()?).filter(|minutes| *minutes < 60)?;
                let seconds = match parts.next() {
                    Some(seconds) => digits(seconds).filter(|seconds| *seconds < 60)?,
                    None => 0,
                };
                let seconds = f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0 + f64::from(seconds);
                if parts.next().is_some() { None } else { add(*start, seconds * 1e6) }
            }
        }
    }
}

fn digits(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn add(start: Micros, micros: f64) -> Option<Micros> {
    let at = start as f64 + micros;
    // A sum of doubles would lose microseconds.
    (at.abs() <= FARTHEST).then(|| start.saturating_add(micros.round() as Micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{HOUR, SECOND};

    fn pattern(pattern: &str, zone: Option<&str>) -> Result<Clock, &'static str> {
        Pattern::new(pattern, zone.map(|zone| zone.parse().unwrap())).map(Clock::Pattern)
    }

    #[test]
    fn patterns_read_dates_and_times_in_their_zone() {
        let berlin = Some("Europe/Berlin");
        for (form, zone, cell, expected) in [
            ("%Y-%m-%d %H:%M:%S", berlin, "2026-07-01 02:00:00", "2026-07-01T00:00:00Z"),
            ("%d.%m.%Y %H:%M", berlin, "01.02.2026 01:30", "2026-02-01T00:30:00Z"),
            ("%m/%d/%Y", Some("America/New_York"), "01/02/2026", "2026-01-02T05:00:00Z"),
            ("%Y-%m-%dT%H:%M:%S%z", None, "2026-01-01T01:00:00+0100", "2026-01-01T00:00:00Z"),
            ("%d %b %Y %I:%M %p", Some("UTC"), "03 Feb 2026 11:05 PM", "2026-02-03T23:05:00Z"),
            // The hour that the clock shows twice, the first time.
            ("%Y-%m-%d %H:%M", berlin, "2025-10-26 02:30", "2025-10-26T00:30:00Z"),
        ] {
            let read = pattern(form, zone).unwrap().read(cell, '.');
            assert_eq!(read, parse_rfc3339(expected), "{form}");
        }
        // The hour that was left out, and what is not of the form.
        let local = pattern("%Y-%m-%d %H:%M", berlin).unwrap();
        for cell in ["2026-03-29 02:30", "2026-01-01", "2026-02-30 01:00", "yesterday", "", "2026-01-01 01:00 or so"] {
            assert_eq!(local.read(cell, '.'), None, "{cell}");
        }
    }

    #[test]
    fn patterns_that_say_too_little_or_too_much_are_refused() {
        for (form, zone) in
            [("%H:%M", Some("UTC")), ("%Y-%m", Some("UTC")), ("%Y-%m-%d %H", Some("UTC")), ("%Q", None), ("", None)]
        {
            assert!(pattern(form, zone).is_err(), "{form}");
        }
        assert!(pattern("%Y-%m-%d", None).unwrap_err().contains("zone"));
        assert!(pattern("%Y-%m-%dT%H:%M:%S%z", Some("UTC")).unwrap_err().contains("no zone"));
    }

    #[test]
    fn times_since_something_are_exact() {
        let minutes = Clock::Since { start: 5, unit: 60e6 };
        assert_eq!(minutes.read("90.5", '.'), Some(5 + 90 * 60 * SECOND + 30 * SECOND));
        assert_eq!(minutes.read("-1,5", ','), Some(5 - 90 * SECOND));
        assert_eq!(minutes.read("1e300", '.'), None);
        let hours = Clock::HoursSince(0);
        assert_eq!(hours.read("47:59", '.'), Some(48 * HOUR - 60 * SECOND));
        assert_eq!(hours.read("00:00:01", '.'), Some(SECOND));
        for cell in ["", "1", "1:60", ":1", "1:", "1:2:3:4", "+1:00", "a:00"] {
            assert_eq!(hours.read(cell, '.'), None, "{cell}");
        }
    }
}
