//! Tables of CSV into the case library, through the command.

use std::time::Duration;

use crate::peer::{Place, Read, read_settled, read_topic, read_until, shared};

fn mapping(name: &str) -> String {
    format!("{}/tests/fixtures/csv/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn public_tables_load_with_a_mapping_each_and_twice_adds_nothing() {
    let place = Place::new("hospital", "localhost:1");
    for (table, with, rows, cells) in [
        ("kidney_disease.csv", "kidney_disease.toml", 400, 8_988),
        ("processed.cleveland.data", "processed_cleveland.toml", 303, 303 * 15 - 6),
    ] {
        let Some(path) = shared(&format!("data/uci/{table}")) else { return };
        let (path, with) = (path.display().to_string(), mapping(with));
        let args = ["import", "--format", "csv", "--mapping", &with, &path];
        let first = place.json(&args);
        assert_eq!((&first["read"], &first["accepted"]), (&rows.into(), &rows.into()), "{first}");
        // A token each, since every row is a patient.
        assert_eq!(first["events"], cells + rows, "{first}");
        let again = place.json(&args);
        assert_eq!((&again["read"], &again["dropped"]), (&rows.into(), &rows.into()), "{again}");
        assert_eq!(again["events"], 0);
    }
}

#[test]
fn a_table_can_be_fed_to_kafka_too() {
    let Some(path) = shared("data/uci/processed.cleveland.data") else { return };
    let Some(broker) = crate::broker::Broker::start() else { return };
    let place = Place::new("hospital", &broker.bootstrap);
    let daemon = place.daemon("normalize");
    read_settled(&broker.bootstrap, "raw.flat", Duration::from_secs(1), Duration::from_secs(60));
    let with = mapping("processed_cleveland.toml");
    let path = path.display().to_string();
    let done = place.json(&["feed", "--topic", "raw.flat", "--mapping", &with, &path]);
    assert_eq!((&done["sent"], &done["dead_letters"]), (&(303 * 15 - 6).into(), &0.into()));
    let events = |messages: &[Read]| -> usize {
        let of = |m: &Read| {
            let batch = auscult::events::decode(&m.value).unwrap();
            let view = auscult::events::EventsView::new(&batch).unwrap();
            (0..view.len()).filter(|&i| view.row(i).subject.is_some()).count()
        };
        messages.iter().map(of).sum()
    };
    // As many as the import makes, tokens too.
    let wanted = 303 * 16 - 6;
    read_until(&broker.bootstrap, "auscult.events", Duration::from_secs(60), |m| events(m) >= wanted);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(events(&read_topic(&broker.bootstrap, "auscult.events")), wanted);
    assert!(read_topic(&broker.bootstrap, "auscult.dead-letter").is_empty());
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn rows_that_cannot_be_read_are_counted_with_their_reason_and_nobodys_name() {
    let place = Place::new("hospital", "localhost:1");
    std::fs::write(
        place.path("m.toml"),
        "missing = [\"NA\"]\n[patient]\ncolumn = \"id\"\n[time]\ncolumn = \"at\"\nformat = \"%d.%m.%Y\"\nzone = \"UTC\"\n\
         [[fact]]\ncolumn = \"hr\"\ncode = \"8867-4\"\nsystem = \"http://loinc.org\"\nunit_column = \"unit\"\n",
    )
    .unwrap();
    let good = "CANARY1,01.02.2026,71,/min\r\n";
    let bad = "CANARY2,01.02.2026,71\r\nCANARY3,2026-02-01,71,/min\r\nNA,01.02.2026,71,/min\r\n\
               CANARY4,01.02.2026,CANARY5,/min\r\nCANARY6,01.02.2026,71,furlong\r\n";
    let nothing = "CANARY7,01.02.2026,NA,/min\r\n,,,\r\n";
    let twice = "CANARY1,01.02.2026,71,/min\r\n";
    let file = format!("\u{feff}id,at,hr,unit\r\n{good}{bad}\r\n{nothing}{twice}\"CANARY8\",\"01.02.2026\",\"80\",\n");
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, file.as_bytes()).unwrap();
    std::fs::write(place.path("t.csv.gz"), zipped.finish().unwrap()).unwrap();
    let output = place.run(&["import", "--format", "csv", "--mapping", "m.toml", "t.csv.gz"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = ["read", "accepted", "dead_letters", "dropped"].map(|key| summary[key].as_u64().unwrap());
    assert_eq!(counts, [10, 2, 5, 3], "{summary}\n{said}");
    assert!(!said.contains("CANARY") && !said.contains("furlong"), "{said}");
    for (reason, row) in [("shape", 2), ("time", 3), ("patient", 4), ("field", 5), ("unit", 6)] {
        let line =
            said.lines().find(|line| line.contains(&format!("1 for {reason} ("))).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(&format!("record {row} of t.csv.gz")), "{line}");
    }
}

#[test]
fn a_mapping_that_is_wrong_or_does_not_fit_says_all_that_is_wrong() {
    let place = Place::new("hospital", "localhost:1");
    std::fs::write(place.path("bad.toml"), "colour = 1\n[time]\nstatic = true\n").unwrap();
    std::fs::write(
        place.path("rows.toml"),
        "[patient]\nrow = true\nprefix = \"t-\"\n[time]\nstatic = true\n[[fact]]\ncolumn = \"x\"\ncode = \"X\"\n",
    )
    .unwrap();
    std::fs::write(place.path("t.csv"), "a,b\n1,2\n").unwrap();
    let fails = |args: &[&str], words: &[&str]| {
        let output = place.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
    };
    let csv = ["import", "--format", "csv", "--mapping"];
    fails(&[&csv[..], &["bad.toml", "t.csv"]].concat(), &["colour", "patient", "fact", "3 problem(s)"]);
    fails(&[&csv[..], &["rows.toml", "t.csv"]].concat(), &["t.csv: header: there is no column 'x'"]);
    fails(&[&csv[..], &["rows.toml", "t.csv", "t.csv"]].concat(), &["number of the row"]);
    fails(&["import", "--format", "csv", "t.csv"], &["--mapping"]);
    fails(&["import", "--format", "flat", "--mapping", "rows.toml", "t.csv"], &["--format csv"]);
}
