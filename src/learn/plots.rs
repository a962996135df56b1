//! An evaluation as pictures, and as JSON beside them.
//!
//! Promises plain SVG without fonts of its own, whose texts stand in rows of their own above
//! the axes so that none overlaps another, in colours that the colour-blind tell apart
//! (Okabe and Ito 2008). Holds figures and sums over rows, never a subject.

pub(super) mod panels;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::Serialize;

use super::LearnError;
use super::evaluate::Evaluation;
use super::importance::Importance;
use super::metrics::Curves;
use super::train::Named;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(120, 120, 120);
const FAINT: RGBColor = RGBColor(225, 225, 225);

/// Width of every picture, and height of the axes with their descriptions.
const SIZE: (u32, u32) = (680, 520);
/// Height of the title with the line below it, and of a row of the legend.
const ROWS: (i32, i32) = (62, 22);
/// Bars of each half of the picture of importance.
const BARS: usize = 20;
/// Height of a bar with its gap, and of what is above and below the bars of a half.
const ROW: i32 = 20;
const AROUND: i32 = 84;
/// Most characters of a name in a picture.
const NAME: usize = 44;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// One line or set of points, and what the legend says of it.
struct Series {
    name: String,
    color: RGBColor,
    look: Look,
    points: Vec<(f64, f64)>,
}

enum Look {
    Line,
    Dashed,
    Points,
    /// Points with a vertical interval each.
    Intervals(Vec<[f64; 2]>),
}

/// A picture with two axes.
struct Plot {
    title: &'static str,
    judged: String,
    x: (&'static str, Range<f64>),
    y: (&'static str, Range<f64>),
    series: Vec<Series>,
}

/// Writes `roc.svg`, `pr.svg`, `reliability.svg`, `decision_curve.svg`, `importance.svg`,
/// `report.json` and `importance.json` into a folder that is there, replacing what is there.
///
/// # Errors
/// If a file cannot be written.
pub(super) fn write(folder: &Path, evaluation: &Evaluation, importance: &Importance) -> Result<(), LearnError> {
    /// With the curves, which are not printed.
    #[derive(Serialize)]
    struct Report<'a> {
        #[serde(flatten)]
        evaluation: &'a Evaluation,
        curves: &'a Curves,
    }
    let report = Report { evaluation, curves: &evaluation.curves };
    let files = [
        picture("roc.svg", &roc(evaluation))?,
        picture("pr.svg", &pr(evaluation))?,
        picture("reliability.svg", &reliability(evaluation))?,
        picture("decision_curve.svg", &decision_curve(evaluation))?,
        ("importance.svg", bars(evaluation, importance)?),
        ("report.json", serde_json::to_string_pretty(&report)?),
        ("importance.json", serde_json::to_string_pretty(importance)?),
    ];
    files.into_iter().try_for_each(|file| keep(folder, file))
}

/// Writes a file into a folder.
fn keep(folder: &Path, (name, text): (&str, String)) -> Result<(), LearnError> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(LearnError::io(&path))
}

/// The model and the rows it was judged by.
fn judged(evaluation: &Evaluation) -> String {
    let (model, metrics) = (model(&evaluation.model), &evaluation.metrics);
    format!("{model}, n = {}, {} with the outcome", metrics.n, metrics.positives)
}

fn model(model: &Named) -> String {
    format!("{} version {}", shortened(&model.name), model.version)
}

/// A figure with its interval, for a legend.
fn figure(name: &str, value: Option<f64>, ci: Option<[f64; 2]>) -> String {
    let short = |value: f64| if value.abs() < 1e6 { format!("{value:.3}") } else { format!("{value:.3e}") };
    match (value.map(short), ci.map(|ends| ends.map(short))) {
        (None, _) => format!("{name} not defined"),
        (Some(value), None) => format!("{name} {value}"),
        (Some(value), Some([low, high])) => format!("{name} {value} (95 % interval {low} to {high})"),
    }
}

