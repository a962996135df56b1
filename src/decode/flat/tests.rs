use proptest::prelude::*;

use super::*;
use crate::events;

/// A record with the given fields instead of, or beside, those of a heart rate.
fn record(fields: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("patient", r#""132539""#),
        ("time", r#""2026-01-01T00:07:00Z""#),
        ("code", r#""8867-4""#),
        ("system", r#""http://loinc.org""#),
        ("value", "73"),
        ("unit", r#""/min""#),
    ];
    for &(name, json) in fields {
        all.retain(|(before, _)| *before != name);
        if !json.is_empty() {
            all.push((name, json));
        }
    }
    let fields: Vec<String> = all.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn read(text: &str) -> Result<Fact<'_>, Reject> {
    let mut facts = Vec::new();
    assert!(decode(text.as_bytes(), &mut facts)?.links.is_empty());
    assert_eq!(facts.len(), 1);
    Ok(facts.remove(0))
}

/// Reason and detail of the reject of a record with these fields.
fn reject(fields: &[(&str, &str)]) -> (Reason, String) {
    let reject = read(&record(fields)).unwrap_err();
    (reject.reason, reject.detail)
}

const MINUTE: Micros = 60 * events::SECOND;
/// 2026-01-01T00:00:00Z.
const NEW_YEAR: Micros = 1_767_225_600 * events::SECOND;

#[test]
fn the_record_of_the_interface() {
    let text = r#"{"patient":"132539","time":"2026-01-01T00:07:00Z","code":"8867-4","system":"http://loinc.org","value":73,"unit":"/min",
 "recorded":"2026-01-01T00:09:12Z","id":"9d93ced3","encounter":"132540","op":"assert"}"#;
    let fact = Fact {
        assigner: None,
        patient: "132539".into(),
        encounter: Some("132540".into()),
        time: Some(NEW_YEAR + 7 * MINUTE),
        recorded: Some(NEW_YEAR + 9 * MINUTE + 12 * events::SECOND),
        system: Some("http://loinc.org".into()),
        code: "8867-4".into(),
        value: Value::Number(73.0),
        unit: Some("/min".into()),
        id: Some("9d93ced3".into()),
        op: Op::Assert,
    };
    let read = read(text).unwrap();
    assert_eq!(read, fact);
    for text in [&read.patient, &read.code].into_iter().chain(read.system.iter()).chain(read.unit.iter()) {
        assert!(matches!(text, Cow::Borrowed(_)), "{text} is copied");
    }
}

#[test]
fn the_least_record() {
    let fact = read(r#" {"code":"GENDER//F","time":null,"patient":"1"} "#).unwrap();
    assert_eq!((fact.time, fact.recorded, &fact.system, &*fact.code), (None, None, &None, "GENDER//F"));
    assert_eq!((fact.value, fact.unit, fact.id, fact.encounter, fact.op), (Value::None, None, None, None, Op::Assert));
}

#[test]
fn patient_may_name_its_assigner() {
    let who = |json: &str| {
        let text = record(&[("patient", json)]);
        read(&text).map(|fact| (fact.assigner.map(Cow::into_owned), fact.patient.into_owned()))
    };
    let of = |assigner: &str, id: &str| Ok((Some(assigner.to_owned()), id.to_owned()));
    assert_eq!(who(r#""urn:oid:1.2|12""#), of("urn:oid:1.2", "12"));
    assert_eq!(who(r#""a|b|c""#), of("a", "b|c"));
    assert_eq!(who(r#""\u00e9\/x|1""#), of("é/x", "1"));
    assert_eq!(who(r#""|12""#), Ok((None, "12".to_owned())));
    for nobody in [r#""""#, r#"" ""#, r#""a|""#, r#""a| ""#, r#""|""#, "null", ""] {
        let text = record(&[("patient", nobody)]);
        assert_eq!(read(&text).unwrap_err().reason, Reason::Patient, "{nobody}");
    }
}

#[test]
fn values_of_every_kind() {
    let value = |json: &str| read(&record(&[("value", json)])).map(|fact| format!("{:?}", fact.value));
    for (json, read) in [
        ("-0.5e-3", "Number(-0.0005)"),
        ("36.6", "Number(36.6)"),
        ("18446744073709551616", "Number(1.8446744073709552e19)"),
        ("-9223372036854775808", "Number(-9.223372036854775808e18)"),
        ("true", "Bool(true)"),
        ("false", "Bool(false)"),
        (r#""ok""#, "Text(\"ok\")"),
        (r#""""#, "Text(\"\")"),
        (r#""a\ud83d\ude00\n""#, "Text(\"a😀\\n\")"),
        ("null", "None"),
        ("", "None"),
    ] {
        let value = value(json).unwrap();
        let equal = value == read
            || value.trim_start_matches("Number(").trim_end_matches(')').parse::<f64>().ok()
                == read.trim_start_matches("Number(").trim_end_matches(')').parse::<f64>().ok();
        assert!(equal, "{json} gives {value}");
    }
    for nested in ["{}", "[]", r#"{"a":1}"#, "[[1],{\"a\":[]}]"] {
        let expected = (Reason::Field, "field 'value' must be a number, a string or a boolean".to_owned());
        assert_eq!(reject(&[("value", nested)]), expected);
    }
    for no_json in
        ["NaN", "Infinity", "-", "01", "1.", ".5", "+1", "0x10", "1e999", "-1e999", r#""\ud800""#, r#""\x""#, "\"\n\""]
    {
        assert_eq!(reject(&[("value", no_json)]).0, Reason::Syntax, "{no_json}");
    }
}

#[test]
fn a_wrong_type_is_named() {
    for field in ["patient", "code", "system", "unit", "id", "encounter", "op", "time", "recorded"] {
        for json in ["1", "true", "{}", "[]"] {
            let expected = (Reason::Field, format!("field '{field}' must be a string"));
            assert_eq!(reject(&[(field, json)]), expected);
        }
    }
    for field in ["code", "system", "id", "encounter", "op"] {
        let expected = (Reason::Field, format!("field '{field}' is empty; leave it out"));
        assert_eq!(reject(&[(field, r#""""#)]), expected);
    }
}

#[test]
fn null_is_absent_where_a_field_may_be() {
    let text = record(&[("system", "null"), ("unit", "null"), ("recorded", "null"), ("id", "null"), ("op", "null")]);
    let fact = read(&text).unwrap();
    assert_eq!((fact.system, fact.unit, fact.recorded, fact.id, fact.op), (None, None, None, None, Op::Assert));
    let text = record(&[("unit", r#""""#)]);
    assert_eq!(read(&text).unwrap().unit, None);
}

#[test]
fn required_fields_are_missed() {
    assert_eq!(reject(&[("code", "")]), (Reason::Field, "field 'code' is missing".to_owned()));
    assert_eq!(reject(&[("code", "null")]), (Reason::Field, "field 'code' is missing".to_owned()));
    assert_eq!(reject(&[("time", "")]).0, Reason::Field);
    assert_eq!(reject(&[("patient", "")]), (Reason::Patient, "field 'patient' is missing".to_owned()));
}

#[test]
fn times_need_an_offset() {
    for time in [r#""2026-01-01T00:00:00""#, r#""2026-13-01T00:00:00Z""#, r#""2026-01-01""#, r#""""#, r#""now""#] {
        for field in ["time", "recorded"] {
            let expected = (Reason::Time, format!("field '{field}' is not an RFC 3339 time with an offset"));
            assert_eq!(reject(&[(field, time)]), expected);
        }
    }
    let text = record(&[("time", r#""2026-01-01T01:30:00.25\u002b01:30""#)]);
    assert_eq!(read(&text).unwrap().time, Some(NEW_YEAR + events::SECOND / 4));
}

#[test]
fn operations() {
    assert_eq!(read(&record(&[("op", r#""retract""#)])).unwrap().op, Op::Retract);
    for word in [r#""perhaps""#, r#""ASSERT""#] {
        assert_eq!(reject(&[("op", word)]), (Reason::Field, "field 'op' must be assert or retract".to_owned()));
    }
}

#[test]
fn a_field_stands_once() {
    for double in [r#"{"patient":"1","patient":"1"}"#, r#"{"value":1,"value":null}"#, r#"{"code":"a","c\u006fde":"a"}"#]
    {
        let reject = read(double).unwrap_err();
        assert_eq!(reject.reason, Reason::Field);
        assert!(reject.detail.ends_with("stands twice"), "{}", reject.detail);
    }
}

#[test]
fn other_fields_are_ignored_whatever_they_hold() {
    let text = record(&[("extra", r#"{"value":[{},"\ud800",1e999,[[]]],"patient":2}"#), ("Patient", "1"), ("", "[]")]);
    assert_eq!(read(&text).unwrap().value, Value::Number(73.0));
    let broken = record(&[("extra", "{]")]);
    assert_eq!(read(&broken).unwrap_err().reason, Reason::Syntax);
}

#[test]
fn what_is_no_object() {
    for (text, reason) in [
        ("null", Reason::Shape),
        ("[]", Reason::Shape),
        ("1", Reason::Shape),
        ("\"a\"", Reason::Shape),
        ("{}", Reason::Patient),
        ("{", Reason::Syntax),
        ("}", Reason::Syntax),
        ("nonsense", Reason::Syntax),
        ("\u{feff}{}", Reason::Syntax),
        ("{} {}", Reason::Syntax),
        ("{},", Reason::Syntax),
        ("{'patient':1}", Reason::Syntax),
    ] {
        assert_eq!(read(text).unwrap_err().reason, reason, "{text}");
    }
}

/// What the scanner makes of a record, and what serde_json makes of it.
fn both(text: &str) -> (Option<Result<Fact<'_>, Reject>>, Result<Fact<'_>, Reject>) {
    (plain::read(text).map(Record::into_fact), Record::read(text).and_then(Record::into_fact))
}

#[test]
fn the_scanner_takes_what_feeds_send() {
    for text in [
        record(&[("recorded", r#""2026-01-01T00:09:12Z""#), ("id", r#""9d93""#), ("op", r#""retract""#)]),
        record(&[("time", "null"), ("value", "-12.50"), ("extra", "true"), ("encounter", "\"é12345678\u{7f}\"")]),
        record(&[("value", "123456789012345")]).replace(',', " ,\r\n "),
        record(&[("value", "false")]).replace("\":", "\" :\t"),
        r#" { "patient" : "1" , "code":"a","time":"2026-01-01T00:00:00Z" , "value" : 0 } "#.to_owned(),
    ] {
        let (fast, slow) = both(&text);
        assert!(slow.is_ok(), "{text}");
        assert_eq!(fast, Some(slow), "{text}");
    }
}

#[test]
fn the_scanner_declines_what_is_not_plain() {
    for json in [
        "1e3",
        "01",
        "-",
        "1.",
        ".1",
        "-01",
        "--1",
        "1-",
        "00",
        "NaN",
        "nul",
        "nulls",
        "tru",
        "{}",
        "[]",
        "",
        "1 1",
        r#""a\n""#,
        "\"a\nb\"",
        "\"a",
        "\"\u{1}\"",
        "\"12345678\u{1}\"",
        r#""1234567\""#,
    ] {
        let text = format!(r#"{{"code":{json}}}"#);
        assert!(plain::read(&text).is_none(), "{text}");
    }
    for text in [
        "",
        " ",
        "{",
        "{}",
        "{}}",
        "[1]",
        r#"{"a":1}}"#,
        r#"{"a":1},"#,
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"id":1,"id":1}"#,
        r#"{"a":1"#,
        r#"{"a":"#,
        r#"{"a"#,
        r#"{a:1}"#,
        r#"{"\u0061":1}"#,
    ] {
        assert!(plain::read(text).is_none(), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_scanner_reads_what_serde_reads(
        names in proptest::collection::vec("patient|time|code|system|value|unit|recorded|id|encounter|op|other|[a-z]{0,9}", 0..8),
        values in proptest::collection::vec(
            r#"null|true|false|-?[0-9]{1,22}|-?[0-9]{1,9}\.[0-9]{0,20}|[0-9]e[0-9]|"[a-z é€"\\]{0,20}"|"[ -~]{0,30}"|"2026-01-01T0[0-9]:00:00Z"|\{\}|.{0,3}"#, 8),
        space in "[ \n]?", cut in 0_usize..400,
    ) {
        let fields: Vec<String> =
            names.iter().zip(&values).map(|(name, value)| format!("\"{name}\"{space}:{value}{space}")).collect();
        let whole = format!("{{{space}{}}}{space}", fields.join(","));
        let cut = whole.get(..cut.min(whole.len())).unwrap_or(&whole);
        for text in [whole.as_str(), cut] {
            if let (Some(fast), slow) = both(text) {
                prop_assert_eq!(fast, slow, "{}", text);
            }
        }
    }

    #[test]
    fn every_number_is_the_same_double(number in r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?") {
        let text = record(&[("value", &number)]);
        let (fast, slow) = both(&text);
        let expected: f64 = number.parse().unwrap();
        for fact in [fast.unwrap().unwrap(), slow.unwrap()] {
            let same = matches!(fact.value, Value::Number(value) if value.to_bits() == expected.to_bits());
            prop_assert!(same, "{} is read as {:?}", number, fact.value);
        }
    }

    #[test]
    fn every_string_is_the_same(text in ".{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        let record = record(&[("value", &json)]);
        let (fast, slow) = both(&record);
        prop_assert_eq!(fast.is_some(), !json.contains('\\'));
        for fact in fast.into_iter().chain([slow]) {
            prop_assert_eq!(fact.unwrap().value, Value::Text(text.clone().into()));
        }
    }
}

#[test]
fn a_record_may_say_who_is_who_instead_of_a_fact() {
    let text = |code: &str, more: &[(&str, &str)]| {
        let code = format!("\"{code}\"");
        let base = [("system", ""), ("unit", ""), ("code", code.as_str()), ("value", r#""old|17""#)];
        record(&[&base[..], more].concat())
    };
    let links = |text: &str| {
        let mut facts = Vec::new();
        let notes = decode(text.as_bytes(), &mut facts).unwrap();
        assert!(facts.is_empty());
        notes
            .links
            .iter()
            .map(|link| (link.kind, format!("{:?}", (&link.kept, &link.other)), link.recorded))
            .collect::<Vec<_>>()
    };
    let both = |a: (Option<&'static str>, &'static str), b: (Option<&'static str>, &'static str)| {
        let one = |(assigner, patient): (Option<&'static str>, &'static str)| Identifier {
            assigner: assigner.map(Cow::Borrowed),
            patient: patient.into(),
        };
        format!("{:?}", (&one(a), &one(b)))
    };
    for (code, kind) in LINKS {
        let read = links(&text(code, &[]));
        assert_eq!(read, [(kind, both((None, "132539"), (Some("old"), "17")), Some(NEW_YEAR + 7 * MINUTE))]);
    }
    let told = text("PATIENT//MERGE", &[("patient", r#""a|1""#), ("value", r#""|2""#), ("time", "null")]);
    assert_eq!(links(&told), [(LinkKind::Merge, both((Some("a"), "1"), (None, "2")), None)]);
    for (field, json, reason) in [
        ("value", "17", Reason::Field),
        ("value", "", Reason::Field),
        ("value", r#""old|""#, Reason::Patient),
        ("op", r#""retract""#, Reason::Field),
    ] {
        let text = text("PATIENT//MERGE", &[(field, json)]);
        let reject = decode(text.as_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(reject.reason, reason, "{field}: {json}");
        assert!(!reject.detail.contains("17"));
    }
    // Of a code system it is a code like any other.
    assert_eq!(read(&text("PATIENT//MERGE", &[("system", r#""x""#)])).unwrap().value, Value::Text("old|17".into()));
}
