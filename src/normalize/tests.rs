//! Records through the whole room, with the files of the two sites.

mod public;

use std::cell::RefCell;
use std::io::Read as _;

use proptest::collection;
use proptest::prelude::prop_assert_eq;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::decode::Reason;
use crate::events::{EventRef, EventsView, HOUR, MEDS_BIRTH, Op, Pseudonyms, SECOND, TOKEN};
use crate::settings::Problem;

const HOSPITAL: (&str, &str) =
    (include_str!("../../config/hospital/concepts.csv"), include_str!("../../config/hospital/normalize.sql"));
pub(super) const PHYSIONET: (&str, &str) =
    (include_str!("../../config/physionet2012/concepts.csv"), include_str!("../../config/physionet2012/normalize.sql"));
pub(super) const LIMIT: usize = 1 << 20;
/// When the records of these tests reached Kafka.
const ARRIVAL: Micros = 1_000 * HOUR;

fn key() -> Pseudonyms {
    Pseudonyms::new(b"a secret of a site").unwrap()
}

pub(super) fn site((concepts, sql): (&str, &str)) -> Normalizer {
    plan(concepts, sql).unwrap()
}

fn plan(concepts: &str, sql: &str) -> Result<Normalizer, Vec<Problem>> {
    let concepts = Concepts::parse("concepts.csv", concepts)?;
    Normalizer::new(&concepts, &Spellings::built_in(), "normalize.sql", sql, key(), LIMIT)
}

fn hospital_with(sql: &str) -> Normalizer {
    site((HOSPITAL.0, sql))
}

pub(super) fn record(offset: usize, format: Format, bytes: &str) -> Record<'_> {
    Record {
        topic: "raw",
        partition: 3,
        offset: offset as i64,
        timestamp: Some(ARRIVAL + offset as i64),
        format,
        assigner: "mrn",
        bytes: bytes.as_bytes(),
    }
}

fn run(normalizer: &mut Normalizer, flat: &[impl AsRef<str>]) -> Normalized {
    let records: Vec<_> = flat.iter().enumerate().map(|(i, text)| record(i, Format::Flat, text.as_ref())).collect();
    normalizer.run(&records).unwrap()
}

/// A heart rate of patient p with some fields replaced.
fn pulse(fields: &str) -> String {
    let mut record: serde_json::Value = serde_json::from_str(
        r#"{"patient":"p","time":"1970-01-02T00:00:00Z","system":"http://loinc.org","code":"8867-4","value":72,"unit":"/min"}"#,
    )
    .unwrap();
    let changed: serde_json::Value = serde_json::from_str(fields).unwrap();
    for (name, value) in changed.as_object().unwrap() {
        record[name.as_str()] = value.clone();
    }
    record.to_string()
}

/// Rows without tokens.
fn rows(normalized: &Normalized) -> Vec<EventRef<'_>> {
    let view = EventsView::new(&normalized.events).unwrap();
    (0..view.len()).map(|i| view.row(i)).filter(|row| row.code != TOKEN).collect()
}

fn one(normalizer: &mut Normalizer, flat: &str, check: impl Fn(&EventRef<'_>)) {
    let normalized = run(normalizer, &[flat]);
    assert_eq!(normalized.outcomes, [Outcome::Accepted { events: 1 }]);
    check(&rows(&normalized)[0]);
}

fn dead(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Dead(reject) => reject.reason,
        other => panic!("{other:?} is no dead letter"),
    }
}

