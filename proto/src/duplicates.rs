//! Rows of a lookup with equal keys.
//!
//! Owns: their count and its text. Does not own: how they are found (`streamctl_engine::query`).
//! Rule: a count is of one version and of the keys that the query joins by.

/// Rows of a lookup that have the key of another one: each record that finds them becomes as many
/// rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// Keys that more than one row has.
    pub keys: u64,
    /// The rows with these keys.
    pub rows: u64,
    /// Some of the keys, most frequent first.
    pub examples: Vec<String>,
}

impl Duplicates {
    /// For users; `None`: there are none.
    pub fn text(&self) -> Option<String> {
        if self.keys == 0 {
            return None;
        }
        let examples: Vec<String> = self.examples.iter().map(|key| format!("{key:?}")).collect();
        let more = match self.keys > self.examples.len() as u64 {
            true => ", ...",
            false => "",
        };
        Some(format!(
            "{} share {} ({}{more}): a record with such a key becomes several rows",
            crate::count(self.rows, "row"),
            crate::count(self.keys, "key"),
            examples.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p21_duplicates_are_shown_with_some_of_their_keys() {
        assert_eq!(Duplicates::default().text(), None);
        let two = Duplicates {
            keys: 2,
            rows: 5,
            examples: vec!["Peru".into()],
        };
        assert_eq!(
            two.text().unwrap(),
            "5 rows share 2 keys (\"Peru\", ...): a record with such a key becomes several rows"
        );
    }
}
