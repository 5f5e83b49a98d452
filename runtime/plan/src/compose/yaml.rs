//! Plain data as YAML 1.2, in block style: every text in double quotes, as in JSON, which YAML contains.

use serde_json::Value;
use std::fmt::Write;

/// `value` as a document.
#[must_use]
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

/// The entries of a map or list, one a line; anything else on the line that has begun.
fn block(text: &mut String, value: &Value, depth: usize) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) if !map.is_empty() => map.iter().map(|(key, value)| (format!("{}:", key_of(key)), value)).collect(),
        Value::Array(list) if !list.is_empty() => list.iter().map(|value| ("-".to_owned(), value)).collect(),
        flat => return writeln!(text, "{flat}").unwrap_or(()),
    };
    for (mark, value) in entries {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&mark);
        let nested = value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|list| !list.is_empty());
        text.push(if nested { '\n' } else { ' ' });
        block(text, value, depth + 1);
    }
}

/// Words are keys as they are; anything else is quoted.
fn key_of(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let reserved = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&key.to_ascii_lowercase().as_str());
    if plain && !reserved { key.to_owned() } else { Value::from(key).to_string() }
}
