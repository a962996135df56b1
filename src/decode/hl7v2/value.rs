//! OBX-5 by its type (OBX-2; HL7 v2.8, table 0125).

use std::borrow::Cow;

use super::super::Value;
use super::code::pick;
use super::lenient;
use super::message::Message;
use super::segment::{Marks, Segment};
use super::sink::Sink;
use super::stamp;

/// A value, and whether OBX-6 is its unit.
pub(super) struct Found<'a> {
    /// Never [`Value::None`].
    pub(super) value: Value<'a>,
    /// Whether a unit can stand with it.
    pub(super) unit: bool,
}

/// The values of OBX-5, one for each repeat; a text has one, its repeats are its lines.
///
/// Pictures, files and pointers to them (ED, RP), names, addresses and money are not read: they give none.
pub(super) fn read<'a>(message: &Message<'a>, obx: &Segment<'a>, sink: &mut Sink<'_, 'a>) -> Vec<Found<'a>> {
    let kind = obx.component(2, 1);
    let marks = obx.marks;
    if obx.field(5).is_empty() {
        return Vec::new();
    }
    if matches!(kind, "TX" | "FT") {
        let text = lines(obx.field(5), marks);
        return text.map(|text| Found { value: Value::Text(text), unit: false }).into_iter().collect();
    }
    if kind.is_empty() {
        sink.tally.lenient(lenient::TYPE_MISSING);
    }
    let mut found = Vec::new();
    for repeat in obx.repeats(5) {
        let value = match kind {
            "NM" | "SI" => number(repeat, marks, sink),
            "SN" => structured(repeat, marks),
            "NR" => range(repeat, marks),
            "CE" | "CWE" | "CNE" | "CF" => pick(repeat, marks).map(|code| code.into_value()),
            "DT" | "TS" | "DTM" => time(marks.component(repeat, 1), message, marks),
            "TM" => match stamp::time_of_day(marks.component(repeat, 1)) {
                Some(time) => Some(Value::Text(Cow::Owned(time))),
                None => marks.text(repeat.trim()).map(Value::Text),
            },
            "ST" | "ID" | "IS" | "GTS" => marks.text(repeat.trim()).map(Value::Text),
            "" => match plain(marks.component(repeat, 1)) {
                Some(number) if !repeat.contains(marks.component) => Some(Value::Number(number)),
                _ => marks.text(repeat.trim()).map(Value::Text),
            },
            _ => None,
        };
        let unit = matches!(kind, "NM" | "SI" | "SN" | "NR" | "ST" | "");
        found.extend(value.map(|value| Found { value, unit }));
    }
    found
}

/// The lines of a text that its repeats are.
fn lines(field: &str, marks: Marks) -> Option<Cow<'_, str>> {
    if !field.contains(marks.repeat) {
        return marks.text(field.trim_end());
    }
    let mut text = String::with_capacity(field.len());
    for (at, line) in field.split(marks.repeat).enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&super::escape::unescape(line.trim_end(), marks));
    }
    (!text.trim().is_empty()).then_some(Cow::Owned(text))
}

/// NM: a number. What is none (`<5`, `positive`) is kept as its text.
fn number<'a>(text: &'a str, marks: Marks, sink: &mut Sink<'_, 'a>) -> Option<Value<'a>> {
    let text = marks.component(text, 1);
    if let Some(number) = plain(text) {
        return Some(Value::Number(number));
    }
    let value = marks.text(text).map(Value::Text);
    if value.is_some() {
        sink.tally.lenient(lenient::NUMBER_AS_TEXT);
    }
    value
}

/// A decimal number, also one with an exponent; finite.
fn plain(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.starts_with(|sign: char| sign.is_ascii_digit() || sign == '.') {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// SN: comparator, number, separator, number (section 2.A.70), written together: `<5`, `1:128`, `5-10`, `2+`.
fn structured<'a>(text: &'a str, marks: Marks) -> Option<Value<'a>> {
    let [comparator, first, separator, second] = std::array::from_fn(|at| marks.component(text, at + 1));
    if first.is_empty() && second.is_empty() {
        return None;
    }
    if matches!(comparator, "" | "=")
        && separator.is_empty()
        && second.is_empty()
        && let Some(number) = plain(first)
    {
        return Some(Value::Number(number));
    }
    let raw = format!("{comparator}{first}{separator}{second}");
    Some(Value::Text(Cow::Owned(super::escape::unescape(&raw, marks).into_owned())))
}

/// NR: a range of numbers, either side of which may be open.
fn range<'a>(text: &'a str, marks: Marks) -> Option<Value<'a>> {
    let text = match (marks.component(text, 1), marks.component(text, 2)) {
        ("", "") => return None,
        (low, "") => format!(">={low}"),
        ("", high) => format!("<={high}"),
        (low, high) => format!("{low}-{high}"),
    };
    Some(Value::Text(Cow::Owned(text)))
}

/// A date or a time, as FHIR writes it; as it was sent if it is none.
fn time<'a>(text: &'a str, message: &Message<'a>, marks: Marks) -> Option<Value<'a>> {
    match stamp::iso(text, message.zone) {
        Some(iso) => Some(Value::Text(Cow::Owned(iso))),
        None => marks.text(text).map(Value::Text),
    }
}
