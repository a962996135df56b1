//! A table of the plan whose rows are changed between two executions.
//!
//! The plan is made once; what differs from batch to batch is what its leaves hold.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};

/// A table that holds one batch at a time. Clones share what they hold.
#[derive(Clone)]
pub(super) struct Table {
    schema: SchemaRef,
    content: Arc<Mutex<RecordBatch>>,
    /// Column by which the rows are always in ascending order.
    sorted_by: Option<&'static str>,
}

impl fmt::Debug for Table {
    /// Never the rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("columns", &self.schema.fields().len()).finish()
    }
}

impl Table {
    /// A table that holds `content`.
    pub(super) fn new(content: RecordBatch) -> Self {
        Table { schema: content.schema(), content: Arc::new(Mutex::new(content)), sorted_by: None }
    }

    /// An empty table whose rows will always be in ascending order of `column`.
    pub(super) fn sorted(schema: SchemaRef, column: &'static str) -> Self {
        Table { sorted_by: Some(column), ..Table::new(RecordBatch::new_empty(schema)) }
    }

    /// Holds `content` from now on; its schema must be the table's.
    pub(super) fn set(&self, content: RecordBatch) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }

    /// Whether `plan` reads this table somewhere.
    pub(super) fn is_read_by(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        match plan.downcast_ref::<Leaf>() {
            Some(leaf) => Arc::ptr_eq(&leaf.content, &self.content),
            None => plan.children().into_iter().any(|child| self.is_read_by(child)),
        }
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        // A join keeps the order of its probe side only where that side says that it has one.
        let order = self.sorted_by.filter(|column| schema.index_of(column).is_ok());
        let order = order.map(|column| col(column, &schema)).transpose()?;
        let orderings = order.map(|column| [PhysicalSortExpr::new_default(column)]);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, orderings),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(Leaf {
            content: Arc::clone(&self.content),
            projection: projection.cloned(),
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
        }))
    }
}

/// The scan of a [`Table`]: gives what the table holds when it is executed.
struct Leaf {
    content: Arc<Mutex<RecordBatch>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for Leaf {
    /// Never the rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("columns", &self.projection).finish()
    }
}

impl DisplayAs for Leaf {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

impl ExecutionPlan for Leaf {
    fn name(&self) -> &str {
        "Leaf"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let content = self.content.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let content = match &self.projection {
            Some(columns) => content.project(columns)?,
            None => content,
        };
        let schema = content.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(content)]))))
    }
}
