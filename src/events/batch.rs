//! Rows into an event batch and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Float32Array,
    Float32Builder, Int64Array, Int64Builder, LargeStringArray, LargeStringBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};

use super::{EventKey, EventsError, Micros, Op, SubjectId, column, schema};

/// One event, borrowed from a batch or about to be written to one.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct EventRef<'a> {
    /// Whose event; `None` is a tick.
    pub subject: Option<SubjectId>,
    /// When it happened; `None` is static.
    pub time: Option<Micros>,
    /// Code, such as `LOINC//8867-4` or `MEDS_BIRTH`.
    pub code: &'a str,
    /// Value in the concept's canonical unit.
    pub numeric_value: Option<f32>,
    /// Value that is not a number.
    pub text_value: Option<&'a str>,
    /// Canonical UCUM unit.
    pub unit: Option<&'a str>,
    /// Concept of the site's `concepts.csv`.
    pub concept: Option<&'a str>,
    /// Whether the number is beyond what is plausible for the concept: kept, but no feature looks at it.
    pub implausible: bool,
    /// When it became known.
    pub recorded_at: Micros,
    /// Assert or retract.
    pub op: Op,
    /// Identity of the source fact.
    pub event_key: EventKey,
    /// Pseudonymous encounter.
    pub encounter_id: Option<&'a str>,
    /// `topic-partition-offset#index`.
    pub source: &'a str,
}

impl<'a> EventRef<'a> {
    /// The concept under which features see the number: none if it is not plausible.
    pub fn plausible_concept(&self) -> Option<&'a str> {
        self.concept.filter(|_| !self.implausible)
    }
}

/// Builds an event batch row by row.
#[derive(Debug)]
pub struct EventsBuilder {
    subject: Int64Builder,
    time: TimestampMicrosecondBuilder,
    code: StringBuilder,
    numeric: Float32Builder,
    text: LargeStringBuilder,
    unit: StringBuilder,
    concept: StringBuilder,
    recorded: TimestampMicrosecondBuilder,
    op: StringBuilder,
    key: FixedSizeBinaryBuilder,
    encounter: StringBuilder,
    source: StringBuilder,
    implausible: BooleanBuilder,
    rows: usize,
}

impl Default for EventsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl EventsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        EventsBuilder {
            subject: Int64Builder::new(),
            time: TimestampMicrosecondBuilder::new(),
            code: StringBuilder::new(),
            numeric: Float32Builder::new(),
            text: LargeStringBuilder::new(),
            unit: StringBuilder::new(),
            concept: StringBuilder::new(),
            recorded: TimestampMicrosecondBuilder::new(),
            op: StringBuilder::new(),
            key: FixedSizeBinaryBuilder::new(16),
            encounter: StringBuilder::new(),
            source: StringBuilder::new(),
            implausible: BooleanBuilder::new(),
            rows: 0,
        }
    }

    /// Adds one event.
    ///
    /// # Errors
    /// Only if Arrow refuses the key's width, which a 16 byte key never does.
    pub fn push(&mut self, event: &EventRef<'_>) -> Result<(), EventsError> {
        self.key.append_value(event.event_key.0)?;
        self.subject.append_option(event.subject.map(|s| s.0));
        self.time.append_option(event.time);
        self.code.append_value(event.code);
        self.numeric.append_option(event.numeric_value);
        self.text.append_option(event.text_value);
        self.unit.append_option(event.unit);
        self.concept.append_option(event.concept);
        self.recorded.append_value(event.recorded_at);
        self.op.append_value(event.op.as_str());
        self.encounter.append_option(event.encounter_id);
        self.source.append_value(event.source);
        self.implausible.append_value(event.implausible);
        self.rows += 1;
        Ok(())
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether nothing was pushed since the last [`finish`](Self::finish).
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The batch of what was pushed; the builder is empty afterwards and keeps its room.
    ///
    /// # Errors
    /// If Arrow refuses the columns.
    pub fn finish(&mut self) -> Result<RecordBatch, EventsError> {
        self.rows = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.subject.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.code.finish()),
            Arc::new(self.numeric.finish()),
            Arc::new(self.text.finish()),
            Arc::new(self.unit.finish()),
            Arc::new(self.concept.finish()),
            Arc::new(self.recorded.finish()),
            Arc::new(self.op.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.encounter.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.implausible.finish()),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// Typed sight of an event batch: rows without copies.
#[derive(Debug)]
pub struct EventsView<'a> {
    subject: &'a Int64Array,
    time: &'a TimestampMicrosecondArray,
    code: &'a StringArray,
    numeric: &'a Float32Array,
    text: &'a LargeStringArray,
    unit: &'a StringArray,
    concept: &'a StringArray,
    recorded: &'a TimestampMicrosecondArray,
    op: &'a StringArray,
    key: &'a FixedSizeBinaryArray,
    encounter: &'a StringArray,
    source: &'a StringArray,
    implausible: &'a BooleanArray,
}

