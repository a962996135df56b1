//! The formats of raw records.

/// What raw records are.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Flat JSON, one event a record.
    Flat,
    /// FHIR R4 JSON, a Bundle or a resource a record.
    Fhir,
    /// HL7 v2 ER7, one message a record.
    Hl7v2,
    /// CSV, one row a record, read by a mapping; of files only.
    Csv,
}

impl Format {
    /// The word of the settings, of `--format` and of the dead letter's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Flat => "flat",
            Format::Fhir => "fhir",
            Format::Hl7v2 => "hl7v2",
            Format::Csv => "csv",
        }
    }
}
