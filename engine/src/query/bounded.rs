//! Functions whose result may be larger than their arguments, each with a limit.
//!
//! Owns: the list of these functions, the check before and after each call. Does not own: what a
//! function does (DataFusion), the sizes of values ([`size`]), the sum over all calls of an
//! evaluation ([`budget`]), the number of rows evaluated at once ([`pieces`]).
//! Rule: one call, on a batch of rows or on constants, returns at most [`FUNCTION_BYTES_MAX`]. All
//! calls of a projection for one row return at most that together, and for more rows
//! [`PIECE_BYTES`]. If the result's size follows from the arguments, it is checked before the call:
//! the size can come from a record.

mod budget;
mod concatenation;
#[cfg(test)]
mod constants;
mod pieces;
mod size;
#[cfg(test)]
mod tests;

pub(super) use pieces::{in_pieces, with_arguments_below};
#[cfg(test)]
pub(super) use tests::column;

use super::{BATCH_ROWS, planning};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use budget::TooMuch;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, ExpressionPlacement, LogicalPlan, Operator,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use size::Arguments;
pub(super) use size::bytes_of;
use std::sync::{Arc, LazyLock};

/// Most bytes that one call of a function may return, and all calls of one expression or projection
/// together for one row.
pub const FUNCTION_BYTES_MAX: u64 = 64 << 20;
/// Most bytes that all calls of a projection return together for the rows evaluated at once, if
/// there is more than one row.
pub const PIECE_BYTES: u64 = 2 << 20;
/// Rows of a query count as large if a function may return more than this many times its arguments.
const TIMES_MAX: usize = 4;
/// The same limit for the characters of a padded text.
const PADDED_MAX: i64 = 256;
/// The same limit for the arguments of all calls that concatenate their arguments: a chain of such
/// calls doubles with each.
const SUMMED_MAX: usize = 16;
/// Most parts of the type of a function's result, including nested parts.
pub const TYPE_PARTS_MAX: usize = 2_000;
/// Largest size of a type of fixed size, in bytes or elements.
pub const FIXED_SIZE_MAX: i32 = 4_096;

/// How the size of a function's result follows from its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// At most a few times its arguments: checked after the call.
    Linear,
    /// All arguments together; there may be many.
    Sum,
    /// `repeat(text, times)`.
    Repeat,
    /// `lpad(text, characters, fill)`.
    Pad,
    /// `replace(text, from, to)`.
    Replace,
    /// `regexp_replace(text, pattern, to, flags)`.
    RegexpReplace,
    /// `regexp_replace(text, pattern, to)`: all matches.
    RegexpReplaceAll,
    /// `regexp_match(text, pattern)`: the text once for each group.
    RegexpMatch,
    /// `to_char(time, pattern)`.
    Format,
    /// `array_to_string(list, between, null)`.
    Join,
    /// `array_repeat(element, times)`.
    RepeatElement,
    /// `array_resize(list, length, element)`.
    Resize,
    /// `array_replace_all(list, from, to)`.
    ReplaceElements,
    /// `range(start, end, step)`.
    Series,
    /// `to_json(value)`: the names of fields with each value.
    Json,
}

use Growth::{
    Format, Join, Linear, Pad, RegexpMatch, RegexpReplace, Repeat, RepeatElement, Replace,
    ReplaceElements, Resize, Series, Sum,
};

