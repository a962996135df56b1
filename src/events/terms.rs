//! The words of the log: times, codes, identities, what an event does.
//!
//! Plain types without a library, so that decoders can be built and fuzzed without Arrow.

/// Microseconds since the Unix epoch, UTC.
pub type Micros = i64;

/// One second in [`Micros`].
pub const SECOND: Micros = 1_000_000;
/// One hour in [`Micros`].
pub const HOUR: Micros = 3_600 * SECOND;
/// One day in [`Micros`].
pub const DAY: Micros = 24 * HOUR;

/// MEDS code of a birth; its time is the date of birth.
pub const MEDS_BIRTH: &str = "MEDS_BIRTH";
/// MEDS code of a death.
pub const MEDS_DEATH: &str = "MEDS_DEATH";
/// Code of a tick: a row without subject that says how far a raw partition has been read.
pub const TICK: &str = "TICK";
/// Code of the static event whose text is the sealed identifier of the subject.
pub const TOKEN: &str = "PATIENT//TOKEN";
/// Code of the row in which a subject loses what was told under some identifiers; see
/// `Linked`.
pub const LEAVE: &str = "SUBJECT//LEAVE";
/// Code of the row in which a subject gains what was told under some identifiers.
pub const JOIN: &str = "SUBJECT//JOIN";
/// Code that labelling inserts at every prediction time, so that an ACES task can start there.
pub const PREDICTION: &str = "AUSCULT//PREDICTION";

/// Pseudonym of a patient: a keyed hash of (assigner, identifier).
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SubjectId(pub i64);

/// Identity of the source fact: a redelivery has the same key, a correction too.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EventKey(pub [u8; 16]);

/// What an event does to the fact it names.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// The fact holds; under a known key with other content it replaces.
    Assert,
    /// The fact was entered in error, cancelled or withdrawn.
    Retract,
}

impl Op {
    /// The word written in the `op` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Assert => "assert",
            Op::Retract => "retract",
        }
    }

    /// Reads the word of the `op` column or of a flat record's `op` field.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "assert" => Some(Op::Assert),
            "retract" => Some(Op::Retract),
            _ => None,
        }
    }
}
