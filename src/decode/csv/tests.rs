use proptest::prelude::*;

use super::*;
use crate::events::{HOUR, SECOND};

/// A wide table: `id,at,hr,sex,smoker,note`.
fn wide() -> Mapping {
    let names = ["id", "at", "hr", "sex", "smoker", "note", "age"].map(str::to_owned).to_vec();
    let rule = |column: usize, code: &str, kind| Rule {
        column: Some(column),
        code: Code::Fixed(code.to_owned()),
        system: Text::None,
        unit: Text::None,
        kind,
        values: BTreeMap::new(),
        missing: Vec::new(),
    };
    let words = |words: [(&str, Meaning); 2]| words.map(|(word, meaning)| (word.to_owned(), meaning)).into();
    Mapping {
        dialect: Dialect { delimiter: b',', quote: Some(b'"') },
        encoding: encoding_rs::UTF_8,
        columns: None,
        names,
        trim: true,
        missing: vec![String::new(), "?".to_owned()],
        decimal: '.',
        patient: Naming { column: Some(0), prefix: "ward-".to_owned() },
        assigner: Some("study".to_owned()),
        encounter: Some(Naming { column: None, prefix: "row ".to_owned() }),
        time: When::Cell(1, Clock::Since { start: 0, unit: 60e6 }),
        recorded: None,
        rules: vec![
            Rule {
                system: Text::Fixed("http://loinc.org".to_owned()),
                unit: Text::Fixed("/min".to_owned()),
                ..rule(2, "8867-4", Kind::Number)
            },
            Rule {
                code: Code::Around("GENDER//".to_owned(), String::new()),
                values: words([("1", Meaning::Text("M".to_owned())), ("0", Meaning::Text("F".to_owned()))]),
                ..rule(3, "", Kind::Text)
            },
            Rule {
                values: words([("yes", Meaning::Bool(true)), ("no", Meaning::Bool(false))]),
                missing: vec!["unknown".to_owned()],
                ..rule(4, "SMOKER", Kind::Text)
            },
            rule(5, "NOTE", Kind::Auto),
            rule(6, "MEDS_BIRTH", Kind::Age),
            Rule { column: None, ..rule(0, "VISIT", Kind::Text) },
        ],
    }
}

const HEADER: &[u8] = b"id, at ,hr,sex,smoker,note,age";

fn table() -> Table {
    Table::new(Arc::new(wide()), HEADER).unwrap()
}

fn reject(row: &str) -> Reject {
    table().decode(1, row.as_bytes(), &mut Vec::new()).unwrap_err()
}

#[test]
fn a_wide_row_is_a_fact_a_cell_that_is_there() {
    let table = table();
    let mut facts = Vec::new();
    table.decode(7, "p1,60, 71.5\t,1,\tno,\"a, \"\"b\"\"\",1".as_bytes(), &mut facts).unwrap();
    let said: Vec<_> = facts.iter().map(|f| (&*f.code, f.value.clone(), f.unit.as_deref(), f.time)).collect();
    let year = (365.25 * DAY as f64) as Micros;
    assert_eq!(
        said,
        [
            ("8867-4", Value::Number(71.5), Some("/min"), Some(HOUR)),
            ("GENDER//M", Value::None, None, Some(HOUR)),
            ("SMOKER", Value::Bool(false), None, Some(HOUR)),
            ("NOTE", Value::Text("a, \"b\"".into()), None, Some(HOUR)),
            ("MEDS_BIRTH", Value::None, None, Some(HOUR - year)),
            ("VISIT", Value::None, None, Some(HOUR)),
        ]
    );
    for fact in &facts {
        assert_eq!((&*fact.patient, fact.assigner.as_deref()), ("ward-p1", Some("study")));
        assert_eq!(fact.encounter.as_deref(), Some("row 7"));
        assert_eq!((fact.recorded, fact.op), (None, Op::Assert));
    }
    assert_eq!(facts[0].system.as_deref(), Some("http://loinc.org"));
    assert_eq!(facts[1].system, None);
}

#[test]
fn a_missing_cell_is_no_fact_and_a_row_of_nothing_is_none() {
    let table = table();
    let mut facts = Vec::new();
    table.decode(1, b"p1,0,?,,unknown, ?,", &mut facts).unwrap();
    assert_eq!(facts.iter().map(|fact| &*fact.code).collect::<Vec<_>>(), ["VISIT"]);
    facts.clear();
    for row in [",,,,,,", ",", " ? ,,,?,,,,,,"] {
        table.decode(1, row.as_bytes(), &mut facts).unwrap();
    }
    assert!(facts.is_empty());
}

#[test]
fn what_the_mapping_does_not_foresee_is_a_reject_that_names_the_column_only() {
    for (row, reason, named) in [
        ("CANARY,0,71,1,yes,", Reason::Shape, "6 fields"),
        ("p,0,71,1,yes,,1,CANARY", Reason::Shape, "8 fields"),
        (",0,71,CANARY,yes,,1", Reason::Patient, "'id'"),
        ("CANARY,,71,1,yes,,1", Reason::Field, "'at'"),
        ("p,CANARY,71,1,yes,,1", Reason::Time, "'at'"),
        ("p,0,CANARY,1,yes,,1", Reason::Field, "'hr'"),
        ("p,0,nan,1,yes,CANARY,1", Reason::Field, "'hr'"),
        ("p,0,1e999,1,yes,CANARY,1", Reason::Field, "'hr'"),
        ("p,0,71,CANARY,yes,,1", Reason::Field, "'sex'"),
        ("p,0,71,1,CANARY,,1", Reason::Field, "'smoker'"),
        ("p,0,71,1,yes,CANARY,300", Reason::Field, "'age'"),
        ("p,0,71,1,yes,\"CANARY,1", Reason::Syntax, "field 6"),
        ("p,0,71,1,yes,\"a\"CANARY,1", Reason::Syntax, "field 6"),
    ] {
        let reject = reject(row);
        assert_eq!(reject.reason, reason, "{row}");
        assert!(!reject.detail.contains("CANARY"), "{}", reject.detail);
        assert!(reject.detail.contains(named), "{}", reject.detail);
    }
    let not_text = table().decode(1, b"p,0,71,1,yes,\xff,1", &mut Vec::new()).unwrap_err();
    assert_eq!(not_text.reason, Reason::Syntax);
}

