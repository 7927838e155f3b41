use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    frame::Text,
    id::SessionId,
    protocol::{
        self, ClientMessage, Dialect, HeartbeatId, Sequence, ServerMessage, Signal, SignalKind,
    },
};

/// Target `scanner`: the JSON scanner of client messages against serde_json.
///
/// - If the scanner reads a text, serde_json reads the same fields, each with the same raw value, and agrees
///   whether there were unknown ones.
/// - If serde_json reads a text and the scanner does not, the text has one of what the scanner leaves to serde_json:
///   no field at all, a byte below 0x20, a backslash (in a name), or more than [`ClientMessage::MAX_DEPTH`] opening
///   brackets (nested).
pub fn scanner(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        protocol::check_scanner(text);
    }
}

/// Target `client_message`: one text frame of a client, in either dialect.
///
/// - A text is accepted if and only if it is a message by the rules of the protocol, which are written down here
///   once more on top of serde_json. Payloads with more than [`ClientMessage::MAX_DEPTH`] brackets may be refused.
/// - What is relayed of a signal has exactly the fields `type`, `sessionId`, and `sdp` or `candidate`, and both or
///   none of `negotiation` and `seq`, with the values that were sent, the payload byte for byte. It is not longer than the frame, and is itself a message that is
///   relayed unchanged.
/// - The answer to a heartbeat with an `id` has the same bytes as its `id`.
pub fn client_message(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    for dialect in [Dialect::Base, Dialect::V1] {
        check_text(text, dialect);
    }
}

fn check_text(text: &str, dialect: Dialect) {
    let sent = serde_json::from_str::<Object<'_>>(text).ok();
    let expected = sent.as_ref().map(|sent| expected(sent, dialect));
    match ClientMessage::parse(text, dialect) {
        Err(_) => assert!(!matches!(expected, Some(Expected::Message)), "refused {text:?}"),
        Ok(message) => {
            let expected =
                expected.unwrap_or_else(|| panic!("accepted {text:?}, which is no object"));
            assert!(!matches!(expected, Expected::Malformed), "accepted {text:?}");
            let sent = sent.unwrap_or_default();
            check_message(&message, &sent, text, dialect);
        }
    }
}

fn check_message(message: &ClientMessage<'_>, sent: &Object<'_>, text: &str, dialect: Dialect) {
    match message {
        ClientMessage::Signal(signal) => check_relayed(signal, sent, &text.into(), dialect),
        ClientMessage::Heartbeat { session, id } => {
            assert_eq!(session.as_ref().map(|id| id.to_string()), sent.text("sessionId"));
            assert_eq!(id.as_ref().map(|id| id.to_string()).as_deref(), sent.raw("id"));
            if let Some(id) = id {
                let answer = ServerMessage::HeartbeatAck { id }.to_text();
                let answer: Object<'_> =
                    serde_json::from_str(&answer).expect("an answer is an object");
                assert_eq!(answer.raw("id"), sent.raw("id"));
            }
        }
        ClientMessage::Leave { session } => {
            assert_eq!(Some(session.to_string()), sent.text("sessionId"));
        }
        ClientMessage::Refresh { token } => {
            assert_eq!(Some(token.reveal()), sent.text("token").as_deref());
        }
    }
}

fn check_relayed(signal: &Signal<'_>, sent: &Object<'_>, frame: &Text, dialect: Dialect) {
    let relayed = signal.relayed(frame);
    assert!(relayed.len() <= frame.len(), "{} became {}", &**frame, &*relayed);
    let received: Object<'_> =
        serde_json::from_str(&relayed).expect("what is relayed is an object");
    let payload = payload(signal.kind);
    let mut names = received.names();
    names.sort_unstable();
    let mut expected = vec![payload, "sessionId", "type"];
    if let Some(Sequence { negotiation, seq }) = signal.sequence {
        expected.extend(["negotiation", "seq"]);
        assert_eq!(received.text("negotiation"), Some(negotiation.to_string()));
        assert_eq!(received.raw("seq"), Some(&*seq.to_string()));
    }
    expected.sort_unstable();
    assert_eq!(names, expected);
    for name in ["type", "sessionId", "negotiation"] {
        if !expected.contains(&name) {
            continue;
        }
        assert_eq!(received.text(name), sent.text(name));
    }
    assert_eq!(received.raw(payload), sent.raw(payload));
    match ClientMessage::parse(&relayed, dialect) {
        Ok(ClientMessage::Signal(again)) => assert_eq!(again.relayed(&relayed), relayed),
        other => panic!("{} was read as {other:?}", &*relayed),
    }
}

fn payload(kind: SignalKind) -> &'static str {
    match kind {
        SignalKind::Offer | SignalKind::Answer => "sdp",
        SignalKind::IceCandidate => "candidate",
    }
}

enum Expected {
    Message,
    /// A message whose payload has so many brackets that it may nest too deep.
    Deep,
    Malformed,
}

fn expected(sent: &Object<'_>, dialect: Dialect) -> Expected {
    let twice = |name: &&str| sent.0.iter().filter(|(other, _)| other == name).count() > 1;
    let is_v1 = dialect == Dialect::V1;
    if ["type", "sessionId", "sdp", "candidate", "id"].iter().any(twice)
        || is_v1 && ["negotiation", "seq", "token"].iter().any(twice)
    {
        return Expected::Malformed;
    }
    let is_session = |name| sent.text(name).is_some_and(|id| SessionId::new(&id).is_ok());
    let starts =
        |name, allowed: &[char]| sent.raw(name).is_some_and(|raw| raw.starts_with(allowed));
    let is_number = || {
        let is_short = sent.raw("id").is_some_and(|raw| raw.len() <= HeartbeatId::MAX_BYTES);
        is_short && starts("id", &['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    };
    let has = |name| sent.raw(name).is_some();
    let is_placed = || {
        let is_digit = |digit: char| matches!(digit, '0'..='9' | 'a'..='f');
        let negotiation = sent.text("negotiation").unwrap_or_default();
        let seq = sent.raw("seq").and_then(|seq| seq.parse().ok()).unwrap_or(0);
        let none = !has("negotiation") && !has("seq");
        let is_id = negotiation.len() == 16 && negotiation.chars().all(is_digit);
        !is_v1 || none || is_id && (1..=Sequence::MAX_SEQ).contains(&seq)
    };
    let (accepted, payload) = match sent.text("type").as_deref() {
        Some("offer" | "answer") => {
            (is_session("sessionId") && starts("sdp", &['"', '{']) && is_placed(), "sdp")
        }
        Some("ice-candidate") => {
            let has_candidate = starts("candidate", &['"', '{', 'n']);
            (is_session("sessionId") && has_candidate && is_placed(), "candidate")
        }
        Some("heartbeat") => {
            ((!has("sessionId") || is_session("sessionId")) && (!has("id") || is_number()), "")
        }
        Some("leave") => (is_session("sessionId"), ""),
        Some("refresh") => (is_v1 && sent.text("token").is_some(), ""),
        _ => (false, ""),
    };
    let brackets = sent.raw(payload).unwrap_or_default().matches(['{', '[']).count();
    match accepted {
        false => Expected::Malformed,
        true if brackets > ClientMessage::MAX_DEPTH => Expected::Deep,
        true => Expected::Message,
    }
}

/// The fields of an object in their order, each value as it is written.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.get())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw).ok())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
