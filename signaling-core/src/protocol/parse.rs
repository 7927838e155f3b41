//! Reading a client's message: its text as one flat struct of raw values, then a match on its `type`.

mod scan;

use std::{borrow::Cow, fmt};

use memchr::{memchr, memchr2_iter};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    ClientMessage, Dialect, HeartbeatId, Malformed, Secret, Sequence, Signal, SignalKind,
    negotiation,
};
use crate::id::SessionId;

pub(super) fn client_message(text: &str, dialect: Dialect) -> Result<ClientMessage<'_>, Malformed> {
    let mut fields = match scan::fields(text) {
        Some(fields) => fields,
        None => serde_json::from_str(text).map_err(|_| Malformed)?,
    };
    match dialect {
        Dialect::Base => fields.unknown |= std::mem::take(&mut fields.v1) != V1Fields::default(),
        Dialect::V1 if fields.v1.twice => return Err(Malformed),
        Dialect::V1 => {}
    }
    let kind = string(fields.kind.ok_or(Malformed)?)?;
    match &*kind {
        "offer" => fields.signal(SignalKind::Offer),
        "answer" => fields.signal(SignalKind::Answer),
        "ice-candidate" => fields.signal(SignalKind::IceCandidate),
        "heartbeat" => {
            let session = fields.session.map(session_id).transpose()?;
            let id = fields.id.map(|id| HeartbeatId::of_json(id).ok_or(Malformed)).transpose()?;
            Ok(ClientMessage::Heartbeat { session, id })
        }
        "leave" => Ok(ClientMessage::Leave { session: fields.session()? }),
        "refresh" if dialect == Dialect::V1 => {
            let token = fields.v1.token.filter(|token| token.starts_with('"')).ok_or(Malformed)?;
            Ok(ClientMessage::Refresh { token: Secret(string(token)?) })
        }
        _ => Err(Malformed),
    }
}

/// The check of `testing::fuzz::scanner`; it has to be here, where the fields are known.
///
/// # Panics
///
/// When the scanner and serde_json do not agree about `text`.
#[cfg(feature = "test-util")]
pub(crate) fn check_scanner(text: &str) {
    let read: Option<Fields<'_>> = serde_json::from_str(text).ok();
    match scan::fields(text) {
        Some(scanned) => assert_eq!(Some(scanned), read, "{text:?}"),
        None => {
            let is_empty = read == Some(Fields::default());
            let left_out = text.bytes().any(|byte| byte < b' ' || byte == b'\\');
            let is_deep =
                memchr2_iter(b'{', b'[', text.as_bytes()).count() > ClientMessage::MAX_DEPTH;
            assert!(read.is_none() || is_empty || left_out || is_deep, "{text:?}");
        }
    }
}

/// The fields of every message, unread. A field that a message does not have is, for that message,
/// an unknown one.
#[derive(Debug, Default, PartialEq)]
struct Fields<'a> {
    kind: Option<&'a str>,
    session: Option<&'a str>,
    sdp: Option<&'a str>,
    candidate: Option<&'a str>,
    id: Option<&'a str>,
    v1: V1Fields<'a>,
    unknown: bool,
}

/// Those that only [`Dialect::V1`] has.
#[derive(Debug, Default, PartialEq)]
struct V1Fields<'a> {
    negotiation: Option<&'a str>,
    seq: Option<&'a str>,
    token: Option<&'a str>,
    /// Whether one of them was given twice.
    twice: bool,
}

/// A field was given twice.
struct Twice;

impl<'a> Fields<'a> {
    /// Takes the raw value of the field `name`.
    fn set(&mut self, name: &str, value: &'a str) -> Result<(), Twice> {
        let field = match name {
            "type" => &mut self.kind,
            "sessionId" => &mut self.session,
            "sdp" => &mut self.sdp,
            "candidate" => &mut self.candidate,
            "id" => &mut self.id,
            "negotiation" | "seq" | "token" => {
                self.v1.set(name, value);
                return Ok(());
            }
            _ => {
                self.unknown = true;
                return Ok(());
            }
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(Twice),
        }
    }

