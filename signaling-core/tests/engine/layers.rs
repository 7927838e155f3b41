//! Imports point down the table of ARCHITECTURE.md and make no circle inside `relay`, and pure modules stay
//! pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const LAYERS: [&[&str]; 8] = [
    &["id", "time", "frame", "reason", "log"],
    &["session", "notice", "protocol", "config"],
    &["connection"],
    &["store", "bus", "auth", "ice"],
    &["memory", "jwt", "event"],
    &["relay"],
    &["websocket"],
    &["testing"],
];
const PURE: [&str; 5] = ["reason", "session", "notice", "protocol", "connection"];
const IMPURE: [&str; 5] = ["async ", "tokio::", "::now()", "getrandom", "random_u64"];

fn layer(module: &str) -> usize {
    let of = |modules: &&[&str]| modules.contains(&module);
    LAYERS.iter().position(of).unwrap_or_else(|| panic!("{module} is in no layer"))
}

/// A source file's text without its comments and tests, by the path of its module.
fn sources() -> Vec<(Vec<String>, String)> {
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
            let path = parts.into_iter().map(str::to_owned).collect();
            sources.push((path, code.collect::<Vec<_>>().join("\n")));
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
    let modules: BTreeSet<_> = sources.iter().map(|(path, _)| path[0].as_str()).collect();
    for (path, code) in &sources {
        let module = path[0].as_str();
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

/// Those of `modules` that `code` names behind a `super::`, also in nested lists.
fn siblings<'a>(code: &str, modules: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let named = |statement: &str| {
        let path = |module: &&&str| {
            statement.match_indices(&format!("{module}::")).any(|(at, _)| {
                let before = statement[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
            })
        };
        modules.iter().filter(path).copied().collect::<Vec<_>>()
    };
    code.split(';').filter(|statement| statement.contains("super::")).flat_map(named).collect()
}

#[test]
fn modules_of_the_engine_import_each_other_in_no_circle() {
    let sources = sources();
    let inside = sources.iter().filter(|(path, _)| path[0] == "relay" && path.len() > 1);
    let inside: Vec<_> = inside.map(|(path, code)| (path[1].as_str(), code)).collect();
    let modules: BTreeSet<_> = inside.iter().map(|(module, _)| *module).collect();
    let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (module, code) in inside {
        let others = siblings(code, &modules).into_iter().filter(|other| *other != module);
        imports.entry(module).or_default().extend(others);
    }
    assert!(imports["worker"].contains("node") && imports["node"].contains("registry"));
    // Those that import none of the rest are taken away until none is left.
    while !imports.is_empty() {
        let rest: BTreeSet<_> = imports.keys().copied().collect();
        let before = imports.len();
        imports.retain(|_, others| !others.is_disjoint(&rest));
        assert!(imports.len() < before, "a circle among {imports:?}");
    }
}

#[test]
fn pure_modules_know_no_clock_no_chance_and_no_waiting() {
    for (path, code) in sources() {
        for impure in IMPURE {
            let pure = PURE.contains(&path[0].as_str());
            assert!(!(pure && code.contains(impure)), "{path:?} uses {impure}");
        }
    }
}

#[test]
fn nested_imports_are_found() {
    let code = "use crate::{\n  a::{B, c::D},\n  e::f,\n};\nlet g = crate::h::I;";
    assert_eq!(imports(code), ["a", "e", "h"]);
    let code =
        "use super::{\n  super::{a::{B, c::D}, e::f},\n  G,\n};\nlet h = super::i::J;\nuse k::L;";
    let modules = ["a", "e", "i", "k", "super_a"].into();
    assert_eq!(siblings(code, &modules), ["a", "e", "i"].into());
}
