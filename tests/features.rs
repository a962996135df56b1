//! What a data scientist asks of the library: features and SQL.

use std::fmt::Write as _;

use crate::peer::Place;

/// Three patients of a ward, the first with a low blood pressure, for twelve hours from admission.
fn ward(place: &Place) -> String {
    let mut lines = String::new();
    for patient in 1..=3 {
        let mut fact = |hour: i64, code: &str, value: &str| {
            let system = if code.contains("//") { "" } else { ",\"system\":\"http://loinc.org\"" };
            let value = if value.is_empty() { String::new() } else { format!(",\"value\":{value}") };
            let time = format!("2026-01-0{patient}T{hour:02}:00:00Z");
            writeln!(
                lines,
                "{{\"patient\":\"p{patient}\",\"encounter\":\"e{patient}\",\"time\":\"{time}\",\"recorded\":\"{time}\",\
                 \"code\":\"{code}\"{system}{value}}}"
            )
            .unwrap();
        };
        fact(0, "ENCOUNTER//IMP//START", "");
        for hour in 0..12 {
            fact(hour, "8867-4", &format!("{},\"unit\":\"/min\"", 70 + 10 * patient + hour));
            fact(hour, "8480-6", &format!("{},\"unit\":\"mm[Hg]\"", 60 + 40 * patient));
        }
        fact(12, "ENCOUNTER//IMP//END", "");
    }
    place.file("ward.jsonl", lines.as_bytes())
}

#[test]
fn features_and_queries_tell_of_the_library_what_it_holds() {
    let place = Place::new("hospital", "localhost:1");
    let ward = ward(&place);
    assert_eq!(place.json(&["import", "--format", "flat", &ward])["accepted"], 3 * 26);
    let out = place.path("features.parquet");
    let report = place.json(&["features", "--task", "deterioration", "--out", &out]);
    // Due at 4 and 8 hours; the end of the stay comes at the third time itself.
    assert_eq!(report["rows"], 9, "{report}");
    assert!(report["columns"].as_u64().unwrap() > 100 && std::path::Path::new(&out).exists(), "{report}");

    let sql = "SELECT prediction_time, \"heart_rate.last.8h\" AS rate, \"shock_index.max.24h\" AS shock, \
               \"news2.last.24h\" AS news2, \"lactate.last.encounter\" AS lactate \
               FROM features ORDER BY subject_id, prediction_time";
    let rows = place.lines(&["query", "--format", "json", sql]);
    assert_eq!(rows.len(), 9);
    let first = rows.iter().find(|row| row["prediction_time"] == "2026-01-01T04:00:00").unwrap();
    assert_eq!(
        (&first["rate"], &first["news2"]),
        (&83.0.into(), &2.0.into()),
        "{first}: what is known before that hour"
    );
    assert!((first["shock"].as_f64().unwrap() - 0.83).abs() < 0.011, "{first}");
    assert!(first.get("lactate").is_none(), "nobody measured it");

    let count = "SELECT concept, count(*) AS n FROM events WHERE concept IS NOT NULL GROUP BY concept ORDER BY concept";
    let csv = place.text(&["query", "--format", "csv", count]);
    assert_eq!(csv, "concept,n\nheart_rate,36\nsystolic_bp,36\n");
    let nothing = place.text(&["query", "SELECT task, risk FROM predictions"]);
    assert!(nothing.contains("| task | risk |"), "{nothing}");
    for (sql, code, word) in [
        ("SELECT FROM", 2, "SQL"),
        ("SELECT * FROM patients", 1, "patients"),
        ("DROP TABLE events", 1, "DDL"),
        ("INSERT INTO events SELECT * FROM events", 1, "DML"),
    ] {
        let output = place.command(&["query", sql]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{sql}: {said}");
        assert!(said.contains(word) && output.stdout.is_empty(), "{sql}: {said}");
    }
}

#[test]
fn meds_data_that_is_read_twice_adds_nothing_whoever_else_is_read_with_it() {
    let place = Place::new("hospital", "localhost:1");
    place.json(&["import", "--format", "flat", &ward(&place)]);
    let whole = place.path("meds");
    let exported = place.json(&["export", "--format", "meds", &whole])["events"].as_u64().unwrap();
    assert!(exported >= 3 * 26, "{exported}");

    let other = Place::new("hospital", "localhost:1");
    // The second time in the same run, and once more in another.
    let twice = other.json(&["import", "--format", "meds", &whole, &whole]);
    assert_eq!((&twice["read"], &twice["events"]), (&(2 * exported).into(), &exported.into()), "{twice}");
    assert_eq!((&twice["accepted"], &twice["dropped"]), (&exported.into(), &exported.into()), "{twice}");
    let again = other.json(&["import", "--format", "meds", &whole]);
    assert_eq!((&again["dropped"], &again["events"]), (&exported.into(), &0.into()), "{again}");
    let back = other.path("meds");
    assert_eq!(other.json(&["export", "--format", "meds", &back])["events"], exported);
}

#[test]
fn every_feature_of_the_site_is_described_with_what_it_is_made_of() {
    let place = Place::new("hospital", "localhost:1");
    let features = place.lines(&["features", "--describe"]);
    let of = |name: &str| features.iter().find(|one| one["feature"] == name).unwrap();
    let news2 = of("news2.last.24h");
    assert!(news2["source"].as_str().unwrap().contains("Royal College of Physicians"), "{news2}");
    assert!(news2["codes"].as_array().unwrap().contains(&"LOINC//8867-4".into()), "{news2}");
    assert_eq!(of("heart_rate.max.8h")["meaning"], "greatest value of heart_rate in the 8 h before the prediction");
    assert_eq!(of("diabetes.ever.ever")["codes"][0], "ICD10CM//E10*");
    assert!(features.iter().all(|one| one["meaning"].as_str().is_some_and(|meaning| !meaning.is_empty())));
}
