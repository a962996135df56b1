//! A plain network or linear model, read out of a user's file.
//!
//! Where every step from the features to the last output is a scaling, a matrix, or a ReLU, tanh or sigmoid of
//! each number by itself, the model needs no tract: it is scored as our own perceptron is, and explained as
//! exactly and as fast. In f64 throughout: a scaling of columns far from 0, folded into weights of f32, would
//! cost digits. Whoever reads a model so must hold it against what tract says.

use std::collections::BTreeMap;

use tract_onnx::data_resolver::FopenDataResolver;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::DatumType;

use super::super::Attribution;
use super::super::calibration::sigmoid;
use super::ops::imputed;

/// Most weights of a network.
const MAX_WEIGHTS: usize = 1 << 26;

/// Below this change of an input, the slope stands for the change of the output over it.
const SAME: f64 = 1e-10;

/// A plain network.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plain {
    columns: usize,
    /// What stands for a gap, one a column, if the model fills gaps.
    fill: Option<Vec<f32>>,
    layers: Vec<Layer>,
    /// Whether its last output is the sigmoid of the number that it comes to.
    squashed: bool,
}

/// `bend(weights^T in + bias)`; weights stand input by input.
#[derive(Clone, PartialEq, Debug)]
struct Layer {
    weights: Vec<f64>,
    bias: Vec<f64>,
    bend: Bend,
}

/// What becomes of each number of a layer.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Bend {
    None,
    Relu,
    Tanh,
    Sigmoid,
}

impl Plain {
    /// Reads a model of one output; none if it is of another kind.
    pub(super) fn read(model: &ModelProto, columns: usize) -> Option<Plain> {
        let graph = model.graph.as_ref()?;
        let mut reading = Reading::new(graph, columns);
        for (node, data) in chain(graph)? {
            reading.take(node, data)?;
        }
        reading.finish()
    }

    /// Whether its last output is the sigmoid of [`Plain::margin`], not that itself.
    pub(super) fn is_squashed(&self) -> bool {
        self.squashed
    }

    /// What a row comes to; the sum of a layer is in the order of its inputs.
    pub(super) fn margin(&self, row: &[f32]) -> f64 {
        let mut now = self.filled(row);
        for layer in &self.layers {
            now = layer.sums(&now);
            now.iter_mut().for_each(|sum| *sum = layer.bend.of(*sum));
        }
        // The last layer has one output.
        now[0]
    }

    /// DeepLIFT with the rescale rule (Shrikumar et al. 2017) against `baseline`: what bends a number passes on
    /// the change of its output over the change of its input, so that nothing is lost on the way.
    pub(super) fn attribute(&self, row: &[f32], baseline: &[f32]) -> Attribution {
        let (mut here, mut there) = (self.filled(row), self.filled(baseline));
        let changes: Vec<f64> = here.iter().zip(&there).map(|(here, there)| here - there).collect();
        let mut slopes = Vec::new();
        for layer in &self.layers {
            (here, there) = (layer.sums(&here), layer.sums(&there));
            slopes.push(here.iter().zip(&there).map(|(&z, &base)| layer.bend.slope(z, base)).collect::<Vec<f64>>());
            here.iter_mut().chain(&mut there).for_each(|sum| *sum = layer.bend.of(*sum));
        }
        let mut multipliers = vec![1.0];
        for (layer, slopes) in self.layers.iter().zip(slopes).rev() {
            multipliers.iter_mut().zip(slopes).for_each(|(multiplier, slope)| *multiplier *= slope);
            let of_input = |weights: &[f64]| weights.iter().zip(&multipliers).map(|(weight, of)| weight * of).sum();
            multipliers = layer.weights.chunks_exact(layer.bias.len()).map(of_input).collect();
        }
        let contributions = multipliers.iter().zip(changes).map(|(multiplier, change)| multiplier * change).collect();
        Attribution::exact(there[0], contributions)
    }

    fn filled(&self, row: &[f32]) -> Vec<f64> {
        let mut out: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        for (value, &fill) in out.iter_mut().zip(self.fill.iter().flatten()) {
            *value = if value.is_nan() { f64::from(fill) } else { *value };
        }
        out
    }
}

