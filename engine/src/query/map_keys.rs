//! `m[1]`: the key of a map as a number of the type that its keys have.
//!
//! Rule: a whole number that is written is a BIGINT for the planner, which finds no key of another
//! type: it is converted, and one that does not fit is refused by name when the query is planned.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{ExprSchemable, GetFieldAccess};

#[derive(Debug)]
pub(super) struct MapKeys;

impl ExprPlanner for MapKeys {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        let field_access = match field_access {
            GetFieldAccess::ListIndex { key } => {
                let wanted = key_type(&expr.get_type(schema)?);
                let given = key.get_type(schema)?;
                let key = match wanted.filter(|wanted| *wanted != given) {
                    Some(wanted) if given.is_integer() => Box::new(key.cast_to(&wanted, schema)?),
                    _ => key,
                };
                GetFieldAccess::ListIndex { key }
            }
            other => other,
        };
        Ok(PlannerResult::Original(RawFieldAccessExpr {
            expr,
            field_access,
        }))
    }
}

/// The type of a map's keys, if they are whole numbers.
fn key_type(data_type: &DataType) -> Option<DataType> {
    let DataType::Map(entries, _) = data_type else {
        return None;
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return None;
    };
    let key = fields.first()?.data_type();
    key.is_integer().then(|| key.clone())
}