    fn signal(self, kind: SignalKind) -> Result<ClientMessage<'a>, Malformed> {
        let (payload, other) = match kind {
            SignalKind::Offer | SignalKind::Answer => (self.sdp, self.candidate),
            SignalKind::IceCandidate => (self.candidate, self.sdp),
        };
        let payload = payload.ok_or(Malformed)?;
        let allowed = match kind {
            SignalKind::Offer | SignalKind::Answer => payload.starts_with(['"', '{']),
            SignalKind::IceCandidate => payload.starts_with(['"', '{']) || payload == "null",
        };
        if !allowed || nests_too_deep(payload) {
            return Err(Malformed);
        }
        let exact =
            other.is_none() && self.id.is_none() && self.v1.token.is_none() && !self.unknown;
        let (session, sequence) = (self.session()?, self.v1.sequence()?);
        Ok(ClientMessage::Signal(Signal { kind, session, payload, sequence, exact }))
    }

    fn session(&self) -> Result<SessionId, Malformed> {
        self.session.ok_or(Malformed).and_then(session_id)
    }
}

impl<'a> V1Fields<'a> {
    fn set(&mut self, name: &str, value: &'a str) {
        let field = match name {
            "negotiation" => &mut self.negotiation,
            "seq" => &mut self.seq,
            _ => &mut self.token,
        };
        self.twice |= field.replace(value).is_some();
    }

    fn sequence(&self) -> Result<Option<Sequence>, Malformed> {
        match (self.negotiation, self.seq) {
            (None, None) => Ok(None),
            (Some(negotiation), Some(seq)) if negotiation.starts_with('"') => {
                let negotiation = string(negotiation)?.parse()?;
                let seq = negotiation::seq(seq)?;
                let numbered = (seq > 0).then_some(Sequence { negotiation, seq });
                numbered.map(Some).ok_or(Malformed)
            }
            _ => Err(Malformed),
        }
    }
}

/// Written by hand for what a derive cannot say: an array is no message, `null` is a value, and
/// whether anything unknown was there.
impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<Cow<'_, str>>()? {
                    let value = map.next_value::<&RawValue>()?.get();
                    let twice = |Twice| A::Error::custom("a field is given twice");
                    fields.set(&name, value).map_err(twice)?;
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// A JSON string; borrowed unless it has escapes.
fn string(value: &str) -> Result<Cow<'_, str>, Malformed> {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if memchr(b'\\', plain.as_bytes()).is_none() => Ok(Cow::Borrowed(plain)),
        _ => serde_json::from_str(value).map(Cow::Owned).map_err(|_| Malformed),
    }
}

fn session_id(value: &str) -> Result<SessionId, Malformed> {
    SessionId::new(&string(value)?).map_err(|_| Malformed)
}

