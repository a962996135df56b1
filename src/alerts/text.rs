//! An explanation in words, for whoever stands at the bed.
//!
//! Made of feature names, values and units only: it cannot name a patient.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Contribution, Explained};

/// A contribution below this rounds to nothing in the text.
const VISIBLE: f64 = 0.005;

/// The risk and what it is made of, the `top` weightiest contributions by name:
/// `risk 0.83 from a base of 0.14: heart rate max 8h 131 /min (+0.42), 3 others (+0.27)`.
pub(super) fn explanation(risk: Option<f64>, explained: Option<&Explained<'_>>, top: usize) -> String {
    let Some(risk) = risk.filter(|risk| risk.is_finite()) else {
        return "no risk can be given from what is known now".to_owned();
    };
    let mut text = format!("risk {risk:.2}");
    let Some(explained) = explained else { return text };
    // Writing to a String cannot fail.
    let _ = write!(text, " from a base of {:.2}", explained.base());
    let all = explained.contributions();
    let named = all.iter().take(top).take_while(|one| one.contribution.abs() >= VISIBLE).count();
    let mut separator = ": ";
    for one in &all[..named] {
        let _ = write!(text, "{separator}{} ({:+.2})", finding(one), one.contribution);
        separator = ", ";
    }
    let rest: f64 = all[named..].iter().map(|one| one.contribution).sum();
    match all.len() - named {
        0 => {}
        1 => {
            let _ = write!(text, "{separator}1 other ({rest:+.2})");
        }
        others => {
            let _ = write!(text, "{separator}{others} others ({rest:+.2})");
        }
    }
    text
}

/// Feature and value: `heart rate max 8h 131 /min`.
fn finding(one: &Contribution<'_>) -> String {
    let mut text = one.feature.replace(['_', '.'], " ");
    if !one.value.is_finite() {
        text.push_str(" not known");
        return text;
    }
    let _ = write!(text, " {}", number(one.value));
    if let Some(unit) = one.unit.map(readable).filter(|unit| !unit.is_empty()) {
        let _ = write!(text, " {unit}");
    }
    text
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
            "risk 0.83 from a base of 0.14: heart rate max 8h 131 /min (+0.42), lactate last 24h 4.1 mmol/L (+0.21), \
             gcs min 24h 9 (+0.11), 3 others (-0.05)"
        );
        assert_eq!(
            explanation(Some(0.83), Some(&explained), 20).rsplit_once("(+0.11), ").unwrap().1,
            "crp last 48h not known (-0.06), wbc slope 24h 0 10^3/uL (+0.01), 1 other (-0.00)"
        );
    }

    #[test]
    fn without_reasons_it_says_what_there_is() {
        let flat = Explained::new(0.1, 0.1, Vec::new()).unwrap();
        assert_eq!(explanation(Some(0.1), Some(&flat), 5), "risk 0.10 from a base of 0.10");
        assert_eq!(explanation(Some(0.1), None, 5), "risk 0.10");
        assert_eq!(explanation(None, Some(&flat), 5), "no risk can be given from what is known now");
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
