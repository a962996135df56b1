//! Messages that nobody here wrote, against the FHIR that another converter made of them.
//!
//! The converter is no standard: where the two differ, the list of exceptions says why ours is right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::super::super::corpus::archive;
use super::super::super::time::parse_fhir;
use super::super::super::*;

const ARCHIVE: &str = "hl7v2/hl7v2_ms_fhir_converter_input_expected.tar.gz";

/// A message, its bytes and its conversion where there is one.
type Sample = (String, Vec<u8>, Option<Json>);

fn messages() -> Option<Vec<Sample>> {
    let files: BTreeMap<String, Vec<u8>> = archive(ARCHIVE)?.into_iter().collect();
    let messages = files.iter().filter_map(|(name, bytes)| {
        let name = name.strip_suffix(".hl7")?;
        let expected = files.get(&format!("{name}-expected.json"));
        Some((name.to_owned(), bytes.clone(), expected.map(|json| serde_json::from_slice(json).unwrap())))
    });
    Some(messages.collect())
}

fn resources<'j>(bundle: &'j Json, kind: &'static str) -> impl Iterator<Item = &'j Json> {
    let entries = bundle["entry"].as_array().into_iter().flatten();
    entries.map(|entry| &entry["resource"]).filter(move |resource| resource["resourceType"] == kind)
}

fn read(bytes: &[u8]) -> Result<(Vec<Fact<'_>>, Notes<'_>), Reject> {
    let mut facts = Vec::new();
    decode(Format::Hl7v2, &Rules::default(), bytes, &mut facts).map(|notes| (facts, notes))
}

/// Messages that give no fact, each with why.
const NOTHING: [(&str, &str); 1] = [("ADT-A29-02", "the person is deleted: nothing is said of them any more")];

#[test]
fn every_message_ends_as_facts() {
    let Some(messages) = messages() else { return };
    assert_eq!(messages.len(), 139);
    let mut total = 0;
    for (name, bytes, _) in &messages {
        let (facts, notes) = read(bytes).unwrap_or_else(|reject| panic!("{name}: {reject:?}"));
        assert_eq!(facts.is_empty(), NOTHING.iter().any(|(nothing, _)| nothing == name), "{name}");
        for fact in &facts {
            assert!(!fact.patient.is_empty() && !fact.code.is_empty(), "{name}");
            assert!(fact.recorded.is_some() || !bytes.windows(4).any(|w| w == b"MSH|"), "{name}");
        }
        assert!(notes.unread.iter().all(|(kind, _)| kind.len() <= 5), "{name}");
        total += facts.len();
    }
    println!("{} messages, {total} facts", messages.len());
    assert!(total > 800, "{total}");
}

#[test]
fn patients_are_those_of_the_conversion() {
    let Some(messages) = messages() else { return };
    let mut compared = 0;
    for (name, bytes, expected) in &messages {
        let Some(expected) = expected else { continue };
        let (facts, notes) = read(bytes).unwrap();
        let links = notes.links.iter().filter(|link| link.kind == LinkKind::Same);
        let ours = facts.iter().map(|fact| &*fact.patient);
        let ours: BTreeSet<&str> = ours.chain(links.flat_map(|l| [&*l.kept.patient, &*l.other.patient])).collect();
        let mut theirs = BTreeMap::new();
        for patient in resources(expected, "Patient") {
            for id in patient["identifier"].as_array().into_iter().flatten() {
                theirs.insert(id["value"].as_str().unwrap_or_default(), id);
            }
        }
        // Of a merge the converter makes a Linkage instead of Patients.
        let items = resources(expected, "Linkage").flat_map(|linkage| linkage["item"].as_array().unwrap());
        for item in items.filter(|item| item["resource"]["type"] == "Patient") {
            let id = &item["resource"]["identifier"];
            let value = id["value"].as_str().unwrap();
            theirs.insert(value, id);
            let merged = |link: &Link<'_>| link.kind == LinkKind::Merge && link.other.patient == value;
            assert!(item["type"] != "historical" || notes.links.iter().any(merged), "{name}: a merge is not told");
        }
        // Of a merge of accounts it tells the accounts only.
        if theirs.is_empty() {
            assert!(name.starts_with("ADT-A4"), "{name} has no patient");
            continue;
        }
        for patient in &ours {
            assert!(theirs.contains_key(patient), "{name}: our {patient} is not in {:?}", theirs.keys());
            compared += 1;
        }
        // Who is left out must be a number that is not the patient's own, or one of an older field than PID-3.
        for (value, id) in theirs.iter().filter(|(value, _)| !ours.contains(*value)) {
            let why = left_out(bytes, value, id);
            assert!(why.is_some() || NOTHING.iter().any(|(nothing, _)| nothing == name), "{name}: {id}");
        }
    }
    assert!(compared > 120, "{compared}");
}

