//! Resources that say one thing: a code, at a time, of a patient. One table says where it stands.

use std::borrow::Cow;

use super::super::{Reject, Value};
use super::Sink;
use super::coding::{self, Code};
use super::element::{Element, LONGEST_WORD};
use super::frame::Frame;
use super::reference::Scope;
use super::resource::Resource;
use super::status::{Standing, by_lifecycle, by_status, by_verification};

/// Where a type keeps what becomes its facts. `outer.inner` is a field of a field.
pub(super) struct Plain {
    /// The R4 type.
    kind: &'static str,
    /// Whose it is.
    subject: &'static str,
    /// Its codes, each once; of a list each item is a fact, under the resource's id with `#`, field and place.
    codes: &'static [&'static str],
    /// Whether R4 requires the first of them.
    required: bool,
    /// When it happened, the first that is there.
    times: &'static [&'static str],
    /// When it became known, the first that is there.
    recorded: &'static [&'static str],
    /// The text: the first that is there, a string or a concept. It tells an order, a plan or a
    /// warning from what was found or done, which has none.
    words: &'static [&'static str],
    /// The text where none of them is there.
    word: Option<&'static str>,
}

/// So many codes of one resource are compared with those after them; beyond, repeats are kept.
const MOST: usize = 100;

const fn plain(kind: &'static str, subject: &'static str, codes: &'static [&'static str]) -> Plain {
    Plain { kind, subject, codes, required: false, times: &[], recorded: &[], words: &[], word: None }
}

/// Every type that is read so, sorted.
///
/// An onset as an age, a range or a text, and an occurrence as a text, give no time.
const PLAIN: [Plain; 18] = [
    Plain {
        times: &["date", "detected", "recordedDate"],
        recorded: &["recordedDate", "detected"],
        words: &["seriousness", "severity"],
        ..plain("AdverseEvent", "subject", &["event"])
    },
    // The text is the type: the code may be that of a drug, and must not look as if it had been given.
    Plain {
        times: &["onsetDateTime", "onsetPeriod", "recordedDate"],
        recorded: &["recordedDate"],
        words: &["type"],
        word: Some("allergy-intolerance"),
        ..plain("AllergyIntolerance", "patient", &["code"])
    },
    Plain {
        times: &["period", "created"],
        recorded: &["created"],
        words: &["intent"],
        ..plain("CarePlan", "subject", &["category", "activity.detail.code"])
    },
    Plain {
        times: &["effectiveDateTime", "effectivePeriod", "date"],
        recorded: &["date"],
        words: &["summary"],
        word: Some("impression"),
        ..plain("ClinicalImpression", "subject", &["code", "finding.itemCodeableConcept"])
    },
    Plain {
        times: &["onsetDateTime", "onsetPeriod", "recordedDate"],
        recorded: &["recordedDate"],
        ..plain("Condition", "subject", &["code"])
    },
    Plain {
        times: &["dateTime", "provision.period"],
        recorded: &["dateTime"],
        words: &["provision.type", "status"],
        ..plain("Consent", "patient", &["category"])
    },
    Plain {
        times: &["identifiedDateTime", "identifiedPeriod"],
        recorded: &["identifiedDateTime"],
        words: &["severity"],
        word: Some("issue"),
        ..plain("DetectedIssue", "patient", &["code"])
    },
    Plain {
        times: &["authoredOn"],
        recorded: &["authoredOn"],
        words: &["intent"],
        ..plain("DeviceRequest", "subject", &["codeCodeableConcept"])
    },
    Plain { times: &["period"], words: &["status"], ..plain("EpisodeOfCare", "patient", &["type"]) },
    Plain { times: &["period"], words: &["status"], word: Some("flag"), ..plain("Flag", "subject", &["code"]) },
    Plain {
        times: &["startDate", "statusDate"],
        recorded: &["statusDate"],
        words: &["achievementStatus", "lifecycleStatus"],
        word: Some("goal"),
        ..plain("Goal", "subject", &["description"])
    },
    Plain {
        times: &["started"],
        words: &["description"],
        ..plain("ImagingStudy", "subject", &["procedureCode", "modality", "series.modality"])
    },
    Plain {
        required: true,
        times: &["occurrenceDateTime"],
        recorded: &["recorded"],
        ..plain("Immunization", "patient", &["vaccineCode"])
    },
    Plain {
        times: &["createdDateTime", "createdPeriod", "issued"],
        recorded: &["issued"],
        ..plain("Media", "subject", &["modality", "type", "view"])
    },
    Plain {
        times: &["dateTime"],
        recorded: &["dateTime"],
        words: &["intent"],
        ..plain("NutritionOrder", "patient", &["oralDiet.type", "supplement.type", "enteralFormula.baseFormulaType"])
    },
    Plain { times: &["performedDateTime", "performedPeriod"], ..plain("Procedure", "subject", &["code"]) },
    Plain {
        times: &["authoredOn", "occurrenceDateTime", "occurrencePeriod", "occurrenceTiming"],
        recorded: &["authoredOn"],
        words: &["intent"],
        ..plain("ServiceRequest", "subject", &["code", "orderDetail"])
    },
    Plain {
        times: &["collection.collectedDateTime", "collection.collectedPeriod", "receivedTime"],
        recorded: &["receivedTime"],
        words: &["status"],
        word: Some("specimen"),
        ..plain("Specimen", "subject", &["type"])
    },
];

