//! Every message, in the calls that they are for.

use serde_json::json;

use super::stage::{Host, answer, candidate, heartbeat, leave, offer, say};
use crate::protocol::ErrorCode;

pub(super) async fn a_call_is_set_up_with_the_messages_of_the_protocol(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let mut bob = stage.client("bob").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect(
        json!({"type": "match-found", "sessionId": s, "partnerId": "bob", "isInitiator": true}),
    )
    .await;
    bob.expect(
        json!({"type": "match-found", "sessionId": s, "partnerId": "ann", "isInitiator": false}),
    )
    .await;
    ann.send_json(json!({"type": "offer", "sessionId": s, "sdp": "v=0\r\no=ann"})).await;
    bob.expect(json!({"type": "offer", "sessionId": s, "sdp": "v=0\r\no=ann"})).await;
    bob.send_json(json!({"type": "answer", "sessionId": s, "sdp": "v=0\r\no=bob"})).await;
    ann.expect(json!({"type": "answer", "sessionId": s, "sdp": "v=0\r\no=bob"})).await;
    let of_ann = json!({"candidate": "candidate:1 1 udp 1 192.0.2.1 1 typ host", "sdpMid": "0"});
    ann.send_json(json!({"type": "ice-candidate", "sessionId": s, "candidate": of_ann})).await;
    bob.expect(json!({"type": "ice-candidate", "sessionId": s, "candidate": of_ann})).await;
    ann.send_json(json!({"type": "heartbeat", "sessionId": s})).await;
    ann.expect_nothing().await;
    bob.send_json(json!({"type": "leave", "sessionId": s})).await;
    ann.expect(json!({"type": "partner-disconnected", "sessionId": s})).await;
    ann.send(candidate(&s, "late")).await;
    ann.expect(json!({
        "type": "error", "code": "unknown-session", "sessionId": s,
        "message": ErrorCode::UnknownSession.message(),
    }))
    .await;
}

pub(super) async fn every_form_of_description_and_candidate_is_relayed(host: &Host) {
    let mut call = host.start().await.call().await;
    let s = &call.session;
    let as_ann = [
        json!({"type": "offer", "sessionId": s, "sdp": ""}),
        json!({"type": "offer", "sessionId": s, "sdp": {}}),
        json!({"type": "offer", "sessionId": s, "sdp": {"type": "offer", "sdp": "v=0"}}),
    ];
    let as_either = [
        json!({"type": "answer", "sessionId": s, "sdp": "v=0"}),
        json!({"type": "answer", "sessionId": s, "sdp": {"type": "answer", "sdp": "v=0"}}),
        json!({"type": "ice-candidate", "sessionId": s, "candidate": null}),
        json!({"type": "ice-candidate", "sessionId": s, "candidate": ""}),
        json!({"type": "ice-candidate", "sessionId": s, "candidate": "candidate:1"}),
        json!({"type": "ice-candidate", "sessionId": s, "candidate": {}}),
        json!({"type": "ice-candidate", "sessionId": s,
            "candidate": {"candidate": "", "sdpMid": null, "sdpMLineIndex": 0, "x": [1, [2]]}}),
    ];
    let (ann, bob) = (&mut call.ann, &mut call.bob);
    say(ann, bob, &as_ann.map(|json| json.to_string())).await;
    let texts = as_either.map(|json| json.to_string());
    say(ann, bob, &texts).await;
    say(bob, ann, &texts).await;
    call.expect_nothing().await;
}

pub(super) async fn a_heartbeat_is_acknowledged_where_it_asks(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    ann.send(heartbeat()).await;
    ann.expect_nothing().await;
    for id in [json!(0), json!(-7), json!(1.5), json!(u64::MAX), json!(1e300)] {
        ann.send_json(json!({"type": "heartbeat", "id": id})).await;
        ann.expect(json!({"type": "heartbeat-ack", "id": id})).await;
    }
    // It comes back as it was written, whatever a number of that kind means to the server.
    let digits = "1234567890".repeat(4);
    for id in [&*digits, "-0", "1.50", "1e400", "-1E-999", "0.1e1"] {
        ann.send(format!(r#"{{"id": {id} ,"type":"heartbeat"}}"#)).await;
        ann.expect_text(&format!(r#"{{"type":"heartbeat-ack","id":{id}}}"#)).await;
    }
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    ann.send_json(json!({"type": "heartbeat", "sessionId": s, "id": 3})).await;
    ann.expect(json!({"type": "heartbeat-ack", "id": 3})).await;
    ann.expect_nothing().await;
}

pub(super) async fn leaving_ends_the_session_and_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    call.talk().await;
    let s = call.session.clone();
    call.ann.send(leave(&s)).await;
    call.bob.expect_partner_disconnected(&s).await;
    stage.until_over(&s).await;
    call.expect_nothing().await;
    for client in [&mut call.ann, &mut call.bob] {
        for text in [offer(&s, "x"), answer(&s, "x"), candidate(&s, "x"), leave(&s)] {
            client.send(text).await;
            client.expect_error(ErrorCode::UnknownSession, Some(&s)).await;
        }
    }
    call.expect_nothing().await;
    // Whoever comes again does not find it either.
    drop(call);
    stage.client("bob").await.expect_nothing().await;
}

pub(super) async fn the_host_ends_a_session_and_both_are_told_once(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let s = call.session.clone();
    assert!(stage.close(&s).await, "the session was there to be ended");
    call.ann.expect_partner_disconnected(&s).await;
    call.bob.expect_partner_disconnected(&s).await;
    assert_eq!(stage.session(&s).await, None);
    assert!(!stage.close(&s).await, "it cannot be ended twice");
    call.expect_nothing().await;
    call.ann.send(offer(&s, "x")).await;
    call.ann.expect_error(ErrorCode::UnknownSession, Some(&s)).await;
    // One that was told of the partner's absence already is not told again.
    let s = stage.open_new("ann", "bob").await;
    call.ann.expect_match(&s, "bob", true).await;
    call.bob.expect_match(&s, "ann", false).await;
    call.bob.close().await;
    call.ann.expect_partner_disconnected(&s).await;
    stage.until_absent(&s, 1).await;
    assert!(stage.close(&s).await);
    call.ann.expect_nothing().await;
}
