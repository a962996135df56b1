//! What the library knows of every fact, so that an import can leave out what is here.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::StreamExt as _;

use super::history::{Scan, names};
use super::table::data_files;
use super::{Library, LibraryError, Table, convert};
use crate::events::{EventKey, EventRef, EventsView};

/// Fingerprint of what an event says: time, code, value, text, unit, encounter and whether
/// it asserts or retracts. Not of when it became known nor where it came from, so a
/// redelivery has the fingerprint of what it repeats. Two events of one
/// [`EventKey`] with other fingerprints are a fact and its correction.
pub fn fingerprint(event: &EventRef<'_>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    let number = |hasher: &mut blake3::Hasher, value: Option<i64>| {
        hasher.update(&[u8::from(value.is_some())]);
        hasher.update(&value.unwrap_or_default().to_le_bytes());
    };
    let text = |hasher: &mut blake3::Hasher, value: Option<&str>| {
        // The length keeps neighbours apart, and an absent text from an empty one.
        hasher.update(&value.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
        hasher.update(value.unwrap_or_default().as_bytes());
    };
    number(&mut hasher, event.time);
    number(&mut hasher, event.numeric_value.map(|value| i64::from(value.to_bits())));
    text(&mut hasher, Some(event.code));
    text(&mut hasher, event.text_value);
    text(&mut hasher, event.unit);
    text(&mut hasher, event.encounter_id);
    text(&mut hasher, Some(event.op.as_str()));
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(head)
}

impl Library {
    /// The latest [`fingerprint`] of every fact that was ever archived or imported.
    ///
    /// Takes about 60 bytes of memory a fact.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn known(&self) -> Result<HashMap<EventKey, u64>, LibraryError> {
        let mut latest: HashMap<EventKey, (i64, i32, u64)> = HashMap::new();
        self.visit(|event, position, row| {
            let new = (position, row, fingerprint(event));
            match latest.entry(event.event_key) {
                Entry::Vacant(entry) => {
                    entry.insert(new);
                }
                Entry::Occupied(mut entry) if (entry.get().0, entry.get().1) < (position, row) => {
                    entry.insert(new);
                }
                Entry::Occupied(_) => {}
            }
        })
        .await?;
        Ok(latest.into_iter().map(|(key, (_, _, fingerprint))| (key, fingerprint)).collect())
    }

    /// Every [`fingerprint`] that every fact ever had: a file that holds a fact and its
    /// correction adds nothing when it is imported again, which the latest alone cannot tell.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn contents(&self) -> Result<HashSet<(EventKey, u64)>, LibraryError> {
        let mut contents = HashSet::new();
        self.visit(|event, _, _| {
            contents.insert((event.event_key, fingerprint(event)));
        })
        .await?;
        Ok(contents)
    }

    /// Shows every event of a subject to `see`, with its position and row, in no order.
    async fn visit(&self, mut see: impl FnMut(&EventRef<'_>, i64, i32)) -> Result<(), LibraryError> {
        let Some(delta) = self.open_table(Table::Events).await? else { return Ok(()) };
        let paths: Vec<String> = data_files(&delta, Table::Events)?.into_iter().map(|file| file.path).collect();
        let schema = Table::Events.schema();
        let mut stream = Scan::new(delta)?.rows(&paths, &names(&schema), None).await?.execute_stream().await?;
        while let Some(batch) = stream.next().await {
            let batch = convert::conform(&batch?, &schema, Table::Events)?;
            let (positions, rows) = addresses(&batch)?;
            let view = EventsView::new(&batch)?;
            for i in 0..view.len() {
                let event = view.row(i);
                // A tick is no fact.
                if event.subject.is_some() {
                    see(&event, positions[i], rows[i]);
                }
            }
        }
        Ok(())
    }
}

/// The position of each row of a batch of [`Table::Events`].
///
/// # Errors
/// If the batch has none.
pub fn positions(batch: &RecordBatch) -> Result<&[i64], LibraryError> {
    Ok(addresses(batch)?.0)
}

/// The position and, within the message, the row of each row of a batch of [`Table::Events`].
///
/// # Errors
/// If the batch has none.
pub fn addresses(batch: &RecordBatch) -> Result<(&[i64], &[i32]), LibraryError> {
    let column = |name: &'static str| {
        batch.column_by_name(name).ok_or_else(|| LibraryError::Column { table: Table::Events, column: name.to_owned() })
    };
    let positions = column("position")?.as_primitive::<Int64Type>();
    let rows = column("row")?.as_primitive::<Int32Type>();
    Ok((positions.values(), rows.values()))
}
