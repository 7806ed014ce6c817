//! Lists in pages.
//!
//! Owns: the sizes, where a page begins. Does not own: the lists.
//! Rule: a list is in the order of its keys, and a token is the last key of the page before it: an
//! entry that stays is shown once, whatever comes and goes between two pages.

/// Entries of a page if the request has no size.
pub const PAGE_SIZE_DEFAULT: u32 = 500;
/// Most entries of a page.
pub const PAGE_SIZE_MAX: u32 = 1_000;

/// The requested page of these entries, in the order of their keys, and the token of the next page;
/// empty: there is none.
pub(super) fn page<T>(
    all: Vec<T>,
    key: impl Fn(&T) -> &str,
    size: u32,
    token: &str,
) -> (Vec<T>, String) {
    let size = match size {
        0 => PAGE_SIZE_DEFAULT,
        size => size.min(PAGE_SIZE_MAX),
    };
    let mut rest = all.into_iter().filter(|one| key(one) > token);
    let page: Vec<T> = rest.by_ref().take(size as usize).collect();
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => key(last).to_owned(),
        _ => String::new(),
    };
    (page, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(all: &[&str], size: u32) -> Vec<Vec<String>> {
        let mut found = vec![];
        let mut token = String::new();
        loop {
            let all: Vec<String> = all.iter().map(|one| (*one).to_owned()).collect();
            let (page, next) = page(all, String::as_str, size, &token);
            found.push(page);
            if next.is_empty() {
                return found;
            }
            token = next;
        }
    }

    #[test]
    fn pages_hold_every_entry_once_and_the_last_one_has_no_token() {
        assert_eq!(
            pages(&["a", "b", "c", "d", "e"], 2),
            [vec!["a", "b"], vec!["c", "d"], vec!["e"]]
        );
        assert_eq!(pages(&["a", "b"], 2), [vec!["a", "b"]]);
        assert_eq!(pages(&[], 2), [Vec::<String>::new()]);
        assert_eq!(pages(&["a", "b", "c"], 0).len(), 1);
    }

    #[test]
    fn what_goes_between_two_pages_hides_nothing_else() {
        let all = vec!["a".to_owned(), "c".to_owned(), "d".to_owned()];
        let (page, next) = page(all, String::as_str, 2, "b");
        assert_eq!(
            (page, next),
            (vec!["c".to_owned(), "d".to_owned()], String::new())
        );
    }
}
