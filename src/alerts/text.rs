//! An explanation in words, for whoever stands at the bed.
//!
//! Made of feature names, values and units only: it cannot name a patient.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Contribution, Explained};

/// A contribution below this rounds to nothing in the text.
const VISIBLE: f64 = 0.005;
/// A contribution of nothing, for a value that has only a unit.
const NOTHING: Contribution<'static> =
    Contribution { feature: "", value: f32::NAN, unit: None, observed_at: None, contribution: 0.0 };
/// What names of the hourly grid begin with.
const GRID: &str = "grid.";

/// The risk and what it is made of, the `top` weightiest concepts by name: `risk 0.83 from a base of 0.14:
/// heart rate rose to 131/min over 6 h (+0.42), 3 others (+0.27)`. All features of a concept count together,
/// since they say the same in several ways.
pub(super) fn explanation(risk: Option<f64>, explained: Option<&Explained<'_>>, top: usize) -> String {
    let Some(risk) = risk.filter(|risk| risk.is_finite()) else {
        return "no risk can be given from what is known now".to_owned();
    };
    let mut text = format!("risk {risk:.2}");
    let Some(explained) = explained else { return text };
    // Writing to a String cannot fail.
    let _ = write!(text, " from a base of {:.2}", explained.base());
    let all = findings(explained.contributions());
    let named = all.iter().take(top).take_while(|one| one.sum.abs() >= VISIBLE).count();
    let mut separator = ": ";
    for one in &all[..named] {
        let _ = write!(text, "{separator}{} ({:+.2})", phrase(one), one.sum);
        separator = ", ";
    }
    let rest: f64 = all[named..].iter().map(|one| one.sum).sum();
    match all.len() - named {
        0 => {}
        1 => {
            let _ = write!(text, "{separator}1 other ({rest:+.2})");
        }
        others => {
            let _ = write!(text, "{separator}{others} others ({rest:+.2})");
        }
    }
    if let Some(instead) = explained.instead() {
        text.push_str("; below the threshold with ");
        for (i, one) in instead.changes.iter().enumerate() {
            let before = if i == 0 { "" } else { " and " };
            let value = Contribution { unit: Some(&one.unit), value: one.value, ..NOTHING };
            let to = quantity(&Contribution { value: one.instead, ..value });
            let _ = write!(text, "{before}{} {to} instead of {}", one.concept.replace('_', " "), quantity(&value));
        }
        let _ = write!(text, " (risk {:.2}", instead.risk);
        if !instead.unchanged.is_empty() {
            let names: Vec<String> = instead.unchanged.iter().map(|name| name.replace('_', " ")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let _ = write!(text, ", with {} unchanged", list(&names, top));
        }
        text.push(')');
    }
    text
}

/// That there is no risk, and why.
pub(super) fn without_risk(reason: &str, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("no risk can be given: {reason} ({detail})"),
        None => format!("no risk can be given: {reason}"),
    }
}

/// Names with commas and an "and", at most `top` of them: `a, b and 3 others`.
pub(super) fn list(names: &[&str], top: usize) -> String {
    let (named, others) = names.split_at(top.min(names.len()));
    let mut words: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
    match others.len() {
        0 => {}
        1 => words.push("1 other".to_owned()),
        others => words.push(format!("{others} others")),
    }
    match words.as_slice() {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => words.concat(),
    }
}

/// What the features of one concept say together.
struct Finding<'a> {
    concept: &'a str,
    /// From the weightiest.
    parts: Vec<Contribution<'a>>,
    /// What they add to the risk.
    sum: f64,
}

/// Contributions by concept, the weightiest concept first; of equal ones the first by name.
fn findings<'a>(contributions: &[Contribution<'a>]) -> Vec<Finding<'a>> {
    let mut findings: Vec<Finding<'a>> = Vec::new();
    for one in contributions {
        let name = one.feature.strip_prefix(GRID).unwrap_or(one.feature);
        let concept = name.split('.').next().unwrap_or(name);
        match findings.iter_mut().find(|finding| finding.concept == concept) {
            Some(finding) => {
                finding.parts.push(*one);
                finding.sum += one.contribution;
            }
            None => findings.push(Finding { concept, parts: vec![*one], sum: one.contribution }),
        }
    }
    findings.sort_by(|a, b| b.sum.abs().total_cmp(&a.sum.abs()).then_with(|| a.concept.cmp(b.concept)));
    findings
}

