//! The JSON Schema editors check and complete the file with, made from the tables of keys.

use serde_json::{Map, Value, json};

use crate::keys::{EXPERIMENT, Fate, Form, Key, ROLE, TOP};

/// The schema (draft 7, which every editor knows), as text.
///
/// It is stricter than the reader in one thing: keys are in the case of the documentation.
#[must_use]
pub fn schema() -> String {
    let mut top = object(TOP);
    if let Some(experiments) = top.pointer_mut("/properties/experiments") {
        let mut experiment = object(EXPERIMENT);
        if let Some(roles) = experiment.pointer_mut("/properties/roles") {
            nest(roles, object(ROLE));
        }
        nest(experiments, experiment);
    }
    let mut whole = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "managedTokens",
        "description": "Configuration of mtk, and of the Go service managed-tokens. Written by `mtk config schema`.",
    });
    if let (Some(whole), Value::Object(top)) = (whole.as_object_mut(), top) {
        whole.extend(top);
    }
    format!("{whole:#}\n")
}

/// A map from names the site chooses, in which each value is one of these.
fn nest(place: &mut Value, inner: Value) {
    if let Some(place) = place.as_object_mut() {
        place.insert("additionalProperties".into(), inner);
    }
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|k| (k.name.to_owned(), property(k))).collect();
    json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
}

fn property(key: &Key) -> Value {
    let mut value = match key.fate {
        Fate::Section(keys) => object(keys),
        Fate::Named(keys) => json!({"type": ["object", "null"], "additionalProperties": object(keys)}),
        _ => form(key.form),
    };
    let note = match key.fate {
        Fate::NotNeeded(why) => format!(". No effect in mtk: {why}."),
        _ => String::new(),
    };
    if let Some(map) = value.as_object_mut() {
        map.insert("description".into(), format!("{}{note}", key.about).into());
    }
    value
}

/// What the reader takes for a value of this form.
fn form(form: Form) -> Value {
    let scalar = ["string", "number", "boolean", "null"];
    match form {
        Form::Text => json!({"type": scalar}),
        Form::Path | Form::Template => json!({"type": ["string", "null"]}),
        Form::Paths | Form::List => {
            json!({"type": ["array", "string", "number", "null"], "items": {"type": scalar}})
        }
        Form::Span => json!({
            "type": ["string", "integer", "null"],
            "pattern": "^ *[+-]?([0-9]+|([0-9.]+(ns|us|µs|μs|ms|s|m|h|d))+) *$",
            "minimum": 0,
        }),
        Form::Count => {
            json!({"type": ["integer", "string", "null"], "pattern": "^ *[0-9]+ *$", "minimum": 0})
        }
        Form::Truth => {
            json!({"enum": [true, false, "true", "false", "True", "False", "TRUE", "FALSE", "t", "f", "T",
                                       "F", "1", "0", 1, 0, null]})
        }
        Form::Choice(words) => {
            let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            if words.contains(&"off") {
                all.push(json!(false));
            }
            all.push(Value::Null);
            json!({"enum": all})
        }
        Form::Map => json!({"type": ["object", "null"]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_one_made() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/managedTokens.schema.json"
        );
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == schema(),
            "mtk config schema > docs/managedTokens.schema.json"
        );
    }

    #[test]
    fn every_key_of_the_fixtures_is_in_it() {
        fn walk(value: &Value, schema: &Value, path: &str) {
            let Value::Object(map) = value else { return };
            for (key, value) in map {
                let place = format!("{path}.{key}");
                let inner = schema
                    .get("properties")
                    .and_then(|p| p.get(key))
                    .or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()));
                walk(value, inner.unwrap_or_else(|| panic!("no {place}")), &place);
            }
        }
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/config/every-key.json"
        );
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        walk(&file, &schema, "");
    }
}
