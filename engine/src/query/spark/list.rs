//! The functions of the dialect, once.
//!
//! Owns: names, arguments, results and sizes of all functions. Does not own: what they do, and names
//! that are other spellings (`lower`).
//! Rule: what is not here does not exist in the dialect. Each is in the golden table, with values
//! that Spark gave.

use super::call::{Call, Function, Gives, Rows, time};
use super::{arithmetic as op, extremes, json, lists, math, nested, regex, text, times};
use crate::query::bounded::Growth;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

const TEXT: Gives = Gives::Type(DataType::Utf8);
const INT: Gives = Gives::Type(DataType::Int32);
const LONG: Gives = Gives::Type(DataType::Int64);
const DOUBLE: Gives = Gives::Type(DataType::Float64);
const BOOL: Gives = Gives::Type(DataType::Boolean);
const DATE: Gives = Gives::Type(DataType::Date32);

const fn f(
    name: &'static str,
    args: &'static str,
    gives: Gives,
    run: fn(&Rows<'_>) -> Result<ArrayRef>,
) -> Function {
    Function {
        name,
        args,
        gives,
        run,
        growth: None,
    }
}

const fn g(
    growth: Growth,
    name: &'static str,
    args: &'static str,
    gives: Gives,
    run: fn(&Rows<'_>) -> Result<ArrayRef>,
) -> Function {
    Function {
        name,
        args,
        gives,
        run,
        growth: Some(growth),
    }
}

/// What stands for operators and special forms. A query cannot name them.
static INNER: &[Function] = &[
    f("spark:+", "AAT", Gives::Of(op::result_type), op::add),
    f("spark:-", "AAT", Gives::Of(op::result_type), op::subtract),
    f("spark:*", "AAT", Gives::Of(op::result_type), op::multiply),
    f("spark:/", "AAT", Gives::Of(op::result_type), op::divide),
    f("spark:%", "AAT", Gives::Of(op::result_type), op::remainder),
    f(
        "spark:pmod",
        "AAT",
        Gives::Of(op::result_type),
        op::positive_remainder,
    ),
    f(
        "spark:div",
        "AAT",
        Gives::Of(op::result_type),
        op::whole_quotient,
    ),
    f("spark:&", "AAT", Gives::Of(op::result_type), op::bit_and),
    f("spark:|", "AAT", Gives::Of(op::result_type), op::bit_or),
    f("spark:^", "AAT", Gives::Of(op::result_type), op::bit_xor),
    f("spark:~", "L", Gives::Of(op::same_number), op::bit_not),
    f(
        "spark:negative",
        "D",
        Gives::Of(op::same_number),
        op::negate,
    ),
    f(
        "spark:between",
        "AAA",
        Gives::Checked(DataType::Boolean, op::comparable),
        op::between,
    ),
    f(
        "spark:in",
        "AA*",
        Gives::Checked(DataType::Boolean, op::in_type),
        op::is_in,
    ),
    g(
        Growth::Linear,
        "spark:case",
        "AA*",
        Gives::Of(op::case_type),
        op::case,
    ),
    g(
        Growth::Linear,
        "spark:case_of",
        "AA*",
        Gives::Of(op::case_of_type),
        op::case_of,
    ),
    g(
        Growth::Linear,
        "spark:cast",
        "VT",
        Gives::Of(op::as_type),
        op::cast_rows,
    ),
    f(
        "spark:number",
        "T",
        Gives::Of(op::literal_type),
        op::literal,
    ),
    f(
        "spark:key",
        "A",
        Gives::Of(extremes::key_type),
        extremes::key,
    ),
    f(
        "spark:value",
        "K",
        Gives::Of(extremes::value_type),
        extremes::value,
    ),
    f(
        "spark:item",
        "WA",
        Gives::Of(nested::item_type),
        nested::item,
    ),
    f(
        "spark:field",
        "WT",
        Gives::Of(nested::field_type),
        nested::field,
    ),
    f(
        "spark:exploded",
        "W",
        Gives::Of(nested::exploded_type),
        nested::exploded,
    ),
    f(
        "spark:second",
        "t",
        Gives::Type(DataType::Decimal128(8, 6)),
        times::exact_second,
    ),
    f(
        "spark:plus_interval",
        "AATT",
        Gives::Of(times::plus_interval_type),
        times::plus_interval,
    ),
];

/// The functions that a query may call.
static FUNCTIONS: &[Function] = &[
    // Choice
    f("coalesce", "AA*", Gives::Of(op::any_type), op::coalesce),
    f("greatest", "AA*", Gives::Of(op::ordered_type), op::greatest),
    f("if", "BAA", Gives::Of(op::if_type), op::if_),
    f("isnan", "D", BOOL, op::is_nan),
    f("isnotnull", "V", BOOL, op::is_not_null),
    f("isnull", "V", BOOL, op::is_null),
    f("least", "AA*", Gives::Of(op::ordered_type), op::least),
    f("nanvl", "DD", DOUBLE, op::nanvl),
    f("nullif", "AA", Gives::Of(op::first_type), op::nullif),
    f("nvl2", "AAA", Gives::Of(op::if_type), op::nvl2),
    // Text
    f("ascii", "T", INT, text::ascii),
    f("bit_length", "T", INT, text::bit_length),
    f("chr", "L", TEXT, text::chr),
    g(Growth::Sum, "concat", "T*", TEXT, text::concat),
    g(Growth::Sum, "concat_ws", "T?T*", TEXT, text::concat_ws),
    f("contains", "TT", BOOL, text::contains),
    f("crc32", "T", LONG, text::crc32),
    f("endswith", "TT", BOOL, text::ends_with),
    f("find_in_set", "TT", INT, text::find_in_set),
    g(
        Growth::Linear,
        "hex",
        "A",
        Gives::Checked(DataType::Utf8, text::hex_kind),
        text::hex_of,
    ),
    g(Growth::Linear, "initcap", "T", TEXT, text::initcap),
    f("instr", "TT", INT, text::instr),
    g(Growth::Linear, "left", "TI", TEXT, text::left),
    f("length", "T", INT, text::length),
    f("levenshtein", "TT", INT, text::levenshtein),
    f("locate", "TT?I", INT, text::locate),
    g(Growth::Linear, "lower", "T", TEXT, text::lower),
    g(Growth::Pad, "lpad", "TI?T", TEXT, text::lpad),
    g(Growth::Linear, "ltrim", "T?T", TEXT, text::trim_start),
    f("md5", "T", TEXT, text::md5),
    f("octet_length", "T", INT, text::octet_length),
    f(
        "regexp_count",
        "TT",
        Gives::Checked(DataType::Int32, regex::counted),
        regex::regexp_count,
    ),
    g(
        Growth::Linear,
        "regexp_extract",
        "TT?T",
        Gives::Checked(DataType::Utf8, regex::extracted),
        regex::regexp_extract,
    ),
    g(
        Growth::RegexpReplaceAll,
        "regexp_replace",
        "TTT",
        Gives::Checked(DataType::Utf8, regex::replaced),
        regex::regexp_replace,
    ),
    g(Growth::Repeat, "repeat", "TI", TEXT, text::repeat),
    g(Growth::Replace, "replace", "TT?T", TEXT, text::replace),
    g(Growth::Linear, "reverse", "T", TEXT, text::reverse),
    g(Growth::Linear, "right", "TI", TEXT, text::right),
    f(
        "rlike",
        "TT",
        Gives::Checked(DataType::Boolean, regex::tested),
        regex::rlike,
    ),
    g(Growth::Pad, "rpad", "TI?T", TEXT, text::rpad),
    g(Growth::Linear, "rtrim", "T?T", TEXT, text::trim_end),
    f("sha2", "TI", TEXT, text::sha2),
    g(Growth::Linear, "split_part", "TTI", TEXT, text::split_part),
    f("startswith", "TT", BOOL, text::starts_with),
    g(Growth::Linear, "substring", "TI?I", TEXT, text::substring),
    g(
        Growth::Linear,
        "substring_index",
        "TTI",
        TEXT,
        text::substring_index,
    ),
    g(Growth::Linear, "translate", "TTT", TEXT, text::translate),
    g(Growth::Linear, "trim", "T?T", TEXT, text::trim),
    g(Growth::Linear, "upper", "T", TEXT, text::upper),
    // Numbers
    f("abs", "D", Gives::Of(op::same_number), math::abs),
    f("bin", "L", TEXT, math::bin),
    f("bround", "D?T", Gives::Of(math::round_type), math::bround),
    f("ceil", "D", Gives::Of(math::ceil_type), math::ceil),
    f("exp", "D", DOUBLE, math::exp),
    f("factorial", "I", LONG, math::factorial),
    f("floor", "D", Gives::Of(math::ceil_type), math::floor),
    f("ln", "D", DOUBLE, math::log),
    f("log", "D?D", DOUBLE, math::log),
    f("log10", "D", DOUBLE, math::log10),
    f("log2", "D", DOUBLE, math::log2),
    f("rint", "D", DOUBLE, math::rint),
    f("round", "D?T", Gives::Of(math::round_type), math::round),
    f(
        "shiftleft",
        "NI",
        Gives::Of(math::shift_type),
        math::shift_left,
    ),
    f(
        "shiftright",
        "NI",
        Gives::Of(math::shift_type),
        math::shift_right,
    ),
    f("signum", "D", DOUBLE, math::sign),
    f("sqrt", "D", DOUBLE, math::sqrt),
    // Times
    f("add_months", "dI", DATE, times::add_months),
    f("date_add", "dI", DATE, times::date_add),
    g(
        Growth::Format,
        "date_format",
        "tT",
        Gives::Checked(DataType::Utf8, times::written),
        times::date_format,
    ),
    f("date_from_unix_date", "I", DATE, times::date_from_unix_date),
    f("date_sub", "dI", DATE, times::date_sub),
    f("date_trunc", "Tt", time(), times::date_trunc),
    f("datediff", "dd", INT, times::datediff),
    f("day", "d", INT, times::day),
    f("dayofweek", "d", INT, times::day_of_week),
    f("dayofyear", "d", INT, times::day_of_year),
    g(
        Growth::Format,
        "from_unixtime",
        "L?T",
        Gives::Checked(DataType::Utf8, times::written),
        times::from_unixtime,
    ),
    f("hour", "t", INT, times::hour),
    f("last_day", "d", DATE, times::last_day),
    f("make_date", "III", DATE, times::make_date),
    f("minute", "t", INT, times::minute),
    f("month", "d", INT, times::month),
    f("next_day", "dT", DATE, times::next_day),
    f("quarter", "d", INT, times::quarter),
    f("second", "t", INT, times::second),
    f("timestamp_micros", "L", time(), times::timestamp_micros),
    f("timestamp_millis", "L", time(), times::timestamp_millis),
    f("timestamp_seconds", "L", time(), times::timestamp_seconds),
    f(
        "to_date",
        "A?T",
        Gives::Checked(DataType::Date32, times::readable),
        times::to_date,
    ),
    f(
        "to_timestamp",
        "A?T",
        Gives::Checked(super::types::TIME, times::readable),
        times::to_timestamp,
    ),
    f("trunc", "dT", DATE, times::trunc),
    f("unix_date", "d", INT, times::unix_date),
    f("unix_micros", "t", LONG, times::unix_micros),
    f("unix_millis", "t", LONG, times::unix_millis),
    f("unix_seconds", "t", LONG, times::unix_seconds),
    f(
        "unix_timestamp",
        "A?T",
        Gives::Checked(DataType::Int64, times::readable),
        times::unix_timestamp,
    ),
    f("weekday", "d", INT, times::weekday),
    f("weekofyear", "d", INT, times::week_of_year),
    f("year", "d", INT, times::year),
    // Lists and JSON
    g(
        Growth::Sum,
        "array",
        "W*",
        Gives::Of(lists::array_type),
        lists::array,
    ),
    f(
        "array_contains",
        "XA",
        Gives::Checked(DataType::Boolean, lists::element_compared),
        lists::array_contains,
    ),
    g(
        Growth::Linear,
        "array_distinct",
        "X",
        Gives::Of(lists::same_plain_list),
        lists::array_distinct,
    ),
    g(
        Growth::Join,
        "array_join",
        "XT",
        Gives::Checked(DataType::Utf8, lists::plain_elements),
        lists::array_join,
    ),
    g(
        Growth::Linear,
        "array_max",
        "X",
        Gives::Of(lists::plain_element),
        lists::array_max,
    ),
    g(
        Growth::Linear,
        "array_min",
        "X",
        Gives::Of(lists::plain_element),
        lists::array_min,
    ),
    f(
        "array_position",
        "XA",
        Gives::Checked(DataType::Int64, lists::element_compared),
        lists::array_position,
    ),
    g(
        Growth::Linear,
        "element_at",
        "YA",
        Gives::Of(nested::element_type),
        nested::element_at,
    ),
    g(
        Growth::Linear,
        "get_json_object",
        "TT",
        Gives::Checked(DataType::Utf8, json::with_path),
        json::get_json_object,
    ),
    f("json_array_length", "T", INT, json::json_array_length),
    f(
        "map_contains_key",
        "MA",
        Gives::Checked(DataType::Boolean, nested::contains_key),
        nested::map_contains_key,
    ),
    g(
        Growth::Linear,
        "map_keys",
        "M",
        Gives::Of(nested::keys_type),
        nested::map_keys,
    ),
    g(
        Growth::Linear,
        "map_values",
        "M",
        Gives::Of(nested::values_type),
        nested::map_values,
    ),
    g(
        Growth::Sum,
        "named_struct",
        "TW*",
        Gives::Of(nested::struct_type),
        nested::named_struct,
    ),
    f("size", "Y", INT, nested::size),
    g(
        Growth::Linear,
        "slice",
        "XII",
        Gives::Of(lists::same_list),
        lists::slice,
    ),
    g(
        Growth::Linear,
        "sort_array",
        "X",
        Gives::Of(lists::same_plain_list),
        lists::sort_array,
    ),
    g(
        Growth::Linear,
        "split",
        "TT?I",
        Gives::Of(regex::split_checked),
        regex::split,
    ),
    g(
        Growth::Json,
        "to_json",
        "W",
        Gives::Checked(DataType::Utf8, nested::json_form),
        nested::to_json,
    ),
];

/// Other names of functions.
pub(super) const OTHER_NAMES: &[(&str, &str)] = &[
    ("btrim", "trim"),
    ("cardinality", "size"),
    ("ceiling", "ceil"),
    ("char", "chr"),
    ("char_length", "length"),
    ("character_length", "length"),
    ("date_diff", "datediff"),
    ("dateadd", "date_add"),
    ("dayofmonth", "day"),
    ("ifnull", "coalesce"),
    ("lcase", "lower"),
    ("len", "length"),
    ("nvl", "coalesce"),
    ("position", "locate"),
    ("regexp", "rlike"),
    ("regexp_like", "rlike"),
    ("sign", "signum"),
    ("substr", "substring"),
    ("to_unix_timestamp", "unix_timestamp"),
    ("ucase", "upper"),
];

/// Aggregates and window functions that give what Spark gives.
pub(super) const OF_GROUPS: &[&str] = &["avg", "bool_and", "bool_or", "count", "max", "min", "sum"];
pub(super) const OF_WINDOWS: &[&str] = &["dense_rank", "lag", "lead", "rank", "row_number"];

/// Functions as the planner takes them.
pub(in crate::query) fn functions() -> Vec<Arc<ScalarUDF>> {
    INNER.iter().chain(FUNCTIONS).map(Call::of).collect()
}

/// An inner function.
pub(super) fn inner(name: &str) -> Option<Arc<ScalarUDF>> {
    INNER.iter().find(|one| one.name == name).map(Call::of)
}

/// The function of this name or of another spelling of it.
pub(super) fn named(name: &str) -> Option<&'static Function> {
    let main = OTHER_NAMES
        .iter()
        .find(|(other, _)| *other == name)
        .map_or(name, |(_, main)| main);
    FUNCTIONS.iter().find(|one| one.name == main)
}

/// Functions that are rewritten (`lower`), and are in no other list.
pub(super) const FORMS: &[&str] = &[
    "any",
    "bigint",
    "boolean",
    "count_if",
    "date",
    "date_part",
    "datepart",
    "double",
    "every",
    "explode",
    "float",
    "int",
    "mod",
    "negative",
    "pmod",
    "positive",
    "smallint",
    "some",
    "string",
    "struct",
    "timestamp",
    "tinyint",
];

/// All names that a query may call.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .iter()
        .map(|one| one.name)
        .chain(OTHER_NAMES.iter().map(|(other, _)| *other))
        .chain(FORMS.iter().copied())
        .chain(OF_GROUPS.iter().copied())
        .chain(OF_WINDOWS.iter().copied())
}

/// A line for each function, as the page of the query has them.
#[cfg(test)]
pub(super) fn usages() -> Vec<String> {
    FUNCTIONS.iter().map(Function::usage).collect()
}
