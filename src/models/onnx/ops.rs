//! Operators of scikit-learn's converters that tract lacks, or has otherwise than they are meant.
//!
//! Each takes its input row by row, so no row can change another's numbers, and checks what the file says
//! when the model is taken in: no index of a file is followed unseen.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::array::ArrayFeatureExtractor;
use tract_onnx::tract_hir::ops::identity::Identity;

use super::svm::Machine;
use super::trees::Trees;

/// Classifiers below, whose first output, the label, is left out.
pub(super) const CLASSIFIERS: [&str; 2] = ["TreeEnsembleClassifier", "SVMClassifier"];

/// Largest whole number that is exact as f32.
const EXACT: i64 = 1 << 24;

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An operator that works on rows: the last axis of its first input.
#[derive(Clone, Debug)]
struct RowByRow {
    name: &'static str,
    work: Arc<Work>,
}

/// What an operator does with a row.
#[derive(Debug)]
pub(super) enum Work {
    /// `(x - offset) * scale`; one of each a column, or one for all.
    Scale { offset: Vec<f32>, scale: Vec<f32> },
    /// Puts a value, one a column or one for all, in the place of another (NaN as a rule).
    Impute { missing: f32, values: Vec<f32> },
    /// 1 above the threshold, else 0.
    Binarize { threshold: f32 },
    /// Puts a value in the place of each key.
    Encode { keys: Vec<f32>, values: Vec<f32>, other: f32 },
    /// Of each number, which of the categories it is, as 0 and 1; of another, nothing but 0 if that is allowed.
    OneHot { categories: Vec<f32>, others: bool },
    /// Columns by their places.
    Pick { columns: Vec<usize> },
    /// Decision trees.
    Trees(Trees),
    /// A support vector machine.
    Machine(Machine),
}

/// Adds the operators to tract's own.
pub(super) fn register(ops: &mut OnnxOpRegister) {
    ops.insert("Scaler", |_, node| built("Scaler", Work::read(node)?));
    ops.insert("Imputer", |_, node| built("Imputer", Work::read(node)?));
    ops.insert("Binarizer", |_, node| built("Binarizer", Work::read(node)?));
    ops.insert("LabelEncoder", |_, node| built("LabelEncoder", Work::read(node)?));
    ops.insert("OneHotEncoder", |_, node| built("OneHotEncoder", Work::read(node)?));
    ops.insert("ArrayFeatureExtractor", pick);
    ops.insert("TreeEnsembleClassifier", |_, node| built("TreeEnsembleClassifier", Work::read(node)?));
    ops.insert("TreeEnsembleRegressor", |_, node| built("TreeEnsembleRegressor", Work::read(node)?));
    ops.insert("TreeEnsemble", |_, node| built("TreeEnsemble", Work::read(node)?));
    ops.insert("SVMClassifier", |_, node| built("SVMClassifier", Work::read(node)?));
    ops.insert("SVMRegressor", |_, node| built("SVMRegressor", Work::read(node)?));
    // A dictionary a row of the same numbers in the same order.
    ops.insert("ZipMap", |_, _| Ok((Box::<Identity>::default(), vec![])));
}

fn built(name: &'static str, work: Work) -> Built {
    Ok((expand(RowByRow { name, work: Arc::new(work) }), vec![]))
}

/// What an Imputer replaces, and by what.
pub(super) fn imputed(node: &NodeProto) -> TractResult<(f32, Vec<f32>)> {
    let values = numbers(node, "imputed_value_floats", "imputed_value_int64s")?;
    let missing = match node.get_attr_opt::<i64>("replaced_value_int64")? {
        Some(whole) => exact(whole)?,
        None => node.get_attr_opt("replaced_value_float")?.unwrap_or(0.0),
    };
    Ok((missing, values))
}

/// The columns that an ArrayFeatureExtractor picks, if they are fixed: tract gives one column no axis of its own.
fn pick(ctx: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let graph = ctx.parent_graphs.last().copied();
    let fixed = graph
        .zip(node.input.get(1))
        .and_then(|(graph, name)| graph.initializer.iter().find(|tensor| tensor.name == *name));
    let Some(fixed) = fixed else { return Ok((expand(ArrayFeatureExtractor), vec![])) };
    let tensor = ctx.load_tensor(fixed)?;
    let places = tensor.cast_to::<i64>()?;
    let places = places.try_as_plain_ram()?;
    let places = places.as_slice::<i64>()?.iter().map(|&place| usize::try_from(place));
    let columns = places.collect::<Result<_, _>>().context("ArrayFeatureExtractor picks a column before the first")?;
    built("ArrayFeatureExtractor", Work::Pick { columns })
}

