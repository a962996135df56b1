//! A multilayer perceptron: fitted by burn, scored by our own forward pass.
//!
//! burn is used in [`train`] alone. After fitting, the weights are taken out, so that
//! scores do not depend on a backend, and a saved model gives the same bits.

use burn::module::{Module, Param};
use burn::nn::Linear as Dense;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor, TensorData, TensorReadError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibration::softplus;
use super::error::guarded;
use super::files::MODEL;
use super::layer::Layer;
use super::linear::means;
use super::random::{Parts, Random};
use super::{Attribution, Family, Link, Matrix, MlpHyper, Model, ModelError};

/// Most weights of a network.
const MAX_WEIGHTS: usize = 1 << 26;
/// Rows that go through the layers together: few enough to stay close to the processor.
const BLOCK: usize = 16;

/// A fitted network; ReLU between the layers, a logit at the end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    columns: usize,
    layers: Vec<Layer>,
    /// The mean training row, from which explanations start.
    baseline: Vec<f32>,
}

impl Network {
    /// Fits on preprocessed rows: Adam on the log loss, until the log loss of the held-back
    /// subjects has not improved for a while; the best weights are kept. Returns the epoch
    /// they come from.
    ///
    /// # Errors
    /// [`ModelError::Fit`] if burn fails or the weights run away.
    pub(super) fn fit(
        hyper: &MlpHyper,
        seed: u64,
        x: &Matrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<(Network, usize), ModelError> {
        guarded(Family::Mlp, || {
            let parts = Parts::new(labels, groups, hyper.validation, seed);
            // With too few outcomes to judge by, all rows are fitted, and watched.
            let (kept, watched) = if parts.can_judge(labels, 5) {
                (parts.kept, parts.held)
            } else {
                ((0..x.rows()).collect(), (0..x.rows()).collect())
            };
            train(hyper, seed, x, labels, kept, &watched)
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable network.
    pub(super) fn decode(bytes: &[u8]) -> Result<Network, ModelError> {
        let network: Network = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        network.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(network)
    }

    fn check(&self) -> Result<(), String> {
        let mut width = self.columns;
        let mut total = 0usize;
        for layer in &self.layers {
            layer.check(width)?;
            total = total.saturating_add(layer.weights.len());
            width = layer.bias.len();
        }
        if self.layers.is_empty() || width != 1 || self.baseline.len() != self.columns || total > MAX_WEIGHTS {
            return Err("the network does not lead from its columns to one logit".to_owned());
        }
        if !self.baseline.iter().all(|x| x.is_finite()) {
            return Err("the baseline is not finite".to_owned());
        }
        Ok(())
    }

    /// What each layer makes of some rows, row after row, before its ReLU; of the last, the logits.
    fn forward(&self, rows: &[f32], sums: &mut Vec<Vec<f64>>) {
        sums.resize(self.layers.len(), Vec::new());
        let mut inputs: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
        let mut width = self.columns;
        for (layer, sums) in self.layers.iter().zip(sums) {
            layer.apply(&inputs, width, sums);
            width = layer.bias.len();
            inputs.clear();
            inputs.extend(sums.iter().map(|sum| sum.max(0.0)));
        }
    }
}

impl Model for Network {
    fn columns(&self) -> usize {
        self.columns
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let mut sums = Vec::new();
        for rows in rows.chunks(BLOCK * self.columns) {
            self.forward(rows, &mut sums);
            out.extend_from_slice(&sums[self.layers.len() - 1]);
        }
    }

    /// DeepLIFT with the rescale rule (Shrikumar et al. 2017) against the mean training row:
    /// a ReLU passes on the change of its output over the change of its input. For ReLU
    /// networks this is complete: the contributions add up to the difference exactly.
    fn attribute(&self, row: &[f32]) -> Attribution {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        self.forward(row, &mut here);
        self.forward(&self.baseline, &mut there);
        let mut multipliers = vec![1.0];
        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if index < last {
                for (multiplier, (&z, &base)) in multipliers.iter_mut().zip(here[index].iter().zip(&there[index])) {
                    *multiplier *= relu_multiplier(z, base);
                }
            }
            multipliers = layer.back(&multipliers);
        }
        let contributions = multipliers
            .iter()
            .zip(row.iter().zip(&self.baseline))
            .map(|(multiplier, (&value, &base))| multiplier * (f64::from(value) - f64::from(base)))
            .collect();
        Attribution::exact(there[last][0], contributions)
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// Change of a ReLU's output over the change of its input; its slope where nothing changes.
fn relu_multiplier(z: f64, base: f64) -> f64 {
    if (z - base).abs() > 1e-10 { (z.max(0.0) - base.max(0.0)) / (z - base) } else { f64::from(u8::from(z > 0.0)) }
}

/// The network as burn trains it.
#[derive(Module, Debug)]
struct Net {
    layers: Vec<Dense>,
}

impl Net {
    fn new(widths: &[usize], random: &mut Random, device: &Device) -> Net {
        Net { layers: widths.windows(2).map(|pair| dense(pair[0], pair[1], random, device)).collect() }
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if index + 1 < self.layers.len() {
                x = relu(x);
            }
        }
        x
    }

    /// Mean log loss over some rows and what is put in of them, by the weights as they are: burn's forward pass, in
    /// single precision, takes a fraction of the time of ours.
    fn log_loss(&self, labels: &[bool], watched: &[(&[usize], Tensor<2>)]) -> Result<f64, ModelError> {
        let net = self.valid();
        let (mut sum, mut count) = (0.0, 0.0);
        for (rows, inputs) in watched {
            let logits = net.forward(inputs.clone()).try_into_vec_as::<f32>().map_err(|e| unread(Family::Mlp, &e))?;
            sum += rows.iter().zip(logits).map(|(&row, logit)| loss_of(f64::from(logit), labels[row])).sum::<f64>();
            count += rows.len() as f64;
        }
        Ok(sum / count)
    }

    /// The weights, out of burn's hands.
    fn take_out(&self) -> Result<Vec<Layer>, ModelError> {
        self.layers.iter().map(|layer| layer_of(Family::Mlp, layer)).collect()
    }
}

/// A layer to begin with: as PyTorch's linear layers, uniform within `1 / sqrt(inputs)`, from
/// our own random numbers, for burn's seed is global to the process.
pub(super) fn dense(inputs: usize, outputs: usize, random: &mut Random, device: &Device) -> Dense {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut draw = |count: usize| (0..count).map(|_| ((random.unit() * 2.0 - 1.0) * bound) as f32).collect::<Vec<_>>();
    Dense {
        weight: Param::from_data(TensorData::new(draw(inputs * outputs), [inputs, outputs]), device),
        bias: Some(Param::from_data(TensorData::new(draw(outputs), [outputs]), device)),
    }
}

/// The weights of a layer, out of burn's hands.
pub(super) fn layer_of(family: Family, layer: &Dense) -> Result<Layer, ModelError> {
    let weights = layer.weight.val().try_into_vec_as::<f32>().map_err(|e| unread(family, &e))?;
    let bias = match &layer.bias {
        Some(bias) => bias.val().try_into_vec_as::<f32>().map_err(|e| unread(family, &e))?,
        None => vec![0.0; weights.len() / layer.weight.val().dims()[0].max(1)],
    };
    Ok(Layer { weights, bias })
}

/// That burn does not give numbers out.
fn unread(family: Family, error: &TensorReadError) -> ModelError {
    ModelError::fit(family, format!("{error:?}"))
}

/// Something to minimise whose derivative is that of the mean log loss of `logits`, one a row; both are
/// `(sigmoid(z) - y) / rows`. The log loss itself is nine steps of automatic differentiation, which take longer than
/// the few numbers in them, and its value is not needed. `targets` are without differentiation.
pub(super) fn objective(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let rows = logits.dims()[0] as f64;
    let slopes = (sigmoid(logits.clone().inner()) - targets).div_scalar(rows);
    (logits * Tensor::from_inner(slopes)).sum()
}

/// The outcomes of some rows, as [`objective`] takes them.
pub(super) fn targets(labels: &[bool], picked: &[usize]) -> Tensor<2> {
    let targets: Vec<f32> = picked.iter().map(|&row| f32::from(u8::from(labels[row]))).collect();
    Tensor::from_data(TensorData::new(targets, [picked.len(), 1]), &Device::flex())
}

/// Some rows of a matrix, as a network takes them.
fn inputs(x: &Matrix, picked: &[usize], device: &Device) -> Tensor<2> {
    let data = TensorData::new(x.pick(picked).into_values(), [picked.len(), x.columns()]);
    Tensor::from_data(data, device)
}

/// The training loop; see [`Network::fit`].
fn train(
    hyper: &MlpHyper,
    seed: u64,
    x: &Matrix,
    labels: &[bool],
    mut kept: Vec<usize>,
    watched: &[usize],
) -> Result<(Network, usize), ModelError> {
    let device = Device::flex().autodiff();
    let mut random = Random::new(seed);
    let widths: Vec<usize> = [x.columns()].into_iter().chain(hyper.hidden.iter().copied()).chain([1]).collect();
    let mut net = Net::new(&widths, &mut random, &device);
    let decay = (hyper.decay > 0.0).then(|| WeightDecayConfig::new(hyper.decay as f32));
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay).init();

    // In the parts that a step takes: what is computed on one core there is here, too.
    let watched: Vec<(&[usize], Tensor<2>)> =
        watched.chunks(hyper.batch).map(|rows| (rows, inputs(x, rows, &Device::flex()))).collect();
    let mut best = (f64::INFINITY, net.take_out()?, 0);
    for epoch in 1..=hyper.epochs {
        random.shuffle(&mut kept);
        for batch in kept.chunks(hyper.batch) {
            let loss = objective(net.forward(inputs(x, batch, &device)), targets(labels, batch));
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(hyper.rate, net, gradients);
        }
        let loss = net.log_loss(labels, &watched)?;
        if loss < best.0 {
            best = (loss, net.take_out()?, epoch);
        } else if epoch - best.2 >= hyper.patience {
            break;
        }
    }
    let (loss, layers, epoch) = best;
    if !loss.is_finite() {
        return Err(ModelError::fit(Family::Mlp, "the loss is not finite from the start; lower mlp.rate"));
    }
    let baseline = means(x).into_iter().map(|mean| mean as f32).collect();
    let network = Network { columns: x.columns(), layers, baseline };
    network.check().map_err(|reason| ModelError::fit(Family::Mlp, reason))?;
    Ok((network, epoch))
}

/// The log loss of a row of log-odds `z`.
fn loss_of(z: f64, label: bool) -> f64 {
    softplus(z) - if label { z } else { 0.0 }
}

/// Mean log loss over some rows.
pub(super) fn log_loss(model: &dyn Model, x: &Matrix, labels: &[bool], picked: &[usize]) -> f64 {
    let loss = |&row: &usize| {
        let mut margin = Vec::with_capacity(1);
        model.margins(x.row(row), &mut margin);
        margin.iter().map(|&z| loss_of(z, labels[row])).sum()
    };
    // Computed side by side, but added in order.
    let losses: Vec<f64> = picked.par_iter().map(loss).collect();
    losses.iter().sum::<f64>() / picked.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn random_network(random: &mut Random, widths: &[usize]) -> Network {
        let net = Net::new(widths, random, &Device::flex());
        let baseline = (0..widths[0]).map(|_| random.unit() as f32 - 0.5).collect();
        Network { columns: widths[0], layers: net.take_out().unwrap(), baseline }
    }

    #[test]
    fn our_forward_pass_is_burns() {
        let mut random = Random::new(2);
        let device = Device::flex();
        let net = Net::new(&[9, 16, 8, 1], &mut random, &device);
        let network = Network { columns: 9, layers: net.take_out().unwrap(), baseline: vec![0.0; 9] };
        network.check().unwrap();
        let rows: Vec<f32> = (0..9 * 50).map(|_| random.unit() as f32 * 4.0 - 2.0).collect();
        let theirs = net.forward(Tensor::from_data(TensorData::new(rows.clone(), [50, 9]), &device));
        let theirs = theirs.try_into_vec_as::<f32>().unwrap();
        let mut ours = Vec::new();
        network.margins(&rows, &mut ours);
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - f64::from(theirs)).abs() < 1e-5);
        }
    }

