//! One FHIR element: the fields of a JSON object, each still raw.
//!
//! Fields are judged when they are asked for, so that a reject names type and field, and so
//! that whatever is not asked for may hold anything.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::json;
use super::super::time::{Stamp, parse_fhir};
use super::super::{Reason, Reject};

/// The fields of an object, with the FHIR type that rejects name.
pub(super) struct Element<'a> {
    kind: &'static str,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A JSON number.
#[derive(Copy, Clone)]
pub(super) struct Number<'a> {
    /// As the source wrote it.
    pub(super) text: &'a str,
    /// The nearest double; finite.
    pub(super) value: f64,
}

impl<'a> Element<'a> {
    /// Reads the object that `text` is.
    ///
    /// # Errors
    /// `syntax` where it is no JSON, `shape` where it is no object.
    pub(super) fn parse(text: &'a str, kind: &'static str) -> Result<Self, Reject> {
        let fields: Fields<'a> = serde_json::from_str(text).map_err(|error| json::fault(&error))?;
        Ok(Element { kind, fields: fields.0 })
    }

    /// The same element under the type that it turned out to have.
    pub(super) fn of_kind(self, kind: &'static str) -> Self {
        Element { kind, ..self }
    }

    /// Whether the field stands there and is not null.
    pub(super) fn has(&self, name: &'static str) -> Result<bool, Reject> {
        Ok(self.raw(name)?.is_some())
    }

    /// A string. An empty one, which FHIR forbids, counts as absent.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Reject> {
        let Some(raw) = self.raw(name)? else { return Ok(None) };
        match json::string(raw)? {
            Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            None => Err(self.wrong(name, "must be a string")),
        }
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Reject> {
        match self.raw(name)?.map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// A number that a double can hold.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<Number<'a>>, Reject> {
        let Some(raw) = self.raw(name)? else { return Ok(None) };
        let text = raw.get();
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(self.wrong(name, "must be a number"));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(Number { text, value })),
            Ok(_) | Err(_) => Err(self.wrong(name, "must be a finite number")),
        }
    }

    /// An element of the FHIR type `kind`.
    pub(super) fn element(&self, name: &'static str, kind: &'static str) -> Result<Option<Element<'a>>, Reject> {
        self.raw(name)?.map(|raw| self.open(raw, name, kind)).transpose()
    }

    /// A list of elements of the FHIR type `kind`; absent is empty, nulls in it are left out.
    pub(super) fn elements(&self, name: &'static str, kind: &'static str) -> Result<Vec<Element<'a>>, Reject> {
        self.list(name)?.into_iter().map(|raw| self.open(raw, name, kind)).collect()
    }

    /// A `date`, `dateTime` or `instant`.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        self.text(name)?.map(|text| self.stamp(&text, name)).transpose()
    }

    /// When a period began; its end where only that is known.
    pub(super) fn period(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        let Some(period) = self.element(name, "Period")? else { return Ok(None) };
        Ok(period.time("start")?.or(period.time("end")?))
    }

    /// The first event of a `Timing`.
    pub(super) fn timing(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        let Some(timing) = self.element(name, "Timing")? else { return Ok(None) };
        let Some(first) = timing.list("event")?.first().copied() else { return Ok(None) };
        let text = json::string(first)?.ok_or_else(|| timing.wrong("event", "must hold strings"))?;
        timing.stamp(&text, "event").map(Some)
    }

    /// A reject for the field `name`.
    pub(super) fn wrong(&self, name: &str, what: &str) -> Reject {
        Reject::new(Reason::Field, format!("{}.{name} {what}", self.kind))
    }

    fn raw(&self, name: &'static str) -> Result<Option<&'a RawValue>, Reject> {
        let mut found = self.fields.iter().filter(|(key, _)| key == name).map(|&(_, raw)| raw);
        let first = found.next();
        if found.next().is_some() {
            return Err(self.wrong(name, "stands twice"));
        }
        Ok(first.filter(|raw| raw.get() != "null"))
    }

    fn list(&self, name: &'static str) -> Result<Vec<&'a RawValue>, Reject> {
        let Some(raw) = self.raw(name)? else { return Ok(Vec::new()) };
        if !raw.get().starts_with('[') {
            return Err(self.wrong(name, "must be an array"));
        }
        let mut items: Vec<&'a RawValue> = serde_json::from_str(raw.get()).map_err(|error| json::fault(&error))?;
        items.retain(|item| item.get() != "null");
        Ok(items)
    }

    fn open(&self, raw: &'a RawValue, name: &'static str, kind: &'static str) -> Result<Element<'a>, Reject> {
        if !raw.get().starts_with('{') {
            return Err(self.wrong(name, "must be an object"));
        }
        Element::parse(raw.get(), kind)
    }

    fn stamp(&self, text: &str, name: &'static str) -> Result<Stamp, Reject> {
        parse_fhir(text).ok_or_else(|| {
            let kind = self.kind;
            Reject::new(Reason::Time, format!("{kind}.{name} is neither a date nor a time with an offset"))
        })
    }
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A key, borrowed where it holds no escape.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((Key(key), raw)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            fields.push((key, raw));
        }
        Ok(Fields(fields))
    }
}
