//! Imports point down the table of ARCHITECTURE.md, and pure modules stay pure.

use std::{collections::BTreeSet, fs, path::Path};

const LAYERS: [&[&str]; 8] = [
    &["id", "time", "frame", "log"],
    &["session", "notice", "protocol", "config"],
    &["connection"],
    &["store", "bus", "auth", "ice"],
    &["memory", "jwt", "event"],
    &["relay"],
    &["websocket"],
    &["testing"],
];
const PURE: [&str; 4] = ["session", "notice", "protocol", "connection"];
const IMPURE: [&str; 5] = ["async ", "tokio::", "::now()", "getrandom", "random_u64"];

fn layer(module: &str) -> usize {
    let of = |modules: &&[&str]| modules.contains(&module);
    LAYERS.iter().position(of).unwrap_or_else(|| panic!("{module} is in no layer"))
}

/// A source file's text without its comments and tests, by the module it belongs to.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
            if parts == ["lib"] || parts.contains(&"tests") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            sources.push((parts[0].to_owned(), code.collect::<Vec<_>>().join("\n")));
        }
    }
    assert!(sources.len() > 30, "the sources are elsewhere");
    sources
}

/// The modules that `code` names by `crate::`, also in nested lists.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let (mut depth, mut start) = (0_usize, true);
        for (position, c) in rest.char_indices() {
            match c {
                '{' => (depth, start) = (depth + 1, true),
                ',' if depth == 1 => start = true,
                '}' if depth <= 1 => break,
                '}' => depth -= 1,
                c if c.is_whitespace() => {}
                _ if start && depth <= 1 => {
                    let name = rest[position..].split(|c: char| !c.is_alphanumeric() && c != '_');
                    found.push(name.take(1).collect());
                    start = false;
                    if depth == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let sources = sources();
    let modules: BTreeSet<_> = sources.iter().map(|(module, _)| module.as_str()).collect();
    for (module, code) in &sources {
        for import in imports(code) {
            let import = match import.as_str() {
                "Relay" => "relay",
                "Config" => "config",
                other if modules.contains(other) => other,
                // A macro, which lives in the module that is at its root.
                _ => continue,
            };
            let down = import == module || layer(import) < layer(module);
            let beside = layer(import) == layer(module) && layer(module) <= 1;
            assert!(down || beside, "{module} imports {import}");
        }
    }
}

#[test]
fn pure_modules_know_no_clock_no_chance_and_no_waiting() {
    for (module, code) in sources() {
        for impure in IMPURE {
            let pure = PURE.contains(&module.as_str());
            assert!(!(pure && code.contains(impure)), "{module} uses {impure}");
        }
    }
}

#[test]
fn nested_imports_are_found() {
    let code = "use crate::{\n  a::{B, c::D},\n  e::f,\n};\nlet g = crate::h::I;";
    assert_eq!(imports(code), ["a", "e", "h"]);
}
