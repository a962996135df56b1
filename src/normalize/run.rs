//! A batch of records through decode, pseudonyms and plan.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};

use super::assemble::{self, Ending};
use super::codes::Codes;
use super::concepts::{Concepts, ORDINAL};
use super::facts::{self, FactRows, Source, name};
use super::forest::{Decision, Forest, Statement};
use super::identities::{Identities, Identity};
use super::plan::{Plan, PlanError, Ruled};
use super::reading::{self, Reading};
use super::spellings::Spellings;
use super::units::Units;
use super::{Drop, NormalizeError, Normalized, Outcome, Record, Watermark, systems};
use crate::decode::csv::Table;
use crate::decode::{self, Fact, Identifier, Link, Notes, Reason, Reject, Value};
use crate::events::{EventsBuilder, JOIN, LEAVE, Micros, PREDICTION, Pseudonyms, SubjectId, TICK, TOKEN};
use crate::settings::{Format, Problem};

/// Codes that only auscult itself writes.
const RESERVED: [&str; 5] = [TICK, TOKEN, PREDICTION, LEAVE, JOIN];

/// Makes events of records, batch by batch. It remembers whose tokens it has given, so after
/// a batch that was not committed it is to be made anew.
pub struct Normalizer {
    plan: Plan,
    units: Units,
    identities: Identities,
    codes: Codes,
    record_bytes: usize,
    table: Option<Arc<Table>>,
    rules: decode::Rules,
}

impl fmt::Debug for Normalizer {
    /// Never what it remembers or learnt, which came with records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, identities) = (&self.units, &self.identities);
        f.debug_struct("Normalizer").field("units", units).field("identities", identities).finish_non_exhaustive()
    }
}

/// The records of a batch, decoded.
struct Decoded<'a> {
    facts: Vec<Fact<'a>>,
    /// Facts of each record, none for one that is dead or empty.
    ranges: Vec<Range<usize>>,
    /// Links, each with its record.
    links: Vec<(usize, Link<'a>)>,
    unread: BTreeMap<&'static str, u64>,
    lenient: BTreeMap<&'static str, u64>,
}

/// A raw partition of the batch.
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    prefix: String,
    recorded: Option<Micros>,
}

/// A token at the head of the batch.
pub(super) struct Token<'a> {
    /// Whose it is.
    pub(super) subject: SubjectId,
    /// Who gave the identifier.
    pub(super) assigner: &'a str,
    /// The identifier.
    pub(super) patient: &'a str,
}

impl Normalizer {
    /// Plans the site's rules. `sql_file` names them in problems; records longer than
    /// `record_bytes` become dead letters.
    ///
    /// # Errors
    /// Every problem of the SQL.
    pub fn new(
        concepts: &Concepts,
        spellings: &Spellings,
        sql_file: &str,
        sql: &str,
        pseudonyms: Pseudonyms,
        record_bytes: usize,
    ) -> Result<Self, Vec<Problem>> {
        let refused = |error: arrow::error::ArrowError| {
            vec![Problem::new("concepts.csv", "table", error.to_string(), "report this, it is a bug")]
        };
        let (mut codes, mut units) = (Codes::new(concepts), Units::new(concepts, spellings));
        let of_codes = codes.table().map_err(refused)?.unwrap_or_else(|| RecordBatch::new_empty(Codes::schema()));
        let of_units = units.table().map_err(refused)?.unwrap_or_else(|| RecordBatch::new_empty(Units::schema()));
        let plan = Plan::new(sql_file, sql, of_codes, of_units)?;
        Ok(Normalizer {
            plan,
            units,
            identities: Identities::new(pseudonyms),
            codes,
            record_bytes,
            table: None,
            rules: decode::Rules::default(),
        })
    }

    /// Reads records of [`Format::Csv`] as rows of this table from now on.
    pub fn read_rows_of(&mut self, table: Table) {
        self.table = Some(Arc::new(table));
    }

    /// The same with what the site says of its records.
    pub fn with_rules(self, rules: decode::Rules) -> Self {
        Normalizer { rules, ..self }
    }

