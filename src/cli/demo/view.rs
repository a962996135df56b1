//! The demo's screen: a ward's patients, their risk over time, alerts with their reasons.
//!
//! Pure: a [`Ward`] and a size become text. What a clinician should see first stands first:
//! who is at highest risk now, whether it rises, and why.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use chrono::DateTime;

use crate::events::{HOUR, Micros};

/// Steps of a sparkline, from no risk to certain.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Scores kept a patient.
const TRAIL: usize = 24;
/// Alerts kept.
const ALERTS: usize = 50;
/// A patient without a score for so long has left the ward.
const GONE: Micros = 12 * HOUR;

/// What the screen shows.
#[derive(Default, Debug)]
pub(super) struct Ward {
    patients: BTreeMap<String, Patient>,
    alerts: VecDeque<AlertLine>,
    /// Time in the simulated hospital.
    pub(super) clock: Micros,
    /// The line of figures below the title.
    pub(super) figures: Figures,
}

/// The figures of the head line.
#[derive(Clone, Default, Debug)]
pub(super) struct Figures {
    pub(super) records: u64,
    pub(super) events: u64,
    pub(super) scores: u64,
    pub(super) alerts: u64,
    pub(super) dead_letters: u64,
    pub(super) model: String,
    pub(super) metrics_url: String,
    /// What happens just now: training, a swap.
    pub(super) note: String,
}

#[derive(Debug)]
struct Patient {
    risks: VecDeque<f64>,
    seen: Micros,
    alerted: bool,
    reason: String,
}

#[derive(Debug)]
struct AlertLine {
    at: Micros,
    patient: String,
    kind: String,
    risk: f64,
    reason: String,
}

impl Ward {
    /// A score arrived.
    pub(super) fn score(&mut self, patient: &str, at: Micros, risk: f64) {
        self.clock = self.clock.max(at);
        let patient = self.patients.entry(patient.to_owned()).or_insert_with(|| Patient {
            risks: VecDeque::new(),
            seen: at,
            alerted: false,
            reason: String::new(),
        });
        patient.seen = patient.seen.max(at);
        patient.risks.push_back(risk);
        if patient.risks.len() > TRAIL {
            patient.risks.pop_front();
        }
    }

    /// A patient shown under one name has another from now on.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if from != to
            && let Some(patient) = self.patients.remove(from)
        {
            self.patients.insert(to.to_owned(), patient);
        }
    }

    /// An alert arrived.
    pub(super) fn alert(&mut self, patient: &str, at: Micros, kind: &str, risk: f64, reason: &str) {
        if let Some(known) = self.patients.get_mut(patient) {
            known.alerted = kind != "clear";
            known.reason = reason.to_owned();
        }
        self.alerts.push_front(AlertLine {
            at,
            patient: patient.to_owned(),
            kind: kind.to_owned(),
            risk,
            reason: reason.to_owned(),
        });
        self.alerts.truncate(ALERTS);
    }

    /// The screen as text with ANSI colours, `width` x `height` characters.
    pub(super) fn render(&self, width: usize, height: usize) -> String {
        let mut lines = self.head(width);
        let alerts = (height / 3).clamp(4, 12);
        let rows = height.saturating_sub(lines.len() + alerts + 4);
        lines.push(bold(&cut(
            &format!("{:<10} {:>5} {:<24} {:<6} {}", "patient", "risk", "last scores", "trend", "why"),
            width,
        )));
        let mut on_ward: Vec<(&String, &Patient)> =
            self.patients.iter().filter(|(_, p)| self.clock - p.seen < GONE).collect();
        on_ward.sort_by(|a, b| now(b.1).total_cmp(&now(a.1)));
        let hidden = on_ward.len().saturating_sub(rows);
        for (name, patient) in on_ward.iter().take(rows) {
            lines.push(row(name, patient, width));
        }
        if hidden > 0 {
            lines.push(dim(&cut(&format!("and {hidden} more at lower risk"), width)));
        }
        lines.push(String::new());
        lines.push(bold("alerts"));
        for alert in self.alerts.iter().take(alerts) {
            let text = format!(
                "{} {:<10} {:<9} {:>4.0} %  {}",
                hhmm(alert.at),
                alert.patient,
                alert.kind,
                alert.risk * 100.0,
                alert.reason
            );
            let text = cut(&text, width);
            lines.push(if alert.kind == "clear" { dim(&text) } else { red(&text) });
        }
        lines.truncate(height);
        lines.join("\n")
    }

    fn head(&self, width: usize) -> Vec<String> {
        let f = &self.figures;
        let figures = format!(
            "{} records  {} events  {} scores  {} alerts  {} dead letters",
            f.records, f.events, f.scores, f.alerts, f.dead_letters
        );
        vec![
            bold(&cut(&format!("auscult demo   a simulated hospital, {}   Ctrl-C ends", day_time(self.clock)), width)),
            cut(&figures, width),
            dim(&cut(&format!("model {}   {}   {}", f.model, f.metrics_url, f.note), width)),
            String::new(),
        ]
    }
}

