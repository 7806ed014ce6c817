//! Whether a version may be used: the one place that decides.
//!
//! Owns: the decision, over facts. Does not own: how the facts are found (`query::trial`, storage),
//! what happens to a refused version (the controller's core).
//! Rule: nothing that a version contains stops a job. What the query cannot run on is refused here,
//! with the reason, and the version before stays.

use crate::query::Misfit;

/// What is known of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its rows.
    pub rows: u64,
    /// The rows of the version in use; `None`: there is none, or it cannot be read any more.
    pub rows_in_use: Option<u64>,
    /// Whether its columns are those that the query needs.
    pub fit: Result<(), Misfit>,
    /// Whether the query can be planned and started on it; the text says why not.
    pub trial: Result<(), String>,
}

/// Why a version is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The version before had rows.
    #[error(
        "it has no rows, and the version in use has {rows_in_use}; if that is right, set \
         `allow_empty = true` in its [[lookup]]"
    )]
    Empty { rows_in_use: u64 },
    /// The query fails on its rows.
    #[error("the query cannot run on it: {0}")]
    Query(String),
}

/// Decides on a new version.
///
/// # Errors
/// [`Refused`]: the version in use stays.
pub fn accept(facts: &Facts, allow_empty: bool) -> Result<(), Refused> {
    facts.fit.clone()?;
    match facts.rows_in_use {
        Some(rows_in_use) if rows_in_use > 0 && facts.rows == 0 && !allow_empty => {
            return Err(Refused::Empty { rows_in_use });
        }
        Some(_) | None => {}
    }
    facts.trial.clone().map_err(Refused::Query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            rows: 3,
            rows_in_use: Some(3),
            fit: Ok(()),
            trial: Ok(()),
        }
    }

    #[test]
    fn p43_a_version_is_used_if_it_fits_has_rows_and_the_query_runs_on_it() {
        assert_eq!(accept(&good(), false), Ok(()));
        let misfit = Misfit::NoColumn {
            column: "id".into(),
            found: vec!["id;name".into()],
        };
        let semicolons = Facts {
            fit: Err(misfit.clone()),
            ..good()
        };
        assert_eq!(accept(&semicolons, true), Err(Refused::Misfit(misfit)));
        let letter = Facts {
            trial: Err("Cannot cast string 'n/a'".into()),
            ..good()
        };
        let refused = accept(&letter, false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the query cannot run on it: Cannot cast string 'n/a'"
        );
    }

    #[test]
    fn p43_a_version_without_rows_follows_one_with_rows_only_if_the_job_allows_it() {
        let empty = |rows_in_use| Facts {
            rows: 0,
            rows_in_use,
            ..good()
        };
        let refused = accept(&empty(Some(249)), false).unwrap_err();
        assert_eq!(refused, Refused::Empty { rows_in_use: 249 });
        assert!(refused.to_string().contains("allow_empty = true"));
        assert_eq!(accept(&empty(Some(249)), true), Ok(()));
        assert_eq!(accept(&empty(Some(0)), false), Ok(()));
        assert_eq!(accept(&empty(None), false), Ok(()), "the first version");
    }
}