/// Why an identifier of the conversion is none of ours.
fn left_out(bytes: &[u8], value: &str, id: &Json) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let pid = |field: usize| -> bool {
        let lines = text.split(['\r', '\n']).filter(|line| line.starts_with("PID"));
        let mut repeats = lines.filter_map(|line| line.split('|').nth(field)).flat_map(|field| field.split('~'));
        repeats.any(|cx| cx.split('^').any(|part| part.trim() == value))
    };
    if pid(3) {
        // Of PID-3 only the number of a social security stays behind.
        return (id["type"]["coding"][0]["code"] == "SS" || text.contains(&format!("{value}^^^^^USSSA")))
            .then_some("of a government");
    }
    // PID-2 and PID-4 are read where PID-3 is missing; PID-19 to 21 are of a government or of the mother.
    if [2, 4, 18, 19, 20, 21].iter().any(|field| pid(*field)) {
        return Some("of another field than PID-3");
    }
    // Insurances, guarantors, next of kin, disabilities: other segments, whose numbers are of other persons or plans.
    let other = text.split(['\r', '\n']).any(|line| !line.starts_with("PID") && line.contains(value));
    other.then_some("of another segment than PID")
}

/// Encounters that differ from the conversion, each with why ours is right.
const ENCOUNTERS: [(&str, &str); 6] = [
    ("ADT-A16-01", "the end is PV2-9, when a discharge is expected, not when it was"),
    ("ADT-A16-02", "the end is PV2-9, when a discharge is expected, not when it was"),
    ("ADT-A04-01", "a registration begins a visit; FHIR too says in-progress, which has no end"),
    ("ADT-A04-02", "a registration begins a visit; FHIR too says in-progress, which has no end"),
    ("ADT-A29-01", "the person is deleted"),
    ("ADT-A29-02", "the person is deleted"),
];

#[test]
fn encounters_are_those_of_the_conversion() {
    let Some(messages) = messages() else { return };
    let (mut starts, mut ends, mut cancelled) = (0, 0, 0);
    for (name, bytes, expected) in &messages {
        let Some(expected) = expected else { continue };
        let (facts, _) = read(bytes).unwrap();
        for visit in resources(expected, "Encounter") {
            let (status, class) = (visit["status"].as_str().unwrap(), visit["class"]["code"].as_str().unwrap());
            for (side, field) in [("START", "start"), ("END", "end")] {
                let code = format!("ENCOUNTER//{class}//{side}");
                let found: Vec<&Fact<'_>> = facts.iter().filter(|fact| fact.code == code).collect();
                let time = visit["period"][field].as_str().and_then(parse_fhir).map(|stamp| stamp.at);
                if status == "cancelled" {
                    assert!(found.iter().all(|fact| fact.op == Op::Retract) && !found.is_empty(), "{name} {code}");
                    cancelled += 1;
                } else if let (Some(time), false) = (time, status == "planned") {
                    if ENCOUNTERS.iter().any(|(except, _)| except == name) && found.is_empty() {
                        continue;
                    }
                    assert!(
                        found.iter().any(|f| f.time == Some(time) && f.op == Op::Assert),
                        "{name} {code} {found:?}"
                    );
                    *(if side == "START" { &mut starts } else { &mut ends }) += 1;
                } else if status == "planned" {
                    assert!(found.is_empty(), "{name} {code}: what is planned has not begun");
                }
            }
        }
    }
    println!("{starts} starts, {ends} ends, {cancelled} cancelled");
    assert!(starts > 60 && ends >= 5 && cancelled == 8, "{starts} {ends} {cancelled}");
}

/// Results of ours that the conversion lacks, by message and code, each with why.
const MORE: [(&str, &str, &str); 7] = [
    ("IZ_1_1.1_Admin_Child_Max_Message", "29768-9", "the conversion loses the value of a TS"),
    ("IZ_1_1.1_Admin_Child_Max_Message", "29769-7", "the conversion loses the value of a TS"),
    ("MDHHS-OML-O21-1", "AOE15", "the conversion does not have the answer asked at order entry"),
    ("VXU-V04-01", "30963-3", "the conversion has only one of the OBX under an RXA"),
    ("VXU-V04-01", "64994-7", "the conversion has only one of the OBX under an RXA"),
    ("VXU-V04-02", "30963-3", "the conversion has only one of the OBX under an RXA"),
    ("VXU-V04-02", "64994-7", "the conversion has only one of the OBX under an RXA"),
];

