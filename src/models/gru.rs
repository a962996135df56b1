//! A gated recurrent unit (Cho et al. 2014) over the hours of the grid: fitted by burn, scored and explained
//! by our own plain code.
//!
//! The state after the last hour, the mean of the states and a [summary](Sequence::summary) of the hours and
//! the table lead to one logit. Explanations are [integrated gradients](super::gradients) from a row in which nothing was observed;
//! they say by how much they may be off.

use burn::module::Module;
use burn::nn::Linear as Dense;
use burn::tensor::activation::{sigmoid as sigmoid_of, tanh};
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
use super::{Attribution, Family, GruHyper, Link, Matrix, Model, ModelError};

/// A fitted unit. With `[r z n]` what the hour's layer makes of an hour and `[r' z' n']` what the state's
/// layer makes of the state `h` before it, the next state is
/// `u h + (1 - u) tanh(n + sigmoid(r + r') n')` with `u = sigmoid(z + z')`; it begins at 0.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gru {
    sequence: Sequence,
    /// From an hour, to three numbers for each of the state.
    hour: Layer,
    /// From the state before it, the same.
    state: Layer,
    /// From the last state, the mean state and the summary to the logit.
    head: Layer,
}

/// What one hour did to a number of the state, for the way back.
#[derive(Copy, Clone, Debug)]
struct Step {
    before: f64,
    reset: f64,
    update: f64,
    new: f64,
    /// The state's share of `new`, before the reset.
    recalled: f64,
}

impl Gru {
    /// Fits on rows as they are, `features` their columns; gives the epoch that the weights come from.
    ///
    /// # Errors
    /// [`ModelError::Features`] if there is no hourly grid, [`ModelError::Fit`] if burn fails.
    pub(super) fn fit(
        hyper: &GruHyper,
        seed: u64,
        features: &[String],
        x: &Matrix,
        labels: &[bool],
        groups: Option<&[i64]>,
    ) -> Result<(Gru, usize), ModelError> {
        let sequence = Sequence::fit(Family::Gru, features, x)?;
        guarded(Family::Gru, || {
            let mut random = Random::new(seed);
            let net = GruNet::new(&sequence, hyper.hidden, &mut random, &Device::flex().autodiff());
            let rows = Rows { sequence: &sequence, x, labels, groups };
            let plain = |layers| Gru::of(sequence.clone(), layers).map(|gru| Box::new(gru) as Box<dyn Model>);
            let (layers, epoch) = train(Family::Gru, hyper.into(), &mut random, rows, net, &plain)?;
            let gru = Gru::of(sequence.clone(), layers)?;
            gru.check().map_err(|reason| ModelError::fit(Family::Gru, reason))?;
            Ok((gru, epoch))
        })
    }

    /// Reads what [`Model::encode`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Corrupt`] if it is no usable unit.
    pub(super) fn decode(bytes: &[u8]) -> Result<Gru, ModelError> {
        let gru: Gru = serde_json::from_slice(bytes).map_err(|e| ModelError::corrupt(MODEL, e))?;
        gru.check().map_err(|reason| ModelError::corrupt(MODEL, reason))?;
        Ok(gru)
    }

    /// The unit of the layers of a [`GruNet`].
    fn of(sequence: Sequence, layers: Vec<Layer>) -> Result<Gru, ModelError> {
        let layers: Result<[Layer; 3], _> = layers.try_into();
        let [hour, state, head] = layers.map_err(|_| ModelError::fit(Family::Gru, "it has not three layers"))?;
        Ok(Gru { sequence, hour, state, head })
    }

    fn check(&self) -> Result<(), String> {
        self.sequence.check()?;
        let hidden = self.hidden();
        self.hour.check(self.sequence.width())?;
        self.state.check(hidden)?;
        self.head.check(2 * hidden + self.sequence.summary_width())?;
        if self.hour.bias.len() != 3 * hidden || self.state.bias.len() != 3 * hidden || self.head.bias.len() != 1 {
            return Err("the layers do not fit together".to_owned());
        }
        Ok(())
    }

    /// Numbers of the state.
    fn hidden(&self) -> usize {
        self.state.bias.len() / 3
    }