/// How the type is read; `None` if it is not one of the table.
pub(super) fn of(kind: &str) -> Option<&'static Plain> {
    PLAIN.binary_search_by_key(&kind, |plain| plain.kind).ok().and_then(|at| PLAIN.get(at))
}

/// Reads one fact a code.
pub(super) fn read<'t, 'a>(
    plain: &Plain,
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let Some(op) = standing(plain, element)?.op() else { return Ok(()) };
    let Some(mut frame) = Frame::of(resource, plain.subject, "encounter", op, scope)? else { return Ok(()) };
    if super::is_no_order(element)? {
        return Ok(());
    }
    frame.time = element.first_time(plain.times)?;
    frame.recorded = element.first_time(plain.recorded)?;
    let value = match word(element, plain.words)? {
        Some(word) => Value::Text(word),
        None => plain.word.map_or(Value::None, |word| Value::Text(Cow::Borrowed(word))),
    };
    let before = sink.facts.len();
    let mut seen: Vec<Code<'a>> = Vec::new();
    for (rank, path) in plain.codes.iter().enumerate() {
        let field = path.split_once('.').map_or(*path, |(outer, _)| outer);
        let is_list = element.raw(field)?.is_some_and(|raw| raw.starts_with('['));
        let mut unread = 0;
        let codes = coding::codes(element, path, &mut unread)?;
        (0..unread).for_each(|_| sink.skip(resource.kind));
        for (place, code) in codes.into_iter().enumerate() {
            if seen.contains(&code) {
                continue;
            }
            let part = if is_list || rank + place > 0 { format!("{path}{place}") } else { String::new() };
            // A long text (a summary) stands once, with the first code.
            let is_long = matches!(&value, Value::Text(text) if text.len() > LONGEST_WORD);
            let value = if is_long && !seen.is_empty() { Value::None } else { value.clone() };
            sink.facts.push(frame.part(&part, code.clone(), value, None));
            if seen.len() < MOST {
                seen.push(code);
            }
        }
    }
    if sink.facts.len() == before {
        if plain.required {
            return Err(element.wrong(plain.codes[0], "is missing or holds no code and no text"));
        }
        let withdrawn = frame.code_or_withdrawal(None);
        sink.facts.extend(withdrawn.map(|code| frame.fact(code, value, None)));
    }
    Ok(())
}

fn standing(plain: &Plain, element: &Element<'_, '_>) -> Result<Standing, Reject> {
    match plain.kind {
        "AllergyIntolerance" | "Condition" => by_verification(element),
        "Goal" => by_lifecycle(element),
        // What might have harmed did not.
        "AdverseEvent" if element.text("actuality")?.as_deref() == Some("potential") => Ok(Standing::Pending),
        _ => by_status(element),
    }
}

/// The first of the fields that holds a string or a concept.
fn word<'a>(element: &Element<'_, 'a>, paths: &[&'static str]) -> Result<Option<Cow<'a, str>>, Reject> {
    for path in paths {
        let (holder, name) = match path.split_once('.') {
            Some((outer, inner)) => (element.element(outer, outer)?, inner),
            None => (Some(*element), *path),
        };
        let Some(holder) = holder else { continue };
        let found = match holder.raw(name)? {
            Some(raw) if raw.starts_with('{') => coding::code(&holder, name)?.map(|code| code.code),
            Some(_) | None => holder.text(name)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::kinds;
    use super::*;

    #[test]
    fn the_table_is_sorted_and_of_r4() {
        assert!(PLAIN.is_sorted_by_key(|plain| plain.kind));
        assert!(PLAIN.iter().all(|plain| kinds::kind(plain.kind) == plain.kind && !plain.codes.is_empty()));
        assert!(of("Observation").is_none());
    }
}
