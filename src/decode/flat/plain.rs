//! A scanner for plain records: what feeds send all but always, at less than half the cost.
//!
//! Takes objects of known or unknown fields with strings without escapes, numbers without
//! exponents, `true`, `false` and `null`. It declines everything else, valid or not, and
//! leaves it to serde_json, which alone decides what JSON is; a property test holds the two equal.

use std::borrow::Cow;

use super::super::json::Scalar;
use super::{Record, field};

/// Digits of an integer that a double holds exactly, whatever they are.
const EXACT_DIGITS: usize = 15;

/// The fields of a plain record; `None` if `text` is none.
pub(super) fn read(text: &str) -> Option<Record<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut record = Record::default();
    scanner.sign(b'{')?;
    loop {
        scanner.sign(b'"')?;
        let name = scanner.string()?;
        scanner.sign(b':')?;
        let value = scanner.value()?;
        if let Some(field) = field(name) {
            let place = &mut record.values[field as usize];
            if place.is_some() {
                return None;
            }
            *place = Some(value);
        }
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.next().is_none().then_some(record)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no whitespace.
    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += 1;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
        }
    }

    fn sign(&mut self, sign: u8) -> Option<()> {
        (self.next()? == sign).then_some(())
    }

    /// The string after its opening quote.
    fn string(&mut self) -> Option<&'a str> {
        let length = plain_length(self.rest())?;
        let string = self.text.get(self.at..self.at + length)?;
        self.at += length + 1;
        Some(string)
    }

    fn value(&mut self) -> Option<Scalar<'a>> {
        match self.next()? {
            b'"' => self.string().map(|text| Scalar::Text(Cow::Borrowed(text))),
            b'n' => self.word("ull", Scalar::Null),
            b't' => self.word("rue", Scalar::Bool(true)),
            b'f' => self.word("alse", Scalar::Bool(false)),
            b'-' | b'0'..=b'9' => {
                self.at -= 1;
                self.number().map(Scalar::Number)
            }
            _ => None,
        }
    }

    fn word(&mut self, rest: &str, value: Scalar<'a>) -> Option<Scalar<'a>> {
        let found = self.rest().starts_with(rest.as_bytes());
        self.at += rest.len();
        found.then_some(value)
    }

    /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?`, up to what ends a value.
    fn number(&mut self) -> Option<f64> {
        let start = self.at;
        let negative = self.rest().first() == Some(&b'-');
        self.at += usize::from(negative);
        let (digits, whole) = self.digits();
        let leading_zero = digits > 1 && self.text.as_bytes().get(self.at - digits) == Some(&b'0');
        if digits == 0 || leading_zero {
            return None;
        }
        let fraction = self.rest().first() == Some(&b'.');
        if fraction {
            self.at += 1;
            if self.digits().0 == 0 {
                return None;
            }
        }
        if !matches!(self.rest().first(), Some(b',' | b'}' | b' ' | b'\n' | b'\r' | b'\t')) {
            return None;
        }
        if fraction || digits > EXACT_DIGITS {
            return self.text.get(start..self.at)?.parse().ok().filter(|number: &f64| number.is_finite());
        }
        Some(if negative { -(whole as f64) } else { whole as f64 })
    }

    /// How many digits follow, and their value as far as it is exact.
    fn digits(&mut self) -> (usize, u64) {
        let start = self.at;
        let mut value = 0_u64;
        while let Some(digit @ b'0'..=b'9') = self.text.as_bytes().get(self.at) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        (self.at - start, value)
    }
}

/// Length of the string up to its closing quote; `None` if an escape or a control character
/// comes first, or no quote at all.
///
/// Eight bytes at a time: subtracting borrows into the high bit of the lowest byte that is zero,
/// or below a bound (S. E. Anderson, "Bit Twiddling Hacks", "Determine if a word has a zero byte").
/// Higher bits may be wrong, the lowest is not, and only that one counts.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGH;
    let mut length = 0;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let escape = below(word ^ (ONES * u64::from(b'\\')), 1);
        let stops = quote | escape | below(word, b' ');
        if stops != 0 {
            let at = (stops.trailing_zeros() / 8) as usize;
            return (chunk[at] == b'"').then_some(length + at);
        }
        length += 8;
        rest = tail;
    }
    let at = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
    (rest[at] == b'"').then_some(length + at)
}
