//! `normalize.sql` as a DataFusion plan, made once and executed once a batch.
//!
//! Promises that what the SQL makes of a fact depends on that fact and on the tables
//! `concepts` and `units` alone: not on the other facts of the batch, not on the time, not on
//! chance. A replay in other batches would otherwise give another log. SQL that breaks the
//! promise is a problem of the site at its start.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray, UInt32Array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility, cast};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{FutureExt as _, TryStreamExt as _};

use super::facts::{self, name};
use super::leaf::Table;
use crate::events::{column, schema};
use crate::settings::Problem;

/// Rows that pass through the plan at a time: what fits into a core's cache.
const CHUNK: usize = 8192;

/// Columns that the SQL may give, beside `row` and `problem`, and their places in an event. What
/// happened is for it to say; whose it is, when it was known and where it came from is not.
const GIVEN: [(&str, usize); 7] = [
    (name::TIME, column::TIME),
    (name::CODE, column::CODE),
    (name::NUMERIC_VALUE, column::NUMERIC_VALUE),
    (name::TEXT_VALUE, column::TEXT_VALUE),
    (name::UNIT, column::UNIT),
    (CONCEPT, column::CONCEPT),
    (IMPLAUSIBLE, column::IMPLAUSIBLE),
];
const CONCEPT: &str = "concept";
const IMPLAUSIBLE: &str = "implausible";
const PROBLEM: &str = "problem";

/// The plan of a site.
pub(super) struct Plan {
    facts: Table,
    concepts: Table,
    units: Table,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    /// Places in an event of the columns that the SQL gives.
    given: Vec<usize>,
    has_problem: bool,
}

/// What the SQL made of a batch of facts.
pub(super) struct Ruled {
    /// Number of the fact that each row came from; null if from none.
    pub(super) rows: UInt32Array,
    /// Columns that the SQL gave: place in an event, and values in the type of that place.
    pub(super) columns: Vec<(usize, ArrayRef)>,
    /// What is wrong with the fact; a word of the closed list of reasons.
    pub(super) problem: Option<StringArray>,
}

/// Why the plan did not execute. Without DataFusion's words, which may quote a value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum PlanError {
    /// A value on which the SQL fails, such as a text that is cast to a number.
    Value,
    /// Anything else.
    Failed(&'static str),
}

impl Ruled {
    /// Results of the parts of one batch, as one.
    ///
    /// # Errors
    /// If Arrow cannot join them.
    pub(super) fn join(parts: &[Ruled]) -> Result<Ruled, ArrowError> {
        let every = |of: &dyn Fn(&Ruled) -> Option<ArrayRef>| -> Result<Option<ArrayRef>, ArrowError> {
            let arrays: Vec<ArrayRef> = parts.iter().filter_map(of).collect();
            match arrays.as_slice() {
                [] => Ok(None),
                [one] => Ok(Some(Arc::clone(one))),
                several => concat(&several.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map(Some),
            }
        };
        let rows = every(&|part| Some(Arc::new(part.rows.clone())))?;
        let mut columns = Vec::new();
        for (i, (place, _)) in parts.first().map_or(&[][..], |part| &part.columns).iter().enumerate() {
            columns.extend(every(&|part| Some(Arc::clone(&part.columns[i].1)))?.map(|values| (*place, values)));
        }
        let problem = every(&|part| Some(Arc::new(part.problem.clone()?)))?;
        Ok(Ruled {
            rows: rows.map_or_else(|| UInt32Array::new_null(0), |rows| rows.as_primitive::<UInt32Type>().clone()),
            columns,
            problem: problem.map(|problem| problem.as_string::<i32>().clone()),
        })
    }
}

impl Plan {
    /// Plans `sql` over the tables.
    ///
    /// # Errors
    /// What is wrong with the SQL.
    pub(super) fn new(file: &str, sql: &str, concepts: RecordBatch, units: RecordBatch) -> Result<Self, Vec<Problem>> {
        let facts = Table::sorted(facts::schema(), name::ROW);
        let (concepts, units) = (Table::new(concepts), Table::new(units));
        let context = SessionContext::new_with_config(config());
        let tables = [("facts", facts.clone()), ("concepts", concepts.clone()), ("units", units.clone())];
        for (name, table) in tables {
            context.register_table(name, Arc::new(table)).map_err(|error| vec![refused(file, &error)])?;
        }
        let state = context.state();
        let logical = at_once(state.create_logical_plan(sql)).map_err(|error| vec![refused(file, &error)])?;
        let mut problems = Vec::new();
        row_by_row(file, &logical, &mut problems);
        let outputs = outputs(file, &logical, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let plan = outputs
            .plan(logical)
            .and_then(|logical| at_once(state.create_physical_plan(&logical)))
            .and_then(|plan| probe_with(&facts, plan))
            .map_err(|error| vec![refused(file, &error)])?;
        if plan.output_partitioning().partition_count() != 1 {
            let what = "would be executed in several parts";
            return Err(vec![Problem::new(file, "query", what, "use a single SELECT over facts, joins and filters")]);
        }
        let given = outputs.given.iter().map(|(place, _)| *place).collect();
        Ok(Plan {
            facts,
            concepts,
            units,
            plan,
            context: state.task_ctx(),
            given,
            has_problem: outputs.problem.is_some(),
        })
    }

    /// Replaces the table `concepts`.
    pub(super) fn set_concepts(&mut self, concepts: RecordBatch) {
        self.concepts.set(concepts);
    }

    /// Replaces the table `units`.
    pub(super) fn set_units(&mut self, units: RecordBatch) {
        self.units.set(units);
    }

    /// Executes the plan over a batch of facts.
    ///
    /// # Errors
    /// If a value of the batch or the machine does not allow it.
    pub(super) fn run(&mut self, facts: RecordBatch) -> Result<Ruled, PlanError> {
        let empty = facts.slice(0, 0);
        self.facts.set(facts);
        let batches = self.execute().map_err(|error| kind(&error));
        self.facts.set(empty);
        let batches = batches?;
        let concat = |i: usize| -> Result<ArrayRef, PlanError> {
            match batches.as_slice() {
                [one] => Ok(Arc::clone(one.column(i))),
                several => {
                    let parts: Vec<_> = several.iter().map(|batch| batch.column(i).as_ref()).collect();
                    concat(&parts).map_err(|_| PlanError::Failed("joining its parts"))
                }
            }
        };
        let rows = concat(0)?.as_primitive::<UInt32Type>().clone();
        let columns: Result<Vec<_>, _> =
            self.given.iter().enumerate().map(|(i, place)| Ok((*place, concat(i + 1)?))).collect();
        let problem = match self.has_problem {
            true => Some(concat(self.given.len() + 1)?.as_string::<i32>().clone()),
            false => None,
        };
        Ok(Ruled { rows, columns: columns?, problem })
    }

    fn execute(&mut self) -> Result<Vec<RecordBatch>, DataFusionError> {
        // Also the metrics are made anew; they would grow with every execution.
        self.plan = reset_plan_states(Arc::clone(&self.plan))?;
        let stream = self.plan.execute(0, Arc::clone(&self.context))?;
        let schema = stream.schema();
        let mut batches: Vec<RecordBatch> = at_once(stream.try_collect())?;
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(schema));
        }
        Ok(batches)
    }
}

