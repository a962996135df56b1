//! Files that are built here, and those of scikit-learn's and other converters.

use std::path::Path;

use super::super::tests::{assert_alike_dealt_and_alone, bits, score};
use super::super::treeshap::tests as treeshap;
use super::super::{Bundle, Family, FitSpec, PanelSpec, Question, Target};
use super::*;

/// A field of a protocol buffer that holds bytes.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(varint(content.len() as u64));
    out.extend_from_slice(content);
    out
}

fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    out.extend(varint(value));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let mut out: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    out.extend(number(2, 1));
    out.extend(bytes(8, name.as_bytes()));
    out.extend(bytes(9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
    out
}

fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|&dim| bytes(1, &number(1, dim))).collect();
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn node(kind: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    out.extend(bytes(2, output.as_bytes()));
    out.extend(bytes(4, kind.as_bytes()));
    out
}

/// `sigmoid(x W + b)` over `weights.len()` columns, or without the sigmoid, as ONNX of opset 13.
fn logistic(weights: &[f32], bias: f32, sigmoid: bool) -> Vec<u8> {
    let columns = weights.len() as u64;
    let mut graph = [
        bytes(1, &node("MatMul", &["x", "w"], "xw")),
        bytes(1, &node("Add", &["xw", "b"], "z")),
        bytes(2, b"logistic"),
        bytes(5, &tensor("w", &[columns, 1], weights)),
        bytes(5, &tensor("b", &[1], &[bias])),
        bytes(11, &value("x", &[1, columns])),
    ]
    .concat();
    if sigmoid {
        graph.extend(bytes(1, &node("Sigmoid", &["z"], "p")));
    }
    graph.extend(bytes(12, &value(if sigmoid { "p" } else { "z" }, &[1, 1])));
    [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat()
}

fn rows() -> Matrix {
    Matrix::from_values(3, (0..30).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect()).unwrap()
}

fn hyper(output: OnnxOutput) -> OnnxHyper {
    OnnxHyper { file: "model.onnx".to_owned(), output, ..OnnxHyper::default() }
}

/// What a model says of a row: its probability, or its log-odds.
fn said(model: &Foreign, row: &[f32], output: OnnxOutput) -> f64 {
    let mut margin = Vec::new();
    model.margins(row, &mut margin);
    match (model.link(), output) {
        (Link::LogOdds, OnnxOutput::Probability) => sigmoid(margin[0]),
        _ => margin[0],
    }
}

#[test]
fn a_users_model_scores_as_its_formula_and_comes_back_the_same() {
    let (weights, bias) = ([1.5f32, -2.0, 0.25], -0.5f32);
    let x = rows();
    for (output, squashed) in [(OnnxOutput::Probability, true), (OnnxOutput::Logit, false)] {
        let model = Foreign::take(&hyper(output), &logistic(&weights, bias, squashed), &x).unwrap();
        let again = Foreign::decode(&model.encode().unwrap()).unwrap();
        for row in 0..x.rows() {
            let z = f64::from(bias)
                + x.row(row).iter().zip(weights).map(|(&x, w)| f64::from(x) * f64::from(w)).sum::<f64>();
            let ours = said(&model, x.row(row), output);
            let want = if squashed { sigmoid(z) } else { z };
            assert!((ours - want).abs() < 1e-5, "{ours} {want}");
            assert_eq!(ours.to_bits(), said(&again, x.row(row), output).to_bits());
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_when_it_is_taken_in() {
    let x = rows();
    let take = |file: &[u8]| Foreign::take(&hyper(OnnxOutput::Probability), file, &x).unwrap_err().to_string();
    assert!(take(b"no model").contains("tract cannot run it"));
    assert!(take(b"").contains("holds no graph"));
    assert!(take(&logistic(&[1.0; 5], 0.0, true)).contains("rows of 3"));
    // Log-odds are no probability.
    assert!(take(&logistic(&[9.0, 0.0, 0.0], 20.0, false)).contains("onnx.output"));
    let graph = |nodes: &[Vec<u8>], inputs: &[&str], output: &str| {
        let mut graph: Vec<u8> = nodes.iter().flat_map(|node| bytes(1, node)).collect();
        inputs.iter().for_each(|input| graph.extend(bytes(11, &value(input, &[1, 3]))));
        graph.extend(bytes(12, &value(output, &[1, 3])));
        [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat()
    };
    let unknown = take(&graph(&[node("Guess", &["x"], "y"), node("Wonder", &["y"], "z")], &["x"], "z"));
    assert!(unknown.contains("lacks the operators Guess, Wonder"), "{unknown}");
    let three = take(&graph(&[node("Sigmoid", &["x"], "p")], &["x"], "p"));
    assert!(three.contains("3 numbers for 1 rows"), "{three}");
    let two = take(&graph(&[node("Add", &["x", "y"], "p")], &["x", "y"], "p"));
    assert!(two.contains("2 inputs") && two.contains("initial_types"), "{two}");

    let mut damaged = logistic(&[1.0, 2.0, 3.0], 0.0, true);
    for at in 0..damaged.len() {
        damaged[at] ^= 0x55;
        // Any answer is right but a panic.
        let _ = Foreign::take(&hyper(OnnxOutput::Probability), &damaged, &x).is_ok();
        damaged[at] ^= 0x55;
    }
    assert!(matches!(Foreign::decode(br#"{"columns":1}"#), Err(ModelError::Corrupt { .. })));
}

#[test]
fn the_explanation_of_a_linear_model_is_its_terms() {
    let weights = [1.5f32, -2.0, 0.25];
    let x = rows();
    let exact = Foreign::take(&hyper(OnnxOutput::Logit), &logistic(&weights, 0.0, false), &x).unwrap();
    // The same, by tract and sampling.
    let model = graph::read(&logistic(&weights, 0.0, false)).unwrap();
    let plan = |rows: usize| Plan::new(&model, rows, 3, None).unwrap();
    let engine = Engine::Tract { one: plan(1), many: Some(plan(BATCH)) };
    let sampled = Foreign { stored: exact.stored.clone(), engine };
    for (model, is_exact) in [(&exact, true), (&sampled, false)] {
        let Attribution { contributions, error, .. } = model.attribute(x.row(2));
        assert!(error.is_none() == is_exact && error.is_none_or(|error| error < 1e-5));
        for ((found, (&value, &base)), weight) in
            contributions.iter().zip(x.row(2).iter().zip(&model.stored.baseline)).zip(weights)
        {
            assert!((found - f64::from(weight) * (f64::from(value) - f64::from(base))).abs() < 1e-5);
        }
    }
}

/// A model of `tests/fixtures/onnx`, which `tests/peers/onnx_models.py` made.
#[derive(Deserialize)]
struct Fixture {
    rows: Vec<Vec<Option<f32>>>,
    probabilities: Vec<f64>,
    /// Names of the classes, if there are more than two; each row has a probability of each.
    #[serde(default)]
    classes: Vec<String>,
    onnx: String,
}

impl Fixture {
    fn read(name: &str) -> Fixture {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/onnx"));
        serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap()
    }

    fn file(&self) -> Vec<u8> {
        STANDARD.decode(&self.onnx).unwrap()
    }

    fn rows(&self) -> Matrix {
        let values = self.rows.iter().flatten().map(|value| value.unwrap_or(f32::NAN)).collect();
        Matrix::from_values(self.rows[0].len(), values).unwrap()
    }

    fn taken(&self) -> Foreign {
        Foreign::take(&hyper(OnnxOutput::Probability), &self.file(), &self.rows()).unwrap()
    }
}

/// What runs a model.
#[derive(Copy, Clone, PartialEq, Debug)]
enum How {
    Plain,
    Trees,
    Tract,
}

impl How {
    fn of(model: &Foreign) -> How {
        match &model.engine {
            Engine::Own(Own::Plain(_)) => How::Plain,
            Engine::Own(Own::Trees(_)) => How::Trees,
            Engine::Tract { .. } => How::Tract,
        }
    }
}

/// Each with what runs it, and whether it deals with gaps itself.
const FIXTURES: [(&str, How, bool); 24] = [
    ("logistic", How::Plain, true),
    ("zipmap", How::Plain, true),
    ("components", How::Plain, true),
    ("selected", How::Plain, true),
    ("mlp", How::Plain, true),
    ("mlp_tanh", How::Plain, true),
    ("torch", How::Plain, false),
    ("forest", How::Trees, true),
    ("forest_regressor", How::Trees, true),
    ("raw_forest", How::Trees, false),
    ("mixed_forest", How::Trees, false),
    ("tree_ensemble", How::Trees, false),
    ("gradient_boosting", How::Trees, true),
    ("hist_boosting", How::Trees, true),
    ("xgboost", How::Trees, true),
    ("lightgbm", How::Trees, true),
    ("svc", How::Tract, true),
    ("calibrated", How::Tract, true),
    ("bagging", How::Tract, true),
    ("bayes", How::Tract, true),
    ("normalized", How::Tract, true),
    ("unit_range", How::Tract, true),
    ("one_hot", How::Tract, false),
    ("ordinal", How::Tract, false),
];

#[test]
fn converted_models_give_the_probabilities_of_the_library_that_fitted_them() {
    for (name, how, _) in FIXTURES {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        assert_eq!(How::of(&model), how, "{name}");
        assert_eq!(model.stored.batches, how == How::Tract, "{name}");
        for (row, want) in fixture.probabilities.iter().enumerate() {
            let found = said(&model, x.row(row), OnnxOutput::Probability);
            assert!((found - want).abs() < 1e-5, "{name}, row {row}: {found} {want}");
        }
    }
}

#[test]
fn a_row_of_a_converted_model_has_the_same_bits_alone_in_a_batch_and_after_a_load() {
    for (name, _, _) in FIXTURES {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        let loaded = Foreign::decode(&model.encode().unwrap()).unwrap();
        let margins = |model: &Foreign, rows: &[f32]| {
            let mut out = Vec::new();
            model.margins(rows, &mut out);
            bits(&out)
        };
        let batch = margins(&model, x.values());
        let alone: Vec<u64> = (0..x.rows()).flat_map(|row| margins(&model, x.row(row))).collect();
        assert_eq!(batch, alone, "{name}");
        assert_eq!(batch, margins(&loaded, x.values()), "{name}");
        assert_eq!(model.attribute(x.row(1)), loaded.attribute(x.row(1)), "{name}");
    }
}

#[test]
fn the_explanation_of_a_converted_model_adds_up() {
    for (name, how, _) in FIXTURES {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        for row in 0..3 {
            let margin = model.margin(x.row(row));
            let Attribution { base, contributions, error } = model.attribute(x.row(row));
            let sum = base + contributions.iter().sum::<f64>();
            assert!((sum - margin).abs() < 1e-9, "{name}, row {row}: {sum} {margin}");
            assert_eq!(error.is_none(), how != How::Tract, "{name}");
        }
    }
}

/// Shapley's formula over all subsets of the columns, each of which is the row's or the baseline's.
fn over_subsets(model: &Foreign, row: &[f32]) -> Vec<f64> {
    let baseline = &model.stored.baseline;
    let columns = row.len() as u32;
    let mixed = |set: u32| -> Vec<f32> {
        let from = |(column, (&row, &base)): (usize, (&f32, &f32))| if set & (1 << column) != 0 { row } else { base };
        row.iter().zip(baseline).enumerate().map(from).collect()
    };
    let worth: Vec<f64> = (0..1 << columns).map(|set| model.margin(&mixed(set))).collect();
    (0..columns).map(|column| treeshap::over_subsets(columns, column, |set| worth[set as usize])).collect()
}

#[test]
fn the_explanation_of_trees_is_shapley_s_formula_over_all_subsets() {
    for (name, ..) in FIXTURES.into_iter().filter(|(_, how, _)| *how == How::Trees) {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        for row in 0..x.rows() {
            let found = model.attribute(x.row(row));
            assert_eq!(found.base.to_bits(), model.margin(&model.stored.baseline).to_bits(), "{name}");
            for (column, (found, want)) in found.contributions.iter().zip(over_subsets(&model, x.row(row))).enumerate()
            {
                assert!((found - want).abs() < 1e-9, "{name}, row {row}, column {column}: {found} {want}");
            }
        }
    }
}

/// The rows again and again.
fn repeated(x: &Matrix, count: usize) -> Vec<f32> {
    (0..count).flat_map(|row| x.row(row % x.rows()).iter().copied()).collect()
}

#[test]
fn rows_have_the_same_bits_few_or_many_at_once() {
    let mut row_by_row = Vec::new();
    for (name, ..) in FIXTURES.into_iter().filter(|(_, how, _)| *how == How::Tract) {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        let full = bits(&model.batch(&mut repeated(&x, BATCH)));
        let alone: Vec<f64> = (0..BATCH).map(|row| model.margin(x.row(row % x.rows()))).collect();
        for count in [1, BATCH / 2 - 1, BATCH / 2, BATCH - 1] {
            let mut rows = repeated(&x, count);
            let found = model.batch(&mut rows);
            assert_eq!(bits(&found), full[..count], "{name}, {count}");
            assert!(found.iter().zip(&alone).all(|(found, alone)| (found - alone).abs() < 1e-6), "{name}");
            let filled = if count < BATCH / 2 && model.stored.row_by_row { count } else { BATCH };
            assert_eq!(rows.len(), filled * x.columns(), "{name}, {count}");
        }
        if model.stored.row_by_row {
            assert_eq!(full, bits(&alone), "{name}");
            row_by_row.push(name);
        }
    }
    // The vectors of a support vector machine are gone through one row after the other.
    assert!(row_by_row.contains(&"svc"), "{row_by_row:?}");
}

#[test]
fn a_row_that_fails_does_not_spoil_those_beside_it() {
    // Its codes are 0, 1 and 2.
    let fixture = Fixture::read("one_hot");
    let (model, x) = (fixture.taken(), fixture.rows());
    let mut unknown = x.row(0).to_vec();
    unknown[6] = 7.0;
    assert!(model.margin(&unknown).is_nan());
    for count in [1, BATCH / 2] {
        let mut rows = repeated(&x, count);
        rows.extend_from_slice(&unknown);
        let found = model.batch(&mut rows);
        assert!(found[count].is_nan() && (found[0] - model.margin(x.row(0))).abs() < 1e-6, "{found:?}");
        assert!(found[..count].iter().all(|margin| margin.is_finite()), "{found:?}");
    }
}

#[test]
fn of_several_classes_one_is_taken_by_its_name() {
    let fixtures = [
        ("classes_forest", How::Trees),
        ("classes_boosting", How::Tract),
        ("classes_linear", How::Tract),
        ("classes_mlp", How::Tract),
    ];
    for (name, how) in fixtures {
        let fixture = Fixture::read(name);
        let (file, x) = (fixture.file(), fixture.rows());
        let mut hyper = hyper(OnnxOutput::Probability);
        assert_eq!(Foreign::classes(&hyper, &file).unwrap(), fixture.classes, "{name}");
        for (at, class) in fixture.classes.iter().enumerate() {
            hyper.class.clone_from(class);
            let model = Foreign::take(&hyper, &file, &x).unwrap();
            let loaded = Foreign::decode(&model.encode().unwrap()).unwrap();
            assert_eq!(How::of(&model), how, "{name}");
            for row in 0..x.rows() {
                let (found, want) = (model.margin(x.row(row)), fixture.probabilities[row * 3 + at]);
                assert!((found - want).abs() < 1e-5, "{name}, {class}, row {row}: {found} {want}");
                assert_eq!(found.to_bits(), loaded.margin(x.row(row)).to_bits());
            }
            let Attribution { base, contributions, error } = model.attribute(x.row(0));
            let sum = base + contributions.iter().sum::<f64>();
            assert!((sum - model.margin(x.row(0))).abs() < 1e-9 && error.is_none() == (how == How::Trees), "{name}");
            if how == How::Trees {
                let off = contributions.iter().zip(over_subsets(&model, x.row(0))).map(|(a, b)| (a - b).abs());
                assert!(off.fold(0.0, f64::max) < 1e-9, "{name}, {class}");
            }
        }
        let refused = |hyper: &OnnxHyper| Foreign::take(hyper, &file, &x).unwrap_err().to_string();
        let none = refused(&OnnxHyper { class: "moon".to_owned(), ..hyper.clone() });
        assert!(none.contains(&fixture.classes.join(", ")) && none.contains("none is 'moon'"), "{none}");
        let unasked = refused(&OnnxHyper { class: String::new(), ..hyper.clone() });
        assert!(unasked.contains("name one as onnx.class"), "{unasked}");
        let classes = vec!["moon".to_owned(), "sun".to_owned()];
        let two = refused(&OnnxHyper { class: "sun".to_owned(), classes, ..hyper.clone() });
        assert!(two.contains("3 numbers for 1 rows") && two.contains("2 classes"), "{two}");
    }
    let nameless = logistic(&[1.0, 2.0, 3.0], 0.0, true);
    let error = Foreign::classes(&hyper(OnnxOutput::Probability), &nameless).unwrap_err().to_string();
    assert!(error.contains("onnx.classes"), "{error}");
}

/// A panel of which each head takes its class of the file; `names`: of the label, in another order than the file's.
fn panel(name: &str, names: &[&str], classes: &[&str]) -> Result<Bundle, ModelError> {
    let fixture = Fixture::read(name);
    let x = fixture.rows();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let targets: Vec<Target> = (0..x.rows()).map(|row| Target::Class(row % names.len())).collect();
    let question = Question::Class { names: owned(names), watched: 2 };
    let labels: Vec<bool> = targets.iter().map(|target| question.watched(*target).unwrap()).collect();
    let features = (0..x.columns()).map(|column| format!("feature_{column}")).collect();
    let mut spec = FitSpec::new(Family::Onnx, "test", features, "spec");
    spec.params.onnx.file = "model.onnx".to_owned();
    spec.params.onnx.classes = owned(classes);
    spec.onnx = Some(fixture.file());
    spec.panel = Some(PanelSpec { question, train: targets.clone(), tuning: targets });
    Bundle::fit(spec, &x, &labels, &x, &labels)
}

#[test]
fn a_label_of_several_classes_is_answered_by_a_model_of_as_many() {
    let names = ["home", "ward", "died"];
    for (name, classes) in [("classes_forest", &[][..]), ("classes_boosting", &["died", "home", "ward"])] {
        let bundle = panel(name, &names, classes).unwrap();
        let (files, _) = bundle.to_files().unwrap();
        let loaded = Bundle::from_files(&files).unwrap();
        let heads: serde_json::Value = serde_json::from_slice(&files["model.json"]).unwrap();
        let place = |head: usize| heads["heads"][head]["member"]["model"]["place"]["at"].as_u64().unwrap();
        assert_eq!([place(0), place(1), place(2)], [1, 2, 0], "{name}");
        assert_eq!(bundle.output_names(), names);
        let x = Fixture::read(name).rows();
        for row in 0..x.rows() {
            let explanation = bundle.explain(x.row(row)).unwrap();
            let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
            assert!((sum - explanation.risk).abs() < 1e-9, "{name}: {explanation:?}");
            let mut told = Vec::new();
            loaded.assess(x.row(row), &mut Default::default(), &mut Vec::new(), &mut told).unwrap();
            assert!((told.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert_eq!(told[2].to_bits(), explanation.risk.to_bits());
        }
    }
    let refused = |names: &[&str], classes: &[&str]| panel("classes_forest", names, classes).unwrap_err().to_string();
    let other = refused(&["home", "ward", "moon"], &[]);
    assert!(other.contains("classes died, home, ward, the label home, ward, moon"), "{other}");
    assert!(refused(&["home", "ward", "died", "moon"], &[]).contains("died, home, ward, the label"));
    assert!(refused(&["home", "ward", "died"], &["home", "ward", "home"]).contains("the label"));
}

fn bundle(name: &str) -> (Bundle, Matrix) {
    let fixture = Fixture::read(name);
    let x = fixture.rows();
    let labels: Vec<bool> = (0..x.rows()).map(|row| row % 3 == 0).collect();
    let names = (0..x.columns()).map(|column| format!("feature_{column}")).collect();
    let mut spec = FitSpec::new(Family::Onnx, "test", names, "spec");
    spec.params.onnx.file = "model.onnx".to_owned();
    spec.onnx = Some(fixture.file());
    (Bundle::fit(spec, &x, &labels, &x, &labels).unwrap(), x)
}

#[test]
fn many_rows_dealt_to_the_cores_have_the_bits_of_each_alone_however_they_are_run() {
    for (name, how) in [("logistic", How::Plain), ("forest", How::Trees), ("svc", How::Tract)] {
        assert_eq!(How::of(&Fixture::read(name).taken()), how, "{name}");
        let (bundle, x) = bundle(name);
        let many = Matrix::from_values(x.columns(), repeated(&x, 1_500)).unwrap();
        assert_alike_dealt_and_alone(&bundle, &many);
    }
}

#[test]
fn a_bundle_of_a_converted_model_leaves_gaps_to_a_model_that_knows_them() {
    for (name, _, own) in FIXTURES {
        let (bundle, x) = bundle(name);
        let raw = bundle.to_files().unwrap().0["preprocess.json"].starts_with(br#"{"kind":"raw""#);
        assert_eq!(raw, own, "{name}");
        let loaded = Bundle::from_files(&bundle.to_files().unwrap().0).unwrap();
        let risks = score(&bundle, x.values());
        assert_eq!(bits(&risks), bits(&score(&loaded, x.values())), "{name}");
        for row in [x.row(0), &[f32::NAN; 8]] {
            let explanation = bundle.explain(row).unwrap();
            let sum = explanation.base + explanation.contributions.iter().sum::<f64>();
            assert!((sum - explanation.risk).abs() < 1e-9, "{name}: {explanation:?}");
            assert!((0.0..=1.0).contains(&explanation.risk), "{name}");
        }
    }
}

#[test]
fn a_model_that_leaves_a_gap_open_gets_none() {
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // An attribute's type is field 20.
    let attribute = |name: &str, value: Vec<u8>, kind: u8| {
        bytes(5, &[bytes(1, name.as_bytes()), value, vec![0xa0, 1, kind]].concat())
    };
    // `sigmoid((a + b) w)`, where a and b are what the model made of its features.
    let knows = |value: f32, a: &str, b: &str| {
        let attributes = [
            attribute("imputed_value_floats", bytes(7, &floats(&[1.0, 2.0, value])), 6),
            attribute("replaced_value_float", [vec![2 << 3 | 5], floats(&[f32::NAN])].concat(), 1),
        ];
        let graph = [
            bytes(1, &[node("Imputer", &["x"], "full"), attributes.concat()].concat()),
            bytes(1, &node("Add", &[a, b], "y")),
            bytes(1, &node("MatMul", &["y", "w"], "z")),
            bytes(1, &node("Sigmoid", &["z"], "p")),
            bytes(5, &tensor("w", &[3, 1], &[1.0, 2.0, 3.0])),
            bytes(11, &self::value("x", &[1, 3])),
            bytes(12, &self::value("p", &[1, 1])),
        ]
        .concat();
        let file = [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat();
        Foreign::take(&hyper(OnnxOutput::Probability), &file, &rows()).unwrap();
        Foreign::knows_gaps(&file)
    };
    assert!(knows(3.0, "full", "full"));
    assert!(!knows(f32::NAN, "full", "full"), "it puts NaN in the place of NaN");
    assert!(!knows(3.0, "full", "x"), "a gap comes in beside the imputer");
}

#[test]
fn a_damaged_file_of_a_converter_is_refused_or_runs_but_never_panics() {
    for name in ["xgboost", "svc", "mlp", "one_hot"] {
        let fixture = Fixture::read(name);
        let (mut file, x) = (fixture.file(), fixture.rows());
        for at in (0..file.len()).step_by(11) {
            file[at] ^= 0x55;
            let taken = Foreign::take(&hyper(OnnxOutput::Probability), &file, &x);
            assert!(taken.is_ok() || matches!(taken, Err(ModelError::Import { .. })), "{name}, byte {at}");
            file[at] ^= 0x55;
        }
    }
}

/// `sigmoid` of a perceptron of 64 and 32 ReLU over 114 columns, and rows for it.
fn wide() -> (Vec<u8>, Matrix) {
    let mut random = super::super::random::Random::new(5);
    let mut draw = |count: u64| (0..count).map(|_| random.unit() as f32 - 0.5).collect::<Vec<f32>>();
    let mut graph = [bytes(11, &value("x", &[1, 114])), bytes(12, &value("p", &[1, 1]))].concat();
    let mut name = "x".to_owned();
    for (layer, [inputs, outputs]) in [[114, 64], [64, 32], [32, 1]].into_iter().enumerate() {
        let [weights, bias, product, sum, end] = ["w", "b", "xw", "z", "h"].map(|part| format!("{part}{layer}"));
        let (bend, end) = if layer == 2 { ("Sigmoid", "p") } else { ("Relu", end.as_str()) };
        graph.extend(bytes(5, &tensor(&weights, &[inputs, outputs], &draw(inputs * outputs))));
        graph.extend(bytes(5, &tensor(&bias, &[outputs], &draw(outputs))));
        graph.extend(bytes(1, &node("MatMul", &[&name, &weights], &product)));
        graph.extend(bytes(1, &node("Add", &[&product, &bias], &sum)));
        graph.extend(bytes(1, &node(bend, &[&sum], end)));
        name = end.to_owned();
    }
    let file = [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat();
    (file, Matrix::from_values(114, draw(114 * 50).into_iter().map(|x| 4.0 * x).collect()).unwrap())
}

#[test]
#[ignore = "a measurement"]
fn how_long_an_explanation_takes() {
    let mut files: Vec<(&str, Vec<u8>, Matrix)> = vec![("wide", wide().0, wide().1)];
    for name in ["mlp", "hist_boosting", "forest", "svc"] {
        let fixture = Fixture::read(name);
        files.push((name, fixture.file(), fixture.rows()));
    }
    for (name, file, x) in files {
        let taken = Foreign::take(&hyper(OnnxOutput::Probability), &file, &x).unwrap();
        let model = graph::read(&file).unwrap();
        let tract = |many: bool| {
            let plan = |rows: usize| Plan::new(&model, rows, x.columns(), None).unwrap();
            let engine = Engine::Tract { one: plan(1), many: many.then(|| plan(BATCH)) };
            Foreign { stored: taken.stored.clone(), engine }
        };
        let [single, batched] = [false, true].map(tract);
        for (how, model) in [("as taken", &taken), ("tract, row by row", &single), ("tract, in batches", &batched)] {
            let begin = std::time::Instant::now();
            let errors: Vec<f64> =
                (0..x.rows()).map(|row| model.attribute(x.row(row)).error.unwrap_or_default()).collect();
            let explained = begin.elapsed().as_secs_f64() * 1e3 / x.rows() as f64;
            let begin = std::time::Instant::now();
            (0..x.rows()).for_each(|row| assert!(model.margin(x.row(row)).is_finite()));
            let scored = begin.elapsed().as_secs_f64() * 1e6 / x.rows() as f64;
            let error = errors.iter().copied().fold(0.0, f64::max);
            println!("{name}, {how}: explained in {explained:.3} ms, error {error:.4}; scored in {scored:.1} us");
        }
    }
}
