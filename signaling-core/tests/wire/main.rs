//! What the documents say of the wire is what the types do: every example, field, enum value and
//! code in docs/protocol.md, docs/protocol.schema.json and docs/asyncapi.json.
#![allow(clippy::unwrap_used, reason = "a test")]

mod documents;
mod golden;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use documents::{first_cells, messages_in, rows};
use schema::Schema;
use serde_json::{Map, Value, json};
use signaling_core::{
    frame::CloseCode,
    protocol::{ClientMessage, Continue, Dialect, ErrorCode, Sequence},
    reason::PartnerReason,
};

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");
const ASYNCAPI: &str = include_str!("../../../docs/asyncapi.json");

fn values(texts: Vec<String>) -> Vec<Value> {
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// In one order of fields, for comparing.
fn canonical(messages: impl IntoIterator<Item = Value>) -> BTreeSet<String> {
    messages.into_iter().map(|message| message.to_string()).collect()
}

fn kind(message: &Value) -> &str {
    message["type"].as_str().unwrap()
}

fn fields(message: &Value) -> &Map<String, Value> {
    message.as_object().unwrap()
}

fn all() -> Vec<Value> {
    values([golden::client(), golden::server()].concat())
}

#[test]
fn the_examples_in_the_documents_are_messages_of_the_types() {
    let golden = canonical(all());
    assert_eq!(canonical(messages_in(PROTOCOL)), golden, "docs/protocol.md");
    assert_eq!(canonical(Schema::load().examples()), golden, "docs/protocol.schema.json");
}

#[test]
fn messages_are_written_byte_for_byte_as_on_the_page() {
    for message in [golden::client(), golden::server()].concat() {
        assert!(PROTOCOL.contains(&message), "not in docs/protocol.md: {message}");
    }
}

#[test]
fn the_server_reads_the_query_of_the_reconnect_on_the_page() {
    let negotiations: BTreeSet<_> = values(golden::server())
        .iter()
        .filter_map(|message| message["negotiation"].as_str().map(str::to_owned))
        .collect();
    let requests =
        PROTOCOL.lines().filter(|line| line.contains("GET ") && line.contains("continue="));
    let values = requests.flat_map(|line| line.split("continue=").skip(1));
    let examples: Vec<_> = values.map(|rest| rest.split('&').next().unwrap()).collect();
    assert!(!examples.is_empty(), "no example");
    for example in examples {
        let read = example.parse::<Continue>().map(|read| read.negotiation.to_string());
        assert!(read.is_ok_and(|negotiation| negotiations.contains(&negotiation)), "{example}");
    }
}

#[test]
fn the_schema_takes_from_a_client_what_the_parser_takes() {
    let schema = Schema::load();
    let agree = |message: &Value| {
        let parsed = ClientMessage::parse(&message.to_string(), Dialect::V1).is_ok();
        assert_eq!(schema.accepts("fromClient", message), parsed, "{message}");
        parsed
    };
    let odd = json!([null, true, 1.5, "", "a b", "x", "s".repeat(129), [], ["x"], {}]);
    for message in values(golden::client()) {
        assert!(agree(&message), "{message}");
        assert!(agree(&with(&message, "unknown", &json!([{}]))), "{message}");
        for name in fields(&message).keys() {
            agree(&without(&message, name));
            for value in odd.as_array().unwrap() {
                agree(&with(&message, name, value));
            }
        }
        let more = [
            ("sessionId", json!(7)),
            ("id", json!("7")),
            ("sdp", json!(7)),
            ("negotiation", json!("5f3a09c4e1b2d786")),
            ("seq", json!(1)),
            ("token", json!(7)),
        ];
        for (name, value) in more {
            agree(&with(&message, name, &value));
        }
    }
    for value in odd.as_array().unwrap() {
        assert!(!agree(value), "{value}");
    }
}

#[test]
fn the_schema_takes_the_negotiations_and_numbers_that_the_parser_takes() {
    let schema = Schema::load();
    let negotiations = [
        ("0000000000000000", true),
        ("ffffffffffffffff", true),
        ("5F3A09C4E1B2D786", false),
        ("5f3a09c4e1b2d78", false),
        ("5f3a09c4e1b2d7860", false),
        ("5f3a09c4e1b2d78g", false),
    ];
    let numbers = [
        (json!(0), false),
        (json!(1), true),
        (json!(Sequence::MAX_SEQ), true),
        (json!(Sequence::MAX_SEQ + 1), false),
        (json!(-1), false),
        (json!("1"), false),
    ];
    let negotiations = negotiations.map(|(value, good)| ("negotiation", json!(value), good));
    let numbers = numbers.map(|(value, good)| ("seq", value, good));
    let numbered = |message: &Value| golden::is_relayed(kind(message)) && message["seq"].is_u64();
    for signal in values(golden::client()).into_iter().filter(numbered) {
        for (name, value, good) in negotiations.iter().chain(&numbers) {
            let signal = with(&signal, name, value);
            let parsed = ClientMessage::parse(&signal.to_string(), Dialect::V1).is_ok();
            assert_eq!((schema.accepts("fromClient", &signal), parsed), (*good, *good), "{signal}");
        }
    }
    let received = |message: &&Value| kind(message) == "received";
    let golden = values(golden::server());
    let received = golden.iter().find(received).unwrap();
    for (name, value, good) in negotiations.iter().chain(&numbers) {
        let message = with(received, name, value);
        // It may also say that nothing was received.
        let good = *good || *value == 0;
        assert_eq!(schema.accepts("fromServer", &message), good, "{message}");
    }
}

#[test]
fn the_schema_takes_from_the_server_what_the_types_write_and_nothing_else() {
    let schema = Schema::load();
    let golden = values(golden::server());
    let shapes: BTreeSet<_> = golden.iter().map(shape).collect();
    for message in &golden {
        assert!(schema.accepts("fromServer", message), "{message}");
        let more = with(message, "unknown", &json!(1));
        assert!(!schema.accepts("fromServer", &more), "{more}");
        for name in fields(message).keys() {
            let less = without(message, name);
            assert_eq!(
                schema.accepts("fromServer", &less),
                less.get("type").is_some() && shapes.contains(&shape(&less)),
                "{less}"
            );
            let wrong = with(message, name, &Value::Null);
            assert!(!schema.accepts("fromServer", &wrong), "{wrong}");
        }
    }
    let found = golden.iter().find(|message| message.get("iceServers").is_some()).unwrap();
    for odd in [json!([{}]), json!([{"urls":[]}]), json!([{"urls":["stun:a"],"username":"ann"}])] {
        let wrong = with(found, "iceServers", &odd);
        assert!(!schema.accepts("fromServer", &wrong), "{wrong}");
    }
    for signal in values(golden::client()).iter().filter(|m| golden::is_relayed(kind(m))) {
        assert!(schema.accepts("fromServer", signal), "{signal}");
    }
}

#[test]
fn the_schema_has_the_fields_of_the_types_and_no_others() {
    let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in all() {
        let names = fields(&message).keys().cloned();
        written.entry(kind(&message).to_owned()).or_default().extend(names);
    }
    assert_eq!(Schema::load().fields(), written);
}

#[test]
fn the_enums_of_the_schema_are_those_of_the_types() {
    let schema = Schema::load();
    let enums = schema.enums().into_iter().map(|name| (name, schema.values(name)));
    assert_eq!(enums.collect::<Vec<_>>(), golden::enums());
}

#[test]
fn the_tables_of_codes_are_complete() {
    let errors = ErrorCode::ALL.map(|code| format!("`{}`", code.as_str()));
    assert_eq!(first_cells(PROTOCOL, "| error code |"), errors);
    let closes = CloseCode::ALL.map(|code| [code.code().to_string(), code.reason().to_owned()]);
    let listed: Vec<_> = rows(PROTOCOL, "| close code |")
        .into_iter()
        .map(|row| [row[0].to_owned(), row[1].to_owned()])
        .collect();
    assert_eq!(listed, closes);
    let reasons = PartnerReason::ALL.map(|reason| format!("`{}`", reason.as_str()));
    assert_eq!(first_cells(PROTOCOL, "| reason ("), reasons);
}

#[test]
fn the_asyncapi_document_has_every_message_in_its_direction() {
    let document: Value = serde_json::from_str(ASYNCAPI).unwrap();
    let schema = Schema::load();
    let operations = [("fromClient", "receive"), ("fromServer", "send")];
    for (direction, action) in operations {
        let operation = &document["operations"][direction];
        assert_eq!(operation["action"], action);
        let listed: Vec<_> = operation["messages"].as_array().unwrap().iter().collect();
        let expected: Vec<_> = schema
            .one_of(direction)
            .iter()
            .map(|name| json!({ "$ref": format!("#/channels/signaling/messages/{name}") }))
            .collect();
        assert_eq!(listed, expected.iter().collect::<Vec<_>>(), "{direction}");
    }
    let messages = document["components"]["messages"].as_object().unwrap();
    let channel = document["channels"]["signaling"]["messages"].as_object().unwrap();
    let named: BTreeSet<_> = schema.fields().into_keys().collect();
    assert_eq!(messages.keys().cloned().collect::<BTreeSet<_>>(), named);
    assert_eq!(channel.keys().cloned().collect::<BTreeSet<_>>(), named);
    for name in named {
        let payload = format!("./protocol.schema.json#/$defs/{name}");
        assert_eq!(messages[&name]["payload"]["$ref"], payload);
        assert_eq!(channel[&name]["$ref"], format!("#/components/messages/{name}"));
    }
}

fn with(message: &Value, name: &str, value: &Value) -> Value {
    let mut fields = fields(message).clone();
    fields.insert(name.to_owned(), value.clone());
    fields.into()
}

fn without(message: &Value, name: &str) -> Value {
    let mut fields = fields(message).clone();
    fields.remove(name);
    fields.into()
}

/// A message's kind and which fields it has.
fn shape(message: &Value) -> (Option<String>, BTreeSet<String>) {
    let kind = message["type"].as_str().map(str::to_owned);
    (kind, fields(message).keys().cloned().collect())
}
