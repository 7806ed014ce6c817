//! Text building blocks of the messages about a query.
//!
//! Rule: from text to text; nothing here knows the error.

use datafusion::error::DataFusionError;

/// The reference of SQL's functions, types and operators.
pub(super) const REFERENCE: &str = "https://datafusion.apache.org/user-guide/sql/";

/// Removes the parts that do not help a user.
pub(super) fn plain(text: &str) -> String {
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or_default();
    let mut text = text
        .split("\nThis issue was likely caused by a bug")
        .next()
        .unwrap_or_default();
    for prefix in [
        "Internal error: ",
        "Error during planning: ",
        "Execution error: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    // From there on it is a tree of internal types.
    let tree = text.contains("Span(").then(|| text.find(" { ")).flatten();
    let text = tree.map_or(text, |at| &text[..at]);
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The name that was probably meant, if one is close to the text.
pub(super) fn closest<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    use datafusion::common::utils::datafusion_strsim::levenshtein;
    let lower = written.to_lowercase();
    let near = |name: &&str| {
        levenshtein(&lower, &name.to_lowercase()) <= (written.chars().count() / 3).max(1)
    };
    names
        .into_iter()
        .filter(near)
        .min_by_key(|name| levenshtein(&lower, &name.to_lowercase()))
}
