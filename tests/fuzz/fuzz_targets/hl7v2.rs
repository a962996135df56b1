//! Any bytes as HL7 v2: facts of somebody about something, or a reject; never a panic.
#![no_main]

use auscult_fuzz::decode::{Rules, decode};
use auscult_fuzz::settings::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut facts = Vec::new();
    match decode(Format::Hl7v2, &Rules::default(), bytes, &mut facts) {
        Ok(_) => assert!(facts.iter().all(|fact| !fact.patient.is_empty() && !fact.code.is_empty())),
        Err(reject) => assert!(facts.is_empty() && !reject.detail.is_empty()),
    }
});
