use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::decode::Fact;
use crate::decode::csv::Table;

fn keys(text: &str) -> Vec<String> {
    parse("m.toml", text).unwrap_err().into_iter().map(|problem| problem.key).collect()
}

/// A mapping of tests/fixtures/csv/.
fn fixture(name: &str) -> Mapping {
    mapping(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/csv").join(name)).unwrap()
}

/// A file of the data folder beside the checkout, unless it is absent.
fn shared(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data/uci").join(name);
    let text = std::fs::read_to_string(&path);
    if text.is_err() {
        eprintln!("SKIPPED, shared/data/uci/{name} is not beside this checkout");
    }
    text.ok()
}

#[test]
fn every_problem_is_named_at_once() {
    let text = r#"
        delimiter = "::"
        encoding = "utf-16"
        columns = ["id", "id", "x"]
        colour = "red"
        [patient]
        column = "id"
        row = true
        [time]
        column = "t"
        format = "%H:%M"
        zone = "UTC"
        [[fact]]
        column = "y"
        kind = "boolean"
        [[fact]]
        column = "x"
        code = "GENDER//{}"
        code_column = "x"
        format = "%Y"
        [[fact]]
        code = "VISIT"
        unit = "mg"
        values = { yes = [] }
    "#;
    let mut found = keys(text);
    found.sort_unstable();
    let expected = [
        "colour",
        "columns",
        "columns",
        "columns",
        "delimiter",
        "encoding",
        "fact[0].code",
        "fact[0].kind",
        "fact[1].code",
        "fact[1].format",
        "fact[2].unit",
        "fact[2].values",
        "fact[2].values.yes",
        "patient",
        "time.format",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(keys(""), ["patient", "time", "fact"]);
    assert_eq!(keys("a = "), ["line 1"]);
    let problem = &parse("m.toml", "patient = 1").unwrap_err()[0];
    assert!(problem.to_string().starts_with("m.toml: patient: "), "{problem}");
}

#[test]
fn times_are_said_in_just_one_way() {
    let time = |time: &str, fact: &str| {
        keys_or_none(&format!("[patient]\ncolumn = \"id\"\n[time]\n{time}\n[[fact]]\ncode = \"C\"\n{fact}"))
    };
    for good in [
        "static = true",
        "fixed = 2026-01-01T00:00:00Z",
        "column = \"t\"",
        "column = \"t\"\nformat = \"%d.%m.%Y\"\nzone = \"Europe/Berlin\"",
        "column = \"t\"\nformat = \"minutes\"\nsince = \"2026-01-01T00:00:00Z\"",
        "column = \"t\"\nformat = \"hh:mm\"\nsince = \"2026-01-01T00:00:00Z\"",
    ] {
        assert_eq!(time(good, ""), [""; 0], "{good}");
    }
    for (bad, key) in [
        ("", "time"),
        ("static = true\nfixed = 2026-01-01T00:00:00Z", "time"),
        ("fixed = 2026-01-01", "time.fixed"),
        ("column = \"t\"\nformat = \"minutes\"", "time.since"),
        ("column = \"t\"\nformat = \"weeks\"\nsince = \"2026-01-01T00:00:00Z\"", "time.format"),
        ("column = \"t\"\nzone = \"UTC\"", "time.zone"),
        ("column = \"t\"\nformat = \"%Y-%m-%d\"", "time.format"),
        ("column = \"t\"\nformat = \"%Y-%m-%d\"\nzone = \"Mars\"", "time.zone"),
    ] {
        assert_eq!(time(bad, ""), [key], "{bad}");
    }
    assert_eq!(time("static = true", "column = \"age\"\nkind = \"age\""), ["fact[0].kind"]);
}

fn keys_or_none(text: &str) -> Vec<String> {
    parse("m.toml", text).map_or_else(|problems| problems.into_iter().map(|p| p.key).collect(), |_| Vec::new())
}

/// Every fact that a mapping makes of a file, by row; the file is divided by its lines.
fn facts_of<'a>(table: &'a Table, lines: &[&'a str]) -> Vec<Vec<Fact<'a>>> {
    let row = |(i, line): (usize, &&'a str)| {
        let mut facts = Vec::new();
        table.decode(i as i64 + 1, line.as_bytes(), &mut facts).unwrap();
        facts
    };
    lines.iter().enumerate().map(row).collect()
}

#[test]
fn kidney_disease_loads_with_every_cell_that_is_known() {
    let mapping = fixture("kidney_disease.toml");
    let Some(text) = shared("kidney_disease.csv") else { return };
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let table = Table::new(Arc::new(mapping), lines[0].as_bytes()).unwrap();
    let rows = facts_of(&table, &lines[1..]);
    assert_eq!(rows.len(), 400);
    // Counted without a table: a cell of the 25 columns beside the id is known if it says anything but "?".
    let known = |line: &&str| line.split(',').skip(1).filter(|cell| !["", "?"].contains(&cell.trim())).count();
    let wanted: Vec<usize> = lines[1..].iter().map(known).collect();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), wanted);
    assert_eq!(wanted.iter().sum::<usize>(), 8_988);
    let patients: std::collections::BTreeSet<String> =
        rows.iter().flatten().map(|fact| fact.patient.to_string()).collect();
    assert_eq!(patients.len(), 400);
    // The table's authors speak of 250 with the disease; two of them are written with a tab.
    let sick = |fact: &&Fact<'_>| fact.code == "kidney_disease" && fact.value == crate::decode::Value::Bool(true);
    assert_eq!(rows.iter().flatten().filter(sick).count(), 250);
}

#[test]
fn cleveland_loads_without_a_header() {
    let mapping = fixture("processed_cleveland.toml");
    let Some(text) = shared("processed.cleveland.data") else { return };
    let table = Table::new(Arc::new(mapping), b"").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let rows = facts_of(&table, &lines);
    assert_eq!(rows.len(), 303);
    let unknown = text.matches('?').count();
    assert_eq!(unknown, 6);
    // 14 columns and the visit itself.
    assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 303 * 15 - unknown);
    let women = rows.iter().flatten().filter(|fact| fact.code == "GENDER//F").count();
    assert_eq!(women, lines.iter().filter(|line| line.split(',').nth(1) == Some("0.0")).count());
    assert_eq!((&*rows[302][0].patient, rows[302][0].encounter.as_deref()), ("cleveland-303", Some("visit-303")));
}

#[test]
fn the_long_fixture_is_whole() {
    let table = Table::new(Arc::new(fixture("physionet2012_long.toml")), b"RecordID,Time,Parameter,Value").unwrap();
    let rows = facts_of(&table, &["132539,00:07,HR,73", "132539,47:37,Temp,-1"]);
    assert_eq!((rows[0].len(), rows[1].len()), (1, 0));
    assert_eq!(rows[0][0].time, Some(1_325_376_420_000_000));
}
