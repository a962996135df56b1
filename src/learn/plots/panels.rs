//! Pictures of tasks whose outcome is a class, an amount or the time to an event.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{
    Area, BLUE, Drawn, GREY, Look, Plot, ROW, ROWS, SIZE, Series, VERMILION, figure, heading, keep, model, picture,
    shortened, svg, write_text,
};
use crate::learn::LearnError;
use crate::learn::metrics::{AmountFigures, AmountGroup, ClassFigures, SurvivalFigures};
use crate::learn::train::Named;

/// Where the cells of a confusion matrix begin, how wide all of them are together, and what is above them.
const CELLS: (i32, i32, i32) = (310, 300, 56);
/// Amounts beyond it are not drawn.
const FAR: f64 = 1e100;
/// Narrowest cell that has room for a number.
const ROOM: i32 = 24;

/// Writes `confusion.svg` into a folder that is there, replacing what is there.
///
/// # Errors
/// If the file cannot be written.
pub(in crate::learn) fn write_classes(folder: &Path, of: &Named, figures: &ClassFigures) -> Result<(), LearnError> {
    let name = "confusion.svg";
    let height = ROWS.0 + CELLS.2 + ROW * figures.classes.len() as i32 + 20;
    let text = svg(name, (SIZE.0, height as u32), |area| confusion(area, of, figures))?;
    keep(folder, (name, text))
}

/// Writes `observed.svg` into a folder that is there, replacing what is there.
///
/// # Errors
/// If the file cannot be written.
pub(in crate::learn) fn write_amounts(folder: &Path, of: &Named, figures: &AmountFigures) -> Result<(), LearnError> {
    keep(folder, picture("observed.svg", &observed(of, figures))?)
}

/// Writes `incidence.svg` into a folder that is there, replacing what is there.
///
/// # Errors
/// If the file cannot be written.
pub(in crate::learn) fn write_survival(folder: &Path, of: &Named, figures: &SurvivalFigures) -> Result<(), LearnError> {
    keep(folder, picture("incidence.svg", &incidence(of, figures))?)
}

/// A line of cells a class, as dark as the share of its rows that the model takes for each class.
fn confusion(area: &Area<'_>, of: &Named, figures: &ClassFigures) -> Drawn {
    let (left, width, above) = CELLS;
    let accuracy = figure("accuracy", figures.accuracy, None);
    heading(area, "Confusion matrix", &format!("{}, n = {}, {accuracy}", model(of), figures.n))?;
    let top = ROWS.0 + above;
    write_text(area, "class", (left - 8, top - 36), 15, HPos::Right)?;
    write_text(area, "share taken for each class, %", (left, top - 36), 15, HPos::Left)?;
    write_text(area, "rows", (SIZE.0 as i32 - 8, top - 36), 15, HPos::Right)?;
    let classes = figures.classes.len() as i32;
    let edge = |class: i32| left + width * class / classes.max(1);
    let cell = width / classes.max(1);
    // Of narrow columns only some have room for their number.
    let numbered = (ROOM * classes / width).max(1);
    for (i, (class, line)) in (0..).zip(figures.classes.iter().zip(&figures.confusion)) {
        let middle = top + ROW * i + ROW / 2;
        write_text(area, &format!("{} {}", i + 1, shortened(&class.name)), (left - 8, middle), 13, HPos::Right)?;
        write_text(area, &class.n.to_string(), (SIZE.0 as i32 - 8, middle), 13, HPos::Right)?;
        if i % numbered == 0 {
            write_text(area, &(i + 1).to_string(), ((edge(i) + edge(i + 1)) / 2, top - 12), 13, HPos::Center)?;
        }
        for (j, count) in (0..).zip(line).filter(|(_, count)| **count > 0) {
            let share = *count as f64 / class.n as f64;
            let corners = [(edge(j), top + ROW * i), (edge(j + 1), top + ROW * (i + 1))];
            // Not so dark that black letters could not be read on it.
            area.draw(&Rectangle::new(corners, BLUE.mix(0.8 * share).filled()))?;
            if cell >= ROOM {
                let percent = format!("{:.0}", 100.0 * share);
                write_text(area, &percent, ((edge(j) + edge(j + 1)) / 2, middle), 13, HPos::Center)?;
            }
        }
    }
    area.draw(&Rectangle::new([(left, top), (left + width, top + ROW * classes)], BLACK))
}

