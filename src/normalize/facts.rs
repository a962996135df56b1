//! Facts into the table `facts` of `normalize.sql`: Arrow columns, a row a fact.
//!
//! What identifies a patient ends here: the columns hold pseudonyms only. Tokens stand
//! before the facts in the same columns, where the SQL does not see them.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, LargeStringBuilder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::identities::{EncounterId, Identity};
use super::reading::Reading;
use super::systems;
use crate::decode::{Fact, Value};
use crate::events::{EventKey, Micros, Op, Pseudonyms, SubjectId, TOKEN, Told};

/// Names of the columns of `facts`.
pub(super) mod name {
    pub(in super::super) const ROW: &str = "row";
    pub(in super::super) const SUBJECT_ID: &str = "subject_id";
    pub(in super::super) const TIME: &str = "time";
    pub(in super::super) const CODE: &str = "code";
    pub(in super::super) const NUMERIC_VALUE: &str = "numeric_value";
    pub(in super::super) const TEXT_VALUE: &str = "text_value";
    pub(in super::super) const UNIT: &str = "unit";
    pub(in super::super) const RECORDED_AT: &str = "recorded_at";
    pub(in super::super) const OP: &str = "op";
    pub(in super::super) const EVENT_KEY: &str = "event_key";
    pub(in super::super) const ENCOUNTER_ID: &str = "encounter_id";
    pub(in super::super) const SOURCE: &str = "source";
}

/// Schema of the table `facts`: the event schema without the concept, with the number as it was
/// sent and the number of the row.
pub(super) fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new(name::ROW, DataType::UInt32, false),
        Field::new(name::SUBJECT_ID, DataType::Int64, false),
        Field::new(name::TIME, timestamp.clone(), true),
        Field::new(name::CODE, DataType::Utf8, false),
        Field::new(name::NUMERIC_VALUE, DataType::Float64, true),
        Field::new(name::TEXT_VALUE, DataType::LargeUtf8, true),
        Field::new(name::UNIT, DataType::Utf8, true),
        Field::new(name::RECORDED_AT, timestamp, false),
        Field::new(name::OP, DataType::Utf8, false),
        Field::new(name::EVENT_KEY, DataType::FixedSizeBinary(16), false),
        Field::new(name::ENCOUNTER_ID, DataType::Utf8, true),
        Field::new(name::SOURCE, DataType::Utf8, false),
    ]))
}

/// Where a fact stands: `topic-partition-offset#index`.
#[derive(Copy, Clone, Debug)]
pub(super) struct Source<'a> {
    /// `topic-partition-`.
    pub(super) prefix: &'a str,
    /// Offset of the record.
    pub(super) offset: i64,
    /// Index of the fact within the record.
    pub(super) index: usize,
    /// Pseudonym of the identifier it was told under, where that is not the subject's own.
    pub(super) under: Option<SubjectId>,
}

/// Builds the columns of one batch.
pub(super) struct FactRows {
    subject: Int64Builder,
    time: TimestampMicrosecondBuilder,
    code: StringBuilder,
    numeric: Float64Builder,
    text: LargeStringBuilder,
    unit: StringBuilder,
    recorded: TimestampMicrosecondBuilder,
    op: StringBuilder,
    key: FixedSizeBinaryBuilder,
    encounter: StringBuilder,
    source: StringBuilder,
}

impl FactRows {
    /// Room for `rows` rows of usual length.
    pub(super) fn with_capacity(rows: usize) -> Self {
        FactRows {
            subject: Int64Builder::with_capacity(rows),
            time: TimestampMicrosecondBuilder::with_capacity(rows),
            code: StringBuilder::with_capacity(rows, rows * 24),
            numeric: Float64Builder::with_capacity(rows),
            text: LargeStringBuilder::with_capacity(rows, 0),
            unit: StringBuilder::with_capacity(rows, rows * 8),
            recorded: TimestampMicrosecondBuilder::with_capacity(rows),
            op: StringBuilder::with_capacity(rows, rows * 6),
            key: FixedSizeBinaryBuilder::with_capacity(rows, 16),
            encounter: StringBuilder::with_capacity(rows, rows * 16),
            source: StringBuilder::with_capacity(rows, rows * 24),
        }
    }

    /// Adds the token of a subject.
    ///
    /// # Errors
    /// If Arrow refuses the key's width, which a key of 16 bytes never is.
    pub(super) fn token(
        &mut self,
        subject: SubjectId,
        token: &str,
        key: EventKey,
        recorded: Micros,
        source: Source<'_>,
    ) -> Result<(), ArrowError> {
        self.key.append_value(key.0)?;
        self.subject.append_value(subject.0);
        self.time.append_null();
        self.code.append_value(TOKEN);
        self.numeric.append_null();
        self.text.append_value(token);
        self.unit.append_null();
        self.recorded.append_value(recorded);
        self.op.append_value(Op::Assert.as_str());
        self.encounter.append_null();
        write_source(&mut self.source, source);
        Ok(())
    }