fn roc(evaluation: &Evaluation) -> Plot {
    let (metrics, curves) = (&evaluation.metrics, &evaluation.curves);
    let points = curves.roc.iter().map(|point| (point.fpr, point.tpr)).collect();
    let at = metrics.specificity.zip(metrics.sensitivity).map(|(specificity, se)| (1.0 - specificity, se));
    let model = figure("AUROC", metrics.auroc, metrics.ci.auroc);
    let series = vec![
        Series { name: "chance".to_owned(), color: GREY, look: Look::Dashed, points: vec![(0.0, 0.0), (1.0, 1.0)] },
        Series { name: model, color: BLUE, look: Look::Line, points },
        Series {
            name: at_threshold(metrics.threshold),
            color: VERMILION,
            look: Look::Points,
            points: Vec::from_iter(at),
        },
    ];
    Plot {
        title: "Receiver operating characteristic",
        judged: judged(evaluation),
        x: ("1 - specificity", 0.0..1.0),
        y: ("sensitivity", 0.0..1.0),
        series,
    }
}

fn pr(evaluation: &Evaluation) -> Plot {
    let (metrics, curves) = (&evaluation.metrics, &evaluation.curves);
    // Between two thresholds a higher recall is had with the precision of the lower: steps.
    let mut points = Vec::new();
    let mut recall = 0.0;
    for point in &curves.pr {
        points.extend([(recall, point.precision), (point.recall, point.precision)]);
        recall = point.recall;
    }
    let share = metrics.positives as f64 / metrics.n.max(1) as f64;
    let model = figure("AUPRC", metrics.auprc, metrics.ci.auprc);
    let chance = vec![(0.0, share), (1.0, share)];
    let series = vec![
        Series { name: format!("chance: {share:.3}"), color: GREY, look: Look::Dashed, points: chance },
        Series { name: model, color: BLUE, look: Look::Line, points },
        Series {
            name: at_threshold(metrics.threshold),
            color: VERMILION,
            look: Look::Points,
            points: Vec::from_iter(metrics.sensitivity.zip(metrics.ppv)),
        },
    ];
    Plot {
        title: "Precision over recall",
        judged: judged(evaluation),
        x: ("recall (sensitivity)", 0.0..1.0),
        y: ("precision (positive predictive value)", 0.0..1.0),
        series,
    }
}

fn at_threshold(threshold: f64) -> String {
    format!("at the model's threshold, a risk of {threshold:.3}")
}

fn reliability(evaluation: &Evaluation) -> Plot {
    let (metrics, details) = (&evaluation.metrics, &evaluation.details);
    let deciles = details.hosmer_lemeshow.iter().flat_map(|of| &of.deciles);
    let points: Vec<(f64, f64)> = deciles.clone().map(|decile| (decile.mean_risk, decile.observed)).collect();
    let intervals: Vec<[f64; 2]> = deciles.map(|decile| decile.observed_ci).collect();
    let highest = points.iter().map(|point| point.0).chain(intervals.iter().map(|of| of[1])).fold(0.1, f64::max);
    let end = ((highest * 10.0).ceil() / 10.0).min(1.0);
    let line = match details.calibration {
        Some(line) => format!("slope {:.2}, intercept {:.2}", line.slope, line.intercept),
        None => "no slope".to_owned(),
    };
    let tenths = format!("tenths of the rows with 95 % intervals: {}, {line}", figure("ECE", metrics.ece, None));
    let series = vec![
        Series { name: "perfect".to_owned(), color: GREY, look: Look::Dashed, points: vec![(0.0, 0.0), (end, end)] },
        Series { name: tenths, color: BLUE, look: Look::Intervals(intervals), points },
    ];
    Plot {
        title: "Reliability",
        judged: judged(evaluation),
        x: ("mean risk (probability)", 0.0..end),
        y: ("share with the outcome", 0.0..end),
        series,
    }
}