/// The result of a future that never waits: all tables are in memory, and a plan that passed
/// [`row_by_row`] spawns nothing. So no runtime is needed, and a caller within one is not blocked.
fn at_once<T>(future: impl Future<Output = Result<T, DataFusionError>>) -> Result<T, DataFusionError> {
    // Within a task of tokio its budget would count, and end, here.
    let ready = tokio::task::unconstrained(future).now_or_never();
    ready.unwrap_or_else(|| Err(DataFusionError::Internal("it waits, though all its tables are in memory".to_owned())))
}

fn config() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(CHUNK);
    let optimizer = &mut config.options_mut().optimizer;
    // The sizes at the start say nothing; see `probe_with`.
    optimizer.join_reordering = false;
    // A plan with dynamic filters cannot be executed again.
    optimizer.enable_dynamic_filter_pushdown = false;
    optimizer.enable_join_dynamic_filter_pushdown = false;
    optimizer.enable_topk_dynamic_filter_pushdown = false;
    optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}

fn refused(file: &str, error: &DataFusionError) -> Problem {
    let text = error.strip_backtrace();
    let line = text.lines().next().unwrap_or_default();
    Problem::new(
        file,
        "query",
        format!("cannot be planned: {line}"),
        "correct the SQL; it may read the tables facts, concepts and units",
    )
}

