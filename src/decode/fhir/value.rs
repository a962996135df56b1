//! Every `value[x]` that R4 gives an Observation and its components.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::coding;
use super::element::{Element, Number};

/// Unit system of UCUM.
const UCUM: &str = "http://unitsofmeasure.org";

/// What sampled data holds beside its origin, in the order in which its text gives it.
const SAMPLED: [&str; 6] = ["period", "factor", "lowerLimit", "upperLimit", "dimensions", "data"];

/// The fields that `value[x]` stands for.
const NAMES: [&str; 11] = [
    "valueQuantity",
    "valueCodeableConcept",
    "valueString",
    "valueBoolean",
    "valueInteger",
    "valueRange",
    "valueRatio",
    "valueSampledData",
    "valueTime",
    "valueDateTime",
    "valuePeriod",
];

/// What was found, with the unit of a number.
pub(super) struct Found<'a> {
    /// Never [`Value::None`].
    pub(super) value: Value<'a>,
    /// UCUM code where the source gives one, else its own word.
    pub(super) unit: Option<Cow<'a, str>>,
}

/// Reads the value of an Observation or a component; `None` if it has none, or one that says nothing.
///
/// # Errors
/// `field` if the value is of the wrong type, or if there are several.
pub(super) fn read<'a>(element: &Element<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    let mut stands = None;
    for name in NAMES {
        if element.has(name)? && stands.replace(name).is_some() {
            return Err(element.wrong("value[x]", "stands twice"));
        }
    }
    let plain = |value| Found { value, unit: None };
    let Some(name) = stands else { return Ok(None) };
    Ok(match name {
        "valueQuantity" => quantity(element, name)?,
        "valueRange" => match element.element(name, "Range")? {
            Some(range) => range_text(&range)?,
            None => None,
        },
        "valueRatio" => ratio(element, name)?,
        "valueCodeableConcept" => coding::code(element, name)?.map(|code| plain(code.into_value())),
        "valueBoolean" => element.flag(name)?.map(|flag| plain(Value::Bool(flag))),
        "valueInteger" => element.number(name)?.map(|number| plain(Value::Number(number.value))),
        "valuePeriod" => match element.element(name, "Period")? {
            Some(period) => period_text(&period)?.map(|text| plain(Value::Text(text))),
            None => None,
        },
        "valueSampledData" => match element.element(name, "SampledData")? {
            Some(samples) => sampled_text(&samples)?,
            None => None,
        },
        // String, time and dateTime are kept as they were written.
        _ => element.text(name)?.map(|text| plain(Value::Text(text))),
    })
}

/// Reads the answer to an item of a questionnaire, which has types of its own. A file or a
/// reference as answer is not read.
///
/// # Errors
/// `field` if the value is of the wrong type.
pub(super) fn answer<'a>(answer: &Element<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    if let Some(coding) = answer.element("valueCoding", "Coding")? {
        let value = match coding.text("code")? {
            Some(code) => Some(Value::Code(code)),
            None => coding.text("display")?.map(Value::Text),
        };
        return Ok(value.map(|value| Found { value, unit: None }));
    }
    if let Some(number) = answer.number("valueDecimal")? {
        return Ok(Some(Found { value: Value::Number(number.value), unit: None }));
    }
    for name in ["valueDate", "valueUri"] {
        if let Some(text) = answer.text(name)? {
            return Ok(Some(Found { value: Value::Text(text), unit: None }));
        }
    }
    read(answer)
}

/// Reads a Quantity. One with a comparator says no number: `<5` is kept as that text.
///
/// # Errors
/// `field` if it is of the wrong type or has a comparator that R4 does not know.
pub(super) fn quantity<'a>(element: &Element<'_, 'a>, name: &'static str) -> Result<Option<Found<'a>>, Reject> {
    let Some(quantity) = element.element(name, "Quantity")? else { return Ok(None) };
    let Some(amount) = Amount::read(&quantity)? else { return Ok(None) };
    let value = match amount.comparator {
        "" => Value::Number(amount.number.value),
        _ => Value::Text(Cow::Owned(amount.text())),
    };
    Ok(Some(Found { value, unit: amount.unit }))
}

/// Reads a Ratio.
///
/// # Errors
/// `field` if it is of the wrong type.
pub(super) fn ratio<'a>(element: &Element<'_, 'a>, name: &'static str) -> Result<Option<Found<'a>>, Reject> {
    match element.element(name, "Ratio")? {
        Some(ratio) => ratio_text(&ratio),
        None => Ok(None),
    }
}