/// Results of the conversion that are none of ours, each with why.
const LESS: [(&str, &str, &str); 0] = [];

/// What the converter makes of other segments than OBX (PDA, ACC), under codes of its own.
fn is_made_up(code: &Json) -> bool {
    let system = code["coding"][0]["system"].as_str().unwrap_or_default();
    system.ends_with("/observation-code") || system.ends_with("/accident-indicator")
}

/// A result of the conversion.
struct Theirs<'j> {
    code: &'j str,
    value: Option<String>,
    unit: Option<&'j str>,
    time: Option<Micros>,
}

impl<'j> Theirs<'j> {
    fn of(what: &'j Json, time: &Json) -> Option<Self> {
        if is_made_up(&what["code"]) {
            return None;
        }
        let (quantity, concept) = (&what["valueQuantity"], &what["valueCodeableConcept"]);
        let coding = &concept["coding"][0]["code"];
        let words = [coding, &concept["text"], &what["valueString"], &what["valueDateTime"]];
        let word = || words.into_iter().find_map(Json::as_str).map(str::to_owned);
        Some(Theirs {
            code: what["code"]["coding"][0]["code"].as_str().or(what["code"]["text"].as_str()).unwrap(),
            value: if quantity.is_null() { word() } else { quantity["value"].as_f64().map(|n| n.to_string()) },
            unit: quantity["code"].as_str().or(quantity["unit"].as_str()),
            time: time.as_str().and_then(parse_fhir).map(|stamp| stamp.at),
        })
    }

    /// Code, value, unit and time, as far as the conversion says them.
    fn is(&self, ours: &Fact<'_>) -> bool {
        let value = match &ours.value {
            Value::Number(number) => number.to_string(),
            Value::Text(text) | Value::Code(text) => text.to_string(),
            Value::None | Value::Bool(_) => return false,
        };
        // The lines of a text are one fact of ours, and many results of theirs.
        let same = self.value.as_deref().is_some_and(|theirs| theirs == value || value.lines().any(|l| l == theirs));
        same && ours.code == self.code
            && (self.unit.is_none() || ours.unit.as_deref() == self.unit)
            && (self.time.is_none() || ours.time == self.time)
    }
}

#[test]
fn results_are_those_of_the_conversion() {
    let Some(messages) = messages() else { return };
    let mut compared = 0;
    for (name, bytes, expected) in &messages {
        let Some(expected) = expected else { continue };
        let (facts, _) = read(bytes).unwrap();
        let is_result = |fact: &&Fact<'_>| {
            fact.id.as_deref().is_some_and(|id| id.starts_with("OBX|"))
                || (fact.id.is_none() && matches!(&fact.value, Value::Number(_) | Value::Text(_)) && !is_order(fact))
        };
        let mut left: Vec<(&Fact<'_>, bool)> = facts.iter().filter(is_result).map(|fact| (fact, false)).collect();
        let mut check = |what: &Json, time: &Json| {
            let Some(theirs) = Theirs::of(what, time) else { return };
            if theirs.value.is_none() {
                return;
            }
            // One that is not taken yet before a text that has more lines.
            let at = left.iter().position(|(ours, taken)| !taken && theirs.is(ours));
            match at.or_else(|| left.iter().position(|(ours, _)| theirs.is(ours))) {
                Some(at) => left[at].1 = true,
                None => assert!(LESS.iter().any(|l| (l.0, l.1) == (name, theirs.code)), "{name} lacks {}", theirs.code),
            }
            compared += 1;
        };
        for observation in resources(expected, "Observation") {
            match observation["component"].as_array() {
                None => check(observation, &observation["effectiveDateTime"]),
                // The converter makes components of the repeats of OBX-5, which have no time of their own.
                Some(parts) => parts.iter().for_each(|part| check(part, &Json::Null)),
            }
        }
        for (ours, taken) in left {
            assert!(taken || MORE.iter().any(|m| (m.0, m.1) == (name, &*ours.code)), "{name} has {} more", ours.code);
        }
    }
    println!("{compared} results compared");
    assert!(compared > 150, "{compared}");
}

fn is_order(fact: &Fact<'_>) -> bool {
    fact.value == Value::Text("order".into()) || fact.value == Value::Text("dispense".into())
}