    /// Makes events of `records`.
    ///
    /// # Errors
    /// If the SQL fails for another reason than the value of a record, or gives what cannot be an
    /// event; the Normalizer is then to be made anew.
    pub fn run(&mut self, records: &[Record<'_>]) -> Result<Normalized, NormalizeError> {
        let table = self.table.clone();
        let (decoded, mut endings) = self.decode(records, table.as_deref());
        u32::try_from(decoded.facts.len()).map_err(|_| NormalizeError::Size)?;
        let (rows, tokens, watermarks) = self.rows(records, &decoded)?;
        let (events, counts) = if decoded.facts.is_empty() {
            (EventsBuilder::new().finish()?, assemble::Counts::default())
        } else {
            let facts = rows.slice(tokens.len(), decoded.facts.len());
            self.learn(&decoded.facts, &facts)?;
            let ruled = self.rule(&facts, &decoded.ranges, &mut endings)?;
            let parts = assemble::Parts {
                rows: &rows,
                tokens: &tokens,
                facts: &decoded.facts,
                ranges: &decoded.ranges,
                codes: &self.codes,
            };
            let assembled = assemble::assemble(&parts, ruled, &mut endings)?;
            for token in assembled.unused {
                self.identities.forget(tokens[token].assigner, tokens[token].patient);
            }
            (assembled.events, assembled.counts)
        };
        let statements = self.statements(records, &decoded.links);
        let outcomes = endings.into_iter().map(|ending| match ending {
            Some(Ending::Accepted(events)) => Outcome::Accepted { events },
            Some(Ending::Dead(reject)) => Outcome::Dead(reject),
            Some(Ending::Filtered) => Outcome::Dropped(Drop::Rules),
            None => Outcome::Dropped(Drop::Nothing),
        });
        Ok(Normalized {
            events,
            outcomes: outcomes.collect(),
            statements,
            unread: decoded.unread,
            lenient: decoded.lenient,
            implausible: counts.implausible,
            unmapped: counts.unmapped,
            watermarks,
        })
    }

    /// Who is who, as far as this Normalizer has been told. It is never told by the records
    /// themselves: what they state has to come back as an entry first.
    pub fn forest(&mut self) -> &mut Forest {
        self.identities.forest_mut()
    }

    /// What is said of who is who and not known yet.
    fn statements(&mut self, records: &[Record<'_>], links: &[(usize, Link<'_>)]) -> Vec<Statement> {
        let mut statements = Vec::new();
        let mut said = HashSet::new();
        for (record, link) in links {
            let Some(record) = records.get(*record) else { continue };
            let mut own = |one: &Identifier<'_>| {
                self.identities.linked(one.assigner.as_deref().unwrap_or(record.assigner), &one.patient)
            };
            let (kept, other) = (own(&link.kept), own(&link.other));
            let at = link.recorded.or(record.timestamp).unwrap_or(0);
            let statement = Statement { kind: link.kind, kept, other, at };
            let says_more = !matches!(self.identities.forest().decide(&statement), Decision::Known);
            if says_more && said.insert(statement) {
                statements.push(statement);
            }
        }
        statements
    }

    /// The facts, and how each record ended, as far as that is known.
    fn decode<'a>(&self, records: &[Record<'a>], table: Option<&'a Table>) -> (Decoded<'a>, Vec<Option<Ending>>) {
        let mut decoded = Decoded {
            facts: Vec::with_capacity(records.len()),
            ranges: Vec::with_capacity(records.len()),
            links: Vec::new(),
            unread: BTreeMap::new(),
            lenient: BTreeMap::new(),
        };
        let mut endings = Vec::with_capacity(records.len());
        for record in records {
            let start = decoded.facts.len();
            let mut read = if record.bytes.len() > self.record_bytes {
                let detail = format!("the record is longer than limits.record_bytes = {}", self.record_bytes);
                Err(Reject::new(Reason::TooLarge, detail))
            } else if let (Format::Csv, Some(table)) = (record.format, table) {
                // Rows are counted as people do, from 1.
                table.decode(record.offset + 1, record.bytes, &mut decoded.facts).map(|()| Notes::default())
            } else {
                decode::decode(record.format, &self.rules, record.bytes, &mut decoded.facts)
            };
            if decoded.facts[start..].iter().any(is_reserved) {
                read = Err(Reject::new(Reason::Field, "the code is one that only auscult itself writes"));
            }
            endings.push(match read {
                Ok(notes) => {
                    for (kind, count) in notes.unread {
                        *decoded.unread.entry(kind).or_default() += u64::from(count);
                    }
                    for (kind, count) in notes.lenient {
                        *decoded.lenient.entry(kind).or_default() += u64::from(count);
                    }
                    let says_who = !notes.links.is_empty() && decoded.facts.len() == start;
                    decoded.links.extend(notes.links.into_iter().map(|link| (endings.len(), link)));
                    says_who.then_some(Ending::Accepted(0))
                }
                Err(reject) => {
                    decoded.facts.truncate(start);
                    Some(Ending::Dead(reject))
                }
            });
            decoded.ranges.push(start..decoded.facts.len());
        }
        (decoded, endings)
    }

    /// The columns of tokens and facts, who the tokens are of, and how far each partition was read.
    fn rows<'a>(
        &mut self,
        records: &'a [Record<'a>],
        decoded: &'a Decoded<'_>,
    ) -> Result<(RecordBatch, Vec<Token<'a>>, Vec<Watermark>), NormalizeError> {
        let mut places: Vec<Place<'a>> = Vec::new();
        let mut place_of: Vec<usize> = Vec::with_capacity(records.len());
        let mut identities: Vec<Identity> = Vec::with_capacity(decoded.facts.len());
        let mut tokens: Vec<(Token<'a>, usize, usize)> = Vec::new();
        let mut given: HashSet<SubjectId> = HashSet::new();
        for (i, (record, range)) in records.iter().zip(&decoded.ranges).enumerate() {
            let place = place(&mut places, place_of.last().copied(), record);
            place_of.push(place);
            for fact in &decoded.facts[range.clone()] {
                let assigner = fact.assigner.as_deref().unwrap_or(record.assigner);
                let identity = self.identities.of(assigner, &fact.patient, fact.encounter.as_deref());
                if identity.new && given.insert(identity.own) {
                    let token = Token { subject: identity.subject, assigner, patient: &fact.patient };
                    tokens.push((token, i, identities.len()));
                }
                identities.push(identity);
                let recorded = recorded_at(fact, record);
                places[place].recorded = places[place].recorded.max(Some(recorded));
            }
        }
        let pseudonyms = self.identities.pseudonyms();
        let mut rows = FactRows::with_capacity(tokens.len() + decoded.facts.len());
        let source = |record: usize, fact: usize| Source {
            prefix: &places[place_of[record]].prefix,
            offset: records[record].offset,
            index: fact - decoded.ranges[record].start,
            under: Some(identities[fact].own).filter(|own| *own != identities[fact].subject),
        };
        for (token, record, fact) in &tokens {
            let sealed = pseudonyms.seal(token.assigner, token.patient)?;
            let key = pseudonyms.event_key(identities[*fact].own, &[b"token", sealed.as_bytes()]);
            let recorded = recorded_at(&decoded.facts[*fact], &records[*record]);
            rows.token(token.subject, &sealed, key, recorded, source(*record, *fact))?;
        }
        for (i, (record, range)) in records.iter().zip(&decoded.ranges).enumerate() {
            for at in range.clone() {
                let (fact, identity) = (&decoded.facts[at], &identities[at]);
                let key = facts::event_key(pseudonyms, identity.own, fact);
                let meant = match &fact.value {
                    Value::Text(text) => self.meant(fact, text, reading::number(text)),
                    Value::Code(code) => self.meant(fact, code, None),
                    _ => None,
                };
                rows.fact(fact, identity, key, recorded_at(fact, record), source(i, at), meant)?;
            }
        }
        let rows = rows.finish(tokens.len())?;
        let watermarks = places.iter().filter_map(|place| {
            let recorded = place.recorded?;
            Some(Watermark { topic: place.topic.to_owned(), partition: place.partition, recorded })
        });
        Ok((rows, tokens.into_iter().map(|(token, _, _)| token).collect(), watermarks.collect()))
    }

    /// The number that a text or code means for the concept of its code; none if that has no unit.
    /// `number` is what the text reads as.
    fn meant(&self, fact: &Fact<'_>, text: &str, number: Option<Reading>) -> Option<Reading> {
        let grade = reading::grade(text);
        if number.is_none() && grade.is_none() {
            return None;
        }
        let unit = &self.codes.concept(&systems::log_code(fact.system.as_deref(), &fact.code))?.unit;
        match unit.as_str() {
            "" => None,
            // A grade may be a code of digits.
            ORDINAL => grade.or(number),
            _ => number,
        }
    }

    /// Learns the codes and units that are new, and tells the plan.
    fn learn(&mut self, facts: &[Fact<'_>], rows: &RecordBatch) -> Result<(), NormalizeError> {
        self.codes.bound();
        if let Some(codes) = rows.column_by_name(name::CODE) {
            self.codes.meet(codes.as_string());
        }
        if let Some(table) = self.codes.table()? {
            self.plan.set_concepts(table);
        }
        self.units.bound();
        let mut last = None;
        for unit in facts.iter().filter_map(facts::unit) {
            // The same few units alternate; most rows end at this comparison or the next lookup.
            if last != Some(unit) {
                self.units.meet(unit);
                last = Some(unit);
            }
        }
        if let Some(table) = self.units.table()? {
            self.plan.set_units(table);
        }
        Ok(())
    }

    /// Applies the site's rules. A record on whose values the SQL fails becomes a dead letter: such a
    /// record is found by halving, so that it does not stop the others.
    fn rule(
        &mut self,
        facts: &RecordBatch,
        ranges: &[Range<usize>],
        endings: &mut [Option<Ending>],
    ) -> Result<Ruled, NormalizeError> {
        let mut parts = Vec::new();
        let whole = 0..ranges.len();
        let mut open = vec![whole];
        while let Some(records) = open.pop() {
            let (Some(first), Some(last)) = (ranges.get(records.start), ranges[records.clone()].last()) else {
                continue;
            };
            let (start, end) = (first.start, last.end);
            if start == end {
                continue;
            }
            match self.plan.run(facts.slice(start, end - start)) {
                Ok(ruled) => parts.push(ruled),
                Err(PlanError::Failed(why)) => return Err(NormalizeError::Plan(why)),
                Err(PlanError::Value) if records.len() == 1 => {
                    let detail = "normalize.sql fails on a value of the record; let it use TRY_CAST instead of CAST";
                    let reject = Reject::new(Reason::Field, detail);
                    endings[records.start] = Some(Ending::Dead(reject));
                }
                Err(PlanError::Value) => {
                    let middle = records.start + records.len() / 2;
                    open.push(middle..records.end);
                    open.push(records.start..middle);
                }
            }
        }
        if parts.is_empty() {
            parts.push(self.plan.run(facts.slice(0, 0)).map_err(|_| NormalizeError::Plan("an empty batch"))?);
        }
        Ok(Ruled::join(&parts)?)
    }
}

/// When a fact became known; a static fact of history was always known.
fn recorded_at(fact: &Fact<'_>, record: &Record<'_>) -> Micros {
    fact.recorded.or(record.timestamp).or(fact.time).unwrap_or(0)
}

fn place<'a>(places: &mut Vec<Place<'a>>, last: Option<usize>, record: &Record<'a>) -> usize {
    let is_of = |place: &Place<'_>| place.partition == record.partition && place.topic == record.topic;
    let known = last.filter(|last| is_of(&places[*last])).or_else(|| places.iter().position(is_of));
    known.unwrap_or_else(|| {
        let prefix = format!("{}-{}-", record.topic, record.partition);
        places.push(Place { topic: record.topic, partition: record.partition, prefix, recorded: None });
        places.len() - 1
    })
}

fn is_reserved(fact: &Fact<'_>) -> bool {
    match &fact.system {
        None => RESERVED.contains(&&*fact.code),
        Some(system) => {
            let system = systems::short(system);
            RESERVED.iter().any(|code| code.split_once(systems::SEPARATOR) == Some((&*system, &*fact.code)))
        }
    }
}

#[cfg(test)]
mod speed;
