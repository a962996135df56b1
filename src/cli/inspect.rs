//! `inspect`: positions and ages of everything that a site has, as one JSON object. Changes nothing.
//!
//! Of a raw partition A is where `normalize` goes on (exclusive), of a partition of the log of record C is
//! where `score` goes on (exclusive) and D the last offset that is in the library (inclusive). A score role
//! that is given the partition reads the library up to D and Kafka from D+1 up to C.
//!
//! What nobody knows yet is null. Epochs of transactional producers, generations of groups and leader
//! epochs are not told: rdkafka does not give them. State is folded anew at every start, so there are no
//! snapshots of it to tell the age of.

use serde::Serialize;

use super::{CliError, SiteArgs, print, runtime};
use crate::kafka::{Assigned, Ends, NextOffset, Partition, Position, Survey};
use crate::learn::Registry;
use crate::library::{Library, Snapshot, Table};
use crate::roles::{Site, start, wall_now};

/// Roles that read topics, each with a consumer group of its own.
const READERS: [&str; 4] = ["normalize", "score", "archive", "link"];

#[derive(Serialize, Debug)]
struct Report {
    /// When, RFC 3339.
    at: String,
    topics: Vec<TopicReport>,
    groups: Vec<GroupReport>,
    tables: Vec<TableReport>,
    champions: Vec<ChampionReport>,
}

#[derive(Serialize, Debug)]
struct TopicReport {
    topic: String,
    partitions: Vec<PartitionReport>,
}

#[derive(Serialize, Debug)]
struct PartitionReport {
    partition: i32,
    /// First offset that is there.
    low: i64,
    /// Offset of the next record written.
    end: i64,
    /// Where read_committed readers come to.
    stable: i64,
    /// Offsets from there to the end: of transactions that are not decided.
    pending: i64,
    /// Since when the oldest of them waits.
    pending_seconds: Option<f64>,
    /// How far the roles that read it are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    readers: Vec<ReaderReport>,
    /// D, where the topic is archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived: Option<Option<i64>>,
    /// What a score role would read at its start, where it reads the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<Recovery>,
}

#[derive(Serialize, Debug)]
struct ReaderReport {
    role: &'static str,
    /// Offset that it reads next: A of a raw topic, C of the log of record. The archive goes by D.
    next: Option<i64>,
    /// Offsets from there to the stable end, if any is of a record.
    lag: i64,
    /// How long the first of these records has been there.
    lag_seconds: Option<f64>,
}

/// What is folded of a partition before it is live.
#[derive(Serialize, Debug)]
struct Recovery {
    /// Offsets after the library, up to C.
    replay: Option<i64>,
    /// Whether Kafka still holds the first of them; if not, the role would stop with an error.
    possible: bool,
}

#[derive(Serialize, Debug)]
struct GroupReport {
    role: &'static str,
    /// Null: the cluster knows of none.
    state: Option<String>,
    protocol: Option<String>,
    members: Vec<MemberReport>,
}

#[derive(Serialize, Debug)]
struct MemberReport {
    id: String,
    client: String,
}

#[derive(Serialize, Debug)]
struct TableReport {
    table: &'static str,
    /// Null: nothing was ever archived or imported.
    version: Option<u64>,
    committed_seconds: Option<f64>,
    rows: u64,
    files: u64,
    bytes: u64,
}

#[derive(Serialize, Debug)]
struct ChampionReport {
    task: String,
    /// Null: no model has passed its gate yet.
    version: Option<u32>,
    sha256: Option<String>,
    promoted_seconds: Option<f64>,
    /// Entries of the task's ledger.
    ledger: usize,
}

pub(super) fn run(args: &SiteArgs) -> Result<(), CliError> {
    let site = args.load()?;
    let runtime = runtime()?;
    let survey = Survey::open(&site.settings)?;
    let library = Library::look(&site.settings.library);
    let mut snapshots = Vec::new();
    for table in Table::ALL {
        snapshots.push((table, runtime.block_on(library.snapshot(table))?));
    }
    let inspect = Inspect { site: &site, survey: &survey, now_ms: wall_now() / 1000 };
    let mut topics = Vec::new();
    for (topic, roles, table) in inspect.wanted() {
        let snapshot = snapshots.iter().find(|(one, _)| Some(*one) == table).and_then(|(_, found)| found.as_ref());
        let archived = match snapshot {
            Some(snapshot) => runtime.block_on(snapshot.positions())?,
            None => Default::default(),
        };
        let archived = |number: i32| table.map(|_| archived.get(&(number as u32)).copied());
        topics.push(inspect.topic(topic, roles, archived)?);
    }
    let mut tables = Vec::new();
    for (table, snapshot) in &snapshots {
        tables.push(runtime.block_on(inspect.table(*table, snapshot.as_ref()))?);
    }
    let at = chrono::DateTime::from_timestamp_millis(inspect.now_ms).unwrap_or_default().to_rfc3339();
    print(&Report { at, topics, groups: inspect.groups()?, tables, champions: inspect.champions()? })
}

struct Inspect<'s> {
    site: &'s Site,
    survey: &'s Survey,
    now_ms: i64,
}