    /// Adds a fact. `meant` is the number that its text means.
    ///
    /// # Errors
    /// If Arrow refuses the key's width, which a key of 16 bytes never is.
    pub(super) fn fact(
        &mut self,
        fact: &Fact<'_>,
        identity: &Identity,
        key: EventKey,
        recorded: Micros,
        source: Source<'_>,
        meant: Option<Reading>,
    ) -> Result<(), ArrowError> {
        self.key.append_value(key.0)?;
        self.subject.append_value(identity.subject.0);
        self.time.append_option(fact.time);
        if let Some(system) = &fact.system {
            // Writing to a builder cannot fail.
            let _ = self.code.write_str(&systems::short(system));
            let _ = self.code.write_str(systems::SEPARATOR);
        }
        self.code.append_value(&*fact.code);
        self.value(&fact.value, meant);
        self.unit.append_option(unit(fact));
        self.recorded.append_value(recorded);
        self.op.append_value(fact.op.as_str());
        self.encounter.append_option(identity.encounter.as_ref().and_then(digits));
        write_source(&mut self.source, source);
        Ok(())
    }

    fn value(&mut self, value: &Value<'_>, meant: Option<Reading>) {
        match value {
            Value::None => {
                self.numeric.append_null();
                self.text.append_null();
            }
            Value::Number(number) if (*number as f32).is_finite() => {
                self.numeric.append_value(*number);
                self.text.append_null();
            }
            // No event can hold it as a number, and dropping it would lose it.
            Value::Number(number) => {
                self.numeric.append_null();
                let _ = write!(self.text, "{number:e}");
                self.text.append_value("");
            }
            Value::Text(text) | Value::Code(text) => {
                self.numeric.append_option(meant.map(|meant| meant.number));
                self.text.append_option((!meant.is_some_and(|meant| meant.is_plain)).then_some(&**text));
            }
            Value::Bool(truth) => {
                self.numeric.append_value(f64::from(u8::from(*truth)));
                self.text.append_null();
            }
        }
    }