#[test]
fn a_long_row_takes_code_and_unit_from_its_columns() {
    let mut mapping = wide();
    mapping.names = ["who", "what", "how_much", "of"].map(str::to_owned).to_vec();
    mapping.patient = Naming { column: Some(0), prefix: String::new() };
    mapping.time = When::Static;
    mapping.encounter = None;
    mapping.decimal = ',';
    mapping.dialect.delimiter = b';';
    mapping.columns = Some(["of", "who", "what", "how_much", "unused"].map(str::to_owned).to_vec());
    mapping.rules = vec![Rule {
        column: Some(2),
        code: Code::Column(1),
        system: Text::Fixed("lab".to_owned()),
        unit: Text::Column(3),
        kind: Kind::Auto,
        values: BTreeMap::new(),
        missing: vec!["-1".to_owned()],
    }];
    let table = Table::new(Arc::new(mapping), b"").unwrap();
    let mut facts = Vec::new();
    for row in ["mg/dL;p;crea;1,25;", ";p;crea;2;", "mg/dL;p;crea;-1;x", "mg/dL;p;crea;1.000,5;"] {
        table.decode(1, row.as_bytes(), &mut facts).unwrap();
    }
    let said: Vec<_> = facts.iter().map(|f| (&*f.patient, &*f.code, f.value.clone(), f.unit.as_deref())).collect();
    assert_eq!(
        said,
        [
            ("p", "crea", Value::Number(1.25), Some("mg/dL")),
            ("p", "crea", Value::Number(2.0), None),
            // What may be a thousand and a half is left as it was written.
            ("p", "crea", Value::Text("1.000,5".into()), None),
        ]
    );
    let reject = table.decode(1, b";p;;2;", &mut facts).unwrap_err();
    assert_eq!((reject.reason, &*reject.detail), (Reason::Field, "column 'what' names no code"));
}

#[test]
fn other_encodings_are_read_in_them() {
    let mapping = Mapping { encoding: encoding_rs::WINDOWS_1252, ..wide() };
    let table = Table::new(Arc::new(mapping), HEADER).unwrap();
    let mut facts = Vec::new();
    table.decode(1, b"M\xfcller,0,,,,\"K\xf6ln\",", &mut facts).unwrap();
    assert_eq!(facts[0].patient, "ward-Müller");
    assert_eq!(facts[0].value, Value::Text("Köln".into()));
}

#[test]
fn columns_that_are_not_there_or_twice_are_all_named() {
    let wrong = Table::new(Arc::new(wide()), b"id,at,at,hr,SEX,smoker,note").unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    for name in ["two columns 'at'", "no column 'sex'", "no column 'age'"] {
        assert!(wrong.iter().any(|wrong| wrong.contains(name)), "{wrong:?}");
    }
}

#[test]
fn when_it_became_known_may_be_missing() {
    let mapping = Mapping { recorded: Some(When::Cell(6, Clock::Since { start: 0, unit: 1e6 })), ..wide() };
    let mapping = Mapping { rules: mapping.rules[..1].to_vec(), ..mapping };
    let table = Table::new(Arc::new(mapping), HEADER).unwrap();
    let mut facts = Vec::new();
    table.decode(1, b"p,0,71,,,,", &mut facts).unwrap();
    table.decode(2, b"p,0,71,,,,5", &mut facts).unwrap();
    assert_eq!(facts.iter().map(|fact| fact.recorded).collect::<Vec<_>>(), [None, Some(5 * SECOND)]);
}

proptest! {
    #[test]
    fn any_row_is_facts_or_a_reject(row in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = table().decode(1, &row, &mut Vec::new());
    }

    #[test]
    fn rows_of_the_right_shape_give_as_many_facts_as_cells(
        hr in prop::option::of(0.0..300.0_f64), sex in prop::option::of(0_u8..2), smoker in prop::option::of(any::<bool>()),
    ) {
        let text = |cell: Option<String>| cell.unwrap_or_default();
        let row = format!(
            "p,1,{},{},{},,", text(hr.map(|v| v.to_string())), text(sex.map(|v: u8| v.to_string())),
            text(smoker.map(|v| if v { "yes" } else { "no" }.to_owned())),
        );
        let table = table();
        let mut facts = Vec::new();
        prop_assert!(table.decode(1, row.as_bytes(), &mut facts).is_ok());
        let cells = usize::from(hr.is_some()) + usize::from(sex.is_some()) + usize::from(smoker.is_some());
        prop_assert_eq!(facts.len(), cells + 1);
        if let Some(hr) = hr {
            prop_assert_eq!(&facts[0].value, &Value::Number(hr));
        }
    }
}
