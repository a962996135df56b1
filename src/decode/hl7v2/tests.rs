//! HL7 v2 messages of every kind that is read.

mod formats;
mod hostile;
mod oracle;
mod speed;

use chrono_tz::Tz;

use super::super::time::parse_rfc3339;
use super::super::*;

/// What begins every message of these tests.
const MSH: &str = "MSH|^~\\&|LIS|LAB|EHR|HOSP|20260102090000+0000||";

const PID: &str = "PID|1||77^^^HOSP^MR~88^^^CITY^PI~123456789^^^USSSA^SS~V1^^^HOSP^VN||DOE^JANE||19700203|F\r";

/// A message of that type about the same patient.
fn message(kind: &str, rest: &str) -> String {
    format!("{MSH}{kind}|1|P|2.5.1\r{PID}{}", rest.replace('\n', "\r"))
}

/// A segment with these fields.
fn segment(name: &str, fields: &[(usize, &str)]) -> String {
    let last = fields.iter().map(|(number, _)| *number).max().unwrap_or(0);
    let field = |number| fields.iter().find(|(at, _)| *at == number).map_or("", |(_, text)| text);
    (1..=last).fold(name.to_owned(), |text, number| text + "|" + field(number))
}

struct Read<'a> {
    facts: Vec<Fact<'a>>,
    notes: Notes<'a>,
}

fn read_in(zone: Tz, text: &str) -> Read<'_> {
    let mut facts = Vec::new();
    let notes = decode(Format::Hl7v2, &Rules { zone }, text.as_bytes(), &mut facts).unwrap();
    Read { facts, notes }
}

fn read(text: &str) -> Read<'_> {
    read_in(Tz::UTC, text)
}

fn reject(text: &str) -> Reject {
    decode(Format::Hl7v2, &Rules::default(), text.as_bytes(), &mut Vec::new()).unwrap_err()
}

impl Read<'_> {
    /// The facts but for those of PID.
    fn clinical(&self) -> impl Iterator<Item = &Fact<'_>> {
        self.facts.iter().filter(|fact| !fact.id.as_deref().is_some_and(|id| id.starts_with("PID|")))
    }

    /// Code, value and whether it holds, of those.
    fn said(&self) -> Vec<(String, String, bool)> {
        let say = |value: &Value<'_>| match value {
            Value::None => String::new(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) | Value::Code(text) => text.to_string(),
            Value::Bool(truth) => truth.to_string(),
        };
        self.clinical().map(|f| (f.code.to_string(), say(&f.value), f.op == Op::Assert)).collect()
    }

    fn lenient(&self) -> Vec<&'static str> {
        self.notes.lenient.iter().map(|(word, _)| *word).collect()
    }
}

fn said(all: &[(String, String, bool)]) -> Vec<(&str, &str, bool)> {
    all.iter().map(|(code, value, holds)| (&**code, &**value, *holds)).collect()
}

fn at(text: &str) -> Option<Micros> {
    Some(parse_rfc3339(text).unwrap())
}

#[test]
fn who_the_patient_is() {
    let text = message("ADT^A31", "");
    let read = read(&text);
    let first = &read.facts[0];
    assert_eq!((first.assigner.as_deref(), &*first.patient), (Some("HOSP"), "77"));
    let codes: Vec<&str> = read.facts.iter().map(|fact| &*fact.code).collect();
    assert_eq!(codes, ["GENDER//F", "MEDS_BIRTH"]);
    let link = &read.notes.links[..];
    assert_eq!(link.len(), 1, "numbers of a visit and of the government link nobody");
    assert_eq!((link[0].kind, &*link[0].kept.patient, &*link[0].other.patient), (LinkKind::Same, "77", "88"));
    assert_eq!(link[0].recorded, at("2026-01-02T09:00:00Z"));

    for (pid, assigner, patient) in [
        ("PID|||1^^^^PI~2^^^B^MR", Some("B"), "2"),
        ("PID|||1^^^&1.2.3&ISO^MR", Some("urn:oid:1.2.3"), "1"),
        ("PID|||1^^^^MR", Some("MR"), "1"),
        ("PID|||1", None, "1"),
        ("PID||7^^^OLD|", Some("OLD"), "7"),
        ("PID||||8^^^ALT", Some("ALT"), "8"),
    ] {
        let text = format!("{MSH}ADT^A31|1|P|2.3\r{pid}||||19700101|M");
        let pid = if pid.matches('|').count() > 3 {
            pid.to_owned() + "|||19700101"
        } else {
            pid.to_owned() + "|||||19700101"
        };
        let text = if text.contains("PID||||8") { format!("{MSH}ADT^A31|1|P|2.3\r{pid}") } else { text };
        let facts = read_in(Tz::UTC, &text).facts;
        assert_eq!((facts[0].assigner.as_deref(), &*facts[0].patient), (assigner, patient), "{text}");
    }
    for nobody in ["PID|||", "PID|||1^^^^AN~2^^^USSSA", "PID|||\"\"", "PID"] {
        let text = format!("{MSH}ADT^A31|1|P|2.3\r{nobody}");
        assert_eq!(reject(&text).reason, Reason::Patient, "{nobody}");
    }
    assert_eq!(reject(&format!("{MSH}ORU^R01|1|P|2.3\rOBX|1|NM|8867-4^^LN||7")).reason, Reason::Patient);
}