    /// The columns, in the order of [`schema`], tokens and facts in the order they were added.
    /// `row` counts the facts from 0, so the `tokens` rows before them have no number of their own.
    ///
    /// # Errors
    /// If Arrow refuses the columns.
    pub(super) fn finish(mut self, tokens: usize) -> Result<RecordBatch, ArrowError> {
        let subject = self.subject.finish();
        let facts = subject.len().saturating_sub(tokens) as u32;
        let rows = std::iter::repeat_n(0, tokens).chain(0..facts);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(rows)),
            Arc::new(subject),
            Arc::new(self.time.finish()),
            Arc::new(self.code.finish()),
            Arc::new(self.numeric.finish()),
            Arc::new(self.text.finish()),
            Arc::new(self.unit.finish()),
            Arc::new(self.recorded.finish()),
            Arc::new(self.op.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.encounter.finish()),
            Arc::new(self.source.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// The unit of a fact; blank is none.
pub(super) fn unit<'f>(fact: &'f Fact<'_>) -> Option<&'f str> {
    fact.unit.as_deref().filter(|unit| !unit.trim_ascii().is_empty())
}

/// Key of a fact told under the identifier `own`, which stays the same whatever subject that
/// leads to: from the source's own identifier, or from the fields where it has none. Neither
/// says whether the fact holds, so that a retraction has the key of what it retracts.
pub(super) fn event_key(pseudonyms: &Pseudonyms, own: SubjectId, fact: &Fact<'_>) -> EventKey {
    if let Some(id) = &fact.id {
        return pseudonyms.event_key(own, &[b"id", id.as_bytes()]);
    }
    let number;
    let (kind, value): (u8, &[u8]) = match &fact.value {
        Value::None => (0, &[]),
        Value::Number(value) => {
            number = value.to_le_bytes();
            (1, &number)
        }
        Value::Text(text) | Value::Code(text) => (2, text.as_bytes()),
        Value::Bool(truth) => (3, if *truth { &[1] } else { &[0] }),
    };
    let time = fact.time.unwrap_or_default().to_le_bytes();
    let text = |field: &Option<std::borrow::Cow<'_, str>>| field.is_some();
    let present = [
        kind,
        u8::from(fact.time.is_some()),
        u8::from(text(&fact.system)),
        u8::from(text(&fact.encounter)),
        u8::from(text(&fact.unit)),
    ];
    pseudonyms.event_key(
        own,
        &[
            b"fields",
            &present,
            systems::short(fact.system.as_deref().unwrap_or_default()).as_bytes(),
            fact.code.as_bytes(),
            &time,
            fact.encounter.as_deref().unwrap_or_default().as_bytes(),
            value,
            fact.unit.as_deref().unwrap_or_default().as_bytes(),
        ],
    )
}

fn digits(encounter: &EncounterId) -> Option<&str> {
    std::str::from_utf8(encounter).ok()
}

/// As `format!` would, at a tenth of its cost: this is done for every row.
fn write_source(column: &mut StringBuilder, source: Source<'_>) {
    let mut buffer = [0; 20];
    // Writing to a builder cannot fail.
    let _ = column.write_str(source.prefix);
    if source.offset < 0 {
        let _ = column.write_str("-");
    }
    let _ = column.write_str(decimal(source.offset.unsigned_abs(), &mut buffer));
    let _ = column.write_str("#");
    let index = decimal(source.index as u64, &mut buffer);
    match source.under {
        None => column.append_value(index),
        // Few patients have several identifiers, and these rows may cost more.
        under => column.append_value(Told { place: index, under, moved: None }.to_string()),
    }
}

fn decimal(mut number: u64, buffer: &mut [u8; 20]) -> &str {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || start == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[start..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use arrow::array::{AsArray as _, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn fact() -> Fact<'static> {
        Fact {
            assigner: None,
            patient: "p".into(),
            encounter: None,
            time: Some(5),
            recorded: None,
            system: Some("http://loinc.org".into()),
            code: "8867-4".into(),
            value: Value::Number(72.0),
            unit: Some("/min".into()),
            id: None,
            op: Op::Assert,
        }
    }

    fn rows(facts: &[Fact<'_>]) -> RecordBatch {
        let identity = Identity { own: SubjectId(1), subject: SubjectId(1), encounter: None, new: false };
        let mut rows = FactRows::with_capacity(1);
        let source = Source { prefix: "raw-0-", offset: 7, index: 0, under: None };
        rows.token(identity.subject, "sealed", EventKey([1; 16]), 3, source).unwrap();
        for fact in facts {
            rows.fact(fact, &identity, EventKey([0; 16]), 9, source, None).unwrap();
        }
        rows.finish(1).unwrap()
    }

    #[test]
    fn values_keep_what_they_are() {
        let values =
            [Value::None, Value::Number(1.5), Value::Number(1e300), Value::Text("3".into()), Value::Bool(true)];
        let batch = rows(&values.map(|value| Fact { value, ..fact() }));
        let numbers: Vec<_> = batch["numeric_value"].as_primitive::<Float64Type>().iter().collect();
        assert_eq!(numbers, [None, None, Some(1.5), None, None, Some(1.0)]);
        let texts: Vec<_> = batch["text_value"].as_string::<i64>().iter().collect();
        assert_eq!(texts, [Some("sealed"), None, None, Some("1e300"), Some("3"), None]);
        assert_eq!(batch["row"].as_ref(), &UInt32Array::from(vec![0, 0, 1, 2, 3, 4]));
    }

    #[test]
    fn codes_and_units_are_those_of_the_log() {
        let plain = Fact { system: None, code: "MEDS_BIRTH".into(), unit: Some(" ".into()), ..fact() };
        let batch = rows(&[fact(), plain]);
        let codes: Vec<_> = batch["code"].as_string::<i32>().iter().flatten().collect();
        assert_eq!(codes, [TOKEN, "LOINC//8867-4", "MEDS_BIRTH"]);
        assert_eq!(batch["unit"].as_ref(), &StringArray::from(vec![None, Some("/min"), None]));
    }

    #[test]
    fn a_source_is_written_as_format_would() {
        for (offset, index) in [(0, 0), (9, 10), (i64::MAX, usize::MAX), (i64::MIN, 1), (-1, 99)] {
            let mut column = StringBuilder::new();
            for (under, written) in [(None, ""), (Some(SubjectId(-7)), "@-7")] {
                write_source(&mut column, Source { prefix: "raw.flat-3-", offset, index, under });
                assert_eq!(column.finish().value(0), format!("raw.flat-3-{offset}#{index}{written}"));
            }
        }
    }

    #[test]
    fn a_key_is_of_the_fact_and_not_of_what_is_said_of_it() {
        let pseudonyms = Pseudonyms::new(b"a secret of a site").unwrap();
        let key = |fact: &Fact<'_>| event_key(&pseudonyms, SubjectId(1), fact);
        let base = key(&fact());
        let named = Fact { id: Some("a".into()), ..fact() };
        assert_eq!(base, key(&Fact { op: Op::Retract, recorded: Some(1), assigner: Some("x".into()), ..fact() }));
        assert_eq!(base, key(&Fact { system: Some("LOINC".into()), ..fact() }));
        assert_eq!(key(&named), key(&Fact { value: Value::Number(73.0), ..named.clone() }));
        let others = [
            named,
            Fact { value: Value::Number(73.0), ..fact() },
            Fact { value: Value::Text("".into()), ..fact() },
            Fact { value: Value::None, ..fact() },
            Fact { time: None, ..fact() },
            Fact { time: Some(0), ..fact() },
            Fact { system: None, ..fact() },
            Fact { unit: None, ..fact() },
            Fact { unit: Some("".into()), ..fact() },
            Fact { encounter: Some(Cow::Borrowed("e")), ..fact() },
        ];
        let mut keys: Vec<_> = others.iter().map(|fact| key(fact).0).collect();
        keys.push(base.0);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
    }
}