fn nests_too_deep(value: &str) -> bool {
    if memchr2_iter(b'{', b'[', value.as_bytes()).nth(ClientMessage::MAX_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    value.bytes().any(|b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        depth > ClientMessage::MAX_DEPTH
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ServerMessage;

    fn signal(text: &str) -> (SignalKind, String, String) {
        match ClientMessage::parse(text, Dialect::Base) {
            Ok(ClientMessage::Signal(signal)) => {
                (signal.kind, signal.session.to_string(), signal.payload.to_owned())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_client_message_is_read() {
        assert_eq!(
            signal(r#"{"type":"offer","sessionId":"s","sdp":"v=0"}"#),
            (SignalKind::Offer, "s".into(), r#""v=0""#.into())
        );
        assert_eq!(
            signal(r#"{"type":"answer","sessionId":"s","sdp":{"type":"answer","sdp":"v=0"}}"#),
            (SignalKind::Answer, "s".into(), r#"{"type":"answer","sdp":"v=0"}"#.into())
        );
        for candidate in [r#"{"candidate":"","sdpMid":"0"}"#, r#""""#, r#""candidate:1""#, "null"] {
            let text =
                format!(r#"{{"type":"ice-candidate","sessionId":"s","candidate":{candidate}}}"#);
            assert_eq!(signal(&text), (SignalKind::IceCandidate, "s".into(), candidate.into()));
        }
        let heartbeat = ClientMessage::parse(r#"{"type":"heartbeat"}"#, Dialect::Base);
        assert!(matches!(heartbeat, Ok(ClientMessage::Heartbeat { session: None, id: None })));
        let heartbeat =
            ClientMessage::parse(r#"{"type":"heartbeat","sessionId":"s","id":1.5}"#, Dialect::Base);
        let Ok(ClientMessage::Heartbeat { session: Some(session), id: Some(id) }) = heartbeat
        else {
            panic!("{heartbeat:?}");
        };
        assert_eq!((session.as_str(), id.to_string()), ("s", "1.5".into()));
        let leave = ClientMessage::parse(r#"{"type":"leave","sessionId":"s"}"#, Dialect::Base);
        assert!(matches!(leave, Ok(ClientMessage::Leave { session }) if session.as_str() == "s"));
    }

    #[test]
    fn a_heartbeats_id_is_kept_as_it_was_written() {
        let digits = "1234567890".repeat(4);
        let longest = "9".repeat(HeartbeatId::MAX_BYTES);
        for id in [
            &*digits,
            &*longest,
            "0",
            "-0",
            "-0.0",
            "0.10",
            "1E5",
            "1e+05",
            "1e400",
            "-1e-400",
            "0.1e1",
            "18446744073709551616",
        ] {
            // Read by the scanner, and by serde_json.
            for space in [" ", "\n"] {
                let text = format!(r#"{{"type":"heartbeat","id":{space}{id}{space}}}"#);
                let Ok(ClientMessage::Heartbeat { id: Some(read), .. }) =
                    ClientMessage::parse(&text, Dialect::Base)
                else {
                    panic!("{text:?} was not read");
                };
                assert_eq!(read.to_string(), id);
                let ack = ServerMessage::HeartbeatAck { id: &read }.to_text();
                assert_eq!(ack.as_str(), format!(r#"{{"type":"heartbeat-ack","id":{id}}}"#));
            }
        }
        for id in
            [&*(longest + "9"), "\"1\"", "true", "null", "[1]", "{}", "01", "+1", "1.", ".5", "-"]
        {
            let text = format!(r#"{{"type":"heartbeat","id":{id}}}"#);
            assert!(ClientMessage::parse(&text, Dialect::Base).is_err(), "{text}");
        }
    }

    #[test]
    fn json_may_be_written_in_any_way() {
        assert_eq!(
            signal(
                "\t{\"sdp\" :\n\"\" , \"\\u0074ype\":\"o\\u0066fer\",\"sessionId\":\"\\u0073\"}\r"
            ),
            (SignalKind::Offer, "s".into(), r#""""#.into())
        );
        let many_braces = format!(
            r#"{{"type":"offer","sessionId":"s","sdp":"{}\"{}"}}"#,
            "{".repeat(500),
            "[".repeat(500)
        );
        assert_eq!(signal(&many_braces).0, SignalKind::Offer);
    }

    #[test]
    fn fields_of_other_messages_are_unknown_ones() {
        for text in [
            r#"{"type":"heartbeat","sdp":5,"candidate":5}"#,
            r#"{"type":"leave","sessionId":"s","id":"x"}"#,
            r#"{"type":"offer","sessionId":"s","sdp":"","id":[],"candidate":false,"a":{},"a":1}"#,
        ] {
            assert!(ClientMessage::parse(text, Dialect::Base).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_v1_signal_may_say_its_place_in_the_negotiation() {
        let text = |fields: &str| {
            format!(r#"{{"type":"ice-candidate","sessionId":"s","candidate":null{fields}}}"#)
        };
        let sequence = |fields: &str| match ClientMessage::parse(&text(fields), Dialect::V1) {
            Ok(ClientMessage::Signal(signal)) => Ok(signal.sequence),
            Ok(other) => panic!("{other:?}"),
            Err(malformed) => Err(malformed),
        };
        let id = r#""negotiation":"00000000000000ff""#;
        let expected = Sequence { negotiation: 255.into(), seq: 1 };
        assert_eq!(sequence(""), Ok(None));
        assert_eq!(sequence(&format!(r#",{id},"seq":1"#)), Ok(Some(expected)));
        let escaped = r#","seq":1,"negotiation":"\u00300000000000000ff""#;
        assert_eq!(sequence(escaped), Ok(Some(expected)));
        for fields in [
            format!(",{id}"),
            r#","seq":1"#.into(),
            format!(r#",{id},"seq":0"#),
            format!(r#",{id},"seq":-1"#),
            format!(r#",{id},"seq":1.0"#),
            format!(r#",{id},"seq":1e1"#),
            format!(r#",{id},"seq":"1""#),
            format!(r#",{id},"seq":null"#),
            format!(r#",{id},"seq":9007199254740992"#),
            format!(r#",{id},{id},"seq":1"#),
            format!(r#",{id},"seq":1,"seq":1"#),
            r#","negotiation":255,"seq":1"#.into(),
            r#","negotiation":"ff","seq":1"#.into(),
        ] {
            assert_eq!(sequence(&fields), Err(Malformed), "{fields}");
            assert!(ClientMessage::parse(&text(&fields), Dialect::Base).is_ok(), "{fields}");
        }
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        let deep = |open: &str, close: &str, n| format!("{}1{}", open.repeat(n), close.repeat(n));
        let texts = [
            String::new(),
            " ".into(),
            "null".into(),
            "5".into(),
            r#""heartbeat""#.into(),
            r#"["heartbeat"]"#.into(),
            r#"["offer","s","v=0",null,1]"#.into(),
            "{}".into(),
            "{".into(),
            r#"{"type":"heartbeat"} x"#.into(),
            r#"{"type":"heartbeat"}{"type":"heartbeat"}"#.into(),
            r#"{"type":"heartbeat",}"#.into(),
            r#"{type:"heartbeat"}"#.into(),
            r#"{'type':'heartbeat'}"#.into(),
            r#"{"type":"Heartbeat"}"#.into(),
            r#"{"type":"match-found","sessionId":"s"}"#.into(),
            r#"{"type":null}"#.into(),
            r#"{"type":1}"#.into(),
            r#"{"type":["heartbeat"]}"#.into(),
            r#"{"type":"heartbeat","type":"heartbeat"}"#.into(),
            r#"{"type":"heartbeat","\u0074ype":"heartbeat"}"#.into(),
            r#"{"type":"heartbeat","sessionId":null}"#.into(),
            r#"{"type":"heartbeat","sessionId":7}"#.into(),
            r#"{"type":"heartbeat","sessionId":"a b"}"#.into(),
            r#"{"type":"heartbeat","sessionId":"s","sessionId":"s"}"#.into(),
            r#"{"type":"heartbeat","id":"1"}"#.into(),
            r#"{"type":"heartbeat","id":null}"#.into(),
            r#"{"type":"leave"}"#.into(),
            r#"{"type":"leave","sessionId":""}"#.into(),
            r#"{"type":"leave","sessionId":"\ud800"}"#.into(),
            r#"{"type":"offer","sdp":"v=0"}"#.into(),
            r#"{"type":"offer","sessionId":"s"}"#.into(),
            r#"{"type":"offer","sessionId":"s","sdp":null}"#.into(),
            r#"{"type":"offer","sessionId":"s","sdp":["v=0"]}"#.into(),
            r#"{"type":"offer","sessionId":"s","sdp":"v=0","sdp":"v=0"}"#.into(),
            r#"{"type":"offer","sessionId":"s","sdp":"v=0""#.into(),
            "{\"type\":\"offer\",\"sessionId\":\"s\",\"sdp\":\"a\nb\"}".into(),
            r#"{"type":"answer","sessionId":"s","candidate":"c"}"#.into(),
            r#"{"type":"ice-candidate","sessionId":"s","candidate":true}"#.into(),
            r#"{"type":"ice-candidate","sessionId":"s","candidate":1}"#.into(),
            deep("[", "]", 30_000),
            deep(r#"{"type":"#, "}", 30_000),
            format!(
                r#"{{"type":"offer","sessionId":"s","sdp":{}}}"#,
                deep(r#"{"a":"#, "}", 30_000)
            ),
            format!(r#"{{"type":"offer","sessionId":"s","sdp":{}}}"#, deep(r#"{"a":"#, "}", 65)),
            format!("{{\"type\":\"leave\",\"sessionId\":\"{}\"}}", "s".repeat(129)),
        ];
        for text in texts {
            let shown: String = text.chars().take(80).collect();
            assert!(ClientMessage::parse(&text, Dialect::Base).is_err(), "{shown}");
        }
    }

    #[test]
    fn a_payload_nests_up_to_its_limit() {
        let sdp = format!("{}1{}", r#"{"a":"#.repeat(64), "}".repeat(64));
        signal(&format!(r#"{{"type":"offer","sessionId":"s","sdp":{sdp}}}"#));
    }
}
