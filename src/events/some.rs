//! Some columns of events, for who needs few of them.
//!
//! Codes stay the numbers by which a file keeps them. So what a code means is asked once of the file's
//! dictionary, not once of every row.

use arrow::array::{
    Array, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float32Array, Int64Array, LargeStringArray,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Int32Type};

use super::{EventKey, EventRef, EventsError, Micros, Op, SubjectId};

/// Typed sight of a batch of some columns of the event schema, by name; `code` and `op`, which must be there, as
/// dictionaries ([`SomeEvents::dictionary`]). Columns that are not there are null, and empty or zero where an
/// [`EventRef`] has no null.
#[derive(Debug)]
pub struct SomeEvents<'a> {
    subject: Option<&'a Int64Array>,
    time: Option<&'a TimestampMicrosecondArray>,
    code: &'a DictionaryArray<Int32Type>,
    code_texts: &'a StringArray,
    numeric: Option<&'a Float32Array>,
    text: Option<&'a LargeStringArray>,
    unit: Option<&'a StringArray>,
    concept: Option<&'a StringArray>,
    recorded: Option<&'a TimestampMicrosecondArray>,
    op: &'a DictionaryArray<Int32Type>,
    /// What each key of `op` means.
    ops: Vec<Op>,
    key: Option<&'a FixedSizeBinaryArray>,
    encounter: Option<&'a StringArray>,
    source: Option<&'a StringArray>,
    implausible: Option<&'a BooleanArray>,
}

impl<'a> SomeEvents<'a> {
    /// The type of the columns `code` and `op`.
    pub fn dictionary() -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }

    /// Looks at a batch.
    ///
    /// # Errors
    /// If `code` or `op` is missing, a column has another type, or `op` another word.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, EventsError> {
        let (code, code_texts) = dictionary(batch, "code")?;
        let (op, words) = dictionary(batch, "op")?;
        let ops = words.iter().map(|word| word.and_then(Op::parse).ok_or(EventsError::Cell("op")));
        let ops = ops.collect::<Result<Vec<Op>, EventsError>>()?;
        let key: Option<&FixedSizeBinaryArray> = column(batch, "event_key")?;
        if key.is_some_and(|key| key.value_length() != 16) {
            return Err(EventsError::Column("event_key"));
        }
        Ok(SomeEvents {
            subject: column(batch, "subject_id")?,
            time: column(batch, "time")?,
            code,
            code_texts,
            numeric: column(batch, "numeric_value")?,
            text: column(batch, "text_value")?,
            unit: column(batch, "unit")?,
            concept: column(batch, "concept")?,
            recorded: column(batch, "recorded_at")?,
            op,
            ops,
            key,
            encounter: column(batch, "encounter_id")?,
            source: column(batch, "source")?,
            implausible: column(batch, "implausible")?,
        })
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.code.len()
    }

    /// Whether the batch has no row.
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }

    /// Whether the column `source` is there.
    pub fn has_source(&self) -> bool {
        self.source.is_some()
    }

    /// The codes of all rows.
    pub fn codes(&self) -> &'a DictionaryArray<Int32Type> {
        self.code
    }

    /// Key of row `i`'s code in the dictionary of [`codes`](Self::codes). Here and below `i` must be below
    /// [`len`](Self::len), like an index of a slice.
    pub fn code_key(&self, i: usize) -> usize {
        self.code.keys().value(i) as usize
    }

    /// Subject of row `i`.
    pub fn subject(&self, i: usize) -> Option<SubjectId> {
        self.subject.filter(|column| column.is_valid(i)).map(|column| SubjectId(column.value(i)))
    }

    /// When it happened.
    pub fn time(&self, i: usize) -> Option<Micros> {
        self.time.filter(|column| column.is_valid(i)).map(|column| column.value(i))
    }

    /// Its number.
    pub fn numeric_value(&self, i: usize) -> Option<f32> {
        self.numeric.filter(|column| column.is_valid(i)).map(|column| column.value(i))
    }

    /// Whether its number cannot be.
    pub fn implausible(&self, i: usize) -> bool {
        self.implausible.is_some_and(|column| column.is_valid(i) && column.value(i))
    }

    /// Whether it asserts or retracts.
    pub fn op(&self, i: usize) -> Op {
        self.ops[self.op.keys().value(i) as usize]
    }

    /// Identity of its fact.
    pub fn event_key(&self, i: usize) -> EventKey {
        let mut key = [0; 16];
        if let Some(column) = self.key {
            key.copy_from_slice(column.value(i));
        }
        EventKey(key)
    }

    /// The whole row.
    pub fn row(&self, i: usize) -> EventRef<'a> {
        let text =
            |column: Option<&'a StringArray>| column.filter(|column| column.is_valid(i)).map(|column| column.value(i));
        EventRef {
            subject: self.subject(i),
            time: self.time(i),
            code: self.code_texts.value(self.code_key(i)),
            numeric_value: self.numeric_value(i),
            text_value: self.text.filter(|column| column.is_valid(i)).map(|column| column.value(i)),
            unit: text(self.unit),
            concept: text(self.concept),
            recorded_at: self.recorded.map_or(0, |column| column.value(i)),
            op: self.op(i),
            event_key: self.event_key(i),
            encounter_id: text(self.encounter),
            source: text(self.source).unwrap_or_default(),
            implausible: self.implausible(i),
        }
    }
}