#[test]
fn birth_sex_and_death() {
    let text = format!("{MSH}ADT^A08|1|P|2.8\rPID|||1||||197002031130-0500|Female{}20260101|Y", "|".repeat(21));
    let read = read(&text);
    let times: Vec<_> = read.facts.iter().map(|f| (&*f.code, f.time)).collect();
    let (birth, death) = (at("1970-02-03T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    assert_eq!(times, [("GENDER//F", None), ("MEDS_BIRTH", birth), ("MEDS_DEATH", death)]);
    assert_eq!(read.lenient(), ["sex_spelt"]);
    let text = format!("{MSH}ADT^A08|1|P|2.8\rPID|||1||||unknown|Q{}|Y", "|".repeat(21));
    let read = read_in(Tz::UTC, &text);
    assert!(read.facts.is_empty());
    assert_eq!(read.notes.unread, [("PID", 1)]);
}

#[test]
fn an_encounter_begins_moves_ends_and_is_cancelled() {
    let pv1 = |start: &str, end: &str, class: &str| {
        let fields = [(2, class), (3, "ICU^1^2"), (19, "V9^^^HOSP"), (36, "01"), (44, start), (45, end)];
        format!("EVN|A|202601020800||||202601020730\n{}", segment("PV1", &fields))
    };
    for (event, start, end, class, expected) in [
        ("A01", "20260101", "", "I", &[("ENCOUNTER//IMP//START", "", true)][..]),
        ("A04", "", "", "E", &[("ENCOUNTER//EMER//START", "", true)]),
        ("A05", "20260101", "", "P", &[]),
        ("A06", "20260101", "", "I", &[("ENCOUNTER//IMP//START", "", true)]),
        ("A08", "20260101", "", "O", &[("ENCOUNTER//AMB//START", "", true)]),
        ("A08", "20260101", "", "P", &[]),
        ("A08", "", "", "O", &[]),
        (
            "A03",
            "20260101",
            "20260102",
            "I",
            &[("ENCOUNTER//IMP//START", "", true), ("ENCOUNTER//IMP//END", "01", true)],
        ),
        ("A03", "", "", "I", &[("ENCOUNTER//IMP//END", "01", true)]),
        ("A11", "20260101", "", "I", &[("ENCOUNTER//IMP//START", "", false), ("ENCOUNTER//IMP//END", "01", false)]),
        (
            "A13",
            "20260101",
            "20260102",
            "I",
            &[("ENCOUNTER//IMP//START", "", true), ("ENCOUNTER//IMP//END", "01", false)],
        ),
        ("A02", "", "", "I", &[("LOCATION//ICU//START", "", true)]),
        ("A12", "", "", "I", &[("LOCATION//ICU//START", "", false)]),
    ] {
        let text = message(&format!("ADT^{event}"), &pv1(start, end, class));
        let read = read(&text);
        assert_eq!(said(&read.said()), expected, "{event} {start} {end} {class}");
        for fact in read.clinical() {
            assert_eq!(fact.encounter.as_deref(), Some("V9"));
            assert_eq!(fact.recorded, at("2026-01-02T08:00:00Z"));
            if start.is_empty() && end.is_empty() {
                assert_eq!(fact.time, at("2026-01-02T07:30:00Z"), "{event}: of the event");
            }
        }
    }
    // What cancels has the names of what it cancels.
    let names = |event: &str| -> Vec<String> {
        let text = message(&format!("ADT^{event}"), &pv1("20260101", "20260102", "I"));
        read(&text).clinical().map(|fact| fact.id.clone().unwrap().into_owned()).collect()
    };
    assert_eq!(names("A03"), names("A11"));
    assert_eq!(names("A02").last(), names("A12").last());
    assert_eq!(names("A03"), ["PV1|HOSP|V9|start", "PV1|HOSP|V9|end"]);
}

#[test]
fn merges_and_links() {
    for (event, mrg, expected) in [
        ("A40", "MRG|5^^^HOSP^MR", Some((LinkKind::Merge, "HOSP", "5"))),
        ("A40", "MRG|5", Some((LinkKind::Merge, "HOSP", "5"))),
        ("A18", "MRG||||5", Some((LinkKind::Merge, "HOSP", "5"))),
        ("A47", "MRG|5^^^B^MR", Some((LinkKind::Merge, "B", "5"))),
        ("A42", "MRG|5^^^HOSP^MR||A|V", Some((LinkKind::Merge, "HOSP", "5"))),
        ("A42", "MRG|77^^^HOSP^MR||A|V", None),
        ("A45", "MRG|5^^^HOSP^MR||A|V", None),
        ("A40", "MRG|123^^^USSSA^SS", None),
        ("A37", "PID|2||5^^^HOSP^MR", Some((LinkKind::Unmerge, "HOSP", "5"))),
        ("A24", "PID|2||5^^^HOSP^MR", Some((LinkKind::Same, "HOSP", "5"))),
    ] {
        let text = message(&format!("ADT^{event}"), mrg);
        let links = read(&text).notes.links;
        let found = links[1..].first().map(|l| (l.kind, l.other.assigner.clone().unwrap(), l.other.patient.clone()));
        let found = found.as_ref().map(|(kind, assigner, patient)| (*kind, &**assigner, &**patient));
        assert_eq!(found, expected, "{event} {mrg}");
        assert!(links[1..].iter().all(|link| link.kept.patient == "77"));
    }
}

#[test]
fn values_of_every_type() {
    for (kind, value, expected) in [
        ("NM", "37.5", &["37.5"][..]),
        ("NM", " -.5 ", &["-0.5"]),
        ("NM", "<5", &["<5"]),
        ("NM", "NaN", &["NaN"]),
        ("NM", "60~120", &["60", "120"]),
        ("SN", "^100", &["100"]),
        ("SN", "<^5", &["<5"]),
        ("SN", ">=^200", &[">=200"]),
        ("SN", "^1^:^40", &["1:40"]),
        ("SN", "^5^-^10", &["5-10"]),
        ("SN", "^2^+", &["2+"]),
        ("NR", "5^10", &["5-10"]),
        ("ST", "5.2", &["5.2"]),
        ("ST", "a\\T\\b", &["a&b"]),
        ("TX", "one~two", &["one\ntwo"]),
        ("FT", "one\\.br\\two", &["one\ntwo"]),
        ("CE", "E^E. coli^L^112283007^E. coli^SCT", &["112283007"]),
        ("CWE", "^positive", &["positive"]),
        ("CNE", "A^x^L~B^y^L", &["A", "B"]),
        ("CF", "A^x^L", &["A"]),
        ("ID", "Y", &["Y"]),
        ("DT", "20260102", &["2026-01-02"]),
        ("TM", "0830", &["08:30:00"]),
        ("TS", "202601020830", &["2026-01-02T08:30:00+00:00"]),
        ("DTM", "20260102083000+0100", &["2026-01-02T08:30:00+01:00"]),
        ("", "5", &["5"]),
        ("ED", "^IM^JPEG^Base64^aaaa", &[]),
        ("RP", "http://x", &[]),
        ("XPN", "DOE^JANE", &[]),
        ("NM", "", &[]),
    ] {
        let text =
            message("ORU^R01", &format!("OBR|1||F1^LIS|P^Panel^L|||20260101\nOBX|1|{kind}|C^x^L||{value}|mg||||F"));
        let read = read(&text);
        let found: Vec<String> = read.said().into_iter().skip(1).map(|(_, value, _)| value).collect();
        assert_eq!(found, expected, "{kind} {value}");
        assert_eq!(read.notes.unread.contains(&("OBX", 1)), expected.is_empty());
        let number = matches!(kind, "NM" | "SN" | "NR" | "ST" | "");
        assert!(read.clinical().skip(1).all(|fact| fact.unit.is_some() == number), "{kind}");
    }
}

#[test]
fn a_status_asserts_corrects_or_retracts() {
    for (obr, obx, value, expected) in [
        ("F", "F", "5", Some(true)),
        ("F", "P", "5", Some(true)),
        ("F", "C", "5", Some(true)),
        ("F", "C", "", Some(false)),
        ("F", "D", "5", Some(false)),
        ("F", "W", "5", Some(false)),
        ("F", "X", "", Some(false)),
        ("F", "", "5", Some(true)),
        ("X", "", "5", Some(false)),
        ("F", "I", "", None),
        ("F", "O", "5", Some(true)),
        ("F", "F", "\"\"", Some(false)),
    ] {
        let result = format!("OBR|1||F1^LIS|P^Panel^L{}{obr}\nOBX|1|NM|C^x^L||{value}||||||{obx}", "|".repeat(21));
        let text = message("ORU^R01", &result);
        let said = read(&text).said();
        let found = said.iter().find(|(code, ..)| code == "C").map(|(_, _, holds)| *holds);
        assert_eq!(found, expected, "{obr} {obx} {value}");
    }
}

#[test]
fn a_result_keeps_its_name() {
    let result = |order: &str, rest: &str| message("ORU^R01", &format!("{order}\n{rest}"));
    let names = |text: &str| -> Vec<Option<String>> {
        read(text).clinical().map(|fact| fact.id.clone().map(Cow::into_owned)).collect()
    };
    let some = |names: &[&str]| -> Vec<Option<String>> { names.iter().map(|n| Some((*n).to_owned())).collect() };
    let two = "OBX|1|NM|C^x^L|1|5||||||P\nOBX|2|NM|C^x^L|2|6~7||||||F\nOBX|3|NM|C^x^L|1|8||||||F";
    let expected =
        some(&["OBR|LIS|F1|P", "OBX|LIS|F1|P|C|1", "OBX|LIS|F1|P|C|2", "OBX|LIS|F1|P|C|2~1", "OBX|LIS|F1|P|C|1|2"]);
    assert_eq!(names(&result("OBR|1|X|F1^LIS|P^Panel^L", two)), expected);
    assert_eq!(names(&result("ORC|RE||F1^LIS\nOBR|1|||P^Panel^L", two)), expected, "the number of ORC-3");
    let corrected = two.replace("|5|", "|9|").replace("||P", "||C");
    assert_eq!(names(&result("OBR|1|X|F1^LIS|P^Panel^L", &corrected)), expected, "a correction replaces");
    let sender = names(&result("OBR|1|||P^Panel^L|||20260101", "OBX|1|NM|C^x^L||5"));
    assert_eq!(sender, [None, Some("OBX|LAB|@|20260101|C|".to_owned())], "without an order number the time names it");
    assert_eq!(names(&message("ORU^R01", "OBX|1|NM|C^x^L||5")), [None]);
}

#[test]
fn times_and_availability() {
    let first = |rest: &str| {
        let text = message("ORU^R01", rest);
        let read = read(&text);
        let fact = read.clinical().last().unwrap();
        (fact.time, fact.recorded, read.lenient())
    };
    let obr = |done: &str, known: &str| format!("OBR|1||F|P^x^L|||{done}{}{known}", "|".repeat(15));
    let sent = at("2026-01-02T09:00:00Z");
    let obx = "\nOBX|1|NM|C^x^L||5||||||F|||";
    let with = |done: &str, known: &str, own: &str| first(&format!("{}{obx}{own}", obr(done, known)));
    assert_eq!(
        with("20260101", "20260101120000", "20260101060000+0100"),
        (at("2026-01-01T05:00:00Z"), at("2026-01-01T12:00:00Z"), vec![])
    );
    assert_eq!(with("202601010700", "", ""), (at("2026-01-01T07:00:00Z"), sent, vec![]));
    assert_eq!(with("", "", "").0, sent);
    assert_eq!(with("", "", "").2, ["time_of_message"]);
    assert_eq!(with("", "20260101", "202601011500").1, at("2026-01-01T15:00:00Z"), "not known before it happened");
    let text = message("ORU^R01", "OBX|1|NM|C^x^L||5||||||F|||yesterday");
    let reject = reject(&text);
    assert_eq!((reject.reason, &*reject.detail), (Reason::Time, "OBX-14 is no time of HL7 (YYYYMMDDHHMMSS)"));
    let text = message("ORU^R01", "OBX|1|NM|C^x^L||5||||||F|||202607010800");
    let local = read_in(Tz::Europe__Berlin, &text);
    assert_eq!(local.clinical().last().unwrap().time, at("2026-07-01T06:00:00Z"));
}

#[test]
fn orders_drugs_doses_and_vaccines() {
    for (kind, rest, expected) in [
        ("ORM^O01", "ORC|NW|P1|F1||||||20260101\nOBR|1|||2345-7^Glucose^LN", &[("2345-7", "order", true)][..]),
        ("ORM^O01", "ORC|CA|P1|F1||||||20260101\nOBR|1|||2345-7^Glucose^LN", &[("2345-7", "order", false)]),
        ("ORM^O01", "ORC|DC|P1|F1||||||20260101\nOBR|1|||2345-7^Glucose^LN", &[]),
        ("OML^O21", "ORC|DC|P1|F1||||||20260101\nOBR|1|||2345-7^Glucose^LN", &[]),
        ("OML^O21", "OBR|1||F1|2345-7^Glucose^LN", &[("2345-7", "order", true)]),
        ("RDE^O11", "ORC|NW|P1|F1\nRXO|A^a^L\nRXE||161^Paracetamol^RXNORM|1", &[("161", "order", true)]),
        ("OMP^O09", "ORC|NW|P1|F1\nRXO|161^Paracetamol^RXNORM", &[("161", "order", true)]),
        ("RDS^O13", "ORC|RE|P1|F1\nRXD|1|161^Paracetamol^RXNORM|20260101|10", &[("161", "dispense", true)]),
        ("RAS^O17", "ORC|RE|P1|F1\nRXA|0|1|202601010800||161^P^RXNORM|500|mg", &[("161", "500", true)]),
        ("RAS^O17", "ORC|RE|P1|F1\nRXA|0|1|202601010800||161^P^RXNORM|999", &[("161", "", true)]),
        ("RAS^O17", "ORC|RE|P1|F1\nRXA|0|1|202601010800||161^P^RXNORM|500|mg|||||||||||||RE", &[("161", "500", false)]),
        ("VXU^V04", "ORC|RE||F1\nRXA|0|1|20260101||49281^T^NDC^115^Tdap^CVX|0.5|mL", &[("115", "", true)]),
        ("VXU^V04", "ORC|RE||F1\nRXA|0|1|20260101||998^none^CVX|999", &[]),
        ("VXU^V04", "ORC|RE||F1\nRXA|0|1|20260101||115^T^CVX|999||||||||||||||CP|D", &[("115", "", false)]),
    ] {
        let text = message(kind, rest);
        assert_eq!(said(&read(&text).said()), expected, "{kind} {rest}");
    }
}

#[test]
fn diagnoses_procedures_and_allergies() {
    for (segment, code, value, holds, time) in [
        ("DG1|1||I21.9^MI^I10C||20260101|A", "I21.9", "", true, at("2026-01-01T00:00:00Z")),
        ("DG1|1|I10C|I21.9||20260101|A", "I21.9", "", true, at("2026-01-01T00:00:00Z")),
        ("DG1|1|||heart attack|20260101|A", "heart attack", "", true, at("2026-01-01T00:00:00Z")),
        ("DG1|1||I21.9^MI^I10C||20260101|A|||||||||||||||D", "I21.9", "", false, at("2026-01-01T00:00:00Z")),
        ("PRB|AD|20260102|I21.9^MI^I10C|4|||20260101", "I21.9", "", true, at("2026-01-01T00:00:00Z")),
        ("PRB|DE|20260102|I21.9^MI^I10C|4|||20260101", "I21.9", "", false, at("2026-01-01T00:00:00Z")),
        ("PR1|1||80146002^App.^SCT||202601010800", "80146002", "", true, at("2026-01-01T08:00:00Z")),
        ("AL1|1|DA|7980^Penicillin^RXNORM|SV||20200101", "7980", "allergy", true, at("2020-01-01T00:00:00Z")),
        ("AL1|1|MC|7980^Penicillin^RXNORM", "7980", "allergy-intolerance", true, None),
        ("IAM|1|DA|7980^Pen^RXNORM|||A|X1||IN||2020", "7980", "intolerance", true, at("2020-01-01T00:00:00Z")),
        ("IAM|1|DA|7980^Pen^RXNORM|||D|X1", "7980", "allergy", false, None),
    ] {
        let text = message("ADT^A08", segment);
        let read = read(&text);
        assert_eq!(said(&read.said()), [(code, value, holds)], "{segment}");
        assert_eq!(read.clinical().next().unwrap().time, time, "{segment}");
    }
}

#[test]
fn documents_are_one_fact() {
    let lines =
        "OBX|1|TX|11506-3^Note^LN|1|First\nOBX|2|TX|11506-3^Note^LN|1|\nOBX|3|TX|11506-3^Note^LN|1|second\\.br\\third";
    for (kind, before) in
        [("MDM^T02", "TXA|1|DS||20260101080000||||||||D7"), ("ORU^R01", "OBR|1||D7|N^Note^L|||20260101080000")]
    {
        let text = message(kind, &format!("{before}\n{lines}"));
        let read = read(&text);
        let note = read.clinical().last().unwrap();
        assert_eq!(note.value, Value::Text("First\n\nsecond\nthird".into()), "{kind}");
        assert_eq!(note.time, at("2026-01-01T08:00:00Z"));
        assert!(note.id.as_deref().unwrap().contains("|D7|"));
    }
    let text = message("MDM^T11", &format!("TXA|1|DS||20260101080000||||||||D7\n{lines}"));
    assert!(read(&text).clinical().all(|fact| fact.op == Op::Retract));
}

#[test]
fn the_mess_of_real_feeds() {
    let plain = message("ORU^R01", "OBR|1||F1|P^x^L|||20260101\nOBX|1|TX|C^x^L||a b||||||F\nZXX|1\nNTE|1||x");
    let expected = read(&plain).facts;
    assert_eq!(read(&plain).notes.unread, [("NTE", 1), ("Z", 1)]);
    for (mess, lenient) in [
        (plain.replace('\r', "\n"), &["line_feed"][..]),
        (plain.replace('\r', "\r\n"), &["line_feed"]),
        (format!("\u{b}{plain}\u{1c}\r"), &[]),
        (format!("\u{feff}{plain}"), &["byte_order_mark"]),
        (format!("{plain}\r\r\r"), &[]),
        (format!("FHS|^~\\&\rBHS|^~\\&\r{plain}\rBTS|1\rFTS|1"), &[]),
    ] {
        let read = read(&mess);
        assert_eq!(read.facts, expected);
        assert_eq!(read.lenient(), lenient);
    }
    let broken = plain.replace("a b", "a\rb");
    let read_broken = read(&broken);
    assert_eq!(read_broken.lenient(), ["broken_line"]);
    assert_eq!(read_broken.facts.last().unwrap().value, Value::Text("a\rb".into()));
    let both = format!("{plain}\r{}", message("ADT^A08", ""));
    assert_eq!(read(&both).facts.len(), expected.len() + 2, "two messages in one record");

    // Other signs, and another character set: the same facts.
    let other: String = plain
        .chars()
        .map(|sign| match sign {
            '|' => '#',
            '^' => '*',
            '~' => '!',
            '\\' => '%',
            '&' => '?',
            sign => sign,
        })
        .collect();
    let named = |text: &str| -> Vec<Fact<'static>> {
        read(text).facts.into_iter().map(|fact| super::owned::fact(Fact { id: None, ..fact })).collect()
    };
    assert_eq!(named(&other), named(&plain));
    let latin: Vec<u8> =
        plain.replace("a b", "\u{1}").bytes().flat_map(|b| if b == 1 { vec![0xfc] } else { vec![b] }).collect();
    let mut facts = Vec::new();
    let notes = decode(Format::Hl7v2, &Rules::default(), &latin, &mut facts).unwrap();
    assert_eq!((facts.last().unwrap().value.clone(), notes.lenient), (Value::Text("ü".into()), vec![("charset", 1)]));

    for (text, reason) in [
        ("PID|||1\r", Reason::Syntax),
        ("hello", Reason::Syntax),
        ("MSH", Reason::Syntax),
        ("MSH|^^^^|", Reason::Syntax),
        ("FHS|^~\\&\rBHS|^~\\&", Reason::Syntax),
        ("MSH|^~\\&|A|B|||2026|| |1|P|2.3", Reason::Field),
        ("MSH|^~\\&|A|B|||2026||ADT^A01|1|P|3.0", Reason::Unsupported),
        ("MSH|^~\\&|A|B|||soon||ADT^A01|1|P|2.3", Reason::Time),
    ] {
        assert_eq!(reject(text).reason, reason, "{text}");
    }
}
