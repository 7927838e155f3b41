//! The strictest reader that a client may be: each message with exactly its fields, each once.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use crate::{
    protocol::{Dialect, NegotiationId},
    reason::PartnerReason,
};

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

macro_rules! messages {
    ($($name:ident { $($(#[$meta:meta])? $field:ident: $type:ty),* })*) => {$(
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        #[expect(dead_code, reason = "what counts is that they can be read")]
        struct $name { r#type: IgnoredAny, $($(#[$meta])? $field: $type),* }
    )*};
}

messages! {
    MatchFound { session_id: String, partner_id: String, is_initiator: bool }
    NegotiationBegins {
        session_id: String,
        partner_id: String,
        is_initiator: bool,
        negotiation: String,
        #[serde(default)] ice_servers: Vec<IceServer>
    }
    Continued { session_id: String, negotiation: String, partner_connected: bool }
    PartnerReconnected { session_id: String, negotiation: String }
    Received { session_id: String, negotiation: String, seq: u64 }
    TokenExpiring { in_ms: u64 }
    Refreshed { #[serde(default)] expires_in_ms: u64 }
    Move { after_ms: u64 }
    IceServers { session_id: String, ice_servers: Vec<IceServer> }
    Description { session_id: String, sdp: Box<RawValue> }
    Candidate { session_id: String, candidate: Box<RawValue> }
    NumberedDescription { session_id: String, negotiation: String, seq: u64, sdp: Box<RawValue> }
    NumberedCandidate {
        session_id: String,
        negotiation: String,
        seq: u64,
        candidate: Box<RawValue>
    }
    PartnerDisconnected { session_id: String }
    PartnerDisconnectedFor { session_id: String, reason: PartnerReason }
    HeartbeatAck { id: Box<RawValue> }
    Error { code: String, message: String, #[serde(default)] session_id: String }
}

/// As a browser takes it, apart from what is in the URLs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what counts is that it can be read")]
struct IceServer {
    urls: Vec<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    credential: String,
}

/// Reads `text` as a client does to which the server speaks `dialect`.
pub(super) fn check(text: &str, dialect: Dialect) -> Result<(), serde_json::Error> {
    use serde::de::Error as _;
    let Kind { r#type } = serde_json::from_str(text)?;
    match (&*r#type, dialect) {
        ("match-found", Dialect::Base) => serde_json::from_str::<MatchFound>(text).map(drop),
        ("match-found", Dialect::V1) => serde_json::from_str::<NegotiationBegins>(text).map(drop),
        ("continued", Dialect::V1) => serde_json::from_str::<Continued>(text).map(drop),
        ("partner-reconnected", Dialect::V1) => {
            serde_json::from_str::<PartnerReconnected>(text).map(drop)
        }
        ("received", Dialect::V1) => serde_json::from_str::<Received>(text).map(drop),
        ("token-expiring", Dialect::V1) => serde_json::from_str::<TokenExpiring>(text).map(drop),
        ("refreshed", Dialect::V1) => serde_json::from_str::<Refreshed>(text).map(drop),
        ("move", Dialect::V1) => serde_json::from_str::<Move>(text).map(drop),
        ("ice-servers", Dialect::V1) => serde_json::from_str::<IceServers>(text).map(drop),
        ("offer" | "answer", Dialect::Base) => serde_json::from_str::<Description>(text).map(drop),
        ("offer" | "answer", Dialect::V1) => {
            serde_json::from_str::<NumberedDescription>(text).map(drop)
        }
        ("ice-candidate", Dialect::Base) => serde_json::from_str::<Candidate>(text).map(drop),
        ("ice-candidate", Dialect::V1) => serde_json::from_str::<NumberedCandidate>(text).map(drop),
        ("partner-disconnected", Dialect::Base) => {
            serde_json::from_str::<PartnerDisconnected>(text).map(drop)
        }
        ("partner-disconnected", Dialect::V1) => {
            serde_json::from_str::<PartnerDisconnectedFor>(text).map(drop)
        }
        ("heartbeat-ack", _) => {
            let HeartbeatAck { id, .. } = serde_json::from_str(text)?;
            match id.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                true => Ok(()),
                false => Err(serde_json::Error::custom("the id of an ack is a number")),
            }
        }
        ("error", _) => serde_json::from_str::<Error>(text).map(drop),
        (other, _) => Err(serde_json::Error::custom(format!("unknown type {other:?}"))),
    }
}

/// Takes the `negotiation` out of a `match-found`, so that the rest can be compared: there is one for a
/// client of `signaling.v1`, and none for another.
///
/// # Panics
///
/// When that is not so.
pub(in super::super) fn take_negotiation(found: &mut Value, dialect: Dialect) -> Option<String> {
    let negotiation = found.as_object_mut().and_then(|fields| fields.remove("negotiation"));
    let id = negotiation.map(|id| id.as_str().expect("an id is a text").to_owned());
    let is_id = id.as_ref().is_some_and(|id| id.parse::<NegotiationId>().is_ok());
    assert_eq!(is_id, dialect == Dialect::V1, "{id:?} in {found}");
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_more_is_always_told_why_its_partner_is_gone() {
        let gone = |reason: &str| {
            let text = format!(r#"{{"type":"partner-disconnected","sessionId":"s"{reason}}}"#);
            check(&text, Dialect::V1)
        };
        assert!(gone(r#","reason":"left""#).is_ok());
        for wrong in ["", r#","reason":null"#, r#","reason":"gone""#, r#","reason":"left","x":1"#] {
            assert!(gone(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_who_asked_for_more_is_told_of_ice_servers() {
        let server = r#"{"urls":["turn:a"],"username":"u","credential":"c"}"#;
        let messages = |server: &str| {
            let found = r#""type":"match-found","sessionId":"s","partnerId":"p","isInitiator":true,"negotiation":"n""#;
            let renewed = r#""type":"ice-servers","sessionId":"s""#;
            [found, renewed].map(|fields| format!(r#"{{{fields},"iceServers":[{server}]}}"#))
        };
        for text in messages(server).iter().chain(&messages(r#"{"urls":["stun:a"]}"#)) {
            assert!(check(text, Dialect::V1).is_ok(), "{text}");
            assert!(check(text, Dialect::Base).is_err(), "{text}");
        }
        for wrong in [r#"{"urls":"stun:a"}"#, r#"{"urls":["a"],"username":null}"#, r#"{"x":1}"#] {
            for text in messages(wrong) {
                assert!(check(&text, Dialect::V1).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_message_has_exactly_its_fields() {
        let found = r#"{"type":"match-found","sessionId":"s","partnerId":"p","isInitiator":true}"#;
        assert!(check(found, Dialect::Base).is_ok() && check(found, Dialect::V1).is_err());
        for wrong in [
            r#"{"type":"match-found","sessionId":"s","partnerId":"p"}"#,
            r#"{"type":"match-found","sessionId":"s","partnerId":"p","isInitiator":1}"#,
            r#"{"type":"partner-disconnected","sessionId":"s","reason":"left"}"#,
            r#"{"type":"partner-disconnected","sessionId":"s","sessionId":"s"}"#,
            r#"{"type":"error","code":"malformed"}"#,
            r#"{"type":"error","code":"malformed","message":"m","sessionId":null}"#,
            r#"{"type":"offer","sessionId":"s"}"#,
            r#"{"type":"heartbeat-ack","id":"7"}"#,
            r#"{"type":"hello"}"#,
        ] {
            assert!(check(wrong, Dialect::Base).is_err(), "{wrong}");
        }
    }
}
