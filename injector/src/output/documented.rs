//! What `docs/json.md` says and what is written, for tests that hold them
//! together.

use std::collections::BTreeSet;

use serde_json::Value;

/// The document.
const DOC: &str = include_str!("../../../docs/json.md");

/// The field names in the tables of the section with this heading.
pub fn names(heading: &str) -> BTreeSet<String> {
    let section = DOC.split_once(heading).expect(heading).1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| {
        let names = row.split_once('|').expect("a row of a table").0;
        names
            .split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
    })
    .collect()
}

/// Every path of a value: `hooks[].reasons[].why`.
pub fn paths(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    add_paths(value, "", &mut found);
    found
}

fn add_paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                add_paths(value, &format!("{path}{dot}{name}"), into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                add_paths(item, &format!("{path}[]"), into);
            }
        }
        _ => _ = into.insert(path.to_owned()),
    }
}

/// All keys of a value, at any depth.
pub fn keys(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    add_keys(value, &mut found);
    found
}

fn add_keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                add_keys(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| add_keys(item, into)),
        _ => {}
    }
}