fn observed(of: &Named, figures: &AmountFigures) -> Plot {
    // Beyond it are no axes.
    let near = |group: &&AmountGroup| {
        let [low, high] = group.observed_ci;
        [group.mean_expected, low, high].iter().all(|value| value.abs() < FAR)
    };
    let groups: Vec<&AmountGroup> = figures.groups.iter().filter(near).collect();
    let points: Vec<(f64, f64)> = groups.iter().map(|group| (group.mean_expected, group.mean_observed)).collect();
    let intervals: Vec<[f64; 2]> = groups.iter().map(|group| group.observed_ci).collect();
    let span = span(points.iter().map(|point| point.0).chain(intervals.iter().flatten().copied()));
    let mae = figure("groups of rows, MAE", figures.errors.mae, figures.mae_interval.ends);
    let named = |name: &str, color, look, points| Series { name: name.to_owned(), color, look, points };
    let ends = vec![(span.start, span.start), (span.end, span.end)];
    Plot {
        title: "Observed against expected",
        judged: format!("{}, n = {}", model(of), figures.n),
        x: ("mean of what was expected", span.clone()),
        y: ("mean of what came, with its 95 % interval", span),
        series: vec![named("perfect", GREY, Look::Dashed, ends), named(&mae, BLUE, Look::Intervals(intervals), points)],
    }
}

/// From the least to the greatest of values, so wide that the numbers of an axis differ; 0 to 1 without values.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), ends);
    if low > high {
        return 0.0..1.0;
    }
    let lacking = (low.abs().max(high).max(1e-3) / 1_000.0 - (high - low)).max(0.0) / 2.0;
    low - lacking..high + lacking
}