#[test]
fn a_fact_becomes_an_event() {
    let fact = pulse(r#"{"patient":"icu|7","recorded":"1970-01-02T01:00:00Z","encounter":"e1","id":"x"}"#);
    let normalized = run(&mut site(HOSPITAL), &[pulse("{}"), fact]);
    let (key, rows) = (key(), rows(&normalized));
    let subject = key.subject("icu", "7");
    assert_eq!(
        rows[1],
        EventRef {
            subject: Some(subject),
            time: Some(24 * HOUR),
            code: "LOINC//8867-4",
            numeric_value: Some(72.0),
            text_value: None,
            unit: Some("/min"),
            concept: Some("heart_rate"),
            implausible: false,
            recorded_at: 25 * HOUR,
            op: Op::Assert,
            event_key: key.event_key(subject, &[b"id", b"x"]),
            encounter_id: Some(&key.encounter(subject, "e1")),
            source: "raw-3-1#0",
        }
    );
    assert_eq!((rows[0].subject, rows[0].recorded_at), (Some(key.subject("mrn", "p")), ARRIVAL));
    assert_eq!(normalized.watermark("raw", 3), Some(ARRIVAL));
    assert_eq!((normalized.watermark("raw", 0), normalized.watermark("other", 3)), (None, None));
}

#[test]
fn values_are_converted_and_judged() {
    let mut site = site(HOSPITAL);
    let temperature = |fields: &str| {
        let mut fields: serde_json::Value = serde_json::from_str(fields).unwrap();
        fields["code"] = "8310-5".into();
        pulse(&fields.to_string())
    };
    one(&mut site, &temperature(r#"{"value":98.6,"unit":"[degF]"}"#), |row| {
        assert!((row.numeric_value.unwrap() - 37.0).abs() < 1e-5);
        assert_eq!((row.unit, row.concept), (Some("Cel"), Some("temperature")));
    });
    one(&mut site, &temperature(r#"{"value":37.5,"unit":null}"#), |row| {
        assert_eq!((row.numeric_value, row.unit, row.concept), (Some(37.5), Some("Cel"), Some("temperature")));
    });
    one(&mut site, &temperature(r#"{"value":"37.5","unit":"C"}"#), |row| {
        assert_eq!((row.numeric_value, row.text_value, row.unit), (Some(37.5), None, Some("Cel")));
    });
    for (text, number) in [("<37.5", 37.5), (">= 40", 40.0), ("37-38", 37.5), ("<99.5", 99.5)] {
        one(&mut site, &temperature(&format!(r#"{{"value":"{text}","unit":"C"}}"#)), |row| {
            assert_eq!((row.numeric_value, row.text_value, row.unit), (Some(number), Some(text), Some("Cel")));
            assert_eq!((row.concept, row.implausible), (Some("temperature"), number > 45.0));
        });
    }
    one(&mut site, &temperature(r#"{"value":"<98.6","unit":"degF"}"#), |row| {
        assert!((row.numeric_value.unwrap() - 37.0).abs() < 1e-5, "a bound is converted like any number");
        assert_eq!((row.text_value, row.implausible), (Some("<98.6"), false));
    });
    for text in ["hemolyzed", "NaN", "inf", "1e300", "", "1,200", "POS", "++"] {
        one(&mut site, &temperature(&format!(r#"{{"value":"{text}"}}"#)), |row| {
            assert_eq!((row.numeric_value, row.text_value), (None, Some(text)));
            assert_eq!((row.unit, row.concept), (Some("/min"), Some("temperature")), "as it was sent");
        });
    }
    one(&mut site, &temperature(r#"{"value":98.6,"unit":"Cel"}"#), |row| {
        assert_eq!((row.numeric_value, row.unit, row.concept), (Some(98.6), Some("Cel"), Some("temperature")));
        assert!(row.implausible && row.plausible_concept().is_none(), "kept, but no feature looks at it");
    });
    one(&mut site, &pulse(r#"{"value":true,"unit":null,"code":"0"}"#), |row| {
        assert_eq!((row.numeric_value, row.unit, row.concept), (Some(1.0), None, None));
    });
    one(&mut site, &pulse(r#"{"value":null,"unit":null}"#), |row| {
        assert_eq!((row.numeric_value, row.text_value, row.concept), (None, None, Some("heart_rate")));
    });
    one(&mut site, &pulse(r#"{"value":1e300}"#), |row| {
        assert_eq!((row.numeric_value, row.text_value), (None, Some("1e300")), "no float32, and not lost");
    });
    one(&mut site, &pulse(r#"{"value":"5-10","unit":null,"code":"0"}"#), |row| {
        assert_eq!((row.numeric_value, row.text_value), (None, Some("5-10")), "of no concept a text is a text");
    });
    one(&mut site, &pulse(r#"{"value":3e38,"unit":"/s"}"#), |row| {
        assert_eq!((row.numeric_value, row.implausible), (None, true), "sixty times that is no float32");
    });
}

#[test]
fn codes_that_nobody_maps_are_kept_and_counted() {
    let mut site = site(HOSPITAL);
    let acme = r#"{"system":"http://acme.org","code":"7","unit":"furlong"}"#;
    let birth = format!(r#"{{"system":null,"code":"{MEDS_BIRTH}","value":null,"unit":null}}"#);
    let implausible = r#"{"value":900}"#;
    let flat = [acme, &birth, implausible, implausible].map(pulse);
    let normalized = run(&mut site, &flat);
    let rows = rows(&normalized);
    assert_eq!(rows[0].code, "http://acme.org//7");
    assert_eq!((rows[0].numeric_value, rows[0].unit, rows[0].concept), (Some(72.0), Some("furlong"), None));
    assert_eq!((rows[1].code, rows[1].concept), (MEDS_BIRTH, None));
    assert_eq!((rows[2].numeric_value, rows[2].unit, rows[2].concept), (Some(900.0), Some("/min"), Some("heart_rate")));
    assert_eq!(rows.iter().map(|row| row.implausible).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(normalized.unmapped, 1, "a MEDS code needs no concept");
    assert_eq!(normalized.implausible, BTreeMap::from([("heart_rate".to_owned(), 2)]));
}

#[test]
fn a_unit_that_cannot_be_converted_is_a_dead_letter() {
    let mut site = site(HOSPITAL);
    let furlong = pulse(r#"{"unit":"furlong","value":72.125}"#);
    let normalized = run(&mut site, &[furlong, pulse("{}"), pulse(r#"{"unit":"mmHg"}"#)]);
    let Outcome::Dead(reject) = &normalized.outcomes[0] else { panic!("{:?}", normalized.outcomes) };
    assert_eq!(reject.reason, Reason::Unit);
    assert_eq!(reject.detail, "heart_rate is kept in /min, to which the unit that was sent does not convert");
    assert_eq!(normalized.outcomes[1], Outcome::Accepted { events: 1 });
    assert_eq!(dead(&normalized.outcomes[2]), Reason::Unit);
    let rows = rows(&normalized);
    assert_eq!((rows.len(), rows[0].source), (1, "raw-3-1#0"));
    // What is withdrawn is withdrawn, in whatever unit.
    one(&mut site, &pulse(r#"{"unit":"furlong","op":"retract"}"#), |row| {
        assert_eq!((row.op, row.concept, row.unit), (Op::Retract, None, Some("furlong")));
    });
}

fn observation(id: &str, unit: &str) -> String {
    format!(
        r#"{{"resource":{{"resourceType":"Observation","id":"{id}","status":"final","subject":{{"reference":"Patient/p"}},
        "code":{{"coding":[{{"system":"http://loinc.org","code":"8867-4"}}]}},"effectiveDateTime":"1970-01-02T00:00:00Z",
        "valueQuantity":{{"value":72,"unit":"{unit}","system":"http://unitsofmeasure.org","code":"{unit}"}}}}}}"#
    )
}

fn bundle(entries: &[String]) -> String {
    format!(r#"{{"resourceType":"Bundle","type":"collection","entry":[{}]}}"#, entries.join(","))
}

#[test]
fn in_company_a_strange_unit_is_kept_as_it_was_sent() {
    let mut site = site(HOSPITAL);
    let mixed = bundle(&[observation("a", "furlong"), observation("b", "/min")]);
    let strange = bundle(&[observation("c", "furlong"), observation("d", "furlong")]);
    let records = [record(0, Format::Fhir, &mixed), record(1, Format::Fhir, &strange)];
    let normalized = site.run(&records).unwrap();
    assert_eq!(normalized.outcomes[0], Outcome::Accepted { events: 2 });
    assert_eq!(dead(&normalized.outcomes[1]), Reason::Unit);
    let rows = rows(&normalized);
    assert_eq!((rows[0].numeric_value, rows[0].unit, rows[0].concept), (Some(72.0), Some("furlong"), None));
    assert_eq!((rows[1].unit, rows[1].concept), (Some("/min"), Some("heart_rate")));
    assert_eq!((rows[0].source, rows[1].source), ("raw-3-0#0", "raw-3-0#1"));
    assert!(normalized.implausible.is_empty(), "a strange unit is no implausible value");
}

#[test]
fn order_is_kept_and_the_plan_can_be_run_again() {
    let mut site = site(HOSPITAL);
    // More than one chunk, mapped and unmapped in turns, converted and not.
    let fields = [r#"{"id":"I"}"#, r#"{"id":"I","code":"x"}"#, r#"{"id":"I","code":"8310-5","unit":"K","value":300}"#];
    for batch in 0..3 {
        let flat: Vec<String> =
            (0..20_000 >> batch).map(|i| pulse(&fields[i % 3].replace('I', &format!("{batch}.{i}")))).collect();
        let normalized = run(&mut site, &flat);
        let rows = rows(&normalized);
        assert_eq!(rows.len(), flat.len());
        let subject = key().subject("mrn", "p");
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(row.source, format!("raw-3-{i}#0"));
            assert_eq!(row.event_key, key().event_key(subject, &[b"id", format!("{batch}.{i}").as_bytes()]));
            assert_eq!(row.concept, [Some("heart_rate"), None, Some("temperature")][i % 3]);
        }
        assert_eq!(normalized.unmapped as usize, rows.iter().filter(|row| row.concept.is_none()).count());
        assert_eq!(normalized.events.num_rows(), rows.len() + usize::from(batch == 0), "one token, once");
    }
}

#[test]
fn a_unit_met_later_is_learnt() {
    let mut site = site(HOSPITAL);
    for (unit, value) in [("/min", 72.0), ("Hz", 1.2), ("bpm", 72.0), ("/h", 4320.0)] {
        one(&mut site, &pulse(&format!(r#"{{"unit":"{unit}","value":{value}}}"#)), |row| {
            assert!((row.numeric_value.unwrap() - 72.0).abs() < 1e-4, "{unit}");
            assert_eq!(row.unit, Some("/min"));
        });
    }
}

#[test]
fn batches_without_facts_are_batches() {
    let mut site = site(HOSPITAL);
    let none = site.run(&[]).unwrap();
    assert_eq!((none.events.num_rows(), none.outcomes.len()), (0, 0));
    let long = " ".repeat(LIMIT + 1);
    let nothing = r#"{"resourceType":"Bundle","type":"collection"}"#;
    let records = [
        record(0, Format::Flat, ""),
        record(1, Format::Flat, "{"),
        record(2, Format::Flat, &long),
        record(3, Format::Flat, r#"{"patient":"p"}"#),
        record(4, Format::Fhir, nothing),
    ];
    let normalized = site.run(&records).unwrap();
    assert_eq!(normalized.events.num_rows(), 0);
    let reasons: Vec<Reason> = normalized.outcomes[..4].iter().map(dead).collect();
    assert_eq!(reasons, [Reason::Empty, Reason::Syntax, Reason::TooLarge, Reason::Field]);
    assert_eq!(normalized.outcomes[4], Outcome::Dropped(Drop::Nothing));
    assert_eq!(normalized.watermark("raw", 3), None);
    assert_eq!(run(&mut site, &[pulse("{}")]).outcomes, [Outcome::Accepted { events: 1 }]);
}

#[test]
fn codes_of_our_own_are_not_taken_from_outside() {
    let mut site = site(HOSPITAL);
    for fields in [
        r#"{"system":null,"code":"PATIENT//TOKEN","value":"00","unit":null}"#,
        r#"{"system":"PATIENT","code":"TOKEN"}"#,
        r#"{"system":null,"code":"TICK"}"#,
    ] {
        let normalized = run(&mut site, &[pulse(fields)]);
        assert_eq!((dead(&normalized.outcomes[0]), normalized.events.num_rows()), (Reason::Field, 0));
    }
}

#[test]
fn a_redelivery_has_the_same_key_and_a_correction_too() {
    let mut site = site(HOSPITAL);
    let keys = |site: &mut Normalizer, fields: &[&str]| -> Vec<[u8; 16]> {
        let flat: Vec<String> = fields.iter().map(|fields| pulse(fields)).collect();
        rows(&run(site, &flat)).iter().map(|row| row.event_key.0).collect()
    };
    let with_id = keys(&mut site, &[r#"{"id":"a"}"#, r#"{"id":"a"}"#, r#"{"id":"a","value":80}"#, r#"{"id":"b"}"#]);
    assert!(with_id[0] == with_id[1] && with_id[0] == with_id[2] && with_id[0] != with_id[3]);
    let without = keys(&mut site, &["{}", "{}", r#"{"op":"retract"}"#, r#"{"value":80}"#, r#"{"patient":"q"}"#]);
    assert!(without[0] == without[1] && without[0] == without[2]);
    assert!(without[0] != without[3] && without[0] != without[4] && without[0] != with_id[0]);
    assert_eq!(keys(&mut site, &[r#"{"id":"a"}"#])[0], with_id[0], "in another batch");
}

#[test]
fn invariant_07_no_identifier_leaves_but_sealed() {
    let mut site = site(HOSPITAL);
    let identifiers = ["patient-4711", "stay-4711", "fact-4711"];
    let fact = pulse(r#"{"patient":"clinic|patient-4711","encounter":"stay-4711","id":"fact-4711"}"#);
    let strange = pulse(r#"{"patient":"patient-4711","encounter":"stay-4711","id":"fact-4711","unit":"fact-4711"}"#);
    let normalized = run(&mut site, &[fact, strange]);
    let view = EventsView::new(&normalized.events).unwrap();
    for i in 0..view.len() {
        let row = format!("{:?}", view.row(i));
        assert!(identifiers.iter().all(|identifier| !row.contains(identifier)), "{row}");
    }
    let token = view.row(0);
    assert_eq!((token.code, token.time, token.source), (TOKEN, None, "raw-3-0#0"));
    let opened = key().open(token.text_value.unwrap()).unwrap();
    assert_eq!(opened, ("clinic".to_owned(), "patient-4711".to_owned()));
    let said =
        format!("{normalized:?} {:?} {site:?} {:?}", normalized.outcomes, record(0, Format::Flat, identifiers[0]));
    assert!(identifiers.iter().all(|identifier| !said.contains(identifier)), "{said}");
    assert!(said.contains("Unit"), "the second is a dead letter that says so");
}

#[test]
fn a_token_comes_before_the_first_row_that_is_kept() {
    let mut site = site(HOSPITAL);
    let of = |patient: &str, unit: &str| pulse(&format!(r#"{{"patient":"{patient}","unit":"{unit}"}}"#));
    let codes = |normalized: &Normalized| -> Vec<(Option<crate::events::SubjectId>, bool)> {
        let view = EventsView::new(&normalized.events).unwrap();
        (0..view.len()).map(|i| view.row(i)).map(|row| (row.subject, row.code == TOKEN)).collect()
    };
    let (a, b) = (Some(key().subject("mrn", "a")), Some(key().subject("mrn", "b")));
    // The first record of a is a dead letter, all of b are.
    let first = run(&mut site, &[of("a", "furlong"), of("b", "furlong"), of("a", "/min")]);
    assert_eq!(codes(&first), [(a, true), (a, false)]);
    let second = run(&mut site, &[of("a", "/min"), of("b", "/min")]);
    assert_eq!(codes(&second), [(b, true), (a, false), (b, false)]);
}

#[test]
fn a_site_may_leave_facts_out_and_reorder() {
    let sql = "SELECT row, NULL AS concept, 'X//' || code AS code FROM facts WHERE numeric_value < 80";
    let mut site = hospital_with(sql);
    let flat: Vec<String> = [90, 70, 95, 60].iter().map(|v| pulse(&format!(r#"{{"value":{v}}}"#))).collect();
    let normalized = run(&mut site, &flat);
    let accepted = Outcome::Accepted { events: 1 };
    let dropped = Outcome::Dropped(Drop::Rules);
    assert_eq!(normalized.outcomes, [dropped.clone(), accepted.clone(), dropped, accepted]);
    assert_eq!(normalized.events.num_rows(), 3, "the token is not the site's to leave out");
    let rows = rows(&normalized);
    let seen: Vec<_> = rows.iter().map(|row| (row.source, row.code, row.numeric_value)).collect();
    assert_eq!(seen, [("raw-3-1#0", "X//LOINC//8867-4", Some(70.0)), ("raw-3-3#0", "X//LOINC//8867-4", Some(60.0))]);
}

#[test]
fn a_value_on_which_the_sql_fails_is_the_dead_letter_and_no_other() {
    let sql = "SELECT row, CAST(text_value AS DOUBLE) AS numeric_value, NULL AS concept FROM facts";
    let mut site = hospital_with(sql);
    let flat: Vec<String> = (0..100)
        .map(|i| pulse(&format!(r#"{{"code":"z","value":"{}"}}"#, if i % 40 == 7 { "secret" } else { "5" })))
        .collect();
    let normalized = run(&mut site, &flat);
    for (i, outcome) in normalized.outcomes.iter().enumerate() {
        match outcome {
            Outcome::Dead(reject) => {
                assert!(i % 40 == 7 && !reject.detail.contains("secret"));
                assert_eq!(reject.reason, Reason::Field);
            }
            outcome => assert_eq!((outcome, i % 40 == 7), (&Outcome::Accepted { events: 1 }, false)),
        }
    }
    let rows = rows(&normalized);
    assert_eq!(rows.len(), 97);
    assert!(rows.iter().all(|row| row.numeric_value == Some(5.0)));
    assert!(rows.windows(2).all(|pair| pair[0].event_key == pair[1].event_key), "same fields, same fact");
    let all_bad = run(&mut site, &[pulse(r#"{"code":"z","value":"x"}"#)]);
    assert_eq!((dead(&all_bad.outcomes[0]), all_bad.events.num_rows()), (Reason::Field, 0));
}

#[test]
fn sql_that_gives_no_events_is_an_error() {
    let twice = "SELECT row, NULL AS concept FROM facts CROSS JOIN (VALUES (1), (2)) AS two";
    let none = "SELECT facts.row, concepts.concept FROM concepts LEFT JOIN facts ON facts.code = concepts.code";
    let error = |sql: &str| hospital_with(sql).run(&[record(0, Format::Flat, &pulse("{}"))]).unwrap_err();
    assert!(matches!(error(twice), NormalizeError::Rows));
    assert!(matches!(error(none), NormalizeError::Rows));
    let codeless = "SELECT row, NULL AS concept, NULL AS code FROM facts";
    assert!(matches!(error(codeless), NormalizeError::Code));
    let other = "SELECT row, NULL AS concept, 'strange' AS problem FROM facts";
    assert!(matches!(error(other), NormalizeError::Problem));
}

#[test]
fn every_problem_of_the_sql_is_told() {
    let keys = |sql: &str| -> Vec<String> {
        let problems = plan(HOSPITAL.0, sql).expect_err(sql);
        problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
    };
    let one = |sql: &str, part: &str| {
        let found = keys(sql);
        assert!(found.len() == 1 && found[0].contains(part), "{sql}: {found:?}");
    };
    one("", "query: ");
    one("SELEC row FROM facts", "cannot be planned");
    one("SELECT row, concept FROM elsewhere", "elsewhere");
    one("SELECT row, concpt FROM facts", "concpt");
    one("SELECT row FROM facts", "concept: is missing");
    one("SELECT NULL AS concept FROM facts", "row: is missing");
    one("SELECT row + 1 AS row, NULL AS concept FROM facts", "row: has the type");
    one("SELECT row, 1 AS concept FROM facts", "concept: has the type");
    one("SELECT row, code AS numeric_value, NULL AS concept FROM facts", "numeric_value: has the type");
    one("SELECT row, subject_id, NULL AS concept FROM facts", "subject_id: is no column");
    one("SELECT row, 'yes' AS implausible, NULL AS concept FROM facts", "implausible: has the type");
    one("SELECT row, NULL AS concept FROM facts WHERE time < now()", "now()");
    one("SELECT row, NULL AS concept FROM facts WHERE random() < 0.5", "random()");
    one("SELECT row, NULL AS concept FROM facts LIMIT 3", "Limit");
    one("SELECT max(row) AS row, NULL AS concept FROM facts", "Aggregate");
    one("SELECT DISTINCT row, NULL AS concept FROM facts", "Distinct");
    one("SELECT row, last_value(code) OVER () AS code, NULL AS concept FROM facts", "Window");
    one("SELECT a.row, NULL AS concept FROM facts a JOIN facts b ON a.code = b.code", "reads facts 2 times");
    one("SELECT code AS concept, arrow_cast(1, 'UInt32') AS row FROM concepts", "reads facts 0 times");
    assert_eq!(keys("SELECT source, NULL AS concept FROM facts LIMIT 1").len(), 3);
    assert!(plan(HOSPITAL.0, "DROP TABLE facts").is_err());
    assert!(plan(HOSPITAL.0, "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp'").is_err());
}

#[test]
fn a_site_may_bring_its_own_table() {
    let sql = "SELECT row, local.concept FROM facts LEFT JOIN (VALUES ('LOINC//8867-4', 'pulse')) AS local(code, concept) \
               ON facts.code = local.code WHERE facts.code NOT IN (SELECT code FROM concepts WHERE concept = 'lactate')";
    let normalized =
        run(&mut hospital_with(sql), &[pulse(r#"{"code":"2524-7"}"#), pulse("{}"), pulse(r#"{"code":"z"}"#)]);
    let concepts: Vec<_> = rows(&normalized).iter().map(|row| (row.source, row.concept)).collect();
    assert_eq!(concepts, [("raw-3-1#0", Some("pulse")), ("raw-3-2#0", None)]);
}

#[test]
fn the_sites_agree_on_what_they_share() {
    let units = |(concepts, _): (&str, &str)| Concepts::parse("concepts.csv", concepts).unwrap().units();
    let (hospital, physionet) = (units(HOSPITAL), units(PHYSIONET));
    assert_eq!(physionet.len(), 36, "two codes for each pressure");
    for (concept, unit) in &physionet {
        if let Some(other) = hospital.get(concept) {
            assert_eq!(other, unit, "{concept}");
        }
    }
    assert_eq!(HOSPITAL.1, PHYSIONET.1);
}

const GRADES: &str = "system,code,concept,unit,low,high\nLOINC,1,protein,{ordinal},0,4\nLOINC,2,titre,{titer},1,100000\n\
                      ICD10CM,I*,circulatory,,,\nICD10CM,I50*,heart_failure,,,\nLOINC,3,answer,,,\n";

#[test]
fn texts_keep_their_words_and_get_their_number() {
    let mut site = site((GRADES, HOSPITAL.1));
    let of = |code: &str, value: &str| pulse(&format!(r#"{{"code":"{code}","value":"{value}","unit":null}}"#));
    for (code, text, number, flagged) in [
        ("1", "NEG", Some(0.0), false),
        ("1", "++", Some(2.0), false),
        ("1", "trace", Some(0.5), false),
        ("1", ">4", Some(4.0), false),
        ("1", "300-500", Some(400.0), true),
        ("1", "260415000", Some(0.0), false),
        ("1", "see note", None, false),
        ("2", "1:40", Some(40.0), false),
        ("2", "POS", None, false),
        ("3", "1:40", None, false),
        ("3", "7", None, false),
    ] {
        one(&mut site, &of(code, text), |row| {
            assert_eq!((row.numeric_value, row.text_value), (number, Some(text)), "{code} {text}");
            assert_eq!((row.implausible, row.concept.is_some()), (flagged, true));
        });
    }
    one(&mut site, &of("1", "2"), |row| assert_eq!((row.numeric_value, row.text_value), (Some(2.0), None)));
    let strange = pulse(r#"{"code":"2","value":"<1:40","unit":"furlong"}"#);
    assert_eq!(dead(&run(&mut site, &[strange]).outcomes[0]), Reason::Unit, "as a number would be");
}

#[test]
fn notes_of_every_format_are_texts_of_one_concept() {
    let hl7 = "MSH|^~\\&|A|B|C|D|20260101080000||ORU^R01|1|P|2.5\rPID|1||p\rOBR|1||F1|N^Note^L|||20260101080000\r\
               OBX|1|TX|11506-3^Progress note^LN|1|Chest pain.||||||F\rOBX|2|TX|11506-3^Progress note^LN|1|No fever.||||||F";
    let document = r#"{"resourceType":"DocumentReference","id":"d","status":"current","subject":{"reference":"Patient/p"},
        "type":{"coding":[{"system":"http://loinc.org","code":"18842-5"}]},"date":"2026-01-01T08:00:00Z",
        "content":[{"attachment":{"contentType":"text/plain","data":"Q2hlc3QgcGFpbi4KTm8gZmV2ZXIu"}}]}"#;
    let report = r#"{"resourceType":"DiagnosticReport","id":"r","status":"final","subject":{"reference":"Patient/p"},
        "code":{"coding":[{"system":"http://loinc.org","code":"34117-2"}]},"issued":"2026-01-01T08:00:00Z","conclusion":"Angina",
        "presentedForm":[{"contentType":"text/plain","data":"Q2hlc3QgcGFpbi4KTm8gZmV2ZXIu"}]}"#;
    let flat = pulse(r#"{"code":"11488-4","value":"Chest pain.\nNo fever.","unit":null}"#);
    let text = "Chest pain.\nNo fever.";
    for (format, bytes, texts) in [
        (Format::Hl7v2, hl7, &[text][..]),
        (Format::Fhir, document, &[text]),
        (Format::Fhir, report, &["Angina", text]),
        (Format::Flat, flat.as_str(), &[text]),
    ] {
        let normalized = site(HOSPITAL).run(&[record(0, format, bytes)]).unwrap();
        let notes = rows(&normalized).into_iter().filter(|row| row.concept == Some("note"));
        let found: Vec<&str> = notes.filter_map(|row| row.text_value).collect();
        assert_eq!(found, texts, "{format:?}");
    }
}

#[test]
fn a_coded_answer_is_no_number_however_it_looks() {
    let mut site = site((GRADES, HOSPITAL.1));
    let answer = |code: &str, answer: &str| {
        format!(
            r#"{{"resourceType":"Observation","id":"{code}{answer}","status":"final","subject":{{"reference":"Patient/p"}},
            "code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},"effectiveDateTime":"1970-01-02T00:00:00Z",
            "valueCodeableConcept":{{"coding":[{{"system":"http://snomed.info/sct","code":"{answer}"}}]}}}}"#
        )
    };
    let answers = [answer("2", "112283007"), answer("1", "260415000")];
    let records = [record(0, Format::Fhir, &answers[0]), record(1, Format::Fhir, &answers[1])];
    let normalized = site.run(&records).unwrap();
    let rows = rows(&normalized);
    assert_eq!((rows[0].numeric_value, rows[0].text_value), (None, Some("112283007")));
    assert_eq!((rows[1].numeric_value, rows[1].text_value), (Some(0.0), Some("260415000")), "not detected");
    assert!(!rows[0].implausible && !rows[1].implausible);
}

#[test]
fn codes_have_the_meaning_of_their_beginning() {
    let mut site = site((GRADES, HOSPITAL.1));
    let of = |code: &str| {
        pulse(&format!(r#"{{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"{code}","value":null,"unit":null}}"#))
    };
    for _ in 0..2 {
        let normalized = run(&mut site, &["I50.9", "J18.9", "I10", "I50.9"].map(of));
        let concepts: Vec<_> = rows(&normalized).iter().map(|row| row.concept).collect();
        assert_eq!(concepts, [Some("heart_failure"), None, Some("circulatory"), Some("heart_failure")]);
        assert_eq!(normalized.unmapped, 1);
    }
}

/// Kinds of facts: mapped and not, plausible and not, converted, dead, repeated.
const KINDS: [&str; 11] = [
    "{}",
    r#"{"value":900}"#,
    r#"{"unit":"furlong"}"#,
    r#"{"unit":"Hz","value":1}"#,
    r#"{"code":"x","patient":"q"}"#,
    r#"{"value":"80","id":"a"}"#,
    r#"{"value":"none","patient":"r"}"#,
    r#"{"op":"retract","unit":"furlong","encounter":"e"}"#,
    r#"{"time":"never"}"#,
    r#"{"value":"<80","unit":"Hz"}"#,
    r#"{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"I50.9","value":null,"unit":null}"#,
];

#[test]
fn batches_make_no_difference() {
    let (whole, cut) = (RefCell::new(site(HOSPITAL)), RefCell::new(site(HOSPITAL)));
    let of = |normalized: &Normalized| -> Vec<String> {
        rows(normalized).iter().map(|row| format!("{row:?}")).chain([format!("{:?}", normalized.outcomes)]).collect()
    };
    let mut runner = TestRunner::new(Config::with_cases(64));
    let records = (collection::vec(0..KINDS.len(), 0..40), 1..12_usize);
    let same = runner.run(&records, |(kinds, size)| {
        let flat: Vec<String> = kinds.iter().map(|kind| pulse(KINDS[*kind])).collect();
        let records: Vec<_> = flat.iter().enumerate().map(|(i, text)| record(i, Format::Flat, text)).collect();
        let together = of(&whole.borrow_mut().run(&records).unwrap());
        let mut apart = Vec::new();
        let mut outcomes = Vec::new();
        for chunk in records.chunks(size) {
            let normalized = cut.borrow_mut().run(chunk).unwrap();
            apart.extend(rows(&normalized).iter().map(|row| format!("{row:?}")));
            outcomes.extend(normalized.outcomes);
        }
        apart.push(format!("{outcomes:?}"));
        prop_assert_eq!(together, apart);
        Ok(())
    });
    same.unwrap();
}

/// The first `rows` rows of PhysioNet 2012 set a as flat records, as `p12_events.py` writes them; `None` where
/// the data is not there.
pub(super) fn physionet(rows: usize) -> Option<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/physionet2012/physionet2012_set-a_long.csv.gz");
    let Ok(file) = std::fs::File::open(path) else {
        println!("skipped: the data of PhysioNet 2012 is not there");
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).take(64 << 20).read_to_string(&mut text).unwrap();
    let units: BTreeMap<&str, &str> =
        PHYSIONET.0.lines().map(|line| line.split(',').collect::<Vec<_>>()).map(|row| (row[1], row[3])).collect();
    let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let (id, time, parameter, value) = (at("RecordID"), at("Time"), at("Parameter"), at("Value"));
    let record = |(n, line): (usize, &str)| {
        let row: Vec<&str> = line.split(',').collect();
        let unit = units.get(row[parameter])?;
        let (hours, minutes) = row[time].split_once(':')?;
        let hours: u32 = hours.parse().ok()?;
        Some(format!(
            r#"{{"patient":"{0}","encounter":"{0}","time":"2026-01-{1:02}T{2:02}:{minutes}:00Z","recorded":"2026-01-{1:02}T{2:02}:{minutes}:00Z","id":"{n:016x}","code":"{3}","system":"http://physionet.org/challenge/2012","value":{4},"unit":"{unit}"}}"#,
            row[id],
            1 + hours / 24,
            hours % 24,
            row[parameter],
            row[value].parse::<f64>().ok()?,
        ))
    };
    Some(text.lines().skip(1).enumerate().filter_map(record).take(rows).collect())
}

#[test]
fn a_large_batch_of_the_worked_example() {
    let Some(flat) = physionet(20_000) else { return };
    let normalized = run(&mut site(PHYSIONET), &flat);
    let rows = rows(&normalized);
    assert_eq!(rows.len(), 20_000);
    assert!(normalized.outcomes.iter().all(|outcome| *outcome == Outcome::Accepted { events: 1 }));
    assert!(rows.iter().all(|row| row.concept.is_some()));
    let implausible: u64 = normalized.implausible.values().sum();
    let flagged = rows.iter().filter(|row| row.implausible).count();
    assert_eq!((flagged as u64, normalized.unmapped), (implausible, 0));
    assert!(implausible < 400, "{:?}", normalized.implausible);
    assert!(rows.iter().all(|row| row.code.starts_with("PHYSIONET2012//") && row.unit.is_some()));
    let heart = rows.iter().find(|row| row.concept == Some("heart_rate")).unwrap();
    assert_eq!(heart.code, "PHYSIONET2012//HR");
    assert_eq!(heart.recorded_at % SECOND, 0);
}

/// A flat record that says who is who.
fn link(kind: &str, kept: &str, other: &str, at: i64) -> String {
    let time = format!("1970-01-03T{at:02}:00:00Z");
    serde_json::json!({"patient": kept, "code": format!("PATIENT//{kind}"), "value": other, "time": time}).to_string()
}

#[test]
fn an_identifier_leads_to_another_subject_and_keeps_its_keys() {
    let mut normalizer = site(HOSPITAL);
    let (key, named) = (key(), pulse(r#"{"patient":"old|1","id":"x","encounter":"e"}"#));
    let (own, kept) = (key.subject("old", "1"), key.subject("mrn", "p"));
    let before = run(&mut normalizer, &[&named, &link("MERGE", "p", "old|1", 1), &link("MERGE", "p", "old|1", 1)]);
    assert_eq!(before.outcomes[1..], [Outcome::Accepted { events: 0 }, Outcome::Accepted { events: 0 }]);
    assert_eq!(before.statements.len(), 1, "said twice, told once");
    let statement = before.statements[0];
    assert_eq!((statement.kept, statement.other, statement.at), (kept, own, 49 * HOUR));
    assert_eq!(rows(&run(&mut normalizer, &[&named]))[0].subject, Some(own), "not before it is decided");

    let Decision::Change(change) = normalizer.forest().decide(&statement) else { panic!("a merge changes something") };
    normalizer.forest().apply(change.entry);
    let after = run(&mut normalizer, &[&named, &pulse("{}"), &link("MERGE", "p", "old|1", 1)]);
    assert!(after.statements.is_empty(), "known");
    let (was, is) = (rows(&before), rows(&after));
    assert_eq!((is[0].subject, is[1].subject), (Some(kept), Some(kept)));
    assert_eq!((is[0].event_key, is[0].encounter_id), (was[0].event_key, was[0].encounter_id));
    assert_eq!(is[0].source, format!("raw-3-0#0@{}", own.0));
    assert_eq!(is[1].source, "raw-3-1#0");

    // A token too, of an identifier that is heard of first after the link.
    let mut late = site(HOSPITAL);
    late.forest().apply(change.entry);
    let late = run(&mut late, &[&named]);
    let view = EventsView::new(&late.events).unwrap();
    assert_eq!((view.row(0).code, view.row(0).subject), (TOKEN, Some(kept)));
    assert_eq!(key.open(view.row(0).text_value.unwrap()).unwrap(), ("old".to_owned(), "1".to_owned()));
    assert!(view.row(0).source.ends_with(&format!("@{}", own.0)));
}

#[test]
fn thousands_of_links_are_each_told_once_and_codes_of_links_cannot_be_forged() {
    let mut normalizer = site(HOSPITAL);
    let all: Vec<String> = (0..5000).map(|i| link("MERGE", "p", &format!("old|{i}"), 1)).collect();
    assert_eq!(run(&mut normalizer, &all).statements.len(), 5000);
    assert_eq!(run(&mut normalizer, &[link("SAME", "p", "p", 1), link("UNMERGE", "p", "p", 1)]).statements, []);
    for code in ["SUBJECT//JOIN", "SUBJECT//LEAVE"] {
        let forged = pulse(&serde_json::json!({"system": null, "code": code, "value": "1 1 1"}).to_string());
        assert_eq!(dead(&run(&mut normalizer, &[forged]).outcomes[0]), Reason::Field);
    }
}
