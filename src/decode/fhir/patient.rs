//! Patient: birth, gender, death.

use super::super::{Fact, Reject, Value};
use super::Sink;
use super::coding::Code;
use super::frame::Frame;
use super::reference::identity;
use super::resource::Resource;
use crate::events::{MEDS_BIRTH, MEDS_DEATH, Op};

/// Reads `birthDate`, `gender` and `deceasedDateTime`.
///
/// `deceasedBoolean` names no time of death, and none is invented: a true one is counted as
/// not read. `deceasedBoolean: false` is the default of many systems and says nothing.
pub(super) fn read<'a>(resource: &Resource<'a>, sink: &mut Sink<'_, 'a>) -> Result<(), Reject> {
    let element = &resource.element;
    let person = identity(resource)?;
    let name = resource.name.clone();
    let mut frame = Frame { person, encounter: None, time: None, recorded: None, name, op: Op::Assert };
    let fact = |frame: &Frame<'a>, part, code: &'static str| -> Fact<'a> {
        frame.part(part, Code::meds(code), Value::None, None)
    };
    let gender = match element.text("gender")?.as_deref() {
        None => None,
        Some("female") => Some("GENDER//F"),
        Some("male") => Some("GENDER//M"),
        Some("other") => Some("GENDER//O"),
        Some("unknown") => Some("GENDER//U"),
        Some(_) => return Err(element.wrong("gender", "must be female, male, other or unknown")),
    };
    sink.facts.extend(gender.map(|code| fact(&frame, "gender", code)));
    if let Some(birth) = element.time("birthDate")? {
        frame.time = Some(birth);
        sink.facts.push(fact(&frame, "birth", MEDS_BIRTH));
    }
    if let Some(death) = element.time("deceasedDateTime")? {
        frame.time = Some(death);
        sink.facts.push(fact(&frame, "death", MEDS_DEATH));
    } else if element.flag("deceasedBoolean")? == Some(true) {
        sink.skip(resource.kind);
    }
    Ok(())
}
