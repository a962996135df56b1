//! Facts of a record whose bytes had to be rewritten as UTF-8: they cannot borrow from it.

use std::borrow::Cow;

use super::super::{Fact, Identifier, Link, Notes, Value};

/// The fact with its own copy of every text.
pub(super) fn fact<'o>(fact: Fact<'_>) -> Fact<'o> {
    Fact {
        assigner: fact.assigner.map(text),
        patient: text(fact.patient),
        encounter: fact.encounter.map(text),
        time: fact.time,
        recorded: fact.recorded,
        system: fact.system.map(text),
        code: text(fact.code),
        value: match fact.value {
            Value::None => Value::None,
            Value::Number(number) => Value::Number(number),
            Value::Text(found) => Value::Text(text(found)),
            Value::Code(code) => Value::Code(text(code)),
            Value::Bool(truth) => Value::Bool(truth),
        },
        unit: fact.unit.map(text),
        id: fact.id.map(text),
        op: fact.op,
    }
}

/// The same for what stands beside the facts.
pub(super) fn notes<'o>(notes: Notes<'_>) -> Notes<'o> {
    let identifier = |one: Identifier<'_>| Identifier { assigner: one.assigner.map(text), patient: text(one.patient) };
    let links = notes.links.into_iter().map(|link| Link {
        kind: link.kind,
        kept: identifier(link.kept),
        other: identifier(link.other),
        recorded: link.recorded,
    });
    Notes { links: links.collect(), unread: notes.unread, lenient: notes.lenient }
}

fn text<'o>(text: Cow<'_, str>) -> Cow<'o, str> {
    Cow::Owned(text.into_owned())
}