/// The number of a Quantity.
struct Amount<'a> {
    comparator: &'static str,
    number: Number<'a>,
    unit: Option<Cow<'a, str>>,
}

impl<'a> Amount<'a> {
    fn read(quantity: &Element<'_, 'a>) -> Result<Option<Self>, Reject> {
        let Some(number) = quantity.number("value")? else { return Ok(None) };
        let comparator = match quantity.text("comparator")?.as_deref() {
            None => "",
            Some("<") => "<",
            Some("<=") => "<=",
            Some(">=") => ">=",
            Some(">") => ">",
            Some(_) => return Err(quantity.wrong("comparator", "must be <, <=, >= or >")),
        };
        let code = quantity.text("code")?;
        let unit = match quantity.text("system")?.as_deref() {
            Some(UCUM) if code.is_some() => code,
            Some(_) | None => quantity.text("unit")?.or(code),
        };
        Ok(Some(Amount { comparator, number, unit }))
    }

    fn of(element: &Element<'_, 'a>, name: &'static str) -> Result<Option<Self>, Reject> {
        match element.element(name, "Quantity")? {
            Some(quantity) => Self::read(&quantity),
            None => Ok(None),
        }
    }

    fn text(&self) -> String {
        format!("{}{}", self.comparator, self.number.text)
    }
}

/// `low-high`, `>=low` or `<=high`.
fn range_text<'a>(range: &Element<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    let (text, unit) = match (Amount::of(range, "low")?, Amount::of(range, "high")?) {
        (None, None) => return Ok(None),
        (Some(low), None) => (format!(">={}", low.number.text), low.unit),
        (None, Some(high)) => (format!("<={}", high.number.text), high.unit),
        (Some(low), Some(high)) => match (low.unit, high.unit) {
            (Some(a), Some(b)) if a != b => (format!("{} {a}-{} {b}", low.number.text, high.number.text), None),
            (a, b) => (format!("{}-{}", low.number.text, high.number.text), a.or(b)),
        },
    };
    Ok(Some(Found { value: Value::Text(Cow::Owned(text)), unit }))
}

/// `numerator:denominator`, which a titre such as 1:128 is; the unit is their units' quotient.
fn ratio_text<'a>(ratio: &Element<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    let (text, unit) = match (Amount::of(ratio, "numerator")?, Amount::of(ratio, "denominator")?) {
        (None, _) => return Ok(None),
        (Some(above), None) => (above.text(), above.unit),
        (Some(above), Some(below)) => {
            let text = format!("{}:{}", above.text(), below.text());
            let unit = match (above.unit, below.unit) {
                (Some(a), Some(b)) => Some(Cow::Owned(format!("{a}/{b}"))),
                (None, Some(b)) => Some(Cow::Owned(format!("/{b}"))),
                (a, None) => a,
            };
            (text, unit)
        }
    };
    Ok(Some(Found { value: Value::Text(Cow::Owned(text)), unit }))
}

/// A waveform as compact JSON: `{"origin":0,"period":2,"factor":1.5,"dimensions":1,"data":"1 2"}`,
/// each number as the source wrote it; a sample is origin + factor * number, in the origin's unit,
/// one every `period` milliseconds (R4, section 2.24.0.12 "SampledData"). `None` without data.
fn sampled_text<'a>(samples: &Element<'_, 'a>) -> Result<Option<Found<'a>>, Reject> {
    if samples.text("data")?.is_none() {
        return Ok(None);
    }
    let origin = Amount::of(samples, "origin")?;
    let mut text = match &origin {
        Some(origin) => format!("{{\"origin\":{}", origin.number.text),
        None => "{\"origin\":null".to_owned(),
    };
    for name in SAMPLED {
        let raw = if name == "data" { samples.raw(name)? } else { samples.number(name)?.map(|number| number.text) };
        if let Some(raw) = raw {
            text.extend([",\"", name, "\":", raw]);
        }
    }
    text.push('}');
    Ok(Some(Found { value: Value::Text(Cow::Owned(text)), unit: origin.and_then(|origin| origin.unit) }))
}

/// `start/end` as in ISO 8601, an unknown side left empty.
fn period_text<'a>(period: &Element<'_, 'a>) -> Result<Option<Cow<'a, str>>, Reject> {
    Ok(match (period.text("start")?, period.text("end")?) {
        (None, None) => None,
        (start, end) => Some(Cow::Owned(format!("{}/{}", start.unwrap_or_default(), end.unwrap_or_default()))),
    })
}