    #[test]
    fn a_row_has_its_bits_in_every_batch() {
        let mut random = Random::new(6);
        let network = random_network(&mut random, &[9, 21, 6, 1]);
        let rows: Vec<f32> = (0..9 * (2 * BLOCK + 3)).map(|_| random.unit() as f32 * 4.0 - 2.0).collect();
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        network.margins(&rows, &mut together);
        rows.chunks_exact(9).for_each(|row| network.margins(row, &mut alone));
        let bits = |margins: Vec<f64>| margins.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        assert_eq!(together.len(), 2 * BLOCK + 3);
        assert_eq!(bits(together), bits(alone));
    }

    #[test]
    fn the_objective_falls_as_the_log_loss_does() {
        let device = Device::flex().autodiff();
        let labels = [true, false, true, false];
        let logits = || Tensor::<2>::from_data([[0.5], [-3.0], [40.0], [7.0]], &device).require_grad();
        let slopes = |logits: Tensor<2>, loss: Tensor<1>| {
            let gradients = loss.backward();
            logits.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap()
        };
        let ours = logits();
        let ours = slopes(ours.clone(), objective(ours, targets(&labels, &[0, 1, 2, 3])));
        let theirs = logits();
        let outcomes = Tensor::<2>::from_data([[1.0], [0.0], [1.0], [0.0]], &device);
        // Cross entropy of logits: log(1 + e^z) - y z.
        let loss = burn::tensor::activation::softplus(theirs.clone(), 1.0) - theirs.clone() * outcomes;
        let theirs = slopes(theirs, loss.mean());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
        }
    }

    #[test]
    fn the_watched_loss_is_that_of_the_network_taken_out() {
        let mut random = Random::new(5);
        let net = Net::new(&[3, 8, 1], &mut random, &Device::flex().autodiff());
        let x = Matrix::from_values(3, (0..60).map(|_| random.unit() as f32 * 4.0 - 2.0).collect()).unwrap();
        let labels: Vec<bool> = (0..20).map(|_| random.unit() < 0.4).collect();
        let picked: Vec<usize> = (3..20).rev().collect();
        let watched: Vec<(&[usize], Tensor<2>)> =
            picked.chunks(4).map(|rows| (rows, inputs(&x, rows, &Device::flex()))).collect();
        let network = Network { columns: 3, layers: net.take_out().unwrap(), baseline: vec![0.0; 3] };
        let (found, want) = (net.log_loss(&labels, &watched).unwrap(), log_loss(&network, &x, &labels, &picked));
        assert!((found - want).abs() < 1e-6, "{found} {want}");
    }

    proptest! {
        #[test]
        fn deeplift_is_complete(seed: u64) {
            let mut random = Random::new(seed);
            let network = random_network(&mut random, &[6, 12, 7, 1]);
            let row: Vec<f32> = (0..6).map(|_| random.unit() as f32 * 6.0 - 3.0).collect();
            let mut margin = Vec::new();
            network.margins(&row, &mut margin);
            let Attribution { base, contributions, .. } = network.attribute(&row);
            prop_assert!((base + contributions.iter().sum::<f64>() - margin[0]).abs() < 1e-9);
        }
    }

    #[test]
    fn a_column_like_its_mean_contributes_nothing() {
        let mut random = Random::new(8);
        let network = random_network(&mut random, &[4, 5, 1]);
        let mut row = network.baseline.clone();
        row[2] += 1.0;
        let contributions = network.attribute(&row).contributions;
        assert_eq!([contributions[0], contributions[1], contributions[3]], [0.0; 3]);
    }

    #[test]
    fn a_damaged_network_is_refused() {
        for bytes in [
            &br#"{"columns":1,"layers":[],"baseline":[0.0]}"#[..],
            br#"{"columns":2,"layers":[{"weights":[1.0],"bias":[0.0]}],"baseline":[0.0,0.0]}"#,
            br#"{"columns":1,"layers":[{"weights":[1.0,1.0],"bias":[0.0,0.0]}],"baseline":[0.0]}"#,
            br#"{"columns":1,"layers":[{"weights":[1.0],"bias":[0.0]}],"baseline":[]}"#,
            br#"{"columns":1,"layers":[{"weights":[1e39],"bias":[0.0]}],"baseline":[0.0]}"#,
            br#"{"columns":0,"layers":[{"weights":[],"bias":[0.0]}],"baseline":[]}"#,
        ] {
            assert!(
                matches!(Network::decode(bytes), Err(ModelError::Corrupt { .. })),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