impl Layer {
    fn sums(&self, input: &[f64]) -> Vec<f64> {
        let mut out = self.bias.clone();
        for (value, weights) in input.iter().zip(self.weights.chunks_exact(self.bias.len())) {
            out.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += value * weight);
        }
        out
    }

    /// Leaves of the outputs the last.
    fn keep_last(&mut self) {
        let width = self.bias.len();
        self.weights = self.weights.chunks_exact(width).map(|weights| weights[width - 1]).collect();
        self.bias.drain(..width - 1);
    }
}

impl Bend {
    fn of(self, x: f64) -> f64 {
        match self {
            Bend::None => x,
            // NaN stays NaN.
            Bend::Relu if x < 0.0 => 0.0,
            Bend::Relu => x,
            Bend::Tanh => x.tanh(),
            Bend::Sigmoid => sigmoid(x),
        }
    }

    /// Change of the output over the change of the input, from `base` to `x`.
    fn slope(self, x: f64, base: f64) -> f64 {
        if (x - base).abs() > SAME {
            return (self.of(x) - self.of(base)) / (x - base);
        }
        match self {
            Bend::None => 1.0,
            Bend::Relu => f64::from(u8::from(x > 0.0)),
            Bend::Tanh => 1.0 - x.tanh().powi(2),
            Bend::Sigmoid => sigmoid(x) * sigmoid(-x),
        }
    }
}

/// The nodes from the features to the last output, each with the place of the input that comes from the features.
fn chain(graph: &GraphProto) -> Option<Vec<(&NodeProto, usize)>> {
    let mut makers = BTreeMap::new();
    for node in &graph.node {
        makers.extend(node.output.iter().map(|output| (output.as_str(), node)));
    }
    let (first, mut name) = (graph.input.first()?.name.as_str(), graph.output.first()?.name.as_str());
    let mut out = Vec::new();
    while name != first {
        let &node = makers.get(name)?;
        let data = match node.op_type.as_str() {
            // Of several, only the last number matters, so only the last part (see `Reading::take`).
            "Concat" => node.input.len().checked_sub(1)?,
            "Add" | "Sub" | "Mul" | "Div" => node.input.iter().position(|input| constant(graph, input).is_none())?,
            _ => 0,
        };
        name = node.input.get(data)?;
        out.push((node, data));
        if out.len() > graph.node.len() {
            return None;
        }
    }
    out.reverse();
    Some(out)
}

/// A tensor that a file holds.
pub(super) struct Constant {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// The tensor of a name, if the file holds one of numbers.
pub(super) fn constant(graph: &GraphProto, name: &str) -> Option<Constant> {
    let of_node = |node: &&NodeProto| node.op_type == "Constant" && node.output.first().is_some_and(|it| it == name);
    let held = graph.initializer.iter().find(|tensor| tensor.name == name);
    let tensor: &TensorProto = match held {
        Some(tensor) => tensor,
        None => {
            let node = graph.node.iter().find(of_node)?;
            node.attribute.iter().find(|attribute| attribute.name == "value")?.t.as_ref()?
        }
    };
    let tensor = load_tensor(&FopenDataResolver, tensor, None).ok()?;
    let values = tensor.cast_to_dt(DatumType::F64).ok()?;
    let values = values.try_as_plain_ram().ok()?.as_slice::<f64>().ok()?.to_vec();
    Some(Constant { shape: tensor.shape().to_vec(), values })
}

/// What has been read so far, from the features on.
struct Reading<'a> {
    graph: &'a GraphProto,
    columns: usize,
    fill: Option<Vec<f32>>,
    layers: Vec<Layer>,
    /// To be done to each number of what was read, when the next layer comes or the end: `x * scale + shift`.
    scale: Vec<f64>,
    shift: Vec<f64>,
    /// Whether only the last number of what was read still stands for the model's.
    last_only: bool,
    /// Whether the last number is a probability and the one before it the other's.
    is_pair: bool,
}

