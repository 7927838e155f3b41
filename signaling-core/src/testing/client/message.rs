//! The strictest reader that a client may be: each message with exactly its fields, each once.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{protocol::Dialect, reason::PartnerReason};

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
    MatchFoundWithServers {
        session_id: String,
        partner_id: String,
        is_initiator: bool,
        #[serde(default)] ice_servers: Vec<IceServer>
    }
    IceServers { session_id: String, ice_servers: Vec<IceServer> }
    Description { session_id: String, sdp: Box<RawValue> }
    Candidate { session_id: String, candidate: Box<RawValue> }
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
        ("match-found", Dialect::V1) => {
            serde_json::from_str::<MatchFoundWithServers>(text).map(drop)
        }
        ("ice-servers", Dialect::V1) => serde_json::from_str::<IceServers>(text).map(drop),
        ("offer" | "answer", _) => serde_json::from_str::<Description>(text).map(drop),
        ("ice-candidate", _) => serde_json::from_str::<Candidate>(text).map(drop),
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
            let found =
                r#""type":"match-found","sessionId":"s","partnerId":"p","isInitiator":true"#;
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
        assert!(check(found, Dialect::Base).is_ok() && check(found, Dialect::V1).is_ok());
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
