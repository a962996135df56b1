//! The Arrow schema of an event batch (design section 2).

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Positions of the columns in [`schema`].
pub mod column {
    /// Pseudonym of the subject; null in a tick.
    pub const SUBJECT_ID: usize = 0;
    /// When it happened; null = static.
    pub const TIME: usize = 1;
    /// Code of the event.
    pub const CODE: usize = 2;
    /// Value in the concept's canonical unit.
    pub const NUMERIC_VALUE: usize = 3;
    /// Value that is not a number.
    pub const TEXT_VALUE: usize = 4;
    /// Canonical UCUM unit.
    pub const UNIT: usize = 5;
    /// Concept the code maps to.
    pub const CONCEPT: usize = 6;
    /// When it became known.
    pub const RECORDED_AT: usize = 7;
    /// `assert` or `retract`.
    pub const OP: usize = 8;
    /// Identity of the source fact.
    pub const EVENT_KEY: usize = 9;
    /// Pseudonymous encounter.
    pub const ENCOUNTER_ID: usize = 10;
    /// `topic-partition-offset#index` of the raw message.
    pub const SOURCE: usize = 11;
    /// Whether the number is beyond what is plausible for the concept.
    pub const IMPLAUSIBLE: usize = 12;
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("subject_id", DataType::Int64, true),
        Field::new("time", timestamp.clone(), true),
        Field::new("code", DataType::Utf8, false),
        Field::new("numeric_value", DataType::Float32, true),
        Field::new("text_value", DataType::LargeUtf8, true),
        Field::new("unit", DataType::Utf8, true),
        Field::new("concept", DataType::Utf8, true),
        Field::new("recorded_at", timestamp, false),
        Field::new("op", DataType::Utf8, false),
        Field::new("event_key", DataType::FixedSizeBinary(16), false),
        Field::new("encounter_id", DataType::Utf8, true),
        Field::new("source", DataType::Utf8, false),
        // Nullable, so that what was written before there was this column can be read: null is no.
        Field::new("implausible", DataType::Boolean, true),
    ]))
});

/// Schema of an event batch: a superset of the MEDS 0.4 `DataSchema`.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}