impl Reading<'_> {
    fn new(graph: &GraphProto, columns: usize) -> Reading<'_> {
        Reading {
            graph,
            columns,
            fill: None,
            layers: Vec::new(),
            scale: vec![1.0; columns],
            shift: vec![0.0; columns],
            last_only: false,
            is_pair: false,
        }
    }

    /// Takes the next node in, whose input at `data` is what was read so far.
    fn take(&mut self, node: &NodeProto, data: usize) -> Option<()> {
        match node.op_type.as_str() {
            "Identity" | "Dropout" | "ZipMap" => Some(()),
            // To float or double.
            "Cast" => matches!(node.get_attr::<i64>("to"), Ok(1 | 11)).then_some(()),
            "Concat" => {
                self.last_only = true;
                Some(())
            }
            // Two probabilities add up to 1 already.
            "Normalizer" => {
                let norm = node.get_attr_opt::<String>("norm").ok()?;
                (self.is_pair && norm.as_deref() == Some("L1")).then_some(())
            }
            _ if self.last_only => None,
            "Flatten" => (node.get_attr_opt::<i64>("axis").ok()?.unwrap_or(1) == 1).then_some(()),
            "Imputer" => self.imputer(node),
            "Scaler" => {
                let floats = |name: &str| -> Option<Vec<f64>> {
                    Some(node.get_attr_vec::<f32>(name).ok()?.into_iter().map(f64::from).collect())
                };
                let offset = floats("offset")?.into_iter().map(|offset| -offset).collect();
                self.add(offset)?;
                self.multiply(floats("scale")?)
            }
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node, data),
            "MatMul" => {
                let Constant { shape, values } = self.constant(node, 1)?;
                let [inputs, outputs] = *shape else { return None };
                self.matrix(inputs, outputs, values, None)
            }
            "Gemm" => self.gemm(node),
            "ArrayFeatureExtractor" => {
                let picked = self.constant(node, 1)?.values;
                let (inputs, outputs) = (self.scale.len(), picked.len());
                let weight = |cell: usize| f64::from(u8::from(picked[cell % outputs] == (cell / outputs) as f64));
                (inputs.checked_mul(outputs)? <= MAX_WEIGHTS).then_some(())?;
                self.matrix(inputs, outputs, (0..inputs * outputs).map(weight).collect(), None)
            }
            "Relu" => self.bend(Bend::Relu),
            "Tanh" => self.bend(Bend::Tanh),
            "Sigmoid" => self.bend(Bend::Sigmoid),
            "Softmax" => {
                matches!(node.get_attr_opt::<i64>("axis"), Ok(None | Some(1 | -1))).then_some(())?;
                self.softmax()
            }
            "LinearRegressor" => {
                let outputs = usize::try_from(node.get_attr_opt::<i64>("targets").ok()?.unwrap_or(1)).ok()?;
                self.linear(node, outputs)?;
                match node.get_attr_opt::<String>("post_transform").ok()?.as_deref().unwrap_or("NONE") {
                    "NONE" => Some(()),
                    "LOGISTIC" => self.bend(Bend::Sigmoid),
                    _ => None,
                }
            }
            "LinearClassifier" => self.classifier(node),
            _ => None,
        }
    }

    fn constant(&self, node: &NodeProto, at: usize) -> Option<Constant> {
        constant(self.graph, node.input.get(at)?)
    }

    /// Only what comes before everything else fills gaps.
    fn imputer(&mut self, node: &NodeProto) -> Option<()> {
        let (missing, mut values) = imputed(node).ok()?;
        let untouched = self.layers.is_empty() && self.fill.is_none() && self.scale.iter().all(|&scale| scale == 1.0);
        if !untouched || self.shift.iter().any(|&shift| shift != 0.0) || !missing.is_nan() {
            return None;
        }
        if values.len() == 1 {
            values.resize(self.columns, values[0]);
        }
        (values.len() == self.columns).then_some(())?;
        self.fill = Some(values);
        Some(())
    }

    /// One of a column each, or one for all.
    fn each(&self, mut values: Vec<f64>) -> Option<Vec<f64>> {
        if values.len() == 1 {
            values.resize(self.scale.len(), values[0]);
        }
        (values.len() == self.scale.len()).then_some(values)
    }

    fn add(&mut self, values: Vec<f64>) -> Option<()> {
        let values = self.each(values)?;
        self.shift.iter_mut().zip(values).for_each(|(shift, value)| *shift += value);
        Some(())
    }

    fn multiply(&mut self, values: Vec<f64>) -> Option<()> {
        let values = self.each(values)?;
        for ((scale, shift), value) in self.scale.iter_mut().zip(&mut self.shift).zip(values) {
            *scale *= value;
            *shift *= value;
        }
        Some(())
    }

    fn arithmetic(&mut self, node: &NodeProto, data: usize) -> Option<()> {
        (node.input.len() == 2).then_some(())?;
        let Constant { shape, values } = self.constant(node, 1 - data)?;
        // A column of them would go down the rows.
        (values.len() == 1 || shape.last() == Some(&values.len())).then_some(())?;
        match (node.op_type.as_str(), data) {
            ("Add", _) => self.add(values),
            ("Mul", _) => self.multiply(values),
            ("Sub", 0) => self.add(values.into_iter().map(|value| -value).collect()),
            ("Sub", _) => {
                self.multiply(vec![-1.0])?;
                self.add(values)
            }
            ("Div", 0) => self.multiply(values.into_iter().map(|value| 1.0 / value).collect()),
            _ => None,
        }
    }

    fn gemm(&mut self, node: &NodeProto) -> Option<()> {
        let flag = |name: &str| node.get_attr_opt::<i64>(name).ok().map(|flag| flag.unwrap_or(0) != 0);
        let factor = |name: &str| Some(f64::from(node.get_attr_opt::<f32>(name).ok()?.unwrap_or(1.0)));
        let Constant { shape, mut values } = self.constant(node, 1)?;
        let [mut inputs, mut outputs] = *shape else { return None };
        (!flag("transA")?).then_some(())?;
        if flag("transB")? {
            let (rows, columns) = (inputs, outputs);
            values = (0..rows * columns).map(|cell| values[cell % rows * columns + cell / rows]).collect();
            (inputs, outputs) = (columns, rows);
        }
        let (alpha, beta) = (factor("alpha")?, factor("beta")?);
        values.iter_mut().for_each(|weight| *weight *= alpha);
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(_) => {
                let Constant { shape, mut values } = self.constant(node, 2)?;
                (values.len() == 1 || shape.last() == Some(&values.len())).then_some(())?;
                values.iter_mut().for_each(|bias| *bias *= beta);
                if values.len() == 1 {
                    values.resize(outputs, values[0]);
                }
                Some(values)
            }
            None => None,
        };
        self.matrix(inputs, outputs, values, bias)
    }

    /// A layer; what was to be done to its inputs goes into its weights.
    fn matrix(&mut self, inputs: usize, outputs: usize, mut weights: Vec<f64>, bias: Option<Vec<f64>>) -> Option<()> {
        let mut bias = bias.unwrap_or_else(|| vec![0.0; outputs]);
        let fits = inputs == self.scale.len() && outputs > 0 && bias.len() == outputs;
        (fits && inputs.checked_mul(outputs) == Some(weights.len())).then_some(())?;
        for (weights, (scale, shift)) in weights.chunks_exact_mut(outputs).zip(self.scale.iter().zip(&self.shift)) {
            for (weight, bias) in weights.iter_mut().zip(&mut bias) {
                *bias += shift * *weight;
                *weight *= scale;
            }
        }
        (self.scale, self.shift) = (vec![1.0; outputs], vec![0.0; outputs]);
        self.layers.push(Layer { weights, bias, bend: Bend::None });
        Some(())
    }

    /// Bends what the last layer gives.
    fn bend(&mut self, bend: Bend) -> Option<()> {
        self.settle()?.bend = bend;
        Some(())
    }

    /// Does to the last layer what is still to be done to its outputs.
    fn settle(&mut self) -> Option<&mut Layer> {
        let layer = self.layers.last_mut().filter(|layer| layer.bend == Bend::None)?;
        let width = layer.bias.len();
        for (place, weight) in layer.weights.iter_mut().enumerate() {
            *weight *= self.scale[place % width];
        }
        for (bias, (scale, shift)) in layer.bias.iter_mut().zip(self.scale.iter_mut().zip(&mut self.shift)) {
            *bias = *bias * *scale + *shift;
            (*scale, *shift) = (1.0, 0.0);
        }
        Some(layer)
    }

    /// Of two numbers, the second's share is the sigmoid of their difference.
    fn softmax(&mut self) -> Option<()> {
        self.matrix(2, 1, vec![-1.0, 1.0], None)?;
        self.bend(Bend::Sigmoid)?;
        (self.last_only, self.is_pair) = (true, true);
        Some(())
    }

    fn linear(&mut self, node: &NodeProto, outputs: usize) -> Option<()> {
        let weights = node.get_attr_vec::<f32>("coefficients").ok()?;
        let inputs = self.scale.len();
        (inputs.checked_mul(outputs) == Some(weights.len())).then_some(())?;
        let turned = (0..weights.len()).map(|cell| f64::from(weights[cell % outputs * inputs + cell / outputs]));
        let bias = node.get_attr_opt_vec::<f32>("intercepts").ok()?;
        let bias = bias.map(|bias| bias.into_iter().map(f64::from).collect());
        self.matrix(inputs, outputs, turned.collect(), bias)
    }

    /// Of two classes, with scores for both or for the second.
    fn classifier(&mut self, node: &NodeProto) -> Option<()> {
        let outputs = node.get_attr_slice::<f32>("coefficients").ok()?.len() / self.scale.len();
        (1..=2).contains(&outputs).then_some(())?;
        self.linear(node, outputs)?;
        match node.get_attr_opt::<String>("post_transform").ok()?.as_deref().unwrap_or("NONE") {
            "NONE" => {}
            "LOGISTIC" => {
                let layer = self.layers.last()?;
                let opposite = |pair: &[f64]| pair[0] == -pair[1];
                self.is_pair = outputs == 1 || layer.weights.chunks(2).chain([&layer.bias[..]]).all(opposite);
                self.bend(Bend::Sigmoid)?;
            }
            "SOFTMAX" if outputs == 2 => self.softmax()?,
            _ => return None,
        }
        self.last_only = true;
        Some(())
    }

    fn finish(mut self) -> Option<Plain> {
        let last = self.layers.last()?.bend;
        if last == Bend::None {
            self.settle()?;
        }
        let done = self.scale.iter().all(|&scale| scale == 1.0) && self.shift.iter().all(|&shift| shift == 0.0);
        let Reading { columns, fill, mut layers, .. } = self;
        let layer = layers.last_mut()?;
        layer.keep_last();
        let squashed = layer.bend == Bend::Sigmoid;
        layer.bend = Bend::None;
        let numbers = || layers.iter().flat_map(|layer| layer.weights.iter().chain(&layer.bias));
        let sound = numbers().all(|number| number.is_finite()) && numbers().count() <= MAX_WEIGHTS;
        let filled = fill.iter().flatten().all(|fill| fill.is_finite());
        let ends = matches!(last, Bend::None | Bend::Sigmoid);
        (done && sound && filled && ends).then_some(Plain { columns, fill, layers, squashed })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::random::Random;
    use super::*;

    fn random_network(seed: u64, bends: &[Bend]) -> (Plain, Random) {
        let mut random = Random::new(seed);
        let widths: Vec<usize> = [5].into_iter().chain(bends.iter().map(|_| 6)).chain([1]).collect();
        let mut draw = |count: usize| (0..count).map(|_| random.unit() * 3.0 - 1.5).collect::<Vec<f64>>();
        let layers = widths.windows(2).zip(bends.iter().copied().chain([Bend::None]));
        let layers =
            layers.map(|(pair, bend)| Layer { weights: draw(pair[0] * pair[1]), bias: draw(pair[1]), bend }).collect();
        (Plain { columns: 5, fill: Some(vec![0.5; 5]), layers, squashed: true }, random)
    }

    proptest! {
        #[test]
        fn contributions_add_up_whatever_bends_the_numbers(seed: u64, gap in 0usize..5) {
            let (plain, mut random) = random_network(seed, &[Bend::Relu, Bend::Tanh, Bend::None, Bend::Sigmoid]);
            let mut draw = || (0..5).map(|_| random.unit() as f32 * 4.0 - 2.0).collect::<Vec<f32>>();
            let (mut row, baseline) = (draw(), draw());
            row[gap] = f32::NAN;
            let found = plain.attribute(&row, &baseline);
            let sum = found.base + found.contributions.iter().sum::<f64>();
            prop_assert!((sum - plain.margin(&row)).abs() < 1e-9, "{sum} {}", plain.margin(&row));
            prop_assert_eq!(found.base, plain.margin(&baseline));
        }
    }

    #[test]
    fn a_gap_is_what_it_is_filled_with_and_else_no_number() {
        let (plain, _) = random_network(4, &[Bend::Relu]);
        let margin = plain.margin(&[0.5, 1.0, 0.5, 2.0, 0.5]);
        assert_eq!(plain.margin(&[f32::NAN, 1.0, f32::NAN, 2.0, f32::NAN]), margin);
        assert!(Plain { fill: None, ..plain }.margin(&[f32::NAN; 5]).is_nan());
    }

    #[test]
    fn slopes_are_derivatives_where_nothing_changes() {
        for bend in [Bend::None, Bend::Relu, Bend::Tanh, Bend::Sigmoid] {
            for x in [-1.5, 0.3, 2.0] {
                let step = 1e-6;
                let want = (bend.of(x + step) - bend.of(x - step)) / (2.0 * step);
                assert!((bend.slope(x, x) - want).abs() < 1e-8, "{bend:?} {x}");
                assert!((bend.slope(x + step, x - step) - want).abs() < 1e-8);
            }
        }
    }

    /// `(3 - (2 x - offset) / 4) W + b`, of which the parts are to be folded: (x: 2 columns; W: 2 by 2).
    #[test]
    fn scalings_before_and_after_a_matrix_are_folded_into_it() {
        let graph = GraphProto::default();
        let mut reading = Reading::new(&graph, 2);
        reading.multiply(vec![2.0]).unwrap();
        reading.add(vec![-10.0, 4.0]).unwrap();
        reading.multiply(vec![-0.25]).unwrap();
        reading.add(vec![3.0]).unwrap();
        reading.matrix(2, 2, vec![1.0, 2.0, 3.0, 4.0], Some(vec![0.5, -0.5])).unwrap();
        reading.multiply(vec![10.0, 100.0]).unwrap();
        reading.add(vec![1.0]).unwrap();
        let plain = reading.finish().unwrap();
        let of = |x: [f64; 2]| {
            let [a, b] = [3.0 - (2.0 * x[0] - 10.0) / 4.0, 3.0 - (2.0 * x[1] + 4.0) / 4.0];
            (2.0 * a + 4.0 * b - 0.5) * 100.0 + 1.0
        };
        for x in [[0.0, 0.0], [1.0, -2.0], [7.5, 3.25]] {
            assert!((plain.margin(&x.map(|x| x as f32)) - of(x)).abs() < 1e-9);
        }
        assert!(!plain.is_squashed());
    }

    #[test]
    fn what_is_not_plain_is_not_read() {
        let graph = GraphProto::default();
        let reading = || Reading::new(&graph, 2);
        // Nothing but a scaling, a bend of the features, two bends in series, a matrix that does not fit.
        assert!(reading().finish().is_none());
        assert!(reading().bend(Bend::Relu).is_none());
        let mut two = reading();
        two.matrix(2, 1, vec![1.0, 1.0], None).unwrap();
        two.bend(Bend::Relu).unwrap();
        assert!(two.bend(Bend::Tanh).is_none());
        assert!(two.finish().is_none(), "it ends in a ReLU");
        assert!(reading().matrix(3, 1, vec![1.0; 3], None).is_none());
        assert!(reading().matrix(2, 1, vec![1.0; 3], None).is_none());
        let node = NodeProto { op_type: "Relu".to_owned(), ..NodeProto::default() };
        let mut cut = Reading { last_only: true, ..reading() };
        assert!(cut.take(&node, 0).is_none());
        let mut infinite = reading();
        infinite.matrix(2, 1, vec![1.0, f64::INFINITY], None).unwrap();
        assert!(infinite.finish().is_none());
    }
}