/// Every function that returns new text, bytes, lists or structures rather than its arguments. A
/// test compares this list and [`FIXED`] with DataFusion's functions: a new one is in neither.
const GROWING: [(&str, Growth); 66] = [
    ("array_add", Linear),
    ("array_append", Sum),
    ("array_compact", Linear),
    ("array_concat", Sum),
    ("array_dims", Linear),
    ("array_distinct", Linear),
    ("array_except", Linear),
    ("array_intersect", Linear),
    ("array_normalize", Linear),
    ("array_pop_back", Linear),
    ("array_pop_front", Linear),
    ("array_positions", Linear),
    ("array_prepend", Sum),
    ("array_remove", Linear),
    ("array_remove_all", Linear),
    ("array_remove_n", Linear),
    ("array_repeat", RepeatElement),
    ("array_replace", ReplaceElements),
    ("array_replace_all", ReplaceElements),
    ("array_replace_n", ReplaceElements),
    ("array_resize", Resize),
    ("array_reverse", Linear),
    ("array_scale", Linear),
    ("array_slice", Linear),
    ("array_sort", Linear),
    ("array_subtract", Linear),
    ("array_to_string", Join),
    ("array_union", Sum),
    ("arrays_zip", Sum),
    ("arrow_cast", Linear),
    ("arrow_field", Linear),
    ("arrow_try_cast", Linear),
    ("btrim", Linear),
    ("cast_to_type", Linear),
    ("concat", Sum),
    ("concat_ws", Sum),
    ("decode", Linear),
    ("encode", Linear),
    ("flatten", Linear),
    ("generate_series", Series),
    ("initcap", Linear),
    ("lower", Linear),
    ("lpad", Pad),
    ("make_array", Sum),
    ("map", Sum),
    ("map_entries", Linear),
    ("map_extract", Linear),
    ("map_keys", Linear),
    ("map_values", Linear),
    ("named_struct", Sum),
    ("overlay", Sum),
    ("range", Series),
    ("regexp_match", RegexpMatch),
    ("regexp_replace", RegexpReplace),
    ("repeat", Repeat),
    ("replace", Replace),
    ("reverse", Linear),
    ("rpad", Pad),
    ("string_to_array", Linear),
    ("struct", Sum),
    ("to_char", Format),
    ("to_hex", Linear),
    ("translate", Linear),
    ("try_cast_to_type", Linear),
    ("upper", Linear),
    ("with_metadata", Linear),
];

/// Functions whose result has a fixed size, or is (a part of) one of their arguments.
#[cfg(test)]
const FIXED: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "array_any_value",
    "array_avg",
    "array_distance",
    "array_element",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_max",
    "array_min",
    "array_ndims",
    "array_position",
    "array_product",
    "array_sum",
    "arrow_metadata",
    "arrow_typeof",
    "ascii",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "cardinality",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "coalesce",
    "contains",
    "cos",
    "cosh",
    "cosine_distance",
    "cot",
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "degrees",
    "digest",
    "empty",
    "ends_with",
    "exp",
    "factorial",
    "file_row_index",
    "find_in_set",
    "floor",
    "from_unixtime",
    "gcd",
    "get_field",
    "greatest",
    "inner_product",
    "input_file_name",
    "isnan",
    "iszero",
    "json_as_text",
    "json_contains",
    "json_get_array",
    "json_get_bool",
    "json_get_float",
    "json_get_int",
    "json_get_json",
    "json_get_str",
    "json_length",
    "json_object_keys",
    "lcm",
    "least",
    "left",
    "levenshtein",
    "ln",
    "log",
    "log10",
    "log2",
    "ltrim",
    "make_date",
    "make_time",
    "md5",
    "nanvl",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "pi",
    "power",
    "radians",
    "random",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "right",
    "round",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "signum",
    "sin",
    "sinh",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "tan",
    "tanh",
    "to_date",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "trunc",
    "union_extract",
    "union_tag",
    "uuid",
    "version",
];

/// The function with its limit, if it has one.
pub(super) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let place = GROWING.binary_search_by_key(&function.name(), |(name, _)| name);
    match place {
        Ok(_) if function.inner().is::<Bounded>() => function,
        Ok(place) => Arc::new(wrapped(ScalarUDF::clone(&function), GROWING[place].1)),
        Err(_) => function,
    }
}

/// A function of another dialect with its limit.
pub(super) fn limited(inner: ScalarUDF, growth: Growth) -> ScalarUDF {
    wrapped(inner, growth)
}