fn decision_curve(evaluation: &Evaluation) -> Plot {
    let curve = &evaluation.curves.decision;
    let share = evaluation.metrics.positives as f64 / evaluation.metrics.n.max(1) as f64;
    let worst = curve.iter().map(|point| point.model).fold(0.0, f64::min);
    let low = worst.min(-0.1 * share).max(-share.max(0.01));
    // Beyond the last threshold at which the model is of use, nothing is left to see.
    let last = curve.iter().rev().find(|point| point.model > 0.0).map_or(0.0, |point| point.threshold);
    let end = (last + 0.1).clamp(0.2, 1.0);
    let seen = |point: &(f64, f64)| point.0 <= end && point.1 >= low;
    let points = |get: fn(&super::metrics::NetBenefit) -> f64| -> Vec<(f64, f64)> {
        curve.iter().map(|point| (point.threshold, get(point))).filter(seen).collect()
    };
    let named = |name: &str, color, look, points| Series { name: name.to_owned(), color, look, points };
    let none = vec![(0.0, 0.0), (end, 0.0)];
    Plot {
        title: "Decision curve",
        judged: judged(evaluation),
        x: ("threshold (risk from which one acts)", 0.0..end),
        y: ("net benefit (true positives per row)", low..(1.1 * share).max(0.01)),
        series: vec![
            named("act on nobody", GREY, Look::Dashed, none),
            named("act on everybody", VERMILION, Look::Line, points(|point| point.all)),
            named("act on the model", BLUE, Look::Line, points(|point| point.model)),
        ],
    }
}

/// The file of a picture with two axes.
fn picture(name: &'static str, plot: &Plot) -> Result<(&'static str, String), LearnError> {
    let height = SIZE.1 + (ROWS.0 + ROWS.1 * plot.series.len() as i32) as u32;
    Ok((name, svg(name, (SIZE.0, height), |area| draw(area, plot))?))
}

/// Draws on a picture and gives its text.
fn svg(name: &'static str, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, LearnError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
        drawn.map_err(|error| LearnError::Plot { name, reason: error.to_string() })?;
    }
    Ok(text)
}

fn write_text(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, pos: HPos) -> Drawn {
    let style = ("sans-serif", size).into_text_style(area).pos(Pos::new(pos, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
}

fn heading(area: &Area<'_>, title: &str, below: &str) -> Drawn {
    write_text(area, title, (20, 22), 19, HPos::Left)?;
    write_text(area, below, (20, 46), 15, HPos::Left)
}

/// The title, a row of the legend for each series, and the axes below.
fn draw(area: &Area<'_>, plot: &Plot) -> Drawn {
    heading(area, plot.title, &plot.judged)?;
    for (i, series) in (0..).zip(&plot.series) {
        let y = ROWS.0 + ROWS.1 * i + ROWS.1 / 2;
        let sample = match series.look {
            Look::Points | Look::Intervals(_) => vec![(38, y)],
            Look::Line | Look::Dashed => vec![(24, y), (52, y)],
        };
        mark(area, &sample, series)?;
        write_text(area, &series.name, (62, y), 16, HPos::Left)?;
    }
    let (_, below) = area.split_vertically(ROWS.0 + ROWS.1 * plot.series.len() as i32);
    let mut chart = ChartBuilder::on(&below)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(plot.x.1.clone(), plot.y.1.clone())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|value| label(*value, &plot.x.1))
        .y_label_formatter(&|value| label(*value, &plot.y.1))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .x_desc(plot.x.0)
        .y_desc(plot.y.0)
        .draw()?;
    for series in &plot.series {
        let place = |point: &(f64, f64)| chart.plotting_area().map_coordinate(point);
        if let Look::Intervals(intervals) = &series.look {
            for (point, [low, high]) in series.points.iter().zip(intervals) {
                let ends = vec![place(&(point.0, *low)), place(&(point.0, *high))];
                area.draw(&PathElement::new(ends, series.color.stroke_width(2)))?;
            }
        }
        mark(area, &series.points.iter().map(place).collect::<Vec<_>>(), series)?;
    }
    Ok(())
}

/// A number of an axis, with the digits that tell it from its neighbours.
fn label(value: f64, span: &Range<f64>) -> String {
    let width = span.end - span.start;
    if width < 0.01 || span.start.abs().max(span.end.abs()) >= 1e6 {
        return format!("{value:.2e}");
    }
    let digits = if width < 0.15 {
        3
    } else if width < 0.6 {
        2
    } else if width < 10.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$}")
}

