//! Patient: birth, gender, death, and who else it is.

use super::super::{Fact, Identifier, Link, LinkKind, Reject, Value};
use super::Sink;
use super::coding::Code;
use super::frame::Frame;
use super::reference::{Person, Scope, follow, identity, person};
use super::resource::Resource;
use crate::events::{MEDS_BIRTH, MEDS_DEATH, Op};

/// Reads `birthDate`, `gender` and `deceasedDateTime`, and the links.
///
/// `deceasedBoolean` names no time of death, and none is invented: a true one is counted as
/// not read. `deceasedBoolean: false` is the default of many systems and says nothing.
pub(super) fn read<'t, 'a>(
    resource: &'t Resource<'t, 'a>,
    scope: Scope<'t, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let element = &resource.element;
    let person = identity(resource)?;
    links(resource, &person, scope, sink)?;
    let mut frame = Frame { person, encounter: None, time: None, recorded: None, resource, op: Op::Assert };
    let fact = |frame: &Frame<'t, 'a>, part, code: &'static str| -> Fact<'a> {
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

/// Reads who else the patient is (R4, section 8.1, `identifier` and `link`).
///
/// Each identifier that a hospital gave is another name of the one under which the facts stand.
/// `replaced-by` and `replaces` merge two records; `refer` and `seealso` say that two records
/// which both stay in use are of one person, the one referred to first. A link to a
/// RelatedPerson says nothing of a patient.
fn links<'a>(
    resource: &Resource<'_, 'a>,
    own: &Person<'a>,
    scope: Scope<'_, 'a>,
    sink: &mut Sink<'_, 'a>,
) -> Result<(), Reject> {
    let recorded = match resource.element.element("meta", "Meta")? {
        Some(meta) => meta.time("lastUpdated")?.map(|stamp| stamp.at),
        None => None,
    };
    let mut push = |kind, kept: Person<'a>, other: Person<'a>| {
        if kept != other {
            sink.links.push(Link { kind, kept: kept.into(), other: other.into(), recorded });
        }
    };
    for (system, id) in resource.shared_identifiers()? {
        push(LinkKind::Same, own.clone(), Person { assigner: Some(system), id });
    }
    for link in resource.element.elements("link", "Patient.link")? {
        let Some(reference) = link.element("other", "Reference")? else {
            return Err(link.wrong("other", "is missing"));
        };
        let Some(other) = person(follow(&reference, scope)?, "Patient.link", "other")? else { continue };
        match link.text("type")?.as_deref() {
            Some("replaced-by") => push(LinkKind::Merge, other, own.clone()),
            Some("replaces") => push(LinkKind::Merge, own.clone(), other),
            Some("refer") => push(LinkKind::Same, other, own.clone()),
            Some("seealso") => push(LinkKind::Same, own.clone(), other),
            Some(_) | None => {
                return Err(link.wrong("type", "must be replaced-by, replaces, refer or seealso"));
            }
        }
    }
    Ok(())
}

impl<'a> From<Person<'a>> for Identifier<'a> {
    fn from(person: Person<'a>) -> Self {
        Identifier { assigner: person.assigner, patient: person.id }
    }
}
