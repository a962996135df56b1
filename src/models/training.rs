//! How a network over a sequence is fitted: Adam on the log loss, by burn.
//!
//! Promises the same network for the same seed, rows and number of cores: what is random comes from our own
//! numbers, for burn's are global to the process. What is kept is a moving average of the weights (Polyak and
//! Juditsky 1992), which overfits less than the last ones; fitting stops once its log loss on the held-back
//! subjects has not improved for a while, and it is kept as it was at its best.

use burn::module::Module;
use burn::nn::Linear as Dense;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};

use super::layer::Layer;
use super::neural::{layer_of, log_loss, objective, targets};
use super::random::{Parts, Random};
use super::sequence::Sequence;
use super::{CnnHyper, Family, GruHyper, Matrix, Model, ModelError};

/// Share of the average of the weights that a step leaves: it is that of about the last hundred steps.
const AVERAGED: f64 = 0.99;

/// A network as burn trains it.
pub(super) trait Net: Module {
    /// Logits, one a row; of the inputs `[rows, hours, inputs of an hour]` and the summary `[rows, numbers]`.
    fn forward(&self, hours: Tensor<3>, summary: Tensor<2>) -> Tensor<2>;

    /// Its layers, always in the same order.
    fn layers(&self) -> Vec<&Dense>;
}

/// What is set about a fit.
#[derive(Copy, Clone, Debug)]
pub(super) struct Settings {
    drop: f64,
    epochs: usize,
    batch: usize,
    rate: f64,
    decay: f64,
    validation: f64,
    patience: usize,
}

impl From<&GruHyper> for Settings {
    fn from(hyper: &GruHyper) -> Self {
        let GruHyper { drop, epochs, batch, rate, decay, validation, patience, .. } = *hyper;
        Settings { drop, epochs, batch, rate, decay, validation, patience }
    }
}

impl From<&CnnHyper> for Settings {
    fn from(hyper: &CnnHyper) -> Self {
        let CnnHyper { drop, epochs, batch, rate, decay, validation, patience, .. } = *hyper;
        Settings { drop, epochs, batch, rate, decay, validation, patience }
    }
}

/// Rows to fit on.
#[derive(Copy, Clone, Debug)]
pub(super) struct Rows<'a> {
    pub(super) sequence: &'a Sequence,
    /// As they are.
    pub(super) x: &'a Matrix,
    pub(super) labels: &'a [bool],
    /// Whose each row is; none: each its own subject.
    pub(super) groups: Option<&'a [i64]>,
}

/// Fits a network; gives the layers of its average at its best, and the epoch that they are from. `plain` is
/// what scores with such layers.
///
/// # Errors
/// [`ModelError::Fit`] if burn fails or the loss is not finite.
pub(super) fn train<N: Net>(
    family: Family,
    settings: Settings,
    random: &mut Random,
    rows: Rows<'_>,
    mut net: N,
    plain: &dyn Fn(Vec<Layer>) -> Result<Box<dyn Model>, ModelError>,
) -> Result<(Vec<Layer>, usize), ModelError> {
    let device = Device::flex().autodiff();
    let parts = Parts::new(rows.labels, rows.groups, settings.validation, random.bits());
    // With too few outcomes to judge by, all rows are fitted, and watched.
    let (mut kept, watched) = if parts.can_judge(rows.labels, 5) {
        (parts.kept, parts.held)
    } else {
        ((0..rows.x.rows()).collect(), (0..rows.x.rows()).collect())
    };
    let decay = (settings.decay > 0.0).then(|| WeightDecayConfig::new(settings.decay as f32));
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(decay).init();
    let mut average = take_out(family, &net)?;
    let mut best = (f64::INFINITY, average.clone(), 0);
    let mut steps = 0.0;
    for epoch in 1..=settings.epochs {
        random.shuffle(&mut kept);
        for batch in kept.chunks(settings.batch) {
            let (hours, summary) = rows.tensors(batch, settings.drop, random, &device);
            let loss = objective(net.forward(hours, summary), targets(rows.labels, batch));
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(settings.rate, net, gradients);
            steps += 1.0;
            let inertia = AVERAGED.min(steps / (steps + 10.0));
            for (average, now) in average.iter_mut().zip(take_out(family, &net)?) {
                average.approach(&now, inertia as f32);
            }
        }
        let loss = log_loss(&*plain(average.clone())?, rows.x, rows.labels, &watched);
        if loss < best.0 {
            best = (loss, average.clone(), epoch);
        } else if epoch - best.2 >= settings.patience {
            break;
        }
    }
    let (loss, layers, epoch) = best;
    if !loss.is_finite() {
        return Err(ModelError::fit(family, format!("the loss is not finite from the start; lower {family}.rate")));
    }
    Ok((layers, epoch))
}

/// The weights of a network, out of burn's hands.
pub(super) fn take_out<N: Net>(family: Family, net: &N) -> Result<Vec<Layer>, ModelError> {
    net.layers().into_iter().map(|layer| layer_of(family, layer)).collect()
}

impl Layer {
    /// Moves each weight towards another's; `inertia` of it stays.
    fn approach(&mut self, other: &Layer, inertia: f32) {
        let others = other.weights.iter().chain(&other.bias);
        for (weight, other) in self.weights.iter_mut().chain(&mut self.bias).zip(others) {
            *weight = inertia * *weight + (1.0 - inertia) * other;
        }
    }
}

impl Rows<'_> {
    /// Inputs and summaries of some rows. `drop` is the share of concepts and of columns of the table that a
    /// row is taken not to have, drawn anew each time, so that no fit leans on a few of them.
    fn tensors(&self, picked: &[usize], drop: f64, random: &mut Random, device: &Device) -> (Tensor<3>, Tensor<2>) {
        let sequence = self.sequence;
        let (hours, width, table) = (sequence.hours(), sequence.width(), sequence.table());
        let concepts = sequence.concepts();
        let without = sequence.baseline();
        let (mut all, mut summaries) = (Vec::with_capacity(picked.len() * hours * width), Vec::new());
        let (mut inputs, mut summary) = (Vec::new(), Vec::new());
        for &row in picked {
            sequence.prepare(self.x.row(row), &mut inputs);
            if drop > 0.0 {
                let dropped: Vec<bool> = (0..concepts + table).map(|_| random.unit() < drop).collect();
                for (place, (input, without)) in inputs.iter_mut().zip(&without).enumerate() {
                    let column =
                        if place < hours * width { place % width % concepts } else { concepts + place - hours * width };
                    if dropped[column] {
                        *input = *without;
                    }
                }
            }
            summary.clear();
            sequence.summary(&inputs, &mut summary);
            all.extend(inputs[..hours * width].iter().map(|&input| input as f32));
            summaries.extend(summary.iter().map(|&number| number as f32));
        }
        let count = picked.len();
        (
            Tensor::from_data(TensorData::new(all, [count, hours, width]), device),
            Tensor::from_data(TensorData::new(summaries, [count, sequence.summary_width()]), device),
        )
    }
}