    /// The logit of a row's inputs and the states after each hour; what each did goes into `steps`, number after
    /// number, if it is wanted.
    fn forward(&self, inputs: &[f64], mut steps: Option<&mut Vec<Step>>) -> (f64, Vec<f64>) {
        let hidden = self.hidden();
        let (mut state, mut of_hours, mut of_state) = (vec![0.0; hidden], Vec::new(), Vec::new());
        self.hour.apply(self.sequence.of_hours(inputs), self.sequence.width(), &mut of_hours);
        let mut states = Vec::with_capacity(self.sequence.hours() * hidden);
        for of_hour in of_hours.chunks_exact(3 * hidden) {
            self.state.apply(&state, hidden, &mut of_state);
            for (at, state) in state.iter_mut().enumerate() {
                let gate = |at: usize| sigmoid(of_hour[at] + of_state[at]);
                let (reset, update, recalled) = (gate(at), gate(hidden + at), of_state[2 * hidden + at]);
                let new = (of_hour[2 * hidden + at] + reset * recalled).tanh();
                if let Some(steps) = steps.as_deref_mut() {
                    steps.push(Step { before: *state, reset, update, new, recalled });
                }
                *state = new + update * (*state - new);
            }
            states.extend_from_slice(&state);
        }
        state.extend(Pooled::of(&states, hidden).mean);
        self.sequence.summary(inputs, &mut state);
        let mut logit = Vec::with_capacity(1);
        self.head.apply(&state, state.len(), &mut logit);
        (logit[0], states)
    }

    /// The logit of a row's inputs and its derivative by each of them.
    fn gradient(&self, inputs: &[f64]) -> (f64, Vec<f64>) {
        let (hidden, width) = (self.hidden(), self.sequence.width());
        let mut steps = Vec::with_capacity(self.sequence.hours() * hidden);
        let (logit, states) = self.forward(inputs, Some(&mut steps));
        let of_head = self.head.back(&[1.0]);
        let (of_last, rest) = of_head.split_at(hidden);
        let (of_mean, of_summary) = rest.split_at(hidden);
        let mut of_inputs = vec![0.0; inputs.len()];
        self.sequence.summary_back(inputs, of_summary, &mut of_inputs);
        let mut of_states = vec![0.0; states.len()];
        Pooled::of(&states, hidden).back(of_mean, &mut of_states);
        let mut of_state = of_last.to_vec();
        let hours = of_inputs.chunks_exact_mut(width).zip(of_states.chunks_exact(hidden));
        for (steps, (of_hour, of_mean)) in steps.chunks_exact(hidden).zip(hours).rev() {
            for (of, more) in of_state.iter_mut().zip(of_mean) {
                *of += more;
            }
            let (mut to_hour, mut to_state) = (vec![0.0; 3 * hidden], vec![0.0; 3 * hidden]);
            for (at, (of, step)) in of_state.iter().zip(steps).enumerate() {
                let Step { before, reset, update, new, recalled } = *step;
                let of_new = of * (1.0 - update) * (1.0 - new * new);
                let of_update = of * (before - new) * update * (1.0 - update);
                let of_reset = of_new * recalled * reset * (1.0 - reset);
                (to_hour[at], to_hour[hidden + at], to_hour[2 * hidden + at]) = (of_reset, of_update, of_new);
                (to_state[at], to_state[hidden + at], to_state[2 * hidden + at]) =
                    (of_reset, of_update, of_new * reset);
            }
            for (of, more) in of_hour.iter_mut().zip(self.hour.back(&to_hour)) {
                *of += more;
            }
            let through = self.state.back(&to_state);
            for ((of, through), step) in of_state.iter_mut().zip(through).zip(steps) {
                *of = *of * step.update + through;
            }
        }
        (logit, of_inputs)
    }
}

impl Model for Gru {
    fn columns(&self) -> usize {
        self.sequence.columns()
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let mut inputs = Vec::new();
        for row in rows.chunks_exact(self.columns()) {
            self.sequence.prepare(row, &mut inputs);
            out.push(self.forward(&inputs, None).0);
        }
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        self.sequence.attribute(row, &|inputs| self.gradient(inputs))
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        serde_json::to_vec(self).map_err(|e| ModelError::corrupt(MODEL, e))
    }
}

/// The unit as burn trains it.
#[derive(Module, Debug)]
struct GruNet {
    hour: Dense,
    state: Dense,
    head: Dense,
}

impl GruNet {
    fn new(sequence: &Sequence, hidden: usize, random: &mut Random, device: &Device) -> GruNet {
        GruNet {
            hour: dense(sequence.width(), 3 * hidden, random, device),
            state: dense(hidden, 3 * hidden, random, device),
            head: dense(2 * hidden + sequence.summary_width(), 1, random, device),
        }
    }
}

