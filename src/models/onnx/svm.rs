//! Support vector machines, as `SVMClassifier` (of two classes) and `SVMRegressor` have them.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::calibration::sigmoid;

/// How near a probability may come to 0 or 1, as in libsvm.
const LEAST: f64 = 1e-7;

/// A machine: `rho + Σ coefficient * kernel(vector, row)`.
#[derive(Debug)]
pub(super) struct Machine {
    columns: usize,
    /// Row-major.
    vectors: Vec<f32>,
    coefficients: Vec<f32>,
    rho: f64,
    kernel: Kernel,
    output: Output,
}

#[derive(Copy, Clone, Debug)]
enum Kernel {
    Linear,
    Polynomial { gamma: f64, offset: f64, degree: f64 },
    Gaussian { gamma: f64 },
    Tanh { gamma: f64, offset: f64 },
}

/// What becomes of the sum.
#[derive(Copy, Clone, Debug)]
enum Output {
    /// The sum.
    Sum,
    /// Less the sum, and the sum.
    Pair,
    /// The probabilities of the two classes: `1 / (1 + exp(a * sum + b))` of the first (Platt).
    Platt { a: f64, b: f64 },
}

impl Machine {
    /// The machine of an `SVMClassifier`.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(super) fn classifier(node: &NodeProto) -> TractResult<Machine> {
        let classes = node.get_attr_slice::<i64>("vectors_per_class")?;
        ensure!(classes.len() == 2, "it has {} classes, not two", classes.len());
        let count = classes.iter().map(|&count| usize::try_from(count)).sum::<Result<usize, _>>()?;
        let numbers = |name: &str| -> TractResult<&[f32]> { Ok(node.get_attr_opt_slice(name)?.unwrap_or_default()) };
        let output = match (numbers("prob_a")?, numbers("prob_b")?) {
            ([], []) => Output::Pair,
            ([a], [b]) => Output::Platt { a: f64::from(*a), b: f64::from(*b) },
            _ => bail!("its prob_a and prob_b are not one number each"),
        };
        Machine::parse(node, count, output)
    }

    /// The machine of an `SVMRegressor`.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(super) fn regressor(node: &NodeProto) -> TractResult<Machine> {
        ensure!(node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) == 0, "a machine of one class has no outcome");
        Machine::parse(node, node.get_attr::<usize>("n_supports")?, Output::Sum)
    }

    fn parse(node: &NodeProto, count: usize, output: Output) -> TractResult<Machine> {
        let vectors = node.get_attr_vec::<f32>("support_vectors")?;
        let coefficients = node.get_attr_vec::<f32>("coefficients")?;
        ensure!(count > 0 && coefficients.len() == count, "{} coefficients of {count} vectors", coefficients.len());
        ensure!(!vectors.is_empty() && vectors.len().is_multiple_of(count), "its vectors are of different lengths");
        let [rho] = node.get_attr_slice::<f32>("rho")? else { bail!("it has not one rho") };
        let post = node.get_attr_opt("post_transform")?.unwrap_or("NONE");
        ensure!(post == "NONE", "post_transform {post} cannot be done");
        let parameters = node.get_attr_opt_slice::<f32>("kernel_params")?.unwrap_or_default();
        let [gamma, offset, degree] = match *parameters {
            [gamma, offset, degree] => [gamma, offset, degree].map(f64::from),
            [] => [0.0, 0.0, 3.0],
            _ => bail!("its kernel has {} parameters, not three", parameters.len()),
        };
        let kernel = match node.get_attr_opt("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Polynomial { gamma, offset, degree },
            "RBF" => Kernel::Gaussian { gamma },
            "SIGMOID" => Kernel::Tanh { gamma, offset },
            other => bail!("kernel_type {other} is unknown"),
        };
        Ok(Machine { columns: vectors.len() / count, vectors, coefficients, rho: f64::from(*rho), kernel, output })
    }

    /// Columns of a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Numbers that come of a row.
    pub(super) fn outputs(&self) -> usize {
        if let Output::Sum = self.output { 1 } else { 2 }
    }

    /// Appends what comes of a row.
    pub(super) fn apply(&self, row: &[f32], out: &mut Vec<f32>) {
        let terms = self.vectors.chunks_exact(self.columns).zip(&self.coefficients);
        let terms = terms.map(|(vector, &coefficient)| f64::from(coefficient) * self.kernel.of(vector, row));
        let sum = self.rho + terms.sum::<f64>();
        match self.output {
            Output::Sum => out.push(sum as f32),
            Output::Pair => out.extend([-sum as f32, sum as f32]),
            Output::Platt { a, b } => {
                let first = sigmoid(-(a * sum + b)).clamp(LEAST, 1.0 - LEAST);
                out.extend(coupled(first).map(|share| share as f32));
            }
        }
    }
}

