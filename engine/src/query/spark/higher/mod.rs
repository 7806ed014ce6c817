//! Functions that take an expression as an argument: `transform(list, x -> x + 1)`.
//!
//! Owns: their names and arguments. Does not own: what they compute (`elements`, `fold`, `pairs`), the
//! syntax of `x -> x + 1` (`lower`).
//! Rule: a function is a line here and a file beside this one.

mod elements;
mod fold;
mod pairs;
mod shared;

use datafusion::logical_expr::HigherOrderUDF;
use std::sync::Arc;

/// The arguments of a function: values, then expressions.
pub(super) struct Shape {
    pub name: &'static str,
    pub values: usize,
    pub expressions: std::ops::RangeInclusive<usize>,
    pub usage: &'static str,
}

const fn shape(name: &'static str, values: usize, most: usize, usage: &'static str) -> Shape {
    Shape {
        name,
        values,
        expressions: 1..=most,
        usage,
    }
}

/// The functions, in the order of the alphabet.
pub(super) const SHAPES: [Shape; 10] = [
    shape("aggregate", 2, 2, "aggregate(list, start, (sum, x) -> ...)"),
    shape("exists", 1, 1, "exists(list, x -> ...)"),
    shape("filter", 1, 1, "filter(list, x -> ...)"),
    shape("forall", 1, 1, "forall(list, x -> ...)"),
    shape("map_filter", 1, 1, "map_filter(map, (k, v) -> ...)"),
    shape("reduce", 2, 2, "reduce(list, start, (sum, x) -> ...)"),
    shape("transform", 1, 1, "transform(list, x -> ...)"),
    shape("transform_keys", 1, 1, "transform_keys(map, (k, v) -> ...)"),
    shape(
        "transform_values",
        1,
        1,
        "transform_values(map, (k, v) -> ...)",
    ),
    shape("zip_with", 2, 1, "zip_with(one, two, (x, y) -> ...)"),
];

/// The functions as the planner takes them.
pub(in crate::query) fn higher_functions() -> Vec<Arc<HigherOrderUDF>> {
    let all = [elements::functions(), fold::functions(), pairs::functions()];
    all.into_iter().flatten().map(Arc::new).collect()
}
