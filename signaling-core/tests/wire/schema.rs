//! The part of JSON Schema (draft 2020-12) that `docs/protocol.schema.json` is written in. Any
//! other keyword panics, so nothing in it is passed over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use signaling_core::{id::SessionId, protocol::NegotiationId};

pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn load() -> Self {
        let text = include_str!("../../../docs/protocol.schema.json");
        Self(serde_json::from_str(text).unwrap())
    }

    fn definitions(&self) -> &Map<String, Value> {
        self.0["$defs"].as_object().unwrap()
    }

    /// Whether `instance` is valid against the whole schema and against this definition of it.
    pub(crate) fn accepts(&self, definition: &str, instance: &Value) -> bool {
        self.holds(&self.definitions()[definition], instance) && self.holds(&self.0, instance)
    }

    /// The examples of all messages.
    pub(crate) fn examples(&self) -> Vec<Value> {
        let examples = |definition: &Value| definition["examples"].as_array().cloned();
        self.definitions().values().filter_map(examples).flatten().collect()
    }

    /// The fields of each message.
    pub(crate) fn fields(&self) -> BTreeMap<String, BTreeSet<String>> {
        let messages = self.0["oneOf"].as_array().unwrap().iter().map(name);
        messages
            .map(|name| {
                let message = &self.definitions()[name];
                assert_eq!(message["properties"]["type"]["const"], name);
                let fields = message["properties"].as_object().unwrap().keys().cloned();
                (name.to_owned(), fields.collect())
            })
            .collect()
    }

    /// The names of the definitions that are enums.
    pub(crate) fn enums(&self) -> Vec<&str> {
        let enums = self.definitions().iter().filter(|(_, it)| it.get("enum").is_some());
        enums.map(|(name, _)| name.as_str()).collect()
    }

    /// The values of an enum.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let values = self.definitions()[name]["enum"].as_array().unwrap();
        values.iter().map(|value| value.as_str().unwrap()).collect()
    }

    /// The names that a choice has.
    pub(crate) fn one_of(&self, name_of_choice: &str) -> Vec<&str> {
        let choice = &self.definitions()[name_of_choice];
        choice["oneOf"].as_array().unwrap().iter().map(name).collect()
    }

    fn holds(&self, schema: &Value, instance: &Value) -> bool {
        let schema = schema.as_object().unwrap();
        schema.iter().all(|(keyword, value)| self.keyword(schema, keyword, value, instance))
    }

    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        value: &Value,
        instance: &Value,
    ) -> bool {
        let object = instance.as_object();
        let text = instance.as_str();
        match keyword {
            "$schema" | "$id" | "$defs" | "title" | "description" | "examples" => true,
            "$ref" => {
                self.holds(&self.definitions()[name(&Value::Object(schema.clone()))], instance)
            }
            "oneOf" => {
                let choices = value.as_array().unwrap().iter();
                choices.filter(|choice| self.holds(choice, instance)).count() == 1
            }
            "type" => match value {
                Value::Array(types) => types.iter().any(|one| is(instance, one)),
                one => is(instance, one),
            },
            "const" => value == instance,
            "enum" => value.as_array().unwrap().contains(instance),
            "required" => object.is_none_or(|object| {
                let mut names = value.as_array().unwrap().iter();
                names.all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "dependentRequired" => object.is_none_or(|object| {
                let mut named = value.as_object().unwrap().iter();
                named.all(|(name, others)| {
                    let mut others = others.as_array().unwrap().iter();
                    !object.contains_key(name)
                        || others.all(|other| object.contains_key(other.as_str().unwrap()))
                })
            }),
            "properties" => object.is_none_or(|object| {
                let mut properties = value.as_object().unwrap().iter();
                properties.all(|(name, it)| object.get(name).is_none_or(|at| self.holds(it, at)))
            }),
            "additionalProperties" => {
                assert_eq!(*value, Value::Bool(false));
                let known = schema["properties"].as_object().unwrap();
                object.is_none_or(|object| object.keys().all(|name| known.contains_key(name)))
            }
            "items" => {
                let items = instance.as_array();
                items.is_none_or(|items| items.iter().all(|item| self.holds(value, item)))
            }
            "minItems" => instance.as_array().is_none_or(|it| it.len() as u64 >= number(value)),
            "minLength" => text.is_none_or(|it| it.chars().count() as u64 >= number(value)),
            "maxLength" => text.is_none_or(|it| it.chars().count() as u64 <= number(value)),
            "minimum" => instance.as_i64().is_none_or(|it| it >= value.as_i64().unwrap()),
            "maximum" => instance.as_i64().is_none_or(|it| it <= value.as_i64().unwrap()),
            "pattern" => text.is_none_or(|it| match value.as_str().unwrap() {
                "^[A-Za-z0-9._:-]{1,128}$" => SessionId::new(it).is_ok(),
                "^[0-9a-f]{16}$" => it.parse::<NegotiationId>().is_ok(),
                other => panic!("the pattern {other} is not known here"),
            }),
            other => panic!("the keyword {other} is not known here"),
        }
    }
}

/// What a reference names.
fn name(reference: &Value) -> &str {
    reference["$ref"].as_str().unwrap().strip_prefix("#/$defs/").unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn is(instance: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => instance.is_null(),
        "boolean" => instance.is_boolean(),
        "number" => instance.is_number(),
        // A validator also takes 1.0, which no schema can refuse. The description says that the parser
        // does not.
        "integer" => instance.is_i64() || instance.is_u64(),
        "string" => instance.is_string(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        other => panic!("the type {other} is not known here"),
    }
}