/// The probabilities of two classes, where the first's is `first` by itself: pairwise coupling (Wu, Lin and Weng
/// 2004, algorithm 2), stopped as early as libsvm stops it, which is to say some 1e-4 off.
fn coupled(first: f64) -> [f64; 2] {
    let second = 1.0 - first;
    let q = [[second * second, -second * first], [-second * first, first * first]];
    let mut p = [0.5; 2];
    for _ in 0..100 {
        let mut qp = q.map(|row| row[0] * p[0] + row[1] * p[1]);
        let mut pqp = p[0] * qp[0] + p[1] * qp[1];
        if qp.iter().all(|qp| (qp - pqp).abs() < 0.0025) {
            break;
        }
        for t in 0..2 {
            let step = (pqp - qp[t]) / q[t][t];
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2.0 * qp[t])) / (1.0 + step).powi(2);
            for j in 0..2 {
                qp[j] = (qp[j] + step * q[t][j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}

impl Kernel {
    fn of(self, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let product = || pairs().map(|(a, b)| a * b).sum::<f64>();
        match self {
            Kernel::Linear => product(),
            Kernel::Polynomial { gamma, offset, degree } => (gamma * product() + offset).powf(degree),
            Kernel::Gaussian { gamma } => (-gamma * pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>()).exp(),
            Kernel::Tanh { gamma, offset } => (gamma * product() + offset).tanh(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_outputs_are_as_defined() {
        let (a, b) = ([1.0, 2.0], [3.0, -1.0]);
        let (gamma, offset, degree) = (0.5, 0.25, 3.0);
        assert_eq!(Kernel::Linear.of(&a, &b), 1.0);
        assert_eq!(Kernel::Polynomial { gamma, offset, degree }.of(&a, &b), 0.75f64.powi(3));
        assert_eq!(Kernel::Gaussian { gamma }.of(&a, &b), (-6.5f64).exp());
        assert_eq!(Kernel::Tanh { gamma, offset }.of(&a, &b), 0.75f64.tanh());
        let machine = |output: Output| Machine {
            columns: 2,
            vectors: vec![1.0, 2.0, 0.0, 1.0],
            coefficients: vec![2.0, -1.0],
            rho: 0.5,
            kernel: Kernel::Linear,
            output,
        };
        let of = |output: Output| {
            let (machine, mut out) = (machine(output), Vec::new());
            machine.apply(&b, &mut out);
            assert_eq!(out.len(), machine.outputs());
            out
        };
        // 2 * 1 - 1 * -1 + 0.5
        assert_eq!(of(Output::Sum), [3.5]);
        assert_eq!(of(Output::Pair), [-3.5, 3.5]);
        let first = 1.0 / (1.0 + (0.5 - 3.5f64).exp());
        let found = of(Output::Platt { a: -1.0, b: 0.5 });
        assert!((f64::from(found[0]) - first).abs() < 2e-3 && (found[0] + found[1] - 1.0).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_node_without_vectors_is_refused() {
        assert!(Machine::classifier(&NodeProto::default()).is_err());
        assert!(Machine::regressor(&NodeProto::default()).is_err());
    }
}