fn incidence(of: &Named, figures: &SurvivalFigures) -> Plot {
    let times = &figures.times;
    let predicted = times.iter().filter_map(|at| Some((at.hours, at.mean_incidence?)));
    // Before anything is watched nothing has happened.
    let predicted: Vec<(f64, f64)> = [(0.0, 0.0)].into_iter().chain(predicted).collect();
    let came: Vec<(f64, f64)> = times.iter().filter_map(|at| Some((at.hours, at.kaplan_meier?))).collect();
    let highest = predicted.iter().chain(&came).map(|point| point.1).fold(0.1, f64::max);
    let last = times.last().map_or(1.0, |at| at.hours).max(1.0);
    let mean = figure("mean predicted, Harrell's concordance", figures.harrell, figures.harrell_interval.ends);
    let named = |name: &str, color, look, points| Series { name: name.to_owned(), color, look, points };
    Plot {
        title: "Incidence",
        judged: format!("{}, n = {}, {} with the event", model(of), figures.n, figures.events),
        x: ("hours", 0.0..last),
        y: ("share with the event by then", 0.0..((highest * 10.0).ceil() / 10.0).min(1.0)),
        series: vec![
            named(&mean, BLUE, Look::Line, predicted),
            named("what came (Kaplan-Meier)", VERMILION, Look::Points, came),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{is_xml, no_overlap};
    use super::*;
    use crate::events::SubjectId;
    use crate::learn::metrics::{Amounts, Incidences};

    fn named() -> Named {
        Named { name: "a<b&c_with_a_name_that_is_longer_than_there_is_room_for".to_owned(), version: 3 }
    }

    /// The picture that `write` leaves, if it is one.
    fn drawn(name: &str, write: impl FnOnce(&Path) -> Result<(), LearnError>) -> String {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let svg = fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        is_xml(&svg);
        no_overlap(name, &svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("7340192"), "{name}");
        assert!(svg.contains("a&lt;b&amp;c_with_a_name") && svg.contains("version 3"), "{name}");
        svg
    }

    fn subjects(n: usize) -> Vec<SubjectId> {
        (0..n).map(|i| SubjectId(7_340_192_845 + i as i64)).collect()
    }

    fn classes(k: usize, n: usize) -> ClassFigures {
        let names: Vec<String> =
            (0..k).map(|class| format!("{class} of a number of classes with a name that has no room")).collect();
        let truth: Vec<usize> = (0..n).map(|i| i % k).collect();
        let taken = |i: usize| if i.is_multiple_of(4) { (i + 1) % k } else { i % k };
        let probabilities: Vec<f64> =
            (0..n).flat_map(|i| (0..k).map(move |class| f64::from(u8::from(class == taken(i))))).collect();
        ClassFigures::of(&names, &probabilities, &truth, &subjects(n), 0)
    }

    #[test]
    fn a_confusion_matrix_has_a_cell_where_there_are_rows() {
        let cells = |svg: &str| svg.matches("fill=\"#0072B2\"").count();
        let draw = |figures: &ClassFigures| drawn("confusion.svg", |folder| write_classes(folder, &named(), figures));
        let three = draw(&classes(3, 120));
        for word in ["Confusion matrix", "accuracy 0.750", "n = 120", "75", "25", "2 1 of a number", "40"] {
            assert!(three.contains(word), "{word}");
        }
        assert_eq!(cells(&three), 6);
        assert_eq!(cells(&draw(&classes(40, 400))), 40);
        assert_eq!(cells(&draw(&classes(3, 0))), 0);
    }

    #[test]
    fn what_came_stands_against_what_was_expected() {
        let draw = |expected: &[f64], truth: &[f64]| {
            let subjects = subjects(truth.len());
            let rows = Amounts {
                subjects: &subjects,
                truth,
                expected,
                training_mean: 0.0,
                cuts: &[],
                reaching: &[],
                central: None,
            };
            let figures = AmountFigures::of(rows, 0);
            drawn("observed.svg", |folder| write_amounts(folder, &named(), &figures))
        };
        let expected: Vec<f64> = (0..300).map(|i| f64::from(i) * 100.0).collect();
        let truth: Vec<f64> = (0..300).map(|i| f64::from(i) * 90.0 + f64::from(i % 7)).collect();
        let svg = draw(&expected, &truth);
        assert_eq!(svg.matches("<circle").count(), 11, "ten groups and the sample of the legend");
        for word in ["Observed against expected", "mean of what came", "perfect", "groups of rows, MAE", "n = 300"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(draw(&[], &[]).contains("MAE not defined"));
        assert_eq!(draw(&[2.0; 20], &[2.0; 20]).matches("<circle").count(), 2);
    }

    #[test]
    fn predicted_incidence_stands_against_what_came() {
        let draw = |n: usize, times: &[f64]| {
            let subjects = subjects(n);
            let hours: Vec<f64> = (0..n).map(|i| (i * 31 % 97) as f64).collect();
            let events: Vec<bool> = (0..n).map(|i| i % 3 == 1).collect();
            let row = |i: usize| times.iter().map(move |time| time * (i % 10) as f64 / 10_000.0);
            let incidence: Vec<f64> = (0..n).flat_map(row).collect();
            let rows = Incidences { subjects: &subjects, hours: &hours, events: &events, times, incidence: &incidence };
            let figures = SurvivalFigures::of(rows, 0);
            drawn("incidence.svg", |folder| write_survival(folder, &named(), &figures))
        };
        let svg = draw(200, &[12.0, 24.0, 48.0, 72.0]);
        assert_eq!(svg.matches("<circle").count(), 5, "four times and the sample of the legend");
        for word in ["Incidence", "hours", "Kaplan-Meier", "concordance 0.", "67 with the event"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(draw(0, &[12.0]).contains("concordance not defined"));
        assert_eq!(draw(20, &[500.0]).matches("<circle").count(), 1, "nobody is watched for so long");
    }
}
