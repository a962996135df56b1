//! JSON as every format here reads it: borrowed from the record, never recursive.
//!
//! Promises that the text of a fault holds nothing of the record, and that no nesting can
//! exhaust the stack: what is not read is skipped by serde_json's loop over a heap stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{Reason, Reject};

/// A value of which only its kind matters where it is no scalar.
pub(super) enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; finite, because serde_json takes no other.
    Number(f64),
    /// A string, borrowed where it holds no escape.
    Text(Cow<'a, str>),
    /// An object or an array, skipped.
    Nested,
}

/// The record as text.
///
/// # Errors
/// `syntax` if it is not UTF-8 or begins with a byte order mark (RFC 8259, section 8.1).
pub(super) fn text(bytes: &[u8]) -> Result<&str, Reject> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Reject::new(Reason::Syntax, format!("the record is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Reject::new(Reason::Syntax, "the record begins with a byte order mark; send JSON without one"));
    }
    Ok(text)
}

/// The reject for what serde_json could not read of a record that should be an object.
pub(super) fn fault(error: &serde_json::Error) -> Reject {
    match error.classify() {
        // The message of this category quotes the record.
        Category::Data => Reject::new(Reason::Shape, "the record is not a JSON object"),
        Category::Syntax | Category::Eof | Category::Io => {
            Reject::new(Reason::Syntax, format!("the record is not JSON: {error}"))
        }
    }
}

/// The string that `json` is; `None` if it is none.
///
/// # Errors
/// `syntax` if an escape names no character (half a surrogate pair).
pub(super) fn string(json: &str) -> Result<Option<Cow<'_, str>>, Reject> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Ok(None),
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        Some(_) => serde_json::from_str(json).map(|text| Some(Cow::Owned(text))).map_err(|error| fault(&error)),
    }
}

/// A part of a text, borrowed where the text is.
pub(super) fn part<'a>(whole: &Cow<'a, str>, cut: fn(&str) -> Option<&str>) -> Option<Cow<'a, str>> {
    match whole {
        Cow::Borrowed(text) => cut(text).map(Cow::Borrowed),
        Cow::Owned(text) => cut(text).map(|part| Cow::Owned(part.to_owned())),
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
}
