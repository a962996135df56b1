//! Invariant 2: an alert is visible to a read_committed consumer if and only if its input is committed.
//!
//! Pure: it is told what falls due when the log of record is folded again up to where role `score` is, and
//! then shown the scores and alerts. Each prediction must have one score, those of a subject in the order in
//! which they fell due, and an alert at most; and there must be no other.
//!
//! Takes 24 bytes a prediction, some 60 a subject and 20 an alert: about 25 MB a million predictions.

use std::collections::{HashMap, HashSet};

use super::report::Findings;
use crate::events::{Micros, SubjectId};

/// A prediction as the log, a score or an alert says it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Said<'a> {
    pub(super) task: &'a str,
    pub(super) subject: SubjectId,
    pub(super) encounter: Option<&'a str>,
    pub(super) time: Micros,
}

/// A message of the scores or alerts.
#[derive(Copy, Clone, Debug)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Whether the record that it names is consumed.
    pub(super) is_consumed: bool,
    pub(super) said: Said<'a>,
}

/// What should be seen, and what was.
#[derive(Debug)]
pub(super) struct Scores {
    /// The log of record.
    log: String,
    subjects: HashMap<SubjectId, Predictions>,
    alerts: HashSet<u64>,
    /// Whether scores are gone that were published.
    gone: bool,
    /// Subjects of whom nothing can be said.
    unknown: Vec<i32>,
    findings: Findings,
}

/// The predictions of a subject, in the order in which they fell due.
#[derive(Debug)]
struct Predictions {
    /// Of the log of record.
    partition: i32,
    due: Vec<Prediction>,
    /// Behind the last whose score was seen.
    next: usize,
}

#[derive(Debug)]
struct Prediction {
    hash: u64,
    /// Message of the log with which it fell due.
    offset: i64,
    /// Whether its input was committed before the scores were looked at.
    is_certain: bool,
    is_scored: bool,
    is_alerted: bool,
}

/// What tells the predictions of a subject apart.
fn hash(said: &Said<'_>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&said.time.to_le_bytes()).update(said.task.as_bytes()).update(&[0]);
    hasher.update(&[u8::from(said.encounter.is_some())]).update(said.encounter.unwrap_or_default().as_bytes());
    head(&hasher)
}

fn head(hasher: &blake3::Hasher) -> u64 {
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(head)
}

impl Scores {
    /// Nothing told yet. `gone`: the scores topic no longer holds all that was in it.
    pub(super) fn new(log: &str, gone: bool) -> Self {
        let (subjects, alerts) = (HashMap::new(), HashSet::new());
        let findings = Findings::default();
        Scores { log: log.to_owned(), subjects, alerts, gone, unknown: Vec::new(), findings }
    }

    /// The history of a partition of the log is not to be had, so what fell due there is not known.
    pub(super) fn partition_is_unknown(&mut self, partition: i32, why: &str) {
        self.unknown.push(partition);
        self.findings.undecided(why);
    }

    /// Role `score` has consumed nothing that is still there.
    pub(super) fn nothing_is_scored(&mut self) {
        self.findings.undecided("no event was scored that is still there");
    }