/// A column that may be missing.
fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &'static str) -> Result<Option<&'a T>, EventsError> {
    match batch.column_by_name(name) {
        Some(column) => column.as_any().downcast_ref().map(Some).ok_or(EventsError::Column(name)),
        None => Ok(None),
    }
}

/// A column of texts as a dictionary, and its texts.
fn dictionary<'a>(
    batch: &'a RecordBatch,
    name: &'static str,
) -> Result<(&'a DictionaryArray<Int32Type>, &'a StringArray), EventsError> {
    let column = column::<DictionaryArray<Int32Type>>(batch, name)?.filter(|column| column.null_count() == 0);
    let column = column.ok_or(EventsError::Column(name))?;
    Ok((column, column.values().as_string_opt().ok_or(EventsError::Column(name))?))
}

#[cfg(test)]
mod tests {
    use arrow::array::ArrayRef;
    use arrow::compute::cast;

    use super::super::EventsBuilder;
    use super::*;

    fn event(n: i64) -> EventRef<'static> {
        EventRef {
            subject: (n != 2).then_some(SubjectId(n)),
            time: (n != 1).then_some(n),
            code: ["A", "B", "A"][n as usize],
            numeric_value: (n == 1).then_some(0.5),
            text_value: Some("text"),
            unit: Some("mg"),
            concept: None,
            implausible: n == 1,
            recorded_at: n,
            op: if n == 1 { Op::Retract } else { Op::Assert },
            event_key: EventKey([n as u8; 16]),
            encounter_id: Some("e"),
            source: "s",
        }
    }

    /// Three events, of which these columns are there.
    fn batch(names: &[&str]) -> RecordBatch {
        let mut builder = EventsBuilder::new();
        (0..3).for_each(|n| builder.push(&event(n)).unwrap());
        let whole = builder.finish().unwrap();
        let column = |name: &&str| -> (String, ArrayRef) {
            let column = &whole[*name];
            let is_keyed = ["code", "op"].contains(name);
            let column =
                if is_keyed { cast(column, &SomeEvents::dictionary()).unwrap() } else { ArrayRef::clone(column) };
            ((*name).to_owned(), column)
        };
        RecordBatch::try_from_iter(names.iter().map(column)).unwrap()
    }

    #[test]
    fn columns_that_are_not_there_are_null_and_the_others_as_they_were() {
        let schema = super::super::schema();
        let all: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let whole = batch(&all);
        let view = SomeEvents::new(&whole).unwrap();
        assert_eq!((0..view.len()).map(|i| view.row(i)).collect::<Vec<_>>(), [event(0), event(1), event(2)]);
        let some = batch(&["op", "time", "code", "unit"]);
        let view = SomeEvents::new(&some).unwrap();
        let nothing = EventRef {
            subject: None,
            numeric_value: None,
            text_value: None,
            implausible: false,
            recorded_at: 0,
            event_key: EventKey([0; 16]),
            encounter_id: None,
            source: "",
            ..event(1)
        };
        assert_eq!(view.row(1), nothing);
        assert!(!view.has_source() && view.code_key(0) == view.code_key(2));
    }

    #[test]
    fn what_must_be_there_and_another_word_are_named() {
        let reason = |batch: &RecordBatch| SomeEvents::new(batch).unwrap_err().to_string();
        assert!(reason(&batch(&["op", "time"])).contains("'code'"));
        let plain = batch(&["op"]).column(0).clone();
        let renamed = |name| RecordBatch::try_from_iter([(name, ArrayRef::clone(&plain)), ("op", plain.clone())]);
        assert!(SomeEvents::new(&renamed("code").unwrap()).is_ok());
        let codes = batch(&["code"]).column(0).clone();
        let wrong = RecordBatch::try_from_iter([("code", ArrayRef::clone(&codes)), ("op", codes)]).unwrap();
        assert!(matches!(SomeEvents::new(&wrong), Err(EventsError::Cell("op"))));
    }
}