fn wrapped(inner: ScalarUDF, growth: Growth) -> ScalarUDF {
    ScalarUDF::new_from_impl(Bounded { inner, growth })
}

/// The plan with limits on all functions, including those that the planner adds for operators and
/// special forms.
///
/// # Errors
/// None that a correct plan has.
pub(super) fn bound(plan: LogicalPlan) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let bound = expr.transform_up(|part| Ok(bound_call(part)))?;
            Ok(if bound.transformed {
                bound.update_data(|expr| name.restore(expr))
            } else {
                bound
            })
        })
    })?;
    Ok(bound.data)
}

fn bound_call(part: Expr) -> Transformed<Expr> {
    match part {
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let limited = bounded(Arc::clone(&func));
            let changed = !Arc::ptr_eq(&func, &limited);
            let call = Expr::ScalarFunction(ScalarFunction {
                func: limited,
                args,
            });
            if changed {
                Transformed::yes(call)
            } else {
                Transformed::no(call)
            }
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::StringConcat,
            right,
        }) => {
            static CONCATENATION: LazyLock<Arc<ScalarUDF>> =
                LazyLock::new(|| Arc::new(wrapped(concatenation::function(), Sum)));
            let mut args = match *left {
                Expr::ScalarFunction(before) if Arc::ptr_eq(&before.func, &CONCATENATION) => {
                    before.args
                }
                left => vec![left],
            };
            args.push(*right);
            Transformed::yes(Expr::ScalarFunction(ScalarFunction {
                func: Arc::clone(&CONCATENATION),
                args,
            }))
        }
        other => Transformed::no(other),
    }
}

