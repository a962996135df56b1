//! What a read_committed subscriber and the library see of a run, and how two runs differ.
//!
//! Left out is what depends on the moment: ticks, tokens given again, times of publication, the
//! offsets of outputs; and, where models are swapped under way, which of the identical ones it was.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use auscult::events::{EventsView, TICK, TOKEN};
use auscult::library::{Library, Table};
use deltalake::DeltaTable;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::scene::PARTITIONS;
use crate::peer::{Place, read_topic};

/// Columns of the library that hold the moment or the place instead of the matter.
const MOMENTS: [&str; 4] = ["published_at", "partition", "position", "row"];
/// Columns that say which model it was.
const VERSIONS: [&str; 2] = ["model_version", "model_sha256"];

/// Items of one kind by subject (dead letters: by reason), in their order.
type Items = BTreeMap<String, Vec<String>>;

/// What is to be seen in the end.
#[derive(PartialEq, Default)]
pub struct Seen {
    kinds: BTreeMap<&'static str, Items>,
}

impl Seen {
    /// All of it; without the versions of models where they are `swapped` under way.
    pub fn of(place: &Place, bootstrap: &str, name: &str, swapped: bool) -> Seen {
        let topic = |what: &str| read_topic(bootstrap, &format!("{name}.{what}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut seen = Seen::default();
        for message in topic("scores") {
            // As it stands, byte by byte, but for the version.
            let score = if swapped { matter(message.json(), true).to_string() } else { text(&message.value) };
            seen.add("scores", text(&message.key), score);
        }
        for message in topic("alerts") {
            seen.add("alerts", text(&message.key), matter(message.json(), swapped).to_string());
        }
        for letter in topic("dead-letter") {
            let named = ["detail", "topic", "partition", "offset"].map(|name| letter.headers[name].clone());
            seen.add("dead letters", letter.headers["reason"].clone(), format!("{named:?} {}", text(&letter.value)));
        }
        if let Some(letters) = seen.kinds.get_mut("dead letters") {
            // The topic promises them no order.
            letters.values_mut().for_each(|letters| letters.sort());
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            seen.add_events(place).await;
            for (kind, table) in [("archived scores", Table::Predictions), ("archived alerts", Table::Alerts)] {
                seen.add_rows(place, kind, table, swapped).await;
            }
        });
        seen
    }

    fn add(&mut self, kind: &'static str, key: String, item: String) {
        self.kinds.entry(kind).or_default().entry(key).or_default().push(item);
    }

    async fn add_events(&mut self, place: &Place) {
        let library = Library::open(&place.path_url("library")).await.unwrap();
        let events = self.kinds.entry("archived events").or_default();
        for partition in 0..PARTITIONS {
            let mut history = library.history(partition).await.unwrap();
            while let Some(batch) = history.next().await.unwrap() {
                let view = EventsView::new(&batch).unwrap();
                for row in (0..view.len()).map(|row| view.row(row)).filter(|row| row.code != TICK) {
                    let events = events.entry(row.subject.unwrap().0.to_string()).or_default();
                    // A normalize that starts again gives every subject its token again: a redelivery.
                    if row.code != TOKEN || events.is_empty() {
                        events.push(format!("{row:?}"));
                    }
                }
            }
        }
    }

    async fn add_rows(&mut self, place: &Place, kind: &'static str, table: Table, swapped: bool) {
        let folder = place.path_url(&format!("library/{}", table.name()));
        let Ok(delta) = DeltaTable::try_from_url(folder).await else { return };
        let Ok(files) = delta.get_file_uris() else { return };
        let mut rows: Vec<(i32, i64, String, String)> = Vec::new();
        for file in files {
            let file = File::open(file.strip_prefix("file://").unwrap_or(&file)).unwrap();
            for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                rows.extend(rows_of(&batch.unwrap(), swapped));
            }
        }
        rows.sort();
        for (_, _, subject, row) in rows {
            self.add(kind, subject, row);
        }
    }

    /// How many items there are of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.kinds.iter().map(|(kind, items)| (*kind, items.values().map(Vec::len).sum())).collect()
    }

    /// How it differs from what a calm run shows, kind by kind; without a value of anybody.
    pub fn differs(&self, calm: &Seen) -> Option<Difference> {
        let none = Items::new();
        let mut difference = Difference::default();
        for kind in calm.kinds.keys().chain(self.kinds.keys().filter(|kind| !calm.kinds.contains_key(*kind))) {
            let of = |seen: &Seen| seen.kinds.get(kind).unwrap_or(&none).clone();
            let one = compared(&of(self), &of(calm));
            if one != Counts::default() {
                difference.kinds.insert(kind, one);
            }
        }
        (!difference.kinds.is_empty()).then_some(difference)
    }
}

