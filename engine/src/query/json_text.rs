//! `to_json`, in the dialect of DataFusion.
//!
//! Owns: its arguments. Does not own: the text ([`super::spark::json_of`]).
//! Rule: one function has one meaning: the text is that of Spark in both dialects.

use super::bounded::{self, Growth};
use super::spark;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

pub(super) fn function() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    bounded::limited(ScalarUDF::new_from_impl(ToJson { signature }), Growth::Json)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToJson {
    signature: Signature,
}

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [one] if one.is_nested() && spark::is_writable(one) => Ok(vec![one.clone()]),
            [one] => plan_err!("to_json() takes a struct, a list or a map, not {one}"),
            _ => plan_err!("to_json() takes one argument"),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(array) => {
                let texts: ArrayRef = Arc::new(spark::json_of(array)?);
                Ok(ColumnarValue::Array(texts))
            }
            ColumnarValue::Scalar(value) => {
                let texts: ArrayRef = Arc::new(spark::json_of(&value.to_array()?)?);
                ScalarValue::try_from_array(&texts, 0).map(ColumnarValue::Scalar)
            }
        }
    }
}