/// Numbers that a node holds as floats or as whole numbers.
fn numbers(node: &NodeProto, floats: &str, whole: &str) -> TractResult<Vec<f32>> {
    if let Some(values) = node.get_attr_opt_vec::<f32>(floats)? {
        return Ok(values);
    }
    match node.get_attr_opt_slice::<i64>(whole)? {
        Some(values) => values.iter().map(|&value| exact(value)).collect(),
        None => bail!("{} has neither {floats} nor {whole}; only numbers can be mapped", node.op_type),
    }
}

fn exact(whole: i64) -> TractResult<f32> {
    ensure!((-EXACT..=EXACT).contains(&whole), "{whole} is too large a code for a feature, which is f32");
    Ok(whole as f32)
}

/// The value of a column, where one may stand for all.
fn of(values: &[f32], column: usize) -> f32 {
    values[if values.len() == 1 { 0 } else { column }]
}

fn same(a: f32, b: f32) -> bool {
    a == b || a.is_nan() && b.is_nan()
}

impl Work {
    /// The work of a node that picks nothing.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub(super) fn read(node: &NodeProto) -> TractResult<Work> {
        Ok(match node.op_type.as_str() {
            "Scaler" => Work::Scale { offset: node.get_attr_vec("offset")?, scale: node.get_attr_vec("scale")? },
            "Imputer" => {
                let (missing, values) = imputed(node)?;
                Work::Impute { missing, values }
            }
            "Binarizer" => Work::Binarize { threshold: node.get_attr_opt("threshold")?.unwrap_or(0.0) },
            "LabelEncoder" => {
                let keys = numbers(node, "keys_floats", "keys_int64s")?;
                let values = numbers(node, "values_floats", "values_int64s")?;
                ensure!(keys.len() == values.len(), "LabelEncoder has {} keys and {} values", keys.len(), values.len());
                let whole = node.get_attr_opt_slice::<i64>("values_int64s")?.is_some();
                let other = if whole {
                    exact(node.get_attr_opt("default_int64")?.unwrap_or(-1))?
                } else {
                    node.get_attr_opt("default_float")?.unwrap_or(-0.0)
                };
                Work::Encode { keys, values, other }
            }
            "OneHotEncoder" => {
                let categories = node.get_attr_slice::<i64>("cats_int64s")?;
                let categories = categories.iter().map(|&category| exact(category)).collect::<TractResult<_>>()?;
                Work::OneHot { categories, others: node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0 }
            }
            "TreeEnsembleClassifier" => Work::Trees(Trees::classifier(node)?),
            "TreeEnsembleRegressor" => Work::Trees(Trees::regressor(node)?),
            "TreeEnsemble" => Work::Trees(Trees::ensemble(node)?),
            "SVMClassifier" => Work::Machine(Machine::classifier(node)?),
            "SVMRegressor" => Work::Machine(Machine::regressor(node)?),
            other => bail!("{other} is no work on a row"),
        })
    }

    /// The axes of the output in the place of a last axis of `columns`.
    ///
    /// # Errors
    /// Why the work does not fit such an axis.
    pub(super) fn axes(&self, columns: usize) -> TractResult<TVec<usize>> {
        let fits = |values: usize| values == 1 || values == columns;
        ensure!(columns > 0, "it is given rows without columns");
        Ok(match self {
            Work::Scale { offset, scale } => {
                ensure!(fits(offset.len()) && fits(scale.len()), "it scales another number of columns than {columns}");
                tvec!(columns)
            }
            Work::Impute { values, .. } => {
                ensure!(fits(values.len()), "it imputes another number of columns than {columns}");
                tvec!(columns)
            }
            Work::Binarize { .. } | Work::Encode { .. } => tvec!(columns),
            Work::OneHot { categories, .. } => tvec!(columns, categories.len()),
            Work::Pick { columns: picked } => {
                ensure!(picked.iter().all(|&column| column < columns), "it picks a column beyond the {columns}");
                tvec!(picked.len())
            }
            Work::Trees(trees) => {
                ensure!(trees.features() <= columns, "its trees read a column beyond the {columns}");
                tvec!(trees.outputs())
            }
            Work::Machine(machine) => {
                ensure!(machine.columns() == columns, "its vectors are of another length than {columns}");
                tvec!(machine.outputs())
            }
        })
    }

    /// Appends what becomes of a row of a width that [`Work::axes`] takes.
    ///
    /// # Errors
    /// A code of the row is none of the categories.
    pub(super) fn apply(&self, row: &[f32], out: &mut Vec<f32>) -> TractResult<()> {
        match self {
            Work::Scale { offset, scale } => out.extend(row.iter().enumerate().map(|(column, &x)| {
                ((f64::from(x) - f64::from(of(offset, column))) * f64::from(of(scale, column))) as f32
            })),
            Work::Impute { missing, values } => {
                let filled = |(column, &x): (usize, &f32)| if same(x, *missing) { of(values, column) } else { x };
                out.extend(row.iter().enumerate().map(filled));
            }
            Work::Binarize { threshold } => out.extend(row.iter().map(|x| f32::from(u8::from(x > threshold)))),
            Work::Encode { keys, values, other } => {
                out.extend(row.iter().map(|&x| {
                    keys.iter().zip(values).find(|(key, _)| same(**key, x)).map_or(*other, |(_, &value)| value)
                }))
            }
            Work::OneHot { categories, others } => {
                for x in row {
                    ensure!(*others || categories.contains(x), "a code is none of the categories");
                    out.extend(categories.iter().map(|category| f32::from(u8::from(category == x))));
                }
            }
            Work::Pick { columns } => out.extend(columns.iter().map(|&column| row[column])),
            Work::Trees(trees) => trees.apply(row, out),
            Work::Machine(machine) => machine.apply(row, out),
        }
        Ok(())
    }
}