/// Finds what would make a fact's event depend on more than the fact.
fn row_by_row(file: &str, plan: &LogicalPlan, problems: &mut Vec<Problem>) {
    let mut scans = 0;
    let mut found: Vec<String> = Vec::new();
    // The closures never fail, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => scans += usize::from(scan.table_name.table() == "facts"),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_) => {}
            other => {
                let node = other.display().to_string();
                found.push(node.split([':', ' ']).next().unwrap_or_default().to_owned());
            }
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found.push(format!("{}()", call.func.name()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    for what in found {
        problems.push(Problem::new(
            file,
            "query",
            format!("uses {what}, which looks at more than one fact or at the time"),
            "make each event from its fact alone, with SELECT, JOIN and WHERE",
        ));
    }
    if scans != 1 {
        let what = format!("reads facts {scans} times");
        problems.push(Problem::new(file, "query", what, "read facts once: FROM facts"));
    }
}

/// Columns of the SQL's result.
struct Outputs {
    row: Option<Expr>,
    given: Vec<(usize, Expr)>,
    problem: Option<Expr>,
}

impl Outputs {
    /// The result in the types and the order that [`Plan::run`] expects.
    fn plan(&self, logical: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let event = schema();
        let mut columns: Vec<Expr> = self.row.iter().cloned().collect();
        for (place, expression) in &self.given {
            let field = event.field(*place);
            columns.push(cast(expression.clone(), field.data_type().clone()).alias(field.name()));
        }
        let problem = self.problem.iter().map(|problem| cast(problem.clone(), DataType::Utf8).alias(PROBLEM));
        columns.extend(problem);
        LogicalPlanBuilder::from(logical).project(columns)?.build()
    }
}

fn outputs(file: &str, plan: &LogicalPlan, problems: &mut Vec<Problem>) -> Outputs {
    let mut outputs = Outputs { row: None, given: Vec::new(), problem: None };
    let mut concept = false;
    for (relation, field) in plan.schema().iter() {
        let expression = Expr::Column(Column::from((relation, field)));
        let (name, kind) = (field.name().as_str(), field.data_type());
        let fits = match name {
            name::ROW => *kind == DataType::UInt32,
            name::TIME => matches!(kind, DataType::Timestamp(..) | DataType::Null),
            name::NUMERIC_VALUE => kind.is_numeric() || *kind == DataType::Null,
            IMPLAUSIBLE => matches!(kind, DataType::Boolean | DataType::Null),
            _ => is_text(kind),
        };
        if name == name::ROW {
            outputs.row = Some(expression);
        } else if name == PROBLEM {
            outputs.problem = Some(expression);
        } else if let Some((_, place)) = GIVEN.iter().find(|(given, _)| *given == name) {
            concept |= name == CONCEPT;
            outputs.given.push((*place, expression));
        } else {
            let known: Vec<&str> = GIVEN.iter().map(|(name, _)| *name).collect();
            let remedy = format!("select row, {} and problem only", known.join(", "));
            problems.push(Problem::new(file, name, "is no column that the SQL may give", remedy));
            continue;
        }
        if !fits {
            let what = format!("has the type {kind}");
            let remedy = match name {
                name::ROW => "select facts.row as it is",
                name::TIME => "give a timestamp",
                name::NUMERIC_VALUE => "give a number; TRY_CAST makes one of a text",
                IMPLAUSIBLE => "give true or false",
                _ => "give a text",
            };
            problems.push(Problem::new(file, name, what, remedy));
        }
    }
    for (name, missing) in [(name::ROW, outputs.row.is_none()), (CONCEPT, !concept)] {
        if missing {
            problems.push(Problem::new(file, name, "is missing from the result", format!("select {name}")));
        }
    }
    outputs
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_text(values),
        kind => matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null),
    }
}

/// Makes `facts` the probe side of every hash join: the other side is small and is hashed, and
/// the facts stream past it in their order.
fn probe_with(facts: &Table, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let swapped = plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
        Some(join) if facts.is_read_by(join.left()) && join.join_type().supports_swap() => {
            Ok(Transformed::yes(join.swap_inputs(PartitionMode::CollectLeft)?))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(swapped.data)
}

fn kind(error: &DataFusionError) -> PlanError {
    match error.find_root() {
        DataFusionError::ArrowError(..) | DataFusionError::Execution(_) => PlanError::Value,
        DataFusionError::ResourcesExhausted(_) => PlanError::Failed("the memory it may use"),
        DataFusionError::Internal(_) => PlanError::Failed("an inner error of DataFusion"),
        _ => PlanError::Failed("an error that has nothing to do with the values"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalize::codes::Codes;
    use crate::normalize::concepts::Concepts;
    use crate::normalize::facts::FactRows;
    use crate::normalize::spellings::Spellings;
    use crate::normalize::units::Units;

    fn hospital() -> Plan {
        let concepts = Concepts::parse("concepts.csv", include_str!("../../config/hospital/concepts.csv")).unwrap();
        let units = Units::new(&concepts, &Spellings::built_in()).table().unwrap().unwrap();
        let sql = include_str!("../../config/hospital/normalize.sql");
        let concepts = Codes::new(&concepts).table().unwrap().unwrap();
        Plan::new("normalize.sql", sql, concepts, units).unwrap()
    }

    #[test]
    fn the_facts_stream_past_the_small_tables() {
        let plan = hospital();
        let (mut joins, mut open) = (0, vec![Arc::clone(&plan.plan)]);
        while let Some(node) = open.pop() {
            if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                joins += 1;
                assert!(plan.facts.is_read_by(join.right()) && !plan.facts.is_read_by(join.left()));
                assert!(join.maintains_input_order()[1], "so that the facts come out in their order");
            }
            open.extend(node.children().into_iter().cloned());
        }
        assert_eq!(joins, 2);
    }

    #[test]
    fn executions_leave_nothing_behind() {
        let mut plan = hospital();
        let metrics = |plan: &Plan| plan.plan.metrics().map_or(0, |metrics| metrics.iter().count());
        plan.run(FactRows::with_capacity(0).finish(0).unwrap()).unwrap();
        let once = metrics(&plan);
        for _ in 0..3 {
            let ruled = plan.run(FactRows::with_capacity(0).finish(0).unwrap()).unwrap();
            assert_eq!(ruled.rows.len(), 0);
        }
        assert_eq!((metrics(&plan), once > 0), (once, true));
    }
}
