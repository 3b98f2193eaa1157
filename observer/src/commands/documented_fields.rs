//! What a program may rely on: the fields of a command's JSON, held against its document.

use serde_json::Value;
use std::collections::BTreeSet;

/// The fields of a value, each with those above it, as in `workers[].pid`. A value that may be
/// absent or empty has to be filled to be seen.
pub fn fields_of(value: &Value) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    add(value, "", &mut fields);
    fields
}

fn add(value: &Value, above: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let dot = if above.is_empty() { "" } else { "." };
                let list = if value.is_array() { "[]" } else { "" };
                let field = format!("{above}{dot}{name}{list}");
                add(value, &field, fields);
                fields.insert(field);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| add(item, above, fields)),
        _ => {}
    }
}

/// The fields in the tables `| field | … |` of a document, from which they are quoted.
pub fn fields_in(document: &str) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    let mut is_table = false;
    for line in document.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["", "field", ..] => is_table = true,
            ["", first, ..] if is_table => {
                fields.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
            }
            _ => is_table = false,
        }
    }
    fields
}