fn now(patient: &Patient) -> f64 {
    patient.risks.back().copied().unwrap_or(0.0)
}

fn row(name: &str, patient: &Patient, width: usize) -> String {
    let mut trail = String::new();
    for risk in &patient.risks {
        trail.push(STEPS[((risk * 8.0) as usize).min(7)]);
    }
    let before = patient.risks.len().checked_sub(4).and_then(|i| patient.risks.get(i)).copied().unwrap_or(now(patient));
    let trend = match now(patient) - before {
        rise if rise > 0.05 => "rising",
        fall if fall < -0.05 => "falls",
        _ => "",
    };
    let reason = if patient.alerted { patient.reason.as_str() } else { "" };
    let text = format!("{name:<10} {:>3.0} % {trail:<24} {trend:<6} {reason}", now(patient) * 100.0);
    let text = cut(&text, width);
    if patient.alerted { red(&text) } else { text }
}

fn hhmm(at: Micros) -> String {
    DateTime::from_timestamp_micros(at).map_or_else(String::new, |t| t.format("%d %H:%M").to_string())
}

fn day_time(at: Micros) -> String {
    DateTime::from_timestamp_micros(at).map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M").to_string())
}

/// At most `width` characters.
fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn bold(text: &str) -> String {
    styled(text, "1")
}

fn dim(text: &str) -> String {
    styled(text, "2")
}

fn red(text: &str) -> String {
    styled(text, "31")
}

fn styled(text: &str, style: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    // Writing to a String cannot fail.
    let _ = write!(out, "\u{1b}[{style}m{text}\u{1b}[0m");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        let mut out = String::new();
        let mut escape = false;
        for c in text.chars() {
            match c {
                '\u{1b}' => escape = true,
                'm' if escape => escape = false,
                c if !escape => out.push(c),
                _ => {}
            }
        }
        out
    }

    #[test]
    fn the_highest_risk_stands_first_with_its_reason() {
        let mut ward = Ward::default();
        for (i, risk) in [0.1, 0.2, 0.3, 0.4, 0.6].into_iter().enumerate() {
            ward.score("P2", i as i64 * HOUR, risk);
            ward.score("P1", i as i64 * HOUR, 0.1);
        }
        ward.alert("P2", 4 * HOUR, "raise", 0.6, "lactate last 24h 4.1 mmol/L (+0.2)");
        let screen = plain(&ward.render(100, 30));
        let (p2, p1) = (screen.find("P2").unwrap(), screen.find("P1").unwrap());
        assert!(p2 < p1 && screen.contains("rising") && screen.contains("lactate"), "{screen}");
    }

    #[test]
    fn the_screen_keeps_to_its_size_and_forgets_who_left() {
        let mut ward = Ward::default();
        ward.score("gone", 0, 0.99);
        for i in 0..100 {
            ward.score(&format!("P{i}"), 20 * HOUR, 0.5);
            ward.alert(&format!("P{i}"), 20 * HOUR, "raise", 0.5, &"long ".repeat(80));
        }
        let screen = plain(&ward.render(80, 24));
        assert!(screen.lines().count() <= 24 && screen.lines().all(|l| l.chars().count() <= 80));
        assert!(!screen.contains("gone") && screen.contains("more at lower risk"));
    }
}