/// Partition, position, subject and matter of each row of a table.
fn rows_of(batch: &RecordBatch, swapped: bool) -> Vec<(i32, i64, String, String)> {
    let partitions = batch["partition"].as_primitive::<Int32Type>();
    let positions = batch["position"].as_primitive::<Int64Type>();
    let schema = batch.schema();
    let columns = || schema.fields().iter().map(|field| field.name().as_str()).zip(batch.columns());
    let row = |i: usize| {
        let mut subject = String::new();
        let mut text = String::new();
        for (name, column) in columns() {
            if MOMENTS.contains(&name) || swapped && VERSIONS.contains(&name) {
                continue;
            }
            let mut value = array_value_to_string(column, i).unwrap();
            if name == "data" && column.is_valid(i) {
                value = matter(serde_json::from_str(&value).unwrap(), swapped).to_string();
            }
            if name == "subject" {
                subject.clone_from(&value);
            }
            text.push_str(&format!("{name}={value};"));
        }
        (partitions.value(i), positions.value(i), subject, text)
    };
    (0..batch.num_rows()).map(row).collect()
}

/// A score or an alert without the moment of its publication and, if models are swapped, their versions.
fn matter(mut json: Value, swapped: bool) -> Value {
    let Some(fields) = json.as_object_mut() else { return json };
    fields.remove("published_at");
    if swapped {
        if let Some(model) = fields.get_mut("model").and_then(Value::as_object_mut) {
            model.remove("version");
            model.remove("sha256");
        }
        if let Some(assessment) = fields.get_mut("riskAssessment").and_then(Value::as_object_mut) {
            assessment.remove("method");
        }
    }
    json
}

/// How the items of one kind differ.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Items of the calm run that are not there at all, or not as often.
    missing: usize,
    /// Items that are there more often than in the calm run.
    doubled: usize,
    /// Items that the calm run does not know.
    foreign: usize,
    /// Subjects with the same items in another order.
    reordered: usize,
}

/// How a run differs from the calm one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Difference {
    kinds: BTreeMap<&'static str, Counts>,
}

impl Difference {
    /// Something is gone, and nothing else stands in its place.
    pub fn is_loss(&self) -> bool {
        self.kinds.values().any(|counts| counts.missing > counts.foreign)
    }

    pub fn is_double(&self) -> bool {
        self.kinds.values().any(|counts| counts.doubled > 0)
    }

    pub fn is_change(&self) -> bool {
        self.kinds.values().any(|counts| counts.foreign > 0 || counts.reordered > 0)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, counts)) in self.kinds.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let Counts { missing, doubled, foreign, reordered } = counts;
            write!(
                f,
                "{comma}{kind}: {missing} missing, {doubled} doubled, {foreign} unknown, {reordered} subjects reordered"
            )?;
        }
        Ok(())
    }
}

fn compared(ours: &Items, calm: &Items) -> Counts {
    let mut counts = Counts::default();
    let none = Vec::new();
    for key in calm.keys().chain(ours.keys().filter(|key| !calm.contains_key(*key))) {
        let (ours, calm) = (ours.get(key).unwrap_or(&none), calm.get(key).unwrap_or(&none));
        if ours == calm {
            continue;
        }
        let mut often: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
        ours.iter().for_each(|item| often.entry(item).or_default().0 += 1);
        calm.iter().for_each(|item| often.entry(item).or_default().1 += 1);
        if often.values().all(|(ours, calm)| ours == calm) {
            counts.reordered += 1;
        }
        for (ours, calm) in often.into_values() {
            counts.missing += calm.saturating_sub(ours);
            match calm {
                0 => counts.foreign += ours,
                _ => counts.doubled += ours.saturating_sub(calm),
            }
        }
    }
    counts
}

#[test]
fn what_is_gone_doubled_changed_or_moved_is_told_apart() {
    let items = |all: &[&str]| Items::from([("s".to_owned(), all.iter().map(|&item| item.to_owned()).collect())]);
    let calm = items(&["a", "b", "c"]);
    let of = |ours: &[&str]| {
        let Counts { missing, doubled, foreign, reordered } = compared(&items(ours), &calm);
        (missing, doubled, foreign, reordered)
    };
    assert_eq!(of(&["a", "b", "c"]), (0, 0, 0, 0));
    assert_eq!(of(&["a", "c"]), (1, 0, 0, 0));
    assert_eq!(of(&["a", "b", "b", "c"]), (0, 1, 0, 0));
    assert_eq!(of(&["a", "x", "c"]), (1, 0, 1, 0));
    assert_eq!(of(&["b", "a", "c"]), (0, 0, 0, 1));
    let other = compared(&Items::from([("t".to_owned(), vec!["a".to_owned()])]), &calm);
    assert_eq!((other.missing, other.foreign), (3, 1), "another subject's item is not this one's");
}