/// A series, or its sample in the legend, at pixels of the picture.
fn mark(area: &Area<'_>, points: &[(i32, i32)], series: &Series) -> Drawn {
    let style = series.color.stroke_width(2);
    match series.look {
        Look::Line => area.draw(&PathElement::new(points.to_vec(), style)),
        Look::Dashed => area.draw(&DashedPathElement::new(points.iter().copied(), 6, 5, style)),
        Look::Points | Look::Intervals(_) => {
            points.iter().try_for_each(|point| area.draw(&Circle::new(*point, 5, series.color.filled())))
        }
    }
}

/// Bars of the concepts and, below, of the features.
fn bars(evaluation: &Evaluation, importance: &Importance) -> Result<String, LearnError> {
    let concepts: Vec<(&str, f64)> =
        importance.concepts.iter().take(BARS).map(|of| (of.concept.as_str(), of.mean_abs)).collect();
    let features: Vec<(&str, f64)> =
        importance.features.iter().take(BARS).map(|of| (of.feature.as_str(), of.mean_abs)).collect();
    let parts = [("Concepts, all features of each together", concepts), ("Single features", features)];
    let rows: usize = parts.iter().map(|(_, bars)| bars.len()).sum();
    let height = ROWS.0 + 2 * AROUND + ROW * rows as i32;
    svg("importance.svg", (SIZE.0, height as u32), |area| {
        let explained = format!("{}, {} rows explained", model(&evaluation.model), importance.rows);
        heading(area, "Importance", &explained)?;
        let mut top = ROWS.0;
        for (name, bars) in &parts {
            write_text(area, name, (20, top + 16), 17, HPos::Left)?;
            part(area, top + 32, bars)?;
            top += AROUND + ROW * bars.len() as i32;
        }
        Ok(())
    })
}

/// Bars from `top` down with an axis below them.
fn part(area: &Area<'_>, top: i32, bars: &[(&str, f64)]) -> Drawn {
    const LEFT: i32 = 310;
    let width = SIZE.0 as i32 - LEFT - 70;
    let most = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    for (i, (name, size)) in (0..).zip(bars) {
        let middle = top + ROW * i + ROW / 2;
        let end = LEFT + if most > 0.0 { (size / most * f64::from(width)).round() as i32 } else { 0 };
        write_text(area, &shortened(name), (LEFT - 8, middle), 14, HPos::Right)?;
        area.draw(&Rectangle::new([(LEFT, middle - 7), (end, middle + 7)], BLUE.filled()))?;
        write_text(area, &format!("{size:.4}"), (end + 6, middle), 13, HPos::Left)?;
    }
    let bottom = top + ROW * bars.len() as i32 + 4;
    area.draw(&PathElement::new(vec![(LEFT, top - 2), (LEFT, bottom), (LEFT + width, bottom)], BLACK))?;
    let middle = LEFT + width / 2;
    write_text(area, "mean size of the contribution to the risk (probability)", (middle, bottom + 16), 15, HPos::Center)
}

/// A name that fits, its middle left out if need be.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= NAME {
        return name.to_owned();
    }
    let half = (NAME - 1) / 2;
    letters[..half].iter().chain(['…'].iter()).chain(&letters[letters.len() - half..]).collect()
}

#[cfg(test)]
mod tests;
