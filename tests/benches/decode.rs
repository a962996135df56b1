//! What the decoders read in a second, on one core: `cargo bench --bench decode`.
//!
//! One function a format. Every line says what was read, how many facts and how many bytes a second.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement prints and may fail"
)]

#[path = "decode_fhir.rs"]
mod decode_fhir;

use std::time::{Duration, Instant};

use auscult::decode::{Fact, Rules, decode};
use auscult::settings::Format;

/// How long each format is measured, after as long to warm up.
const SPAN: Duration = Duration::from_secs(3);

fn main() {
    hl7v2();
    decode_fhir::fhir();
    flat();
}

/// Messages of results, twenty OBX each, as a laboratory sends them.
fn hl7v2() {
    let results: String = (0..20)
        .map(|i| {
            format!(
                "OBX|{i}|NM|{i}345-7^Glucose [Mass/volume] in Serum or Plasma^LN^GLU^Glucose^L||{i}.25|mg/dL^milligram per \
                 deciliter^UCUM|70-105|N|||F|||20260101080000|LAB^Laboratory\r"
            )
        })
        .collect();
    let message = format!(
        "MSH|^~\\&|LIS|LAB|EHR|HOSP|20260102090000+0000||ORU^R01^ORU_R01|1|P|2.5.1\r\
         PID|1||77^^^HOSP^MR||DOE^JANE||19700203|F\rPV1|1|I|ICU^1^2||||||||||||||||V9^^^HOSP\r\
         OBR|1|P1^EHR|F1^LIS|24320-4^Basic metabolic panel^LN|||20260101080000\r{results}"
    );
    measure("HL7 v2", "OBX", 20, Format::Hl7v2, &[message]);
}

/// One event a record.
fn flat() {
    let records: Vec<String> = (0..100)
        .map(|i| {
            format!(
                r#"{{"patient":"1325{i}","time":"2026-01-01T00:07:00Z","code":"8867-4","system":"http://loinc.org","value":{i}.5,"unit":"/min","recorded":"2026-01-01T00:09:12Z","id":"9d93ced{i}"}}"#
            )
        })
        .collect();
    measure("flat JSON", "events", 1, Format::Flat, &records);
}

/// Decodes the records again and again, and prints the speed.
fn measure(name: &str, what: &str, each: u32, format: Format, records: &[String]) {
    let mut facts: Vec<Fact<'_>> = Vec::new();
    let rules = Rules::default();
    let mut speed = (0.0, 0.0);
    for _ in 0..2 {
        let start = Instant::now();
        let (mut read, mut bytes) = (0_u64, 0_usize);
        while start.elapsed() < SPAN {
            for _ in 0..100 {
                facts.clear();
                for record in records {
                    decode(format, &rules, record.as_bytes(), &mut facts).expect("a valid record");
                    read += u64::from(each);
                    bytes += record.len();
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        speed = (read as f64 / seconds, bytes as f64 / 1e6 / seconds);
    }
    println!("{name}: {:.0} {what}/s, {:.0} MB/s", speed.0, speed.1);
}