/// A finding in words: the weightiest feature that pulls the way the whole concept does, with what it is now
/// where the feature is a trend.
fn phrase(finding: &Finding<'_>) -> String {
    let pulls = |one: &&Contribution<'_>| one.contribution * finding.sum > 0.0;
    let Some(lead) = finding.parts.iter().find(pulls).or(finding.parts.first()) else { return String::new() };
    if let Some((concept, hour)) = lead.feature.strip_prefix(GRID).and_then(|rest| rest.rsplit_once(".-")) {
        let hour = hour.trim_end_matches('h').trim_start_matches('0');
        let when = if hour.is_empty() { "in the last hour".to_owned() } else { format!("{hour} h before") };
        return format!("{} {when}", valued(&concept.replace('_', " "), lead));
    }
    if let Some((of, term, window)) = term_of(lead.feature) {
        let (of, within) = (of.replace('_', " "), within(&span(window)));
        return match lead.value {
            count if !count.is_finite() => format!("no {of} known {within}"),
            0.0 => format!("no '{term}' in {of} {within}"),
            _ => format!("'{term}' {} times in {of} {within}", quantity(lead)),
        };
    }
    let mut words = lead.feature.split('.');
    let name = words.next().unwrap_or_default().replace('_', " ");
    let (Some(aggregate), Some(window), None) = (words.next(), words.next(), words.next()) else {
        return valued(&lead.feature.replace(['_', '.'], " "), lead);
    };
    let span = span(window);
    if !lead.value.is_finite() {
        return format!("{name} not known {}", within(&span));
    }
    let value = quantity(lead);
    match aggregate {
        "last" => format!("{name} {value}"),
        "first" => format!("{name} {value} at first"),
        "max" => format!("{name} up to {value} {}", within(&span)),
        "min" => format!("{name} down to {value} {}", within(&span)),
        "mean" | "median" => format!("{name} about {value} {}", within(&span)),
        "sum" => format!("{name} {value} in all {}", within(&span)),
        "count" => format!("{name} recorded {value} times {}", within(&span)),
        "std" => format!("{name} varying by {value} {}", within(&span)),
        "range" => format!("{name} ranging over {value} {}", within(&span)),
        "time_since_last" => format!("{name} last recorded {value} before"),
        "slope" | "change" => {
            let verb = if lead.value < 0.0 { "fell" } else { "rose" };
            let last = finding.parts.iter().find(|one| one.feature.split('.').nth(1) == Some("last"));
            match last.filter(|last| last.value.is_finite()) {
                Some(last) => format!("{name} {verb} to {} over {span}", quantity(last)),
                None => {
                    let by = Contribution { value: lead.value.abs(), ..*lead };
                    format!("{name} {verb} by {} over {span}", quantity(&by))
                }
            }
        }
        _ => valued(&lead.feature.replace(['_', '.'], " "), lead),
    }
}

/// Of the count of a term in texts (`note:chest pain.count.24h`): whose texts, the term and the window.
fn term_of(feature: &str) -> Option<(&str, &str, &str)> {
    let (of, rest) = feature.split_once(':').filter(|(of, _)| !of.contains(['.', '=']))?;
    let (term, window) = rest.split_once(".count.")?;
    Some((of, term, window))
}

/// A name and a value, or that there is none.
fn valued(name: &str, one: &Contribution<'_>) -> String {
    if one.value.is_finite() { format!("{name} {}", quantity(one)) } else { format!("{name} not known") }
}

/// A value with its unit: `131/min`, `4.1 mmol/L`.
fn quantity(one: &Contribution<'_>) -> String {
    let number = number(one.value);
    match one.unit.map(readable).filter(|unit| !unit.is_empty()) {
        Some(unit) if unit.starts_with('/') => format!("{number}{unit}"),
        Some(unit) => format!("{number} {unit}"),
        None => number,
    }
}

/// A window's name as a span: `8h` is `8 h`; `encounter` is the stay.
fn span(window: &str) -> String {
    match window {
        "encounter" => "the stay".to_owned(),
        "ever" => "all time".to_owned(),
        _ => match window.find(|c: char| c.is_ascii_alphabetic()) {
            Some(unit) => format!("{} {}", &window[..unit], &window[unit..]),
            None => window.to_owned(),
        },
    }
}

/// Within which span: `in 8 h`.
fn within(span: &str) -> String {
    if span == "all time" { "ever".to_owned() } else { format!("in {span}") }
}

