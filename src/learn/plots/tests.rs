use super::super::importance::importance;
use super::super::matrix::LeftOut;
use super::super::metrics::{Dated, Details, Scored, evaluate};
use super::super::tests::bundle;
use super::super::train::Named;
use super::*;
use crate::events::SubjectId;
use crate::models::Matrix;

fn evaluation(rows: &[(f64, bool)]) -> Evaluation {
    let scored: Vec<Scored> = (0..)
        .zip(rows)
        .map(|(i, (risk, outcome))| Scored { subject: SubjectId(7_340_192_845 + i), risk: *risk, outcome: *outcome })
        .collect();
    let dated: Vec<Dated> = scored.iter().map(|scored| Dated { scored: *scored, time: 0, onset: None }).collect();
    let (details, curves) = Details::of(&dated, 0.5);
    Evaluation {
        panel: None,
        metrics: evaluate(&scored, 0.5, 0),
        task: "ward".to_owned(),
        model: Named { name: "a<b&c_with_a_name_that_is_longer_than_there_is_room_for".to_owned(), version: 3 },
        left_out: LeftOut::default(),
        abstention: None,
        details,
        subgroups: Vec::new(),
        subgroups_missing: Vec::new(),
        against: None,
        curves,
    }
}

fn drawn(rows: &[(f64, bool)]) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let mut matrix = Matrix::new(2);
    (0..40_u8).for_each(|i| matrix.push_row(&[f32::from(i), f32::from(i % 7)]).unwrap());
    write(folder.path(), &evaluation(rows), &importance(&bundle("ward", 1), &matrix).unwrap()).unwrap();
    let mut files: Vec<(String, String)> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn data() -> Vec<(f64, bool)> {
    (0..400).map(|i| (f64::from(i * 37 % 400) / 400.0, (i * 37 % 400) > (i * 61 % 300) + 100)).collect()
}

/// Every tag is closed in its order, and no bare `<` or `&` stands in a text.
pub(super) fn is_xml(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag that ends");
        let (text, tag) = (&rest[..start], &rest[start + 1..end]);
        assert!(!text.contains('>'), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(["lt;", "gt;", "amp;", "quot;", "apos;"].iter().any(|known| entity.starts_with(known)), "{entity}");
        }
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

#[test]
fn pictures_are_whole_and_say_what_they_show() {
    let files = drawn(&data());
    let expected = [
        ("decision_curve.svg", ["Decision curve", "act on everybody", "net benefit"]),
        ("importance.svg", ["40 rows explained", "Concepts, all features of each together", "probability"]),
        ("pr.svg", ["Precision over recall", "AUPRC 0.", "recall (sensitivity)"]),
        ("reliability.svg", ["Reliability", "slope", "mean risk (probability)"]),
        ("roc.svg", ["n = 400", "AUROC 0.", "95 % interval 0."]),
    ];
    let svgs: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".svg")).collect();
    assert_eq!(svgs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected.map(|(name, _)| name));
    for ((name, svg), (_, words)) in svgs.iter().zip(expected) {
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        is_xml(svg);
        for word in words.iter().chain(&["a&lt;b&amp;c_with_a_name", "version 3"]) {
            assert!(svg.contains(word), "{name} lacks {word}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("7340192"), "{name}");
    }
}

/// Texts as (x from, x to, y of the baseline), as wide as letters of sans-serif are at most on the whole.
fn texts(svg: &str) -> Vec<(f64, f64, f64, String)> {
    let value = |tag: &str, key: &str| -> String {
        let from = tag.find(&format!(" {key}=\"")).unwrap() + key.len() + 3;
        tag[from..].split('"').next().unwrap().to_owned()
    };
    let number = |tag: &str, key: &str| value(tag, key).parse::<f64>().unwrap();
    let parts = svg
        .split("<text")
        .skip(1)
        .filter(|text| !text.contains("transform=") || !text.split('>').next().unwrap().contains("rotate"));
    parts
        .map(|text| {
            let (tag, rest) = text.split_once('>').unwrap();
            let words = rest.split('<').next().unwrap().trim().to_owned();
            let (x, size) = (number(tag, "x"), number(tag, "font-size"));
            let width = 0.56 * size * words.chars().count() as f64;
            let down = match value(tag, "dy").as_str() {
                "0.76em" => 0.76,
                "0.5ex" => 0.25,
                _ => -0.25,
            };
            let from = match value(tag, "text-anchor").as_str() {
                "start" => x,
                "end" => x - width,
                _ => x - width / 2.0,
            };
            (from, from + width, number(tag, "y") + down * size, words)
        })
        .collect()
}

/// No text overlaps another or the border.
pub(super) fn no_overlap(name: &str, svg: &str) {
    let texts = texts(svg);
    for (i, a) in texts.iter().enumerate() {
        assert!(a.0 >= 0.0 && a.1 <= f64::from(SIZE.0), "{name}: {a:?}");
        for b in &texts[i + 1..] {
            let apart = a.1 <= b.0 || b.1 <= a.0 || (a.2 - b.2).abs() >= 12.0;
            assert!(apart, "{name}: {a:?} {b:?}");
        }
    }
}

#[test]
fn no_text_overlaps_another_or_the_border() {
    for (name, svg) in drawn(&data()).iter().filter(|(name, _)| name.ends_with(".svg")) {
        assert!(texts(svg).len() > 8, "{name}: {}", texts(svg).len());
        no_overlap(name, svg);
    }
}

#[test]
fn one_outcome_and_no_rows_still_make_pictures() {
    for rows in [vec![(0.3, false); 30], vec![]] {
        let files = drawn(&rows);
        assert_eq!(files.len(), 7);
        assert!(files.iter().any(|(name, svg)| name == "roc.svg" && svg.contains("AUROC not defined")));
        for (name, text) in files {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
        }
    }
}

#[test]
fn the_report_has_the_curves_and_no_subject() {
    let files = drawn(&data());
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_str(&files.iter().find(|file| file.0 == name).unwrap().1).unwrap()
    };
    let (report, importance) = (json("report.json"), json("importance.json"));
    assert!(report["curves"]["roc"].as_array().unwrap().len() > 20);
    for key in ["auroc", "ci", "reliability", "operating_points", "hosmer_lemeshow", "utility_2019", "subgroups"] {
        assert!(report.get(key).is_some(), "{key}");
    }
    assert_eq!(importance["features"][0]["feature"], "a");
    assert_eq!(importance["dependence"][0]["points"].as_array().unwrap().len(), 40);
    assert!(files.iter().all(|(_, text)| !text.contains("7340192")));
}

#[test]
fn long_names_keep_both_ends() {
    assert_eq!(shortened("age"), "age");
    let short = shortened("a_concept_with_quite_a_long_name=and a category.last.24h");
    assert!(short.chars().count() <= NAME && short.starts_with("a_concept") && short.ends_with("last.24h"));
}
