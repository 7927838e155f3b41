//! One message of each kind and shape, from the types. A new message, field or enum is one line
//! here, and then the documents that lack it fail.

use signaling_core::{
    frame::Text,
    id::{SessionId, UserId},
    protocol::{
        ClientMessage, Dialect, ErrorCode, HeartbeatId, IceServer, NegotiationId, ServerMessage,
        Signal,
    },
    reason::PartnerReason,
};

/// What the server says of itself.
pub(crate) fn server() -> Vec<String> {
    let (session, partner) = (SessionId::new("call-7").unwrap(), UserId::new("bob").unwrap());
    let stun = IceServer::stun(["stun:stun.example"]).unwrap();
    let turn = ["turn:turn.example?transport=udp"];
    let turn = IceServer::turn(turn, "1700043200:ann", "3gmDr4FZ0iSW").unwrap();
    let (session_id, partner_id, is_initiator) = (&session, &partner, true);
    let both = Some([stun.clone(), turn]);
    let negotiation = NegotiationId::from(0x5f3a_09c4_e1b2_d786);
    let found = |negotiation, ice_servers| ServerMessage::MatchFound {
        session_id,
        partner_id,
        is_initiator,
        negotiation,
        ice_servers,
    };
    [
        found(None, None),
        found(Some(negotiation), None),
        found(Some(negotiation), both.as_ref().map(<[_; 2]>::as_slice)),
        ServerMessage::Continued { session_id, negotiation, partner_connected: true },
        ServerMessage::PartnerReconnected { session_id, negotiation },
        ServerMessage::Received { session_id, negotiation, seq: 1 },
        ServerMessage::Received { session_id, negotiation, seq: 2 },
        ServerMessage::TokenExpiring { in_ms: 720_000 },
        ServerMessage::Refreshed { expires_in_ms: Some(3_600_000) },
        ServerMessage::Refreshed { expires_in_ms: None },
        ServerMessage::Move { after_ms: 4_200 },
        ServerMessage::IceServers { session_id, ice_servers: &[stun] },
        ServerMessage::PartnerDisconnected { session_id, reason: None },
        ServerMessage::PartnerDisconnected { session_id, reason: Some(PartnerReason::Lost) },
        ServerMessage::HeartbeatAck { id: &HeartbeatId::from(7) },
        ServerMessage::error(ErrorCode::PartnerAbsent, Some(&session)),
        ServerMessage::error(ErrorCode::Malformed, None),
    ]
    .iter()
    .map(|message| message.to_text().as_str().to_owned())
    .collect()
}

/// What a client says, signals included: these the server says as well.
pub(crate) fn client() -> Vec<String> {
    let texts = [
        r#"{"type":"offer","sessionId":"call-7","sdp":{"type":"offer","sdp":"v=0\r\n…"}}"#,
        r#"{"type":"answer","sessionId":"call-7","sdp":"v=0\r\n…"}"#,
        r#"{"type":"ice-candidate","sessionId":"call-7","candidate":{"candidate":"candidate:1 1 udp 2122260223 192.0.2.1 54400 typ host","sdpMid":"0","sdpMLineIndex":0}}"#,
        r#"{"type":"ice-candidate","sessionId":"call-7","candidate":""}"#,
        r#"{"type":"ice-candidate","sessionId":"call-7","candidate":null}"#,
        r#"{"type":"offer","sessionId":"call-7","negotiation":"5f3a09c4e1b2d786","seq":1,"sdp":"v=0\r\n…"}"#,
        r#"{"type":"answer","sessionId":"call-7","negotiation":"5f3a09c4e1b2d786","seq":1,"sdp":"v=0\r\n…"}"#,
        r#"{"type":"ice-candidate","sessionId":"call-7","negotiation":"5f3a09c4e1b2d786","seq":2,"candidate":""}"#,
        r#"{"type":"ice-candidate","sessionId":"call-7","negotiation":"5f3a09c4e1b2d786","seq":3,"candidate":""}"#,
        r#"{"type":"heartbeat"}"#,
        r#"{"type":"heartbeat","sessionId":"call-7"}"#,
        r#"{"type":"heartbeat","id":7}"#,
        r#"{"type":"leave","sessionId":"call-7"}"#,
        r#"{"type":"refresh","token":"eyJhbGciOiJFUzI1NiJ9.…"}"#,
    ];
    texts.map(written).to_vec()
}

/// The message that was parsed, written anew from what the type holds.
fn written(text: &str) -> String {
    match ClientMessage::parse(text, Dialect::V1).unwrap() {
        ClientMessage::Signal(signal) => relayed(&signal, text),
        ClientMessage::Heartbeat { session, id } => {
            let session = session.map(|session| format!(r#","sessionId":"{session}""#));
            let id = id.map(|id| format!(r#","id":{id}"#));
            let (session, id) = (session.unwrap_or_default(), id.unwrap_or_default());
            format!(r#"{{"type":"heartbeat"{session}{id}}}"#)
        }
        ClientMessage::Leave { session } => {
            format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)
        }
        ClientMessage::Refresh { token } => {
            format!(r#"{{"type":"refresh","token":"{}"}}"#, token.reveal())
        }
    }
}

/// What the partner gets.
fn relayed(signal: &Signal<'_>, text: &str) -> String {
    signal.relayed(&Text::from(text)).as_str().to_owned()
}

/// Whether messages of this type go from client to client.
pub(crate) fn is_relayed(kind: &str) -> bool {
    matches!(kind, "offer" | "answer" | "ice-candidate")
}

/// The closed sets of the protocol, by their names in the schema.
pub(crate) fn enums() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("errorCode", ErrorCode::ALL.map(ErrorCode::as_str).to_vec()),
        ("partnerReason", PartnerReason::ALL.map(PartnerReason::as_str).to_vec()),
    ]
}
