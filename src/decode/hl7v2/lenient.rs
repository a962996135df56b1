//! What was read although the standard does not allow it, and what was not read: both counted.

use std::collections::BTreeMap;

/// A byte order mark before the message.
pub(super) const BYTE_ORDER_MARK: &str = "byte_order_mark";
/// Bytes that are not of the declared character set: read as windows-1252.
pub(super) const CHARSET: &str = "charset";
/// Bytes that the character set does not know: replaced by U+FFFD.
pub(super) const BYTES_REPLACED: &str = "bytes_replaced";
/// Segments that end with LF or CRLF instead of CR.
pub(super) const LINE_FEED: &str = "line_feed";
/// A line that begins no segment: read as a part of the segment before it.
pub(super) const BROKEN_LINE: &str = "broken_line";
/// An identifier taken from PID-2 or PID-4 because PID-3 has none.
pub(super) const OLD_IDENTIFIER: &str = "old_identifier";
/// A visit known by its account (PID-18) because PV1-19 is empty.
pub(super) const VISIT_BY_ACCOUNT: &str = "visit_by_account";
/// An encounter's time taken from EVN or MSH because PV1-44 or PV1-45 is empty.
pub(super) const TIME_OF_EVENT: &str = "time_of_event";
/// A time taken from MSH-7 because nothing nearer has one.
pub(super) const TIME_OF_MESSAGE: &str = "time_of_message";
/// An encounter without a class (PV1-2): read as unknown.
pub(super) const CLASS_MISSING: &str = "class_missing";
/// A sex spelt out or of another table than 0001.
pub(super) const SEX_SPELT: &str = "sex_spelt";
/// A numeric value (NM) that is no number: kept as text.
pub(super) const NUMBER_AS_TEXT: &str = "number_as_text";
/// A value without a type (OBX-2): read by what it looks like.
pub(super) const TYPE_MISSING: &str = "type_missing";
/// A value in a result that is said to have none yet.
pub(super) const VALUE_BEFORE_RESULT: &str = "value_before_result";
/// A merged identifier without an authority: taken to be of that of the identifier that is kept.
pub(super) const MERGE_AUTHORITY: &str = "merge_authority";
/// A merge of accounts or visits whose two sides are different patients: read as a merge of patients.
pub(super) const MERGE_BY_ACCOUNT: &str = "merge_by_account";
/// An observation without a code: read under that of its order.
pub(super) const CODE_OF_ORDER: &str = "code_of_order";
/// A time in another writing: of ISO 8601, or with a fraction without its point.
pub(super) const TIME_WRITING: &str = "time_writing";

/// Every word of [`super::super::Notes::lenient`] for HL7 v2.
#[cfg(test)]
pub(super) const ALL: [&str; 18] = [
    BYTE_ORDER_MARK,
    CHARSET,
    BYTES_REPLACED,
    LINE_FEED,
    BROKEN_LINE,
    OLD_IDENTIFIER,
    VISIT_BY_ACCOUNT,
    TIME_OF_EVENT,
    TIME_OF_MESSAGE,
    CLASS_MISSING,
    SEX_SPELT,
    NUMBER_AS_TEXT,
    TYPE_MISSING,
    VALUE_BEFORE_RESULT,
    MERGE_AUTHORITY,
    MERGE_BY_ACCOUNT,
    CODE_OF_ORDER,
    TIME_WRITING,
];

/// The counts of a record.
#[derive(Default)]
pub(super) struct Tally {
    /// What was read although it is irregular.
    pub(super) lenient: BTreeMap<&'static str, u32>,
    /// Segments that were not read.
    pub(super) unread: BTreeMap<&'static str, u32>,
}

impl Tally {
    /// Counts something irregular that was read.
    pub(super) fn lenient(&mut self, word: &'static str) {
        *self.lenient.entry(word).or_default() += 1;
    }

    /// Counts a segment that was not read, by its name in the closed list.
    pub(super) fn unread(&mut self, segment: &str) {
        *self.unread.entry(known(segment)).or_default() += 1;
    }
}

/// The segments of HL7 v2.1 to v2.8 that may go unread, wholly or for a value of theirs.
const SEGMENTS: [&str; 137] = [
    "ABS", "ACC", "ADD", "AFF", "AIG", "AIL", "AIP", "AIS", "AL1", "APR", "ARQ", "ARV", "AUT", "BHS", "BLC", "BLG",
    "BPO", "BPX", "BTS", "BTX", "CDM", "CDO", "CER", "CM0", "CM1", "CM2", "CNS", "CON", "CSP", "CSR", "CSS", "CTD",
    "CTI", "DB1", "DG1", "DMI", "DRG", "DSC", "DSP", "ECD", "ECR", "EDU", "EQP", "EQU", "ERR", "EVN", "FAC", "FHS",
    "FT1", "FTS", "GOL", "GP1", "GP2", "GT1", "IAM", "IAR", "IIM", "ILT", "IN1", "IN2", "IN3", "INV", "IPC", "IPR",
    "ISD", "LAN", "LCC", "LCH", "LDP", "LOC", "LRL", "MFA", "MFE", "MFI", "MRG", "MSA", "NCK", "NDS", "NK1", "NPU",
    "NSC", "NST", "NTE", "OBR", "OBX", "ODS", "ODT", "OM1", "OM2", "OM3", "OM4", "OM5", "OM6", "OM7", "ORC", "ORG",
    "OVR", "PCE", "PCR", "PD1", "PDA", "PDC", "PEO", "PES", "PID", "PR1", "PRB", "PRD", "PRT", "PSH", "PTH", "PV1",
    "PV2", "QAK", "QPD", "QRD", "QRF", "RCP", "RDF", "RDT", "RF1", "RGS", "ROL", "RQ1", "RQD", "RXA", "RXC", "RXD",
    "RXE", "RXG", "RXO", "RXR", "RXV", "SAC", "SCH", "SFT", "SPM",
];

/// More of them; the list is cut in two for the eye only.
const MORE: [&str; 9] = ["STF", "TCC", "TCD", "TQ1", "TQ2", "TXA", "UAC", "UB1", "UB2"];

/// A segment's name if it is in the list; `Z` for those that sites make, else `other`.
pub(super) fn known(name: &str) -> &'static str {
    match SEGMENTS.iter().chain(&MORE).find(|segment| **segment == name) {
        Some(segment) => segment,
        None if name.starts_with('Z') => "Z",
        None => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_the_closed_list() {
        assert_eq!(
            (known("NTE"), known("ZPD"), known("QQQ"), known("SPM"), known("UB2")),
            ("NTE", "Z", "other", "SPM", "UB2")
        );
        assert!(ALL.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
