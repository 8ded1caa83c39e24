//! The part of the chart's values.schema.json that describes `config`: made from the configuration's own table of keys.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use netflume::config::Config;
use netflume::config::schema::{Kind, Row, rows};
use netflume::config::value::{Allowed, Limits};
use serde_json::{Map, Value, json};

pub(crate) fn path() -> PathBuf {
    xtask::cache::root().join("docker/kubernetes/netflume/values.schema.json")
}

/// The schema file with `properties.config` made anew.
pub(crate) fn made_anew() -> Result<String> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut schema: Value = serde_json::from_str(&text)?;
    schema["properties"]["config"] =
        keys("", "netflume's configuration, merged over the profile's");
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}

/// An object with the keys below `parent` and no others.
fn keys(parent: &str, doc: &str) -> Value {
    let below = rows().filter(|row| row.parent() == parent);
    let properties: Map<String, Value> =
        below.map(|row| (row.name().to_owned(), key(row))).collect();
    json!({
        "description": doc,
        // Null removes a key of the profile.
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn key(row: &Row) -> Value {
    let Kind::Value(limits, setting) = &row.kind else {
        return keys(row.path, row.doc);
    };
    let mut config = Config::default();
    let mut schema = match (setting(&mut config).allowed(limits), limits) {
        (Allowed::OneOf(["true", "false"]), _) => {
            or_variable(&json!({ "type": ["boolean", "null"] }))
        }
        (Allowed::OneOf(words), _) => {
            let mut words: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            words.push(Value::Null);
            or_variable(&json!({ "enum": words }))
        }
        (_, Limits::Count(low, high)) => {
            or_variable(&json!({ "type": ["integer", "null"], "minimum": low, "maximum": high }))
        }
        (_, Limits::Real(low, high)) => {
            or_variable(&json!({ "type": ["number", "null"], "minimum": low, "maximum": high }))
        }
        // `15s`, `64MiB`, or a number: netflume itself checks those.
        (_, Limits::Duration(..) | Limits::Size(..)) => {
            json!({ "type": ["string", "number", "null"] })
        }
        _ => json!({}),
    };
    schema["description"] = json!(row.doc);
    schema
}

/// A value may be taken from the environment.
fn or_variable(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "string", "pattern": "\\$\\{" }] })
}

#[test]
fn the_values_schema_knows_every_configuration_key() -> Result<()> {
    let kept = fs::read_to_string(path())?;
    assert!(
        kept == made_anew()?,
        "the configuration has other keys than values.schema.json: run `cargo xtask chart`"
    );
    Ok(())
}
