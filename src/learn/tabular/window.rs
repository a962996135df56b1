//! How far back a row looks.

use std::str::FromStr;

use crate::events::{DAY, HOUR, Micros, SECOND};

/// A window that ends at a row's time, that time included, and begins `length` before it, that time not
/// included; without a length it begins with the subject's first event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
    name: String,
    length: Option<Micros>,
}

impl Window {
    /// The name as it was given; the name of the window's folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an event of time `event` is in the window of a row at `row`, which is not before it.
    pub(super) fn reaches(&self, row: Micros, event: Micros) -> bool {
        match self.length {
            Some(length) => row.abs_diff(event) < length.unsigned_abs(),
            None => true,
        }
    }
}

impl FromStr for Window {
    type Err = &'static str;

    /// Reads `full`, or a whole number above 0 with `s`, `m` (minutes), `h`, `d` or `w`, such as `7d`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = "a window is 'full', or a whole number above 0 and s, m, h, d or w, such as 7d";
        if text == "full" {
            return Ok(Window { name: text.to_owned(), length: None });
        }
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(refused)?;
        let unit = match unit {
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => HOUR,
            "d" => DAY,
            "w" => 7 * DAY,
            _ => return Err(refused),
        };
        // `parse` would take a sign.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused);
        }
        let number: Micros = number.parse().map_err(|_| refused)?;
        let length = number.checked_mul(unit).filter(|&length| length > 0).ok_or(refused)?;
        Ok(Window { name: text.to_owned(), length: Some(length) })
    }
}
