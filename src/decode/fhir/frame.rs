//! What all facts of one resource share.

use std::borrow::Cow;

use super::super::time::Stamp;
use super::super::{Fact, Reject, Value};
use super::coding::Code;
use super::reference::{Person, Scope, encounter, whose};
use super::resource::Resource;
use super::status::by_status;
use crate::events::Op;

/// Patient, encounter, times and name of a resource's facts.
pub(super) struct Frame<'t, 'a> {
    /// Whose they are.
    pub(super) person: Person<'a>,
    /// In which encounter.
    pub(super) encounter: Option<Cow<'a, str>>,
    /// When it happened; `None`: static, or the source does not say.
    pub(super) time: Option<Stamp>,
    /// When the source says that it became known.
    pub(super) recorded: Option<Stamp>,
    /// Which gives the facts their identity at the source.
    pub(super) resource: &'t Resource<'t, 'a>,
    /// Whether they hold.
    pub(super) op: Op,
}

impl<'t, 'a> Frame<'t, 'a> {
    /// The frame of a resource whose fields `subject` and `visit` name patient and encounter;
    /// `None` if it is not about a patient.
    pub(super) fn of(
        resource: &'t Resource<'t, 'a>,
        subject: &'static str,
        visit: &'static str,
        op: Op,
        scope: Scope<'t, 'a>,
    ) -> Result<Option<Self>, Reject> {
        let Some(person) = whose(resource, subject, scope)? else { return Ok(None) };
        let encounter = encounter(resource, visit, scope)?;
        Ok(Some(Frame { person, encounter, time: None, recorded: None, resource, op }))
    }

    /// The same where the field `status` says whether the facts hold; `None` too if there are none yet.
    pub(super) fn by_status(
        resource: &'t Resource<'t, 'a>,
        subject: &'static str,
        visit: &'static str,
        scope: Scope<'t, 'a>,
    ) -> Result<Option<Self>, Reject> {
        let Some(op) = by_status(&resource.element)?.op() else { return Ok(None) };
        Self::of(resource, subject, visit, op, scope)
    }

    /// The fact of the whole resource.
    pub(super) fn fact(&self, code: Code<'a>, value: Value<'a>, unit: Option<Cow<'a, str>>) -> Fact<'a> {
        self.part("", code, value, unit)
    }

    /// The fact of one part of the resource; `part` tells it from the others, empty is the whole.
    pub(super) fn part(&self, part: &str, code: Code<'a>, value: Value<'a>, unit: Option<Cow<'a, str>>) -> Fact<'a> {
        let time = self.time.map(|stamp| stamp.at);
        // A date is read as its start, and nothing was known on its day before it happened.
        let recorded = self.recorded.map(|known| match time {
            Some(time) if !known.exact => known.at.max(time),
            Some(_) | None => known.at,
        });
        Fact {
            assigner: self.person.assigner.clone(),
            patient: self.person.id.clone(),
            encounter: self.encounter.clone(),
            time,
            recorded,
            system: code.system,
            code: code.code,
            value,
            unit,
            id: self.resource.name(part).map(Cow::Owned),
            op: self.op,
        }
    }

    /// A code where there is one; a withdrawal needs none, because its id says what is withdrawn.
    pub(super) fn code_or_withdrawal(&self, code: Option<Code<'a>>) -> Option<Code<'a>> {
        code.or_else(|| (self.resource.is_named() && self.op == Op::Retract).then(|| Code::text("unknown")))
    }
}
