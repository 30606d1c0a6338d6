//! That what the book and README.md lead to is there.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the book's pages, and README.md.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md")];
    let mut folders = vec![root().join("book/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence && !line.starts_with("    ")
    })
}

/// Where the links of a page lead: a path, which is empty for the page itself, and a heading's anchor, if there is one.
fn links(text: &str) -> Vec<(String, Option<String>)> {
    let mut links = Vec::new();
    for line in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = &line[at + 2..];
            let target = &target[..target.find(')').unwrap()];
            if !target.contains("://") {
                let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
                let anchor = (!anchor.is_empty()).then(|| anchor.to_string());
                links.push((path.to_string(), anchor));
            }
        }
    }
    links
}

/// The anchors of a page's headings, as git hosts and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let title = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        title.replace(' ', "-").chars().filter(kept).collect()
    };
    headings.map(anchor).collect()
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{}", path.display()),
            part => plain.push(part),
        }
    }
    plain
}

/// The file that a link of a page leads to.
fn target(page: &Path, path: &str) -> PathBuf {
    match path {
        "" => page.to_path_buf(),
        path => plain(&page.parent().unwrap().join(path)),
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages() {
        for (path, anchor) in links(&read(&page)) {
            followed += 1;
            let file = target(&page, &path);
            let is_there = file.exists() && file.starts_with(root());
            let has = |anchor: &String| anchors(&read(&file)).contains(anchor);
            if !is_there || anchor.as_ref().is_some_and(|anchor| !has(anchor)) {
                let anchor = anchor.map_or(String::new(), |anchor| format!("#{anchor}"));
                broken.push(format!("{}: {path}{anchor}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 150, "only {followed} links were found");
}

#[test]
fn the_summary_names_every_page() {
    let summary = root().join("book/src/SUMMARY.md");
    let links = links(&read(&summary));
    let named: Vec<PathBuf> = links
        .iter()
        .map(|(path, _)| target(&summary, path))
        .collect();
    let pages = pages();
    let missing: Vec<_> = pages
        .iter()
        .filter(|page| **page != summary && !named.contains(page))
        .collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {missing:?}");
    let once: BTreeSet<_> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "SUMMARY.md names a page twice");
}

#[test]
fn each_pass_has_a_page() {
    for pass in optc::passes::ALL {
        let name = pass.name.replace('-', "_");
        let page = root().join(format!("book/src/passes/{name}.md"));
        assert!(read(&page).starts_with(&format!("# {}\n", pass.name)));
    }
}

#[test]
fn links_and_headings_are_found_outside_of_code() {
    let text = "# A b: `c`\n[x](y.md#z), [u](#v)\n```\n[no](code.md)\n# no\n```\n    [no](code.md)\n[w](https://w.org)\n";
    let some = |anchor: &str| Some(anchor.to_string());
    let found = [("y.md".to_string(), some("z")), (String::new(), some("v"))];
    assert_eq!(links(text), found);
    assert_eq!(anchors(text), BTreeSet::from(["a-b-c".to_string()]));
}