impl Net for GruNet {
    fn layers(&self) -> Vec<&Dense> {
        vec![&self.hour, &self.state, &self.head]
    }

    fn forward(&self, hours: Tensor<3>, summary: Tensor<2>) -> Tensor<2> {
        let [rows, count, width] = hours.dims();
        let hidden = self.state.weight.val().dims()[0];
        let part = |of: &Tensor<2>, which: usize| of.clone().slice([0..rows, which * hidden..(which + 1) * hidden]);
        let mut state = Tensor::<2>::zeros([rows, hidden], &hours.device());
        let mut states = Vec::with_capacity(count);
        for hour in 0..count {
            let inputs = hours.clone().slice([0..rows, hour..hour + 1, 0..width]).reshape([rows, width]);
            let (of_hour, of_state) = (self.hour.forward(inputs), self.state.forward(state.clone()));
            let reset = sigmoid_of(part(&of_hour, 0) + part(&of_state, 0));
            let update = sigmoid_of(part(&of_hour, 1) + part(&of_state, 1));
            let new = tanh(part(&of_hour, 2) + reset * part(&of_state, 2));
            state = new.clone() + update * (state - new);
            states.push(state.clone());
        }
        let mean = Tensor::stack::<3>(states, 1).mean_dim(1).squeeze_dim::<2>(1);
        self.head.forward(Tensor::cat(vec![state, mean, summary], 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::neural::layer_of;
    use super::super::sequence::tests::{assert_derivative, sample, tensors};
    use super::super::training::take_out;
    use super::*;

    /// One with random weights, as burn has it and as we do, and inputs of some rows.
    fn random_gru() -> (GruNet, Gru, Vec<Vec<f64>>) {
        let (sequence, rows) = sample();
        let mut random = Random::new(5);
        let net = GruNet::new(&sequence, 7, &mut random, &Device::flex());
        let gru = Gru::of(sequence, take_out(Family::Gru, &net).unwrap()).unwrap();
        gru.check().unwrap();
        (net, gru, rows)
    }

    #[test]
    fn our_forward_pass_is_burns() {
        let (net, gru, rows) = random_gru();
        let (hours, summary) = tensors(&gru.sequence, &rows);
        let theirs = net.forward(hours, summary).try_into_vec_as::<f32>().unwrap();
        for (row, theirs) in rows.iter().zip(theirs) {
            let ours = gru.forward(row, None).0;
            assert!((ours - f64::from(theirs)).abs() < 1e-5, "{ours} {theirs}");
        }
    }

    #[test]
    fn our_gradient_is_the_derivative() {
        let (_, gru, rows) = random_gru();
        for row in rows.iter().take(5) {
            assert_derivative(row, &|inputs| gru.gradient(inputs));
        }
    }

    #[test]
    fn the_equations_are_those_of_burns_own_unit() {
        use burn::nn::gru::GruConfig;

        let (sequence, rows) = sample();
        let device = Device::flex();
        let theirs = GruConfig::new(sequence.width(), 4, true).init(&device);
        // Reset, update, new, side by side.
        let gates = [&theirs.reset_gate, &theirs.update_gate, &theirs.new_gate];
        let beside = |of: &dyn Fn(usize) -> Layer| {
            let layers = [0, 1, 2].map(of);
            let inputs = layers[0].weights.len() / 4;
            let row = |input: usize| layers.iter().flat_map(move |layer| layer.weights[input * 4..][..4].to_vec());
            Layer {
                weights: (0..inputs).flat_map(row).collect(),
                bias: layers.iter().flat_map(|layer| layer.bias.clone()).collect(),
            }
        };
        let hour = beside(&|gate| layer_of(Family::Gru, &gates[gate].input_transform).unwrap());
        let state = beside(&|gate| layer_of(Family::Gru, &gates[gate].hidden_transform).unwrap());
        let mut head = Layer { weights: vec![0.0; 2 * 4 + sequence.summary_width()], bias: vec![0.0] };
        head.weights[2] = 1.0;
        let (hours, _) = tensors(&sequence, &rows);
        let (count, last) = (rows.len(), sequence.hours() - 1);
        let states = theirs.forward(hours, None).slice([0..count, last..last + 1, 2..3]);
        let states = states.reshape([count, 1]).try_into_vec_as::<f32>().unwrap();
        let gru = Gru { sequence, hour, state, head };
        for (row, theirs) in rows.iter().zip(states) {
            assert!((gru.forward(row, None).0 - f64::from(theirs)).abs() < 1e-5);
        }
    }
}
