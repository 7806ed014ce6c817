//! The known name that a user most likely meant.
//!
//! Rule: no suggestion is better than a far-fetched one.

/// Least likeness of a suggestion, by Jaro and Winkler: 1 is the same.
const LIKENESS_MIN: f64 = 0.8;

/// The known name that is most like `word`, if one is like it.
pub fn nearest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = word.to_lowercase();
    let likeness = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&lower, name), name));
    let (best, name) = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best >= LIKENESS_MIN).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_suggested_only_if_it_is_like_the_word() {
        let known = ["sales-by-country", "orders", "clicks"];
        assert_eq!(nearest("sales", known), Some("sales-by-country"));
        assert_eq!(nearest("Order", known), Some("orders"));
        assert_eq!(nearest("weather", known), None);
        assert_eq!(nearest("sales", []), None);
    }
}
