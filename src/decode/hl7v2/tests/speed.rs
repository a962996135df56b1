//! What a message costs: `cargo test --release hl7v2::tests::speed -- --ignored --nocapture`.

use super::super::super::*;
use super::{message, segment};

#[test]
#[ignore = "a measurement"]
fn speed() {
    let pv1 = segment("PV1", &[(2, "I"), (3, "ICU^1^2"), (19, "V9^^^HOSP"), (44, "202601010800")]);
    let obr = segment(
        "OBR",
        &[
            (1, "1"),
            (2, "P1^EHR"),
            (3, "F1^LIS"),
            (4, "24320-4^Basic metabolic panel^LN"),
            (7, "20260101080000"),
            (22, "20260101090000"),
            (25, "F"),
        ],
    );
    let results: Vec<String> = (0..20)
        .map(|i| format!("OBX|{i}|NM|{i}345-7^Glucose [Mass/volume] in Serum or Plasma^LN^GLU^Glucose^L||{i}.25|mg/dL^milligram per deciliter^UCUM|70-105|N|||F|||20260101080000|LAB^Laboratory"))
        .collect();
    let text = message("ORU^R01^ORU_R01", &format!("{pv1}\n{obr}\n{}", results.join("\n")));
    let mut facts = Vec::new();
    let start = std::time::Instant::now();
    let (mut bytes, mut rounds) = (0, 0);
    while start.elapsed().as_millis() < 2_000 {
        facts.clear();
        for _ in 0..100 {
            decode(Format::Hl7v2, &Rules::default(), text.as_bytes(), &mut facts).unwrap();
            bytes += text.len();
            rounds += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("HL7 v2: {:.0} OBX/s, {:.0} MB/s", f64::from(rounds) * 20.0 / seconds, bytes as f64 / 1e6 / seconds);
}