/// Whether rows inside the plan may be many times as large as the rows read: functions multiply
/// them, or a projection has constants that are large for a batch of rows.
///
/// # Errors
/// None that a correct plan has.
pub(super) fn makes_large_rows(plan: &LogicalPlan) -> Result<bool> {
    let mut multiplied = false;
    let mut summed = 0;
    plan.apply_with_subqueries(|node| {
        let mut constants = 0_u64;
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                match part {
                    Expr::ScalarFunction(call) => match growth_of(call) {
                        Some(Sum) => summed += call.args.len(),
                        Some(growth) => multiplied |= multiplies(growth, &call.args),
                        None => {}
                    },
                    Expr::HigherOrderFunction(_) => multiplied = true,
                    Expr::Literal(value, _) => {
                        constants = constants.saturating_add(scalar_bytes(value)?)
                    }
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        let is_projection = matches!(node, LogicalPlan::Projection(_));
        multiplied |= is_projection && constants.saturating_mul(BATCH_ROWS as u64) > PIECE_BYTES;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(multiplied || summed > SUMMED_MAX)
}

fn growth_of(call: &ScalarFunction) -> Option<Growth> {
    call.func
        .inner()
        .downcast_ref::<Bounded>()
        .map(|function| function.growth)
}

/// Whether a call may return more than [`TIMES_MAX`] times its arguments, or more than
/// [`PADDED_MAX`] characters.
fn multiplies(growth: Growth, args: &[Expr]) -> bool {
    let literal = |place: usize| match args.get(place) {
        Some(Expr::Literal(value, _)) => Some(value),
        _ => None,
    };
    let length = |place: usize| {
        literal(place)
            .and_then(|value| value.try_as_str().flatten())
            .map(str::len)
    };
    match growth {
        Linear | Sum => false,
        Format | RegexpMatch => length(1).is_none(),
        Pad => !literal(1).is_some_and(|count| match count {
            ScalarValue::Int64(Some(count)) => *count <= PADDED_MAX,
            ScalarValue::Int32(Some(count)) => i64::from(*count) <= PADDED_MAX,
            _ => false,
        }),
        Replace => {
            !matches!((length(1), length(2)), (Some(from), Some(to)) if to <= from.saturating_mul(TIMES_MAX))
        }
        RegexpReplace | Growth::RegexpReplaceAll => length(2).is_none_or(|to| to > TIMES_MAX),
        Repeat | Join | RepeatElement | Resize | ReplaceElements | Series | Growth::Json => true,
    }
}

/// Whether a call may return this much for this many rows, together with earlier calls.
fn check(name: &str, bytes: u64, rows: usize) -> Result<()> {
    let Err(TooMuch { given }) = budget::check(bytes) else {
        return Ok(());
    };
    let of = if rows > 1 {
        format!(" for {rows} rows")
    } else {
        String::new()
    };
    let beside = if given > 0 {
        format!(" beside {} of other calls", mib(given))
    } else {
        String::new()
    };
    let bytes = mib(bytes);
    let limit = FUNCTION_BYTES_MAX >> 20;
    exec_err!("{name}() would make {bytes} of values{of}{beside}, the limit is {limit} MiB")
}

/// Charges what a function makes by copying each row's values so many times.
///
/// # Errors
/// It would be more than functions may make.
pub(super) fn charge_copies(
    name: &str,
    columns: &[ArrayRef],
    copies: impl Fn(usize) -> u64,
) -> Result<()> {
    let mut bytes = 0_u64;
    for column in columns {
        for row in 0..column.len() {
            let of_row = bytes_of(&column.slice(row, 1));
            bytes = bytes.saturating_add(of_row.saturating_mul(copies(row)));
        }
    }
    check(
        name,
        bytes,
        columns.first().map_or(1, |column| column.len()),
    )?;
    budget::add(bytes);
    Ok(())
}

/// A function with a limit on the result of one call.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

impl Bounded {
    /// Whether the call may return this much, together with earlier calls.
    fn check(&self, bytes: u64, rows: usize) -> Result<()> {
        check(self.inner.name(), bytes, rows)
    }

    /// The size of the call's result, as far as its arguments determine it.
    fn before(&self, args: &ScalarFunctionArgs) -> Result<u64> {
        let args = Arguments::new(&args.args, args.number_rows)?;
        match self.growth {
            Growth::Linear => Ok(0),
            Growth::Sum => Ok(args.all()),
            Growth::Repeat => args.repeated(),
            Growth::Pad => args.padded(),
            Growth::Replace => args.replaced(),
            Growth::RegexpReplace => args.regexp_replaced(false),
            Growth::RegexpReplaceAll => args.regexp_replaced(true),
            Growth::RegexpMatch => args.regexp_matched(),
            Growth::Format => args.formatted(),
            Growth::Join => args.joined(),
            Growth::RepeatElement => args.element_repeated(),
            Growth::Resize => args.resized(),
            Growth::ReplaceElements => args.elements_replaced(),
            Growth::Series => args.series(),
            Growth::Json => Ok(args.as_json()),
        }
    }

    /// A pattern may match anywhere, so the bound is far above the real result. The bound applies
    /// to rows that are computed together: rows are computed in as many parts as that takes.
    fn in_parts(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut results: Vec<ArrayRef> = vec![];
        let mut total = 0;
        let mut from = 0;
        while from < rows {
            let mut count = rows - from;
            let part = loop {
                let part = slice(&args, from, count);
                match self.before(&part)? {
                    bytes if bytes <= budget::left() => break part,
                    bytes if count == 1 => self.check(bytes, 1)?,
                    _ => count = count.div_ceil(2),
                }
            };
            let result = self.inner.invoke_with_args(part)?.into_array(count)?;
            total += bytes_of(&result);
            self.check(total, rows)?;
            results.push(result);
            from += count;
        }
        budget::add(total);
        let results: Vec<&dyn Array> = results.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(arrow::compute::concat(&results)?))
    }
}

/// If the time is a constant and the pattern a column, `to_char` uses the first row's pattern for
/// all rows, and panics if there are no rows. So pass such a time as a column.
fn with_times_of_rows(mut args: ScalarFunctionArgs) -> Result<ScalarFunctionArgs> {
    if let [time @ ColumnarValue::Scalar(_), ColumnarValue::Array(_)] = args.args.as_mut_slice() {
        *time = ColumnarValue::Array(time.to_array(args.number_rows)?);
    }
    Ok(args)
}

fn slice(args: &ScalarFunctionArgs, from: usize, count: usize) -> ScalarFunctionArgs {
    let part = |value: &ColumnarValue| match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, count)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs {
        args: args.args.iter().map(part).collect(),
        number_rows: count,
        ..args.clone()
    }
}

fn mib(bytes: u64) -> String {
    if bytes >= 1 << 40 {
        "more than 1 TiB".into()
    } else {
        format!("{} MiB", bytes.div_ceil(1 << 20))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        if let Err(reason) = check_type(field.data_type()) {
            return plan_err!("{}() cannot be used here: {reason}", self.name());
        }
        Ok(field)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        self.inner
            .inner()
            .with_updated_config(config)
            .map(|inner| wrapped(inner, self.growth))
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    // `simplify` is not forwarded: its result would call the function without its limit.

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if planning::is_late() {
            return exec_err!("planning took too long");
        }
        let args = if self.growth == Format {
            with_times_of_rows(args)?
        } else {
            args
        };
        let rows = args.number_rows;
        let some_array = args
            .args
            .iter()
            .any(|value| matches!(value, ColumnarValue::Array(_)));
        let bytes = self.before(&args)?;
        let is_replacing = matches!(
            self.growth,
            Growth::RegexpReplace | Growth::RegexpReplaceAll
        );
        if is_replacing && some_array && bytes > budget::left() {
            return self.in_parts(args);
        }
        self.check(bytes, rows)?;
        let result = match self.inner.invoke_with_args(args)? {
            // `array_positions` returns one row for a constant if there are no rows.
            ColumnarValue::Array(array) if rows == 0 && some_array => {
                ColumnarValue::Array(array.slice(0, 0))
            }
            result => result,
        };
        let given = match &result {
            ColumnarValue::Array(array) => bytes_of(array),
            ColumnarValue::Scalar(value) => scalar_bytes(value)?,
        };
        self.check(given, rows)?;
        budget::add(given);
        Ok(result)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}

/// The bytes of a constant.
///
/// # Errors
/// If it cannot be an array.
pub(super) fn scalar_bytes(value: &ScalarValue) -> Result<u64> {
    Ok(match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
            text.as_ref().map_or(0, |text| text.len() as u64)
        }
        other if other.data_type().is_primitive() => 16,
        other => bytes_of(&other.to_array()?),
    })
}

/// Whether values of this type have a bounded size by themselves.
///
/// # Errors
/// The part that is too large.
pub(super) fn check_type(data_type: &DataType) -> std::result::Result<(), String> {
    let mut parts = 0;
    let mut open = vec![data_type];
    while let Some(next) = open.pop() {
        parts += 1;
        if parts > TYPE_PARTS_MAX {
            return Err(format!("its type has more than {TYPE_PARTS_MAX} parts"));
        }
        if let DataType::FixedSizeBinary(size) | DataType::FixedSizeList(_, size) = next
            && *size > FIXED_SIZE_MAX
        {
            return Err(format!(
                "its type has the fixed size {size}, the limit is {FIXED_SIZE_MAX}"
            ));
        }
        match next {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => open.push(field.data_type()),
            DataType::Struct(fields) => open.extend(fields.iter().map(|field| field.data_type())),
            DataType::Dictionary(_, values) => open.push(values),
            _ => {}
        }
    }
    Ok(())
}

/// The functions by name, each with its limit.
pub(super) fn all(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    functions.into_iter().map(bounded).collect()
}
