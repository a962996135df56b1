//! A convolutional network over the hours of the grid: fitted by burn, scored and explained by our own plain
//! code.
//!
//! Each layer looks at a few hours together (no padding; SiLU behind it), wherever they lie; the mean and the
//! greatest of each channel over time and a [summary](Sequence::summary) of the hours and the table lead to
//! one logit. Explanations are [integrated gradients](super::gradients) from a row in which nothing was
//! observed; they say by how much they may be off.

use burn::module::Module;
use burn::nn::Linear as Dense;
use burn::tensor::activation::silu as silu_of;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::calibration::sigmoid;
use super::error::guarded;
use super::files::MODEL;
use super::layer::Layer;
use super::neural::dense;
use super::random::Random;
use super::sequence::{Pooled, Sequence};
use super::training::{Net, Rows, train};
use super::{Attribution, CnnHyper, Family, Link, Matrix, Model, ModelError};

/// Most layers over time.
const MOST_LAYERS: usize = 4;

/// A fitted network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cnn {
    sequence: Sequence,
    /// One after the other.
    convolutions: Vec<Convolution>,
    /// From the mean of each channel, the greatest of each and the summary to the logit.
    head: Layer,
}

/// A layer over time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Convolution {
    /// How many moments it looks at together.
    kernel: usize,
    /// From these, one after the other, to the channels.
    layer: Layer,
}

/// The numbers of a few moments, each as long.
#[derive(Clone, Debug)]
struct Moments {
    width: usize,
    numbers: Vec<f64>,
}

