//! Which folder of the library may know which: each only those before it, so that there is no circle.

use std::path::{Path, PathBuf};

/// The folders and files of `src`, and `passes`: the first know nothing, the last everything.
const ROOMS: &[&str] = &[
    "random", "error", "ir", "files", "data", "exec", "dream", "analysis", "egraph", "formats",
    "profile", "judge", "report", "pipeline", "passes", "job", "fuzzing", "cli",
];

/// What the library's root shows of a room, macros included.
const SHOWN: &[(&str, &str)] = &[
    ("Error", "error"),
    ("Result", "error"),
    ("Model", "formats"),
    ("read", "formats"),
    ("read_bytes", "formats"),
    ("write", "formats"),
    ("write_bytes", "formats"),
    ("Pipeline", "pipeline"),
    ("Report", "report"),
    ("options", "pipeline"),
    ("words", "pipeline"),
];

#[test]
fn no_room_knows_one_above_it() {
    let mut wrong = Vec::new();
    for (room, path) in sources() {
        let own = place(&room);
        let text = std::fs::read_to_string(&path).unwrap();
        for name in named(&text) {
            let shown = SHOWN.iter().find(|(item, _)| *item == name);
            let other = shown.map_or(name.as_str(), |(_, room)| room);
            if place(other) > own {
                wrong.push(format!("{}: {room} -> {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "new edges:\n{}", wrong.join("\n"));
}

#[test]
fn what_a_file_names_of_the_crate_is_found() {
    let text = "
        use crate::{Error, exec::{self, Device}, ir};
        /// Not [`crate::cli`].
        fn f() { crate::formats::read(); }
        #[cfg(test)]
        mod tests { use crate::fuzzing; }";
    assert_eq!(named(text), ["Error", "exec", "ir", "formats"]);
}

fn place(room: &str) -> usize {
    let found = ROOMS.iter().position(|known| *known == room);
    found.unwrap_or_else(|| panic!("`{room}` has no place among the rooms"))
}

/// Every source file but the root's, with its room.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("passes"), &mut |path| {
        files.push(("passes".to_owned(), path))
    });
    let src = root.join("src");
    walk(&src, &mut |path| {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str();
        let room = room.to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room != "lib" && room != "main" {
            files.push((room, path));
        }
    });
    assert!(files.len() > 100, "{} files", files.len());
    files
}

fn walk(folder: &Path, found: &mut impl FnMut(PathBuf)) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found(path);
        }
    }
}

/// What a file, but for its tests, names at the crate's root.
fn named(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let text = text
        .split("#[cfg(test)]\n        mod tests")
        .next()
        .unwrap();
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect();
    let code = code.join("\n");
    let mut names = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        // Not `macro_crate::` or the `$crate::` of a macro's own room.
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(list) => names.extend(first_words(list)),
            None => names.push(word(rest)),
        }
    }
    names
}

/// The first word of each item of a list in braces.
fn first_words(list: &str) -> Vec<String> {
    let (mut depth, mut words, mut item) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.push(word(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    words.push(word(&item));
    words.retain(|word| !word.is_empty());
    words
}

fn word(text: &str) -> String {
    let text = text.trim_start();
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
