//! One FHIR element: an object of the record, its fields judged when they are asked for.
//!
//! So a reject names type and field, and whatever is not asked for may hold anything.

use std::borrow::Cow;

use super::super::json;
use super::super::time::{Stamp, parse_fhir};
use super::super::{Reason, Reject};
use super::scan::{Document, Node};

/// Longest string that may stand in many facts, in bytes. R4 allows 64 for an id.
pub(super) const LONGEST_WORD: usize = 1024;

/// An object, with the FHIR type that rejects name.
#[derive(Copy, Clone)]
pub(super) struct Element<'t, 'a> {
    document: &'t Document<'a>,
    at: u32,
    kind: &'static str,
}

/// A JSON number.
#[derive(Copy, Clone)]
pub(super) struct Number<'a> {
    /// As the source wrote it.
    pub(super) text: &'a str,
    /// The nearest double; finite.
    pub(super) value: f64,
}

impl<'t, 'a> Element<'t, 'a> {
    /// The object that the record is.
    pub(super) fn root(document: &'t Document<'a>, kind: &'static str) -> Self {
        Element { document, at: 0, kind }
    }

    /// The same element under the type that it turned out to have.
    pub(super) fn of_kind(self, kind: &'static str) -> Self {
        Element { kind, ..self }
    }

    /// Whether the field stands there and is not null.
    pub(super) fn has(&self, name: &'static str) -> Result<bool, Reject> {
        Ok(self.find(name)?.is_some())
    }

    /// The field as the source wrote it.
    pub(super) fn raw(&self, name: &'static str) -> Result<Option<&'a str>, Reject> {
        Ok(self.find(name)?.map(|at| self.written(at)))
    }

    /// A string. An empty one, which FHIR forbids, counts as absent.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Reject> {
        let Some(raw) = self.raw(name)? else { return Ok(None) };
        match json::string(raw)? {
            Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            None => Err(self.wrong(name, "must be a string")),
        }
    }

