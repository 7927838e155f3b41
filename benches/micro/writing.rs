//! Writing what the server says.

use divan::Bencher;
use signaling_core::{
    protocol::{ErrorCode, HeartbeatId, IceServer, ServerMessage},
    reason::PartnerReason,
};

use crate::texts;

#[divan::bench(args = [
    "match-found",
    "match-found with ICE servers",
    "ice-servers",
    "partner-disconnected",
    "heartbeat-ack",
    "error",
])]
fn write(bencher: Bencher<'_, '_>, kind: &str) {
    let (session, partner, id) = (texts::session(0), texts::user(1), HeartbeatId::from(17));
    let urls = ["turn:turn.example:3478?transport=udp", "turn:turn.example:3478?transport=tcp"];
    let turn = IceServer::turn(urls, "1700003600:00000000", "c2VjcmV0IG9mIHR3ZW50eSBieXRlcw");
    let servers =
        [IceServer::stun(["stun:turn.example:3478"]).expect("a URL"), turn.expect("URLs")];
    let found = |ice_servers| ServerMessage::MatchFound {
        session_id: &session,
        partner_id: &partner,
        is_initiator: true,
        ice_servers,
    };
    let message = match kind {
        "match-found" => found(None),
        "match-found with ICE servers" => found(Some(&servers)),
        "ice-servers" => ServerMessage::IceServers { session_id: &session, ice_servers: &servers },
        "partner-disconnected" => ServerMessage::PartnerDisconnected {
            session_id: &session,
            reason: Some(PartnerReason::Left),
        },
        "heartbeat-ack" => ServerMessage::HeartbeatAck { id: &id },
        _ => ServerMessage::error(ErrorCode::PartnerAbsent, Some(&session)),
    };
    bencher.bench(|| divan::black_box(&message).to_text());
}