impl<'a> EventsView<'a> {
    /// Looks at a batch whose first columns are those of the event schema.
    ///
    /// # Errors
    /// If a column is missing, has another type, or `op` another word.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, EventsError> {
        let view = EventsView {
            subject: typed(batch, column::SUBJECT_ID, "subject_id")?,
            time: typed(batch, column::TIME, "time")?,
            code: typed(batch, column::CODE, "code")?,
            numeric: typed(batch, column::NUMERIC_VALUE, "numeric_value")?,
            text: typed(batch, column::TEXT_VALUE, "text_value")?,
            unit: typed(batch, column::UNIT, "unit")?,
            concept: typed(batch, column::CONCEPT, "concept")?,
            recorded: typed(batch, column::RECORDED_AT, "recorded_at")?,
            op: typed(batch, column::OP, "op")?,
            key: typed(batch, column::EVENT_KEY, "event_key")?,
            encounter: typed(batch, column::ENCOUNTER_ID, "encounter_id")?,
            source: typed(batch, column::SOURCE, "source")?,
            implausible: typed(batch, column::IMPLAUSIBLE, "implausible")?,
        };
        if view.key.value_length() != 16 {
            return Err(EventsError::Column("event_key"));
        }
        if view.op.iter().any(|word| word.and_then(Op::parse).is_none()) {
            return Err(EventsError::Cell("op"));
        }
        Ok(view)
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Whether the batch has no row.
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Subject of row `i`, which must be below [`len`](Self::len).
    pub fn subject(&self, i: usize) -> Option<SubjectId> {
        self.subject.is_valid(i).then(|| SubjectId(self.subject.value(i)))
    }

    /// Row `i`; like indexing a slice, `i` must be below [`len`](Self::len).
    pub fn row(&self, i: usize) -> EventRef<'a> {
        let mut key = [0u8; 16];
        key.copy_from_slice(self.key.value(i));
        EventRef {
            subject: self.subject(i),
            time: self.time.is_valid(i).then(|| self.time.value(i)),
            code: self.code.value(i),
            numeric_value: self.numeric.is_valid(i).then(|| self.numeric.value(i)),
            text_value: self.text.is_valid(i).then(|| self.text.value(i)),
            unit: self.unit.is_valid(i).then(|| self.unit.value(i)),
            concept: self.concept.is_valid(i).then(|| self.concept.value(i)),
            recorded_at: self.recorded.value(i),
            op: if self.op.value(i) == Op::Retract.as_str() { Op::Retract } else { Op::Assert },
            event_key: EventKey(key),
            encounter_id: self.encounter.is_valid(i).then(|| self.encounter.value(i)),
            source: self.source.value(i),
            implausible: self.implausible.is_valid(i) && self.implausible.value(i),
        }
    }
}

fn typed<'a, T: Array + 'static>(batch: &'a RecordBatch, i: usize, name: &'static str) -> Result<&'a T, EventsError> {
    let right_name = i < batch.num_columns() && batch.schema_ref().field(i).name() == name;
    right_name.then(|| batch.column(i).as_any().downcast_ref::<T>()).flatten().ok_or(EventsError::Column(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(code: &str) -> EventRef<'_> {
        EventRef {
            subject: Some(SubjectId(-7)),
            time: None,
            code,
            numeric_value: Some(71.5),
            text_value: None,
            unit: Some("/min"),
            concept: None,
            implausible: true,
            recorded_at: 5,
            op: Op::Retract,
            event_key: EventKey([3; 16]),
            encounter_id: Some("e"),
            source: "raw.flat-0-1#0",
        }
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let mut builder = EventsBuilder::new();
        let tick =
            EventRef { subject: None, code: super::super::TICK, op: Op::Assert, implausible: false, ..event("") };
        builder.push(&event("LOINC//8867-4")).unwrap();
        builder.push(&tick).unwrap();
        let batch = builder.finish().unwrap();
        let view = EventsView::new(&batch).unwrap();
        assert_eq!((view.len(), builder.len()), (2, 0));
        assert_eq!(view.row(0), event("LOINC//8867-4"));
        assert_eq!(view.row(1), tick);
    }

    #[test]
    fn a_batch_of_another_shape_is_refused() {
        let batch = EventsBuilder::new().finish().unwrap();
        let fewer = batch.project(&[0, 1, 2]).unwrap();
        assert!(matches!(EventsView::new(&fewer), Err(EventsError::Column("numeric_value"))));
    }
}