impl<'s> Inspect<'s> {
    /// Every topic with the roles that read it in groups and the table that archives it.
    fn wanted(&self) -> Vec<(&'s str, &'static [&'static str], Option<Table>)> {
        let topics = &self.site.settings.topics;
        let mut all: Vec<(&str, &'static [&'static str], Option<Table>)> =
            topics.raw.iter().map(|raw| (raw.topic.as_str(), &["normalize"][..], None)).collect();
        all.extend([
            (topics.events.as_str(), &["score", "archive"][..], Some(Table::Events)),
            (&topics.scores, &["archive"], Some(Table::Predictions)),
            (&topics.alerts, &["archive"], Some(Table::Alerts)),
            (&topics.links, &["link"], None),
        ]);
        let others = [
            &topics.alert_state,
            &topics.models,
            &topics.dead_letter,
            &topics.redriven,
            &topics.feedback,
            &topics.identity,
        ];
        all.extend(others.map(|topic| (topic.as_str(), &[][..], None)));
        all
    }

    fn topic(
        &self,
        topic: &str,
        roles: &[&'static str],
        archived: impl Fn(i32) -> Option<Option<i64>>,
    ) -> Result<TopicReport, CliError> {
        let mut committed = Vec::new();
        for role in roles {
            // The archive's positions are in its tables; it commits nothing to Kafka.
            let after = |number| archived(number).flatten().map(|position| Position(position).next());
            committed.push(match *role {
                "archive" => ("archive", (0..self.survey.partitions(topic)).map(after).collect()),
                role => (role, self.survey.committed(role, topic)?),
            });
        }
        let mut partitions = Vec::new();
        for partition in 0..self.survey.partitions(topic) {
            let ends = self.survey.ends(topic, partition)?;
            let mut readers = Vec::new();
            for (role, offsets) in &committed {
                let next = offsets.get(partition as usize).copied().flatten();
                readers.push(self.reader(role, next, (topic, partition), ends)?);
            }
            let archived = archived(partition);
            let scored = readers.iter().find(|reader| reader.role == "score");
            let recovery = scored.map(|score| {
                let place = Partition { topic: topic.into(), number: partition };
                let committed = score.next.map(NextOffset);
                let assigned = Assigned { partition: place, committed, low: ends.low, high: ends.stable };
                recovery(&assigned, archived.flatten())
            });
            let pending = ends.end - ends.stable;
            let first =
                if pending > 0 { self.survey.arrived(topic, partition, NextOffset(ends.stable))? } else { None };
            let pending_seconds = first.map(|ms| self.since(ms));
            let Ends { low, end, stable } = ends;
            partitions.push(PartitionReport {
                partition,
                low,
                end,
                stable,
                pending,
                pending_seconds,
                readers,
                archived,
                recovery,
            });
        }
        Ok(TopicReport { topic: topic.to_owned(), partitions })
    }

    fn reader(
        &self,
        role: &'static str,
        next: Option<NextOffset>,
        place: (&str, i32),
        ends: Ends,
    ) -> Result<ReaderReport, CliError> {
        let from = next.map_or(ends.low, |next| next.0);
        let first = if from < ends.stable {
            self.survey.waiting(place.0, place.1, NextOffset(from.max(ends.low)))?
        } else {
            None
        };
        let lag = first.map_or(0, |_| ends.stable - from);
        Ok(ReaderReport { role, next: next.map(|next| next.0), lag, lag_seconds: first.map(|ms| self.since(ms)) })
    }

    fn since(&self, ms: i64) -> f64 {
        (self.now_ms - ms).max(0) as f64 / 1e3
    }

    fn groups(&self) -> Result<Vec<GroupReport>, CliError> {
        let mut groups = Vec::new();
        for role in READERS {
            let group = self.survey.group(role)?;
            let members = group.iter().flat_map(|group| &group.members);
            let members = members.map(|(id, client)| MemberReport { id: id.clone(), client: client.clone() }).collect();
            let (state, protocol) = group.map(|group| (group.state, group.protocol)).unzip();
            groups.push(GroupReport { role, state, protocol, members });
        }
        Ok(groups)
    }

    async fn table(&self, table: Table, snapshot: Option<&Snapshot>) -> Result<TableReport, CliError> {
        let none =
            TableReport { table: table.name(), version: None, committed_seconds: None, rows: 0, files: 0, bytes: 0 };
        let Some(snapshot) = snapshot else { return Ok(none) };
        let size = snapshot.size()?;
        Ok(TableReport {
            version: Some(snapshot.version()),
            committed_seconds: snapshot.committed_ms().await?.map(|ms| self.since(ms)),
            rows: size.rows,
            files: size.files,
            bytes: size.bytes,
            ..none
        })
    }

    fn champions(&self) -> Result<Vec<ChampionReport>, CliError> {
        let registry = Registry::look(&self.site.settings.registry)?;
        let mut champions = Vec::new();
        for task in &self.site.tasks {
            let ledger = registry.history(&task.name)?;
            let crowned = ledger.iter().rfind(|entry| entry.event.crowns());
            champions.push(ChampionReport {
                task: task.name.clone(),
                version: crowned.map(|entry| entry.version),
                sha256: crowned.map(|entry| entry.sha256.clone()),
                promoted_seconds: crowned.map(|entry| self.since(entry.at.timestamp_millis())),
                ledger: ledger.len(),
            });
        }
        Ok(champions)
    }
}

/// What a score role that is given this partition would do.
fn recovery(assigned: &Assigned, archived: Option<i64>) -> Recovery {
    // The only error there is says that a needed offset is no longer in the log.
    match start(assigned, archived.map(Position)) {
        Ok((from, live)) => Recovery { replay: Some(live.0 - from.0), possible: true },
        Err(_) => Recovery { replay: None, possible: false },
    }
}