    /// Something to tell whoever reads the report.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.findings.note(text);
    }

    /// The next prediction that falls due in a partition of the log, with the message at `offset`.
    pub(super) fn due(&mut self, (partition, offset): (i32, i64), is_certain: bool, said: &Said<'_>) {
        let one = Prediction { hash: hash(said), offset, is_certain, is_scored: false, is_alerted: false };
        let new = || Predictions { partition, due: Vec::new(), next: 0 };
        self.subjects.entry(said.subject).or_insert_with(new).due.push(one);
        self.findings.count("predictions", 1);
    }

    /// The next score of a partition of the scores; `owner` is the partition of the log that owns its subject.
    pub(super) fn score(&mut self, at: Message<'_>, owner: i32) {
        self.findings.count("scores", 1);
        let mut wrong = |what| self.findings.violation(what, at.topic, at.partition, at.offset);
        if !at.is_consumed {
            wrong("a score is of a record that is not consumed");
        }
        if self.unknown.contains(&owner) {
            return self.findings.count("scores_unknown", 1);
        }
        let nothing = "a score is of a prediction that does not fall due by what is consumed";
        let Some(subject) = self.subjects.get_mut(&at.said.subject) else { return wrong(nothing) };
        let hash = hash(&at.said);
        let ahead = subject.due[subject.next..].iter().position(|one| one.hash == hash);
        if let Some(ahead) = ahead {
            subject.next += ahead + 1;
            subject.due[subject.next - 1].is_scored = true;
            return;
        }
        match subject.due[..subject.next].iter_mut().find(|one| one.hash == hash) {
            None => wrong(nothing),
            Some(one) if one.is_scored => wrong("a prediction is scored twice"),
            Some(one) => {
                one.is_scored = true;
                wrong("a score is out of the order in which predictions fall due");
            }
        }
    }

    /// The next alert. All scores must have been shown.
    pub(super) fn alert(&mut self, at: Message<'_>, alert_id: &str, owner: i32) {
        self.findings.count("alerts", 1);
        let mut wrong = |what| self.findings.violation(what, at.topic, at.partition, at.offset);
        if !at.is_consumed {
            wrong("an alert is of a record that is not consumed");
        }
        let mut hasher = blake3::Hasher::new();
        if !self.alerts.insert(head(hasher.update(alert_id.as_bytes()))) {
            return wrong("an alert is there twice");
        }
        if self.unknown.contains(&owner) {
            return self.findings.count("alerts_unknown", 1);
        }
        let subject = self.subjects.get_mut(&at.said.subject);
        let (hash, all) = (hash(&at.said), subject.map_or(&mut [][..], |subject| &mut subject.due));
        let mut found = all.iter_mut().filter(|one| one.hash == hash).peekable();
        if found.peek().is_none() {
            return wrong("an alert is of a prediction that does not fall due by what is consumed");
        }
        // Two encounters without a name may be predicted from at the same moment.
        match found.find(|one| !one.is_alerted) {
            None => wrong("a prediction has two alerts"),
            Some(one) => {
                one.is_alerted = true;
                if !one.is_scored && !self.gone {
                    wrong("an alert has no score");
                }
            }
        }
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Findings {
        let mut missing = Vec::new();
        for subject in self.subjects.values() {
            let first = subject.due.iter().position(|one| one.is_scored);
            for (i, one) in subject.due.iter().enumerate().filter(|(_, one)| !one.is_scored) {
                if !one.is_certain {
                    self.findings.count("predictions_under_way", 1);
                } else if self.gone && first.is_none_or(|first| i < first) {
                    self.findings.count("scores_gone", 1);
                } else {
                    missing.push((subject.partition, one.offset));
                }
            }
        }
        missing.sort_unstable();
        for (partition, offset) in missing {
            let what = "a prediction that falls due with this message has no score";
            self.findings.violation(what, &self.log, partition, offset);
        }
        if self.gone {
            self.findings.note("the scores topic no longer holds all that was in it; what is gone is not checked");
        }
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "t";

    fn said(subject: i64, time: i64) -> Said<'static> {
        Said { task: TASK, subject: SubjectId(subject), encounter: Some("e"), time }
    }

    fn at(offset: i64, said: Said<'_>) -> Message<'_> {
        Message { topic: "out", partition: 0, offset, is_consumed: true, said }
    }

    /// Of subject 1 at the times 1 to 4 and of subject 2 at time 9; the last two are not certain.
    fn scores(gone: bool) -> Scores {
        let mut scores = Scores::new("log", gone);
        for (offset, subject, time) in [(10, 1, 1), (11, 1, 2), (11, 1, 3), (12, 1, 4), (13, 2, 9)] {
            scores.due((3, offset), offset < 12, &said(subject, time));
        }
        scores
    }

    fn after(gone: bool, times: &[i64]) -> Scores {
        let mut scores = scores(gone);
        for (offset, time) in (0..).zip(times) {
            scores.score(at(offset, said(1, *time)), 3);
        }
        scores
    }

    fn found(scores: Scores) -> Vec<(&'static str, i64)> {
        scores.finish().found().iter().map(|(what, _, offset)| (*what, *offset)).collect()
    }

    const TWICE: &str = "a prediction is scored twice";
    const MISSING: &str = "a prediction that falls due with this message has no score";
    const NOTHING: &str = "a score is of a prediction that does not fall due by what is consumed";
    const ORDER: &str = "a score is out of the order in which predictions fall due";

    #[test]
    fn scores_of_what_fell_due_are_right_with_and_without_what_is_under_way() {
        for times in [&[1, 2, 3][..], &[1, 2, 3, 4]] {
            let findings = after(false, times).finish();
            assert_eq!((findings.found(), findings.counted("predictions")), (vec![], 5));
            assert_eq!(findings.counted("predictions_under_way"), 5 - times.len() as u64);
        }
    }

    #[test]
    fn invariant_02_missing_doubled_misplaced_and_foreign_scores_are_found() {
        assert_eq!(found(after(false, &[1, 3])), [(MISSING, 11)]);
        assert_eq!(found(after(false, &[])), [(MISSING, 10), (MISSING, 11), (MISSING, 11)]);
        assert_eq!(found(after(false, &[1, 2, 2, 3])), [(TWICE, 2)]);
        assert_eq!(found(after(false, &[1, 3, 2])), [(ORDER, 2)]);
        assert_eq!(found(after(false, &[1, 2, 3, 7])), [(NOTHING, 3)]);
        let mut foreign = after(false, &[1, 2, 3]);
        foreign.score(at(5, said(77, 1)), 0);
        foreign.score(at(6, Said { encounter: None, ..said(1, 1) }), 3);
        foreign.score(at(7, Said { task: "u", ..said(1, 1) }), 3);
        foreign.score(Message { is_consumed: false, ..at(8, said(1, 4)) }, 3);
        let ahead = "a score is of a record that is not consumed";
        assert_eq!(found(foreign), [(NOTHING, 5), (NOTHING, 6), (NOTHING, 7), (ahead, 8)]);
    }

    #[test]
    fn what_falls_due_twice_is_scored_twice() {
        let mut scores = scores(false);
        scores.due((3, 11), true, &said(5, 1));
        scores.due((3, 11), true, &said(5, 1));
        let (one, two) = (at(0, said(5, 1)), at(1, said(5, 1)));
        scores.score(one, 3);
        scores.score(two, 3);
        scores.score(at(2, said(5, 1)), 3);
        assert_eq!(scores.findings.found(), [(TWICE, 0, 2)]);
    }

    #[test]
    fn scores_that_are_gone_are_not_missing_and_those_after_them_are() {
        let findings = after(true, &[3]).finish();
        assert_eq!((findings.found(), findings.counted("scores_gone")), (vec![], 2));
        assert_eq!(found(after(true, &[1, 3])), [(MISSING, 11)]);
        assert_eq!(after(true, &[]).finish().counted("scores_gone"), 3);
    }

    #[test]
    fn invariant_02_alerts_without_a_score_or_there_twice_are_found() {
        let mut scores = after(false, &[1, 2]);
        let alerts = [("a", 1), ("a", 1), ("b", 1), ("c", 3), ("d", 8)];
        for (offset, (id, time)) in (0..).zip(alerts) {
            scores.alert(at(offset, said(1, time)), id, 3);
        }
        let expected = [
            ("an alert is there twice", 1),
            ("a prediction has two alerts", 2),
            ("an alert has no score", 3),
            ("an alert is of a prediction that does not fall due by what is consumed", 4),
            (MISSING, 11),
        ];
        assert_eq!(found(scores), expected);
    }

    #[test]
    fn nothing_is_said_of_a_partition_without_its_history() {
        let mut scores = scores(false);
        scores.partition_is_unknown(0, "gone");
        scores.score(at(5, said(77, 1)), 0);
        scores.alert(at(5, said(77, 1)), "a", 0);
        assert_eq!(scores.findings.found(), []);
        assert_eq!(scores.findings.counted("scores_unknown"), 1);
    }
}
