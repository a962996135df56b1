//! A layer of weights, between numbers and numbers: what the networks are made of.
//!
//! Promises the same bits for a row alone, beside others, and on any machine: an output is summed in f64, from the
//! bias on, in the order of the inputs, and nothing is fused. What one computes with never changes the order in which
//! it does: several rows and outputs go side by side, each sum for itself.

#[cfg(target_arch = "x86_64")]
mod wide;

use serde::{Deserialize, Serialize};

/// A layer: `out = weights^T in + bias`; weights stand input by input.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layer {
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Layer {
    /// Checks that it takes `inputs` numbers and holds only finite ones.
    ///
    /// # Errors
    /// A reason if not.
    pub(super) fn check(&self, inputs: usize) -> Result<(), String> {
        if inputs == 0 || self.bias.is_empty() || inputs.checked_mul(self.bias.len()) != Some(self.weights.len()) {
            return Err("the layers do not fit together".to_owned());
        }
        if !self.weights.iter().chain(&self.bias).all(|x| x.is_finite()) {
            return Err("a weight is not finite".to_owned());
        }
        Ok(())
    }

    /// Clears `out` and fills it with what the layer makes of each row of `inputs`, row after row. A row begins every
    /// `step` numbers, so that rows may overlap; only whole ones count.
    pub(super) fn apply(&self, inputs: &[f64], step: usize, out: &mut Vec<f64>) {
        let outputs = self.bias.len();
        let rows = inputs.len().checked_sub(self.weights.len() / outputs).map_or(0, |rest| rest / step + 1);
        out.clear();
        out.resize(rows * outputs, 0.0);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(wide::Wide { simd, layer: self, inputs, step, out });
        }
        self.apply_plain(inputs, step, out);
    }

    /// [`Layer::apply`] on a machine without the wide instructions.
    fn apply_plain(&self, inputs: &[f64], step: usize, out: &mut [f64]) {
        for (row, out) in out.chunks_exact_mut(self.bias.len()).enumerate() {
            let (eights, rest) = out.as_chunks_mut::<8>();
            let first = 8 * eights.len();
            for (at, eight) in eights.iter_mut().enumerate() {
                *eight = self.outputs(&inputs[row * step..], 8 * at);
            }
            for (at, one) in rest.iter_mut().enumerate() {
                [*one] = self.outputs(&inputs[row * step..], first + at);
            }
        }
    }

    /// A row's outputs from `first` on.
    #[inline(always)]
    fn outputs<const N: usize>(&self, inputs: &[f64], first: usize) -> [f64; N] {
        let mut sums = [0.0; N];
        for (sum, &bias) in sums.iter_mut().zip(&self.bias[first..]) {
            *sum = f64::from(bias);
        }
        for (value, weights) in inputs.iter().zip(self.weights[first..].chunks(self.bias.len())) {
            let Some(weights) = weights.first_chunk::<N>() else { break };
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum += value * f64::from(weight);
            }
        }
        sums
    }

    /// What a change of each output by `of_outputs` is as a change of each input.
    pub(super) fn back(&self, of_outputs: &[f64]) -> Vec<f64> {
        let of_input =
            |weights: &[f32]| weights.iter().zip(of_outputs).map(|(&weight, of)| f64::from(weight) * of).sum::<f64>();
        self.weights.chunks_exact(self.bias.len()).map(of_input).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::random::Random;
    use super::*;

    fn numbers(random: &mut Random, count: usize) -> impl Iterator<Item = f64> {
        (0..count).map(|_| random.unit() * 4.0 - 2.0)
    }

    fn random_layer(random: &mut Random, inputs: usize, outputs: usize) -> Layer {
        let weights = numbers(random, inputs * outputs).map(|weight| weight as f32).collect();
        Layer { weights, bias: numbers(random, outputs).map(|bias| bias as f32).collect() }
    }

    /// What a layer promises, as plainly as it can be said.
    fn one_by_one(layer: &Layer, row: &[f64]) -> Vec<u64> {
        let outputs = layer.bias.len();
        let sum = |output: usize| {
            let bias = f64::from(layer.bias[output]);
            row.iter().enumerate().fold(bias, |sum, (input, value)| {
                let product = value * f64::from(layer.weights[input * outputs + output]);
                sum + product
            })
        };
        (0..outputs).map(|output| sum(output).to_bits()).collect()
    }

    fn bits(numbers: &[f64]) -> Vec<u64> {
        numbers.iter().map(|number| number.to_bits()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_output_is_summed_in_order_whatever_goes_beside_it(
            seed: u64,
            rows in 0..=33_usize,
            inputs in 1..=70_usize,
            outputs in 1..=70_usize,
            step in 1..=140_usize,
        ) {
            let mut random = Random::new(seed);
            let layer = random_layer(&mut random, inputs, outputs);
            // Behind the last row the beginning of another.
            let count = rows.checked_sub(1).map_or(0, |last| last * step + inputs) + step.min(inputs) - 1;
            let numbers: Vec<f64> = numbers(&mut random, count).collect();
            let want: Vec<u64> =
                (0..rows).flat_map(|row| one_by_one(&layer, &numbers[row * step..][..inputs])).collect();
            let mut out = vec![7.0];
            layer.apply(&numbers, step, &mut out);
            prop_assert_eq!(bits(&out), want.clone());
            out.fill(7.0);
            layer.apply_plain(&numbers, step, &mut out);
            prop_assert_eq!(bits(&out), want.clone(), "without the wide instructions");
            for (row, want) in want.chunks_exact(outputs).enumerate() {
                layer.apply(&numbers[row * step..][..inputs], inputs, &mut out);
                prop_assert_eq!(bits(&out), want, "row {} alone", row);
            }
        }
    }

    #[test]
    fn a_layer_that_does_not_fit_is_refused() {
        let layer = random_layer(&mut Random::new(3), 5, 4);
        layer.check(5).unwrap();
        assert!([0, 4, 6, usize::MAX].iter().all(|&inputs| layer.check(inputs).is_err()));
        assert!(Layer { weights: vec![f32::NAN; 20], ..layer.clone() }.check(5).is_err());
        assert!(Layer { bias: vec![f32::INFINITY; 4], ..layer }.check(5).is_err());
    }
}
