//! Links lead somewhere.
//!
//! Owns: relative links and anchors of every page in Markdown, and of every notebook. Does not own:
//! the web.
//! Rule: a page that is in the checkout is looked at; none is left out by name.

use super::{prose, root};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose pages are not ours.
const FOREIGN: [&str; 3] = [".git", "node_modules", "target"];
/// Fewer links, and they were not read as they were meant.
const LINKS_LEAST: usize = 50;

fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    collect(&root(), &mut pages);
    pages.sort();
    pages
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !FOREIGN.contains(&name.as_str()) {
            collect(&path, pages);
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
}

/// The targets of `[words](target)`.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let target = |(at, _)| text[at + 2..].split(')').next().map(str::to_owned);
    text.match_indices("](").filter_map(target).collect()
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// All anchors of a page; the second heading of the same words ends in `-1`.
fn anchors(page: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = page
        .split("```")
        .step_by(2)
        .flat_map(str::lines)
        .filter_map(|line| {
            let words = line.trim_start_matches('#');
            (words.len() < line.len())
                .then(|| words.strip_prefix(' '))
                .flatten()
        });
    let numbered = |heading| {
        let anchor = anchor(heading);
        let before = seen.entry(anchor.clone()).or_default();
        *before += 1;
        if *before == 1 {
            anchor
        } else {
            format!("{anchor}-{}", *before - 1)
        }
    };
    headings.map(numbered).collect()
}

/// Why a link of a page leads nowhere.
fn broken(page: &Path, text: &str, link: &str) -> Option<String> {
    let (file, wanted) = link
        .split_once('#')
        .map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        page.parent()?.join(file)
    };
    if !file.is_empty() && !target.exists() {
        return Some(format!(
            "{} links to {link}, which is not there",
            page.display()
        ));
    }
    let wanted = wanted?;
    let target = if file.is_empty() {
        text.to_owned()
    } else {
        fs::read_to_string(target).unwrap_or_default()
    };
    let there = anchors(&target);
    (!there.iter().any(|anchor| anchor == wanted)).then(|| {
        format!(
            "{} links to {link}; its headings are {there:?}",
            page.display()
        )
    })
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text)
            .into_iter()
            .filter(|link| !link.contains("://"))
        {
            count += 1;
            wrong.extend(broken(&page, &text, &link));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= LINKS_LEAST, "only {count} links were found");
}

#[test]
fn every_page_of_docs_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in fs::read_dir(root().join("docs")).unwrap() {
        let path = page.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let link = if path.is_dir() {
            format!("({name}/README.md)")
        } else {
            format!("({name})")
        };
        assert!(
            name == "README.md" || index.contains(&link),
            "docs/README.md does not name {name}"
        );
    }
}

#[test]
fn links_and_anchors_are_read_as_they_are_meant() {
    assert_eq!(
        links("a [b](c.md) `[d](e)`\n```\n[f](g)\n```\n[h](#i)"),
        ["c.md", "#i"]
    );
    assert_eq!(
        anchors("# One, two: three\n## `[[lookup]]`\n## A\n```\n# no\n```\n## A\n"),
        ["one-two-three", "lookup", "a", "a-1"]
    );
    let page = Path::new("/nowhere/page.md");
    assert!(broken(page, "# A\n", "#a").is_none() && broken(page, "# A\n", "#b").is_some());
    assert!(broken(page, "", "other.md").is_some());
}