impl Cnn {
    /// Fits on rows as they are, `features` their columns; gives the epoch that the weights come from.
    ///
    /// # Errors
    /// [`ModelError::Features`] if there is no hourly grid, [`ModelError::Fit`] if burn fails.
    pub(super) fn fit(
        hyper: &CnnHyper,
        seed: u64,
        features: &[String],
        x: &Matrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<(Cnn, usize), ModelError> {
        let sequence = Sequence::fit(Family::Cnn, features, x)?;
        guarded(Family::Cnn, || {
            let mut random = Random::new(seed);
            let net = CnnNet::new(&sequence, hyper, &mut random, &Device::flex().autodiff());
            let rows = Rows { sequence: &sequence, x, labels, groups };
            let plain = |layers| Cnn::of(sequence.clone(), layers).map(|cnn| Box::new(cnn) as Box<dyn Model>);
            let (layers, epoch) = train(Family::Cnn, hyper.into(), &mut random, rows, net, &plain)?;
            let cnn = Cnn::of(sequence.clone(), layers)?;
            cnn.check().map_err(|reason| ModelError::fit(Family::Cnn, reason))?;
            Ok((cnn, epoch))
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable network.
    pub(super) fn decode(bytes: &[u8]) -> Result<Cnn, ModelError> {
        let cnn: Cnn = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        cnn.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(cnn)
    }

    /// The network of the layers of a [`CnnNet`].
    fn of(sequence: Sequence, mut layers: Vec<Layer>) -> Result<Cnn, ModelError> {
        let head = layers.pop().ok_or_else(|| ModelError::fit(Family::Cnn, "it has no layers"))?;
        let (mut convolutions, mut width) = (Vec::new(), sequence.width());
        for layer in layers {
            let (channels, looked_at) = (layer.bias.len(), layer.weights.len() / layer.bias.len().max(1));
            convolutions.push(Convolution { kernel: looked_at / width.max(1), layer });
            width = channels;
        }
        Ok(Cnn { sequence, convolutions, head })
    }

    fn check(&self) -> Result<(), String> {
        self.sequence.check()?;
        let (mut length, mut width) = (self.sequence.hours(), self.sequence.width());
        for Convolution { kernel, layer } in &self.convolutions {
            if !(1..=length).contains(kernel) {
                return Err("a layer looks at more moments than there are".to_owned());
            }
            layer.check(kernel.saturating_mul(width))?;
            (length, width) = (length + 1 - kernel, layer.bias.len());
        }
        if !(1..=MOST_LAYERS).contains(&self.convolutions.len()) || self.head.bias.len() != 1 {
            return Err("the network does not lead from its hours to one logit".to_owned());
        }
        self.head.check(width.saturating_mul(2).saturating_add(self.sequence.summary_width()))
    }

    /// The logit of a row's inputs and the channels over time at the end, pooled; what the layers made goes into
    /// `sums`, before SiLU.
    fn forward(&self, inputs: &[f64], sums: &mut Vec<Moments>) -> (f64, Pooled) {
        sums.clear();
        let hours = self.sequence.of_hours(inputs).to_vec();
        let mut before = Moments { width: self.sequence.width(), numbers: hours };
        for Convolution { layer, .. } in &self.convolutions {
            let mut after = Moments { width: layer.bias.len(), numbers: Vec::new() };
            // The moments it looks at follow each other in memory.
            layer.apply(&before.numbers, before.width, &mut after.numbers);
            before = Moments { width: after.width, numbers: after.numbers.iter().map(|&x| silu(x)).collect() };
            sums.push(after);
        }
        let pooled = Pooled::of(&before.numbers, before.width);
        let mut ends = [pooled.mean.as_slice(), &pooled.greatest].concat();
        self.sequence.summary(inputs, &mut ends);
        let mut logit = Vec::with_capacity(1);
        self.head.apply(&ends, ends.len(), &mut logit);
        (logit[0], pooled)
    }

    /// The logit of a row's inputs and its derivative by each of them.
    fn gradient(&self, inputs: &[f64]) -> (f64, Vec<f64>) {
        let mut sums = Vec::new();
        let (logit, pooled) = self.forward(inputs, &mut sums);
        let of_head = self.head.back(&[1.0]);
        let (of_pooled, of_summary) = of_head.split_at(2 * pooled.mean.len());
        let mut of_inputs = vec![0.0; inputs.len()];
        self.sequence.summary_back(inputs, of_summary, &mut of_inputs);

        let mut of_after = vec![0.0; sums.last().map_or(0, |last| last.numbers.len())];
        pooled.back(of_pooled, &mut of_after);
        for (at, Convolution { kernel, layer }) in self.convolutions.iter().enumerate().rev() {
            let Moments { width: channels, numbers } = &sums[at];
            let width = layer.weights.len() / layer.bias.len() / kernel;
            for (of, &sum) in of_after.iter_mut().zip(numbers) {
                *of *= silu_slope(sum);
            }
            let mut of_before = vec![0.0; (numbers.len() / channels + kernel - 1) * width];
            for (moment, of) in of_after.chunks_exact(*channels).enumerate() {
                for (of, more) in of_before[moment * width..].iter_mut().zip(layer.back(of)) {
                    *of += more;
                }
            }
            of_after = of_before;
        }
        for (of, more) in of_inputs.iter_mut().zip(of_after) {
            *of += more;
        }
        (logit, of_inputs)
    }
}

/// `x sigmoid(x)` (Elfwing et al. 2018): like ReLU, but smooth, which integrated gradients like.
fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

fn silu_slope(x: f64) -> f64 {
    let s = sigmoid(x);
    s + x * s * (1.0 - s)
}

impl Model for Cnn {
    fn columns(&self) -> usize {
        self.sequence.columns()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let (mut inputs, mut sums) = (Vec::new(), Vec::new());
        for row in rows.chunks_exact(self.columns()) {
            self.sequence.prepare(row, &mut inputs);
            out.push(self.forward(&inputs, &mut sums).0);
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        self.sequence.attribute(row, &|inputs| self.gradient(inputs))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// The network as burn trains it; a convolution is a layer over the moments it looks at, side by side.
#[derive(Module, Debug)]
struct CnnNet {
    convolutions: Vec<Dense>,
    head: Dense,
}

impl CnnNet {
    fn new(sequence: &Sequence, hyper: &CnnHyper, random: &mut Random, device: &Device) -> CnnNet {
        let (mut length, mut width) = (sequence.hours(), sequence.width());
        let mut convolutions = Vec::new();
        for &channels in &hyper.channels {
            let kernel = hyper.kernel.min(length);
            convolutions.push(dense(kernel * width, channels, random, device));
            (length, width) = (length + 1 - kernel, channels);
        }
        CnnNet { convolutions, head: dense(2 * width + sequence.summary_width(), 1, random, device) }
    }
}

impl Net for CnnNet {
    fn layers(&self) -> Vec<&Dense> {
        self.convolutions.iter().chain([&self.head]).collect()
    }

    fn forward(&self, hours: Tensor<3>, summary: Tensor<2>) -> Tensor<2> {
        let mut moments = hours;
        for layer in &self.convolutions {
            let [rows, length, width] = moments.dims();
            let kernel = layer.weight.val().dims()[0] / width;
            let after = length + 1 - kernel;
            let looked_at =
                (0..kernel).map(|first| moments.clone().slice([0..rows, first..first + after, 0..width])).collect();
            moments = silu_of(layer.forward(Tensor::cat(looked_at, 2)));
        }
        let mean = moments.clone().mean_dim(1).squeeze_dim::<2>(1);
        let greatest = moments.max_dim(1).squeeze_dim::<2>(1);
        self.head.forward(Tensor::cat(vec![mean, greatest, summary], 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::tests::{assert_derivative, sample, tensors};
    use super::super::training::take_out;
    use super::*;

    /// One with random weights, as burn has it and as we do, and inputs of some rows.
    fn random_cnn() -> (CnnNet, Cnn, Vec<Vec<f64>>) {
        let (sequence, rows) = sample();
        let mut random = Random::new(5);
        let hyper = CnnHyper { channels: vec![5, 4], kernel: 3, ..CnnHyper::default() };
        let net = CnnNet::new(&sequence, &hyper, &mut random, &Device::flex());
        let cnn = Cnn::of(sequence, take_out(Family::Cnn, &net).unwrap()).unwrap();
        cnn.check().unwrap();
        (net, cnn, rows)
    }

    #[test]
    fn our_forward_pass_is_burns() {
        let (net, cnn, rows) = random_cnn();
        let (hours, summary) = tensors(&cnn.sequence, &rows);
        let theirs = net.forward(hours, summary).try_into_vec_as::<f32>().unwrap();
        for (row, theirs) in rows.iter().zip(theirs) {
            let ours = cnn.forward(row, &mut Vec::new()).0;
            assert!((ours - f64::from(theirs)).abs() < 1e-5, "{ours} {theirs}");
        }
    }

    #[test]
    fn our_gradient_is_the_derivative() {
        let (_, cnn, rows) = random_cnn();
        for row in rows.iter().take(5) {
            assert_derivative(row, &|inputs| cnn.gradient(inputs));
        }
    }

    #[test]
    fn a_layer_over_time_is_burns_convolution() {
        use burn::tensor::TensorData;
        use burn::tensor::module::conv1d;
        use burn::tensor::ops::ConvOptions;

        let (_, cnn, rows) = random_cnn();
        let Convolution { kernel, layer } = &cnn.convolutions[0];
        let (width, channels) = (cnn.sequence.width(), layer.bias.len());
        let mut weights = Vec::new();
        for channel in 0..channels {
            for input in 0..width {
                weights.extend((0..*kernel).map(|at| layer.weights[(at * width + input) * channels + channel]));
            }
        }
        let device = Device::flex();
        let weights = Tensor::<3>::from_data(TensorData::new(weights, [channels, width, *kernel]), &device);
        let bias = Tensor::<1>::from_data(TensorData::new(layer.bias.clone(), [channels]), &device);
        let (hours, _) = tensors(&cnn.sequence, &rows);
        let options = ConvOptions::new([1], [0], [1], 1);
        let theirs = conv1d(hours.swap_dims(1, 2), weights, Some(bias), options).swap_dims(1, 2);
        let theirs = theirs.reshape([-1]).try_into_vec_as::<f32>().unwrap();
        let mut ours = Vec::new();
        for row in &rows {
            let mut sums = Vec::new();
            cnn.forward(row, &mut sums);
            ours.extend_from_slice(&sums[0].numbers);
        }
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(theirs).all(|(ours, theirs)| (ours - f64::from(theirs)).abs() < 1e-5));
    }

    #[test]
    fn a_kernel_is_no_longer_than_what_it_looks_at() {
        let (sequence, rows) = sample();
        let hyper = CnnHyper { channels: vec![3, 3, 3], kernel: 5, ..CnnHyper::default() };
        let net = CnnNet::new(&sequence, &hyper, &mut Random::new(1), &Device::flex());
        let cnn = Cnn::of(sequence, take_out(Family::Cnn, &net).unwrap()).unwrap();
        cnn.check().unwrap();
        assert_eq!(cnn.convolutions.iter().map(|one| one.kernel).collect::<Vec<_>>(), [5, 2, 1], "of six hours");
        assert_derivative(&rows[0], &|inputs| cnn.gradient(inputs));
    }
}