/// Three figures or so, without zeros that say nothing.
fn number(value: f32) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A UCUM unit as it is written on a ward.
fn readable(unit: &str) -> Cow<'_, str> {
    match unit {
        "1" | "[pH]" => "".into(),
        "Cel" => "°C".into(),
        "mm[Hg]" => "mmHg".into(),
        _ if unit.starts_with('{') => "".into(),
        _ if unit.starts_with("10*") => unit.replacen("10*", "10^", 1).into(),
        _ => unit.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Instead, Otherwise};
    use super::*;

    fn one(feature: &'static str, value: f32, unit: &'static str, contribution: f64) -> Contribution<'static> {
        Contribution { feature, value, unit: Some(unit), observed_at: None, contribution }
    }

    #[test]
    fn an_explanation_reads_like_a_note() {
        let explained = Explained::new(
            0.83,
            0.14,
            vec![
                one("heart_rate.max.8h", 131.0, "/min", 0.42),
                one("lactate.last.24h", 4.1, "mmol/L", 0.21),
                one("gcs.min.24h", 9.0, "{score}", 0.11),
                one("crp.last.48h", f32::NAN, "mg/L", -0.06),
                one("wbc.slope.24h", -0.004, "10*3/uL", 0.012),
                one("age", 71.0, "a", -0.002),
            ],
        )
        .unwrap();
        assert_eq!(
            explanation(Some(0.83), Some(&explained), 3),
            "risk 0.83 from a base of 0.14: heart rate up to 131/min in 8 h (+0.42), lactate 4.1 mmol/L (+0.21), \
             gcs down to 9 in 24 h (+0.11), 3 others (-0.05)"
        );
        assert_eq!(
            explanation(Some(0.83), Some(&explained), 20).rsplit_once("(+0.11), ").unwrap().1,
            "crp not known in 48 h (-0.06), wbc fell by 0 10^3/uL over 24 h (+0.01), 1 other (-0.00)"
        );
    }

    #[test]
    fn what_several_features_say_of_a_concept_is_said_once() {
        let explained = Explained::new(
            0.73,
            0.2,
            vec![
                one("heart_rate.slope.6h", 4.0, "/min/h", 0.3),
                one("heart_rate.last.6h", 131.0, "/min", 0.1),
                one("heart_rate.min.6h", 90.0, "/min", -0.02),
                one("spo2.min.encounter", 84.0, "%", 0.09),
                one("spo2.count.encounter", 3.0, "", 0.03),
                one("grid.lactate.-03h", 4.1, "mmol/L", 0.02),
                one("grid.lactate.-00h", f32::NAN, "mmol/L", 0.01),
            ],
        )
        .unwrap();
        assert_eq!(
            explanation(Some(0.73), Some(&explained), 5),
            "risk 0.73 from a base of 0.20: heart rate rose to 131/min over 6 h (+0.38), spo2 down to 84 % in the stay (+0.12), \
             lactate 4.1 mmol/L 3 h before (+0.03)"
        );
    }

    #[test]
    fn terms_of_texts_are_told_with_whose_texts_they_are() {
        let parts = vec![
            one("note:chest pain.count.24h", 2.0, "", 0.3),
            one("note:well.count.ever", 0.0, "", 0.2),
            one("nurse_note:fever.count.encounter", f32::NAN, "", -0.1),
        ];
        let explained = Explained::new(0.5, 0.1, parts).unwrap();
        assert_eq!(
            explanation(Some(0.5), Some(&explained), 5),
            "risk 0.50 from a base of 0.10: 'chest pain' 2 times in note in 24 h (+0.30), no 'well' in note ever (+0.20), \
             no nurse note known in the stay (-0.10)"
        );
    }

    #[test]
    fn what_would_have_to_be_otherwise_is_said_last() {
        let one = |concept: &str, unit: &str, value, instead| Otherwise {
            concept: concept.to_owned(),
            unit: unit.to_owned(),
            value,
            instead,
        };
        let changes = vec![one("lactate", "mmol/L", 4.1, 2.05), one("heart_rate", "/min", 131.0, 90.0)];
        let mut instead = Instead { changes, risk: 0.28, unchanged: Vec::new() };
        let said = |instead: &Instead| {
            let explained = Explained::new(0.1, 0.1, Vec::new()).unwrap().with_instead(Some(instead.clone()));
            explanation(Some(0.1), Some(&explained), 5)
        };
        assert_eq!(
            said(&instead),
            "risk 0.10 from a base of 0.10; below the threshold with lactate 2.05 mmol/L instead of 4.1 mmol/L and \
             heart rate 90/min instead of 131/min (risk 0.28)"
        );
        instead.unchanged = vec!["news2".to_owned(), "shock_index".to_owned()];
        assert!(said(&instead).ends_with("(risk 0.28, with news2 and shock index unchanged)"));
    }

    #[test]
    fn without_reasons_it_says_what_there_is() {
        let flat = Explained::new(0.1, 0.1, Vec::new()).unwrap();
        assert_eq!(explanation(Some(0.1), Some(&flat), 5), "risk 0.10 from a base of 0.10");
        assert_eq!(explanation(Some(0.1), None, 5), "risk 0.10");
        assert_eq!(explanation(None, Some(&flat), 5), "no risk can be given from what is known now");
        assert_eq!(without_risk("ambiguous", None), "no risk can be given: ambiguous");
    }

    #[test]
    fn numbers_keep_three_figures() {
        for (value, text) in
            [(131.4, "131"), (1000.0, "1000"), (36.6, "36.6"), (7.0, "7"), (0.52, "0.52"), (-0.001, "0")]
        {
            assert_eq!(number(value), text);
        }
    }
}
