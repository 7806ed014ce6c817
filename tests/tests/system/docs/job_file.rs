//! `docs/job-file.md` says what the parser's declarations say.
//!
//! Owns: how a table of keys looks in Markdown. Does not own: the words
//! (`streamctl_proto::spec::reference`), what stands around the tables (the page).
//! Rule: with `DOCS=write` the page is written anew (`make docs`), else it is compared.

use super::{read, root};
use streamctl_proto::spec::{KeyReference, TableReference, Without, reference};
use streamctl_tests::places::docs_are_written;

const PAGE: &str = "docs/job-file.md";
const END: &str = "<!-- end -->";

fn row(key: &KeyReference) -> String {
    let without = match &key.without {
        Without::Refused => "**required**".to_owned(),
        Without::Default(value) => format!("`{value}`"),
        Without::Means(words) => (*words).to_owned(),
    };
    // A name that is not one stands for any.
    let name = if key.name.starts_with('*') {
        key.name.to_owned()
    } else {
        format!("`{}`", key.name)
    };
    format!("| {name} | {} | {without} | {} |\n", key.value, key.about)
}

fn markdown(table: &TableReference) -> String {
    let about = if table.about.is_empty() {
        String::new()
    } else {
        format!("{}\n\n", table.about)
    };
    let rows = table.keys.iter().map(row).collect::<String>();
    format!(
        "\n{about}| key | value | default | what it is for |\n| --- | --- | --- | --- |\n{rows}\n"
    )
}

/// The page with the tables as they should be.
fn written(page: &str) -> String {
    reference().iter().fold(page.to_owned(), |page, table| {
        let begin = format!("<!-- keys: {} -->\n", table.title);
        let places = page.matches(&begin).count();
        assert_eq!(places, 1, "{PAGE} should have one line {begin:?}");
        let (before, rest) = page.split_once(&begin).expect("counted before");
        let (_, after) = rest.split_once(END).expect("every table ends");
        format!("{before}{begin}{}{END}{after}", markdown(table))
    })
}

#[test]
fn the_page_of_the_job_file_is_what_the_parser_declares() {
    let page = read(PAGE);
    let path = root().join(PAGE);
    let written = written(&page);
    if docs_are_written() {
        std::fs::write(path, written).unwrap();
    } else {
        assert!(
            page == written,
            "{PAGE} is not what the parser declares; `make docs` writes it anew:\n{written}"
        );
    }
}
