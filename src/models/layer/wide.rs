//! Layers with AVX2: four numbers an instruction.
//!
//! Written in vectors, for what the compiler makes of a loop is three times slower in one spelling than in the next.
//! Each product is rounded and then each sum, as everywhere: never by an instruction that does both at once.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, f64x4};

use super::Layer;

/// Numbers of a vector.
const LANES: usize = 4;
/// Rows that are taken together, so that weights are read and widened for all of them.
const ROWS: usize = 4;

/// Rows on their way through a layer; see [`Layer::apply`].
pub(super) struct Wide<'a> {
    pub(super) simd: V3,
    pub(super) layer: &'a Layer,
    pub(super) inputs: &'a [f64],
    pub(super) step: usize,
    /// What the layer makes of each row.
    pub(super) out: &'a mut [f64],
}

// Not a closure: the instructions are only used in what is inlined here, and of a closure nobody warrants that it is.
impl NullaryFnOnce for Wide<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let outputs = self.layer.bias.len();
        let rows = self.out.len() / outputs;
        // Eight vectors of sums keep the adders busy, and they and what they need fit into the registers.
        let together = rows - rows % ROWS;
        for row in (0..together).step_by(ROWS) {
            self.rows::<ROWS, 2>(row);
        }
        for row in together..rows {
            self.rows::<1, 4>(row);
        }
    }
}

impl Wide<'_> {
    /// All outputs of `R` rows, from `row` on.
    #[inline(always)]
    fn rows<const R: usize, const V: usize>(&mut self, row: usize) {
        let outputs = self.layer.bias.len();
        let width = self.layer.weights.len() / outputs;
        let inputs: [&[f64]; R] = std::array::from_fn(|at| &self.inputs[(row + at) * self.step..][..width]);
        let out = &mut self.out[row * outputs..][..R * outputs];
        let mut first = 0;
        while first + V * LANES <= outputs {
            block::<R, V>(self.simd, self.layer, inputs, first, out);
            first += V * LANES;
        }
        while first + LANES <= outputs {
            block::<R, 1>(self.simd, self.layer, inputs, first, out);
            first += LANES;
        }
        for first in first..outputs {
            for (inputs, out) in inputs.iter().zip(out.chunks_exact_mut(outputs)) {
                [out[first]] = self.layer.outputs(inputs, first);
            }
        }
    }
}

/// `V` vectors of outputs, from `first` on, of `R` rows.
#[inline(always)]
fn block<const R: usize, const V: usize>(simd: V3, layer: &Layer, inputs: [&[f64]; R], first: usize, out: &mut [f64]) {
    let outputs = layer.bias.len();
    let mut sums = [widen::<V>(simd, &layer.bias[first..]); R];
    for (at, weights) in layer.weights[first..].chunks(outputs).enumerate() {
        let weights = widen::<V>(simd, weights);
        for (sums, inputs) in sums.iter_mut().zip(inputs) {
            let value = simd.splat_f64x4(inputs[at]);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.add_f64x4(*sum, simd.mul_f64x4(value, weight));
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
        for (sum, out) in sums.iter().zip(out[first..].as_chunks_mut::<LANES>().0) {
            *out = pulp::cast(*sum);
        }
    }
}

/// The first `V` vectors of some numbers.
#[inline(always)]
fn widen<const V: usize>(simd: V3, narrow: &[f32]) -> [f64x4; V] {
    let narrow = &narrow.as_chunks::<LANES>().0[..V];
    std::array::from_fn(|at| simd.convert_f32x4_to_f64x4(pulp::cast(narrow[at])))
}