impl RowByRow {
    fn shape(&self, input: &[TDim]) -> TractResult<TVec<TDim>> {
        let Some((last, outer)) = input.split_last() else { bail!("{} is given a single number", self.name) };
        let axes = self.work.axes(last.to_usize()?).with_context(|| format!("{} does not fit", self.name))?;
        Ok(outer.iter().cloned().chain(axes.into_iter().map(|axis| axis.to_dim())).collect())
    }
}

/// Nothing is gained from finding two nodes to be the same.
impl PartialEq for RowByRow {
    fn eq(&self, other: &RowByRow) -> bool {
        Arc::ptr_eq(&self.work, &other.work)
    }
}

impl Eq for RowByRow {}

impl Expansion for RowByRow {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        ensure!(!inputs.is_empty(), "{} has no input", self.name);
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, shape| s.equals(&outputs[0].shape, self.shape(&shape)?))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), &inputs[..1])
    }
}

impl Op for RowByRow {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for RowByRow {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let Some(input) = inputs.first() else { bail!("{} has no input", self.name) };
        let input = input.cast_to::<f32>()?;
        let Some((&columns, outer)) = input.shape().split_last() else { bail!("{} has no columns", self.name) };
        let shape: TVec<usize> = outer.iter().copied().chain(self.work.axes(columns)?).collect();
        let mut out = Vec::with_capacity(shape.iter().product());
        for row in input.try_as_plain_ram()?.as_slice::<f32>()?.chunks_exact(columns) {
            self.work.apply(row, &mut out)?;
        }
        Ok(tvec!(Tensor::from_shape(&shape, &out)?.into_tvalue()))
    }
}

impl TypedOp for RowByRow {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.shape(&inputs[0].shape)?)))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(work: &Work, row: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        work.axes(row.len()).unwrap();
        work.apply(row, &mut out).unwrap();
        out
    }

    #[test]
    fn each_operator_does_as_its_definition_says() {
        let nan = f32::NAN;
        let scale = Work::Scale { offset: vec![1.0, 10.0], scale: vec![2.0] };
        assert_eq!(applied(&scale, &[2.0, 8.0]), [2.0, -4.0]);
        let impute = Work::Impute { missing: nan, values: vec![7.0, 8.0, 9.0] };
        assert_eq!(applied(&impute, &[nan, 1.0, nan]), [7.0, 1.0, 9.0]);
        let impute = Work::Impute { missing: -1.0, values: vec![5.0] };
        let filled = applied(&impute, &[-1.0, nan]);
        assert!(filled[0] == 5.0 && filled[1].is_nan(), "{filled:?}");
        assert_eq!(applied(&Work::Binarize { threshold: 1.0 }, &[1.0, 1.5, nan]), [0.0, 1.0, 0.0]);
        let encode = Work::Encode { keys: vec![3.0, nan], values: vec![30.0, 40.0], other: -1.0 };
        assert_eq!(applied(&encode, &[3.0, 4.0, nan]), [30.0, -1.0, 40.0]);
        let hot = Work::OneHot { categories: vec![0.0, 2.0], others: true };
        assert_eq!(applied(&hot, &[2.0, 1.0]), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(applied(&Work::Pick { columns: vec![2, 0, 2] }, &[5.0, 6.0, 7.0]), [7.0, 5.0, 7.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let scale = Work::Scale { offset: vec![1.0; 3], scale: vec![2.0] };
        assert!(scale.axes(3).is_ok() && scale.axes(2).is_err() && scale.axes(0).is_err());
        assert!(Work::Impute { missing: 0.0, values: vec![] }.axes(2).is_err());
        assert!(Work::Pick { columns: vec![2] }.axes(2).is_err());
        let hot = Work::OneHot { categories: vec![0.0, 2.0], others: false };
        assert!(hot.apply(&[1.0], &mut Vec::new()).is_err());
        assert!(exact(EXACT).is_ok() && exact(EXACT + 1).is_err());
        assert!(numbers(&NodeProto::default(), "a", "b").is_err());
    }
}