    /// A string that may stand in many facts (an id, a reference, a name), and so must be short:
    /// else a record's facts could be longer than its length by any factor.
    pub(super) fn word(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Reject> {
        match self.text(name)? {
            Some(text) if text.len() > LONGEST_WORD => Err(self.wrong(name, "is longer than 1024 bytes")),
            text => Ok(text),
        }
    }

    /// A boolean.
    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Reject> {
        match self.raw(name)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// A number that a double can hold.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<Number<'a>>, Reject> {
        let Some(text) = self.raw(name)? else { return Ok(None) };
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(self.wrong(name, "must be a number"));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(Number { text, value })),
            Ok(_) | Err(_) => Err(self.wrong(name, "must be a finite number")),
        }
    }

    /// An element of the FHIR type `kind`.
    pub(super) fn element(&self, name: &'static str, kind: &'static str) -> Result<Option<Self>, Reject> {
        self.find(name)?.map(|at| self.open(at, name, kind)).transpose()
    }

    /// A list of elements of the FHIR type `kind`; absent is empty, nulls in it are left out.
    pub(super) fn elements(&self, name: &'static str, kind: &'static str) -> Result<Vec<Self>, Reject> {
        self.items(name)?.into_iter().map(|at| self.open(at, name, kind)).collect()
    }

    /// The elements that stand in the field `name`, be it a list or one.
    pub(super) fn all(&self, name: &'static str, kind: &'static str) -> Result<Vec<Self>, Reject> {
        match self.raw(name)? {
            Some(raw) if raw.starts_with('[') => self.elements(name, kind),
            Some(_) | None => Ok(self.element(name, kind)?.into_iter().collect()),
        }
    }

    /// Whether a list of the field holds anything.
    pub(super) fn holds(&self, name: &'static str) -> Result<bool, Reject> {
        Ok(!self.items(name)?.is_empty())
    }

    /// A `date`, `dateTime` or `instant`.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        self.text(name)?.map(|text| self.stamp(&text, name)).transpose()
    }

    /// The time in the first of the fields that holds one. What a field is, its name says:
    /// `...Period`, `...Timing`, else a date or a time. A field of a field is `outer.inner`.
    pub(super) fn first_time(&self, names: &[&'static str]) -> Result<Option<Stamp>, Reject> {
        let mut first = None;
        for name in names {
            // All of them are looked at: a time that cannot be read is a fault wherever it stands.
            let found = match name.split_once('.') {
                Some((outer, inner)) => match self.element(outer, outer)? {
                    Some(element) => element.first_time(&[inner])?,
                    None => None,
                },
                None if name.ends_with("eriod") => self.period(name)?,
                None if name.ends_with("Timing") => self.timing(name)?,
                None => self.time(name)?,
            };
            first = first.or(found);
        }
        Ok(first)
    }

    /// When a period began; its end where only that is known.
    fn period(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        let Some(period) = self.element(name, "Period")? else { return Ok(None) };
        Ok(period.time("start")?.or(period.time("end")?))
    }

    /// The first event of a `Timing`, else the start of the bounds within which it repeats.
    fn timing(&self, name: &'static str) -> Result<Option<Stamp>, Reject> {
        let Some(timing) = self.element(name, "Timing")? else { return Ok(None) };
        if let Some(&first) = timing.items("event")?.first() {
            let text = json::string(self.written(first))?.ok_or_else(|| timing.wrong("event", "must hold strings"))?;
            return timing.stamp(&text, "event").map(Some);
        }
        match timing.element("repeat", "Timing.repeat")? {
            Some(repeat) => repeat.period("boundsPeriod"),
            None => Ok(None),
        }
    }

    /// A reject for the field `name`.
    pub(super) fn wrong(&self, name: &str, what: &str) -> Reject {
        Reject::new(Reason::Field, format!("{}.{name} {what}", self.kind))
    }

    /// The field's node, if it stands there and is not null.
    fn find(&self, name: &'static str) -> Result<Option<u32>, Reject> {
        let mut found = None;
        for (at, node) in self.children(self.at) {
            if self.is_named(node, name)? && found.replace(at).is_some() {
                return Err(self.wrong(name, "stands twice"));
            }
        }
        Ok(found.filter(|at| self.written(*at) != "null"))
    }

    fn is_named(&self, node: &Node, name: &str) -> Result<bool, Reject> {
        let written = self.document.name(node);
        if !node.escaped {
            return Ok(written == name);
        }
        let quoted = format!("\"{written}\"");
        let read: Cow<'_, str> = serde_json::from_str(&quoted).map_err(|error| json::fault(&error))?;
        Ok(read == name)
    }

    /// The nodes of a list, without its nulls.
    fn items(&self, name: &'static str) -> Result<Vec<u32>, Reject> {
        let Some(list) = self.find(name)? else { return Ok(Vec::new()) };
        if !self.written(list).starts_with('[') {
            return Err(self.wrong(name, "must be an array"));
        }
        Ok(self.children(list).map(|(at, _)| at).filter(|at| self.written(*at) != "null").collect())
    }

    fn children(&self, of: u32) -> impl Iterator<Item = (u32, &'t Node)> + use<'t, 'a> {
        let nodes = &self.document.nodes;
        let end = nodes.get(of as usize).map_or(0, |node| node.next);
        let mut at = of + 1;
        std::iter::from_fn(move || {
            let this = at;
            let node = nodes.get(this as usize).filter(|_| this < end)?;
            at = node.next;
            Some((this, node))
        })
    }

    fn written(&self, at: u32) -> &'a str {
        self.document.nodes.get(at as usize).map_or("null", |node| self.document.raw(node))
    }

    fn open(&self, at: u32, name: &'static str, kind: &'static str) -> Result<Self, Reject> {
        match self.written(at).starts_with('{') {
            true => Ok(Element { document: self.document, at, kind }),
            false => Err(self.wrong(name, "must be an object")),
        }
    }

    fn stamp(&self, text: &str, name: &'static str) -> Result<Stamp, Reject> {
        parse_fhir(text).ok_or_else(|| {
            let kind = self.kind;
            Reject::new(Reason::Time, format!("{kind}.{name} is neither a date nor a time with an offset"))
        })
    }
}
