//! Files that are built here, and those of scikit-learn's and other converters.

use std::path::Path;

use super::super::tests::{bits, score};
use super::super::{Bundle, Family, FitSpec};
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
    OnnxHyper { file: "model.onnx".to_owned(), output }
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
    let plan = |rows: usize| Plan::new(&model, rows, 3).unwrap();
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

/// Each with whether it is read as a plain network, and whether it deals with gaps itself.
const FIXTURES: [(&str, bool, bool); 22] = [
    ("logistic", true, true),
    ("zipmap", true, true),
    ("components", true, true),
    ("selected", true, true),
    ("mlp", true, true),
    ("mlp_tanh", true, true),
    ("torch", true, false),
    ("forest", false, true),
    ("forest_regressor", false, true),
    ("raw_forest", false, false),
    ("gradient_boosting", false, true),
    ("hist_boosting", false, true),
    ("xgboost", false, true),
    ("lightgbm", false, true),
    ("svc", false, true),
    ("calibrated", false, true),
    ("bagging", false, true),
    ("bayes", false, true),
    ("normalized", false, true),
    ("unit_range", false, true),
    ("one_hot", false, false),
    ("ordinal", false, false),
];

#[test]
fn converted_models_give_the_probabilities_of_the_library_that_fitted_them() {
    for (name, plain, _) in FIXTURES {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        assert_eq!(model.stored.plain, plain, "{name}");
        assert!(plain || model.stored.batches, "{name}");
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
    for (name, plain, _) in FIXTURES {
        let fixture = Fixture::read(name);
        let (model, x) = (fixture.taken(), fixture.rows());
        for row in 0..3 {
            let margin = model.margin(x.row(row));
            let Attribution { base, contributions, error } = model.attribute(x.row(row));
            let sum = base + contributions.iter().sum::<f64>();
            assert!((sum - margin).abs() < 1e-9, "{name}, row {row}: {sum} {margin}");
            assert_eq!(error.is_none(), plain, "{name}");
        }
    }
}

#[test]
fn many_rows_at_once_are_as_each_alone_and_one_that_fails_does_not_spoil_the_others() {
    let fixture = Fixture::read("hist_boosting");
    let (model, x) = (fixture.taken(), fixture.rows());
    let mut rows = x.values().to_vec();
    let found = model.batch(&mut rows);
    let alone: Vec<f64> = (0..x.rows()).map(|row| model.margin(x.row(row))).collect();
    assert_eq!((found.len(), rows.len()), (x.rows(), BATCH * x.columns()));
    assert!(found.iter().zip(&alone).all(|(found, alone)| (found - alone).abs() < 1e-6));

    // Its codes are 0, 1 and 2.
    let fixture = Fixture::read("one_hot");
    let (model, x) = (fixture.taken(), fixture.rows());
    let mut unknown = x.row(0).to_vec();
    unknown[6] = 7.0;
    assert!(model.margin(&unknown).is_nan());
    let found = model.batch(&mut [x.row(0), &unknown].concat());
    assert!((found[0] - model.margin(x.row(0))).abs() < 1e-6 && found[1].is_nan(), "{found:?}");
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
            let plan = |rows: usize| Plan::new(&model, rows, x.columns()).unwrap();
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
