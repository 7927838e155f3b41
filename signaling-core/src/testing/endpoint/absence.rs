//! Ends of connections, and what partners learn of them.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time;

use super::stage::{Call, Host, Stage, answer, candidate, offer, say, token_until};
use crate::{
    config::Config,
    frame::CloseCode,
    protocol::ErrorCode,
    session::Status,
    testing::client::{Client, Incoming, Opcode, RawFrame},
};

/// Ann's connection has ended: Bob is told once, and it all starts over when she is back.
async fn bob_is_told_once(stage: &Stage, s: &str, mut bob: Client) {
    bob.expect_partner_disconnected(s).await;
    stage.until_absent(s, 0).await;
    bob.expect_nothing().await;
    bob.send(answer(s, "x")).await;
    bob.expect_error(ErrorCode::PartnerAbsent, Some(s)).await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(s, "bob", true).await;
    bob.expect_match(s, "ann", false).await;
    bob.send(offer(s, "too early")).await;
    bob.expect_error(ErrorCode::NotInitiator, Some(s)).await;
    let session = s.to_owned();
    Call { session, ann, bob }.talk().await;
}

/// A call that has been going on, for one of the partners to end.
async fn under_way(stage: &Stage) -> (String, Client, Client) {
    let mut call = stage.call().await;
    call.talk().await;
    (call.session, call.ann, call.bob)
}

pub(super) async fn a_close_frame_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, ann, bob) = under_way(&stage).await;
    ann.close().await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn an_end_without_a_close_frame_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, ann, bob) = under_way(&stage).await;
    ann.cut().await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn a_reset_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, ann, bob) = under_way(&stage).await;
    ann.reset();
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn a_disconnect_by_the_host_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, bob) = under_way(&stage).await;
    assert!(stage.disconnect("ann").await);
    ann.expect_close(CloseCode::Normal).await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn a_protocol_error_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, bob) = under_way(&stage).await;
    ann.send_frame(&RawFrame::new(Opcode::Other(3), "x")).await;
    ann.expect_close(CloseCode::ProtocolError).await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn a_frame_too_large_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, bob) = under_way(&stage).await;
    ann.send("x".repeat(64 * 1024 + 1)).await;
    ann.expect_close(CloseCode::TooLarge).await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn an_expired_token_tells_the_partner_once(host: &Host) {
    let stage = host.start().await;
    let s = stage.open_new("ann", "bob").await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    // Good for some two seconds more, within the leeway of five.
    let dial = stage.bare("ann").query_token(&token_until("ann", -3));
    let mut ann = dial.connect().await;
    ann.expect_match(&s, "bob", true).await;
    ann.expect_close(CloseCode::Unauthorized).await;
    bob_is_told_once(&stage, &s, bob).await;
}

pub(super) async fn a_newer_connection_tells_the_partner_once_and_starts_over(host: &Host) {
    let stage = host.start().await;
    let (s, mut old, mut bob) = under_way(&stage).await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_partner_disconnected(&s).await;
    bob.expect_match(&s, "ann", false).await;
    old.expect_close(CloseCode::Replaced).await;
    bob.send(offer(&s, "too early")).await;
    bob.expect_error(ErrorCode::NotInitiator, Some(&s)).await;
    let session = s.clone();
    Call { session, ann, bob }.talk().await;
}

pub(super) async fn a_replaced_connections_late_end_changes_nothing(host: &Host) {
    let stage = host.start().await;
    let (s, mut old, mut bob) = under_way(&stage).await;
    // The old one reads nothing, and so answers no close frame, until all else is done.
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_partner_disconnected(&s).await;
    bob.expect_match(&s, "ann", false).await;
    let session = s.clone();
    let mut call = Call { session, ann, bob };
    call.talk().await;
    // What it says now is said too late.
    let _ = old.send_if_possible(candidate(&s, "from the grave")).await;
    old.expect_close(CloseCode::Replaced).await;
    drop(old);
    call.expect_nothing().await;
    call.talk().await;
    let state = stage.session(&s).await.expect("the session goes on");
    assert_eq!(state.status, Status::Active);
    // One that is reset, and one that just ends, are late as well.
    for reset in [true, false] {
        let old = std::mem::replace(&mut call.ann, stage.connect("ann").await);
        call.ann.expect_match(&s, "bob", true).await;
        call.bob.expect_partner_disconnected(&s).await;
        call.bob.expect_match(&s, "ann", false).await;
        if reset {
            old.reset();
        } else {
            old.cut().await;
        }
        call.talk().await;
    }
    let state = stage.session(&s).await.expect("the session goes on");
    assert_eq!(state.status, Status::Active);
}

pub(super) async fn the_newest_of_many_connections_stays(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, mut bob) = under_way(&stage).await;
    for _ in 0..10 {
        let mut newer = stage.connect("ann").await;
        newer.expect_match(&s, "bob", true).await;
        ann.expect_close(CloseCode::Replaced).await;
        bob.expect_partner_disconnected(&s).await;
        bob.expect_match(&s, "ann", false).await;
        ann = newer;
    }
    let session = s;
    Call { session, ann, bob }.talk().await;
}

pub(super) async fn of_connections_at_the_same_time_one_stays(host: &Host) {
    let stage = host.start().await;
    let (s, ann, mut bob) = under_way(&stage).await;
    let mut clients = join_all((0..8).map(|_| stage.connect("ann"))).await;
    clients.push(ann);
    let mut rounds = 0;
    while clients.len() > 1 {
        rounds += 1;
        assert!(rounds < 100, "{} connections stay", clients.len());
        let mut left = Vec::new();
        for mut client in clients {
            if lives(&mut client).await {
                left.push(client);
            }
        }
        clients = left;
    }
    let ann = clients.pop().expect("one connection stays");
    stage.session_when(&s, "active", |state| state.status == Status::Active).await;
    // However often Bob was told that she is gone, the last that he heard is that she is there.
    let told = bob.drain().await;
    let last = told.last().expect("Bob is told");
    assert!(last.contains("match-found"), "{told:?}");
    for pair in told.chunks(2) {
        assert!(pair[0].contains("partner-disconnected"), "{told:?}");
        assert!(pair[1].contains("match-found"), "{told:?}");
    }
    let session = s;
    Call { session, ann, bob }.talk().await;
}

/// Whether the connection still is the user's; whatever it was told so far is read.
async fn lives(client: &mut Client) -> bool {
    let heartbeat = json!({"type": "heartbeat", "id": 0}).to_string();
    // Fails where it is closed already: the code is still to be read.
    let _ = client.send_if_possible(heartbeat).await;
    loop {
        match client.next_incoming().await {
            Incoming::Text(text) if text.contains("heartbeat-ack") => return true,
            Incoming::Text(_) | Incoming::Ping | Incoming::Pong(_) => {}
            Incoming::Close(Some((code, _))) if code == CloseCode::Replaced.code() => return false,
            other => panic!("{client:?} expected 4409 or an ack, got {other:?}"),
        }
    }
}

pub(super) async fn what_was_on_its_way_to_a_lost_connection_is_void(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, bob) = under_way(&stage).await;
    // Bob reads nothing of this any more.
    for n in 0..20 {
        ann.send(candidate(&s, &format!("void {n}"))).await;
    }
    ann.expect_nothing().await;
    bob.reset();
    ann.expect_partner_disconnected(&s).await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_nothing().await;
    let session = s;
    Call { session, ann, bob }.talk().await;
}

pub(super) async fn after_both_were_away_the_first_back_is_not_told_twice(host: &Host) {
    let stage = host.start().await;
    let (s, ann, mut bob) = under_way(&stage).await;
    ann.close().await;
    bob.expect_partner_disconnected(&s).await;
    bob.close().await;
    stage.until_absent(&s, 0).await;
    stage.until_absent(&s, 1).await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    // This connection has not been told of any absence: what is said is kept.
    ann.send(offer(&s, "early")).await;
    ann.expect_nothing().await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    bob.expect_text(&offer(&s, "early")).await;
    say(&mut bob, &mut ann, &[answer(&s, "y")]).await;
    ann.expect_nothing().await;
}

pub(super) async fn a_responder_may_come_back_as_well(host: &Host) {
    let stage = host.start().await;
    let (s, mut ann, mut bob) = under_way(&stage).await;
    for _ in 0..3 {
        bob.cut().await;
        ann.expect_partner_disconnected(&s).await;
        bob = stage.connect("bob").await;
        bob.expect_match(&s, "ann", false).await;
        ann.expect_match(&s, "bob", true).await;
        ann.expect_nothing().await;
    }
    let session = s;
    Call { session, ann, bob }.talk().await;
}

pub(super) async fn a_participant_that_stays_away_ends_the_session_and_one_that_returns_does_not(
    host: &Host,
) {
    const PATIENCE: Duration = Duration::from_secs(2);
    let change = |config: &mut Config| {
        config.abandon_after = PATIENCE;
        config.sweep_interval = Duration::from_millis(100);
        // Nobody is given up before the node has been well for twice this long.
        config.node_renewal = Duration::from_millis(200);
    };
    let stage = host.start_with(change).await;
    let never_comes = async {
        let mut ann = stage.client("ann 1").await;
        let s = stage.open_new("ann 1", "bob 1").await;
        ann.expect_match(&s, "bob 1", true).await;
        ann.send(offer(&s, "in vain")).await;
        ann.expect_partner_disconnected(&s).await;
        stage.until_over(&s).await;
        ann.send(offer(&s, "x")).await;
        ann.expect_error(ErrorCode::UnknownSession, Some(&s)).await;
        stage.client("bob 1").await.expect_nothing().await;
        ann.expect_nothing().await;
        ann
    };
    let stays_away = async {
        let mut call = stage.call_of("ann 2", "bob 2").await;
        call.bob.reset();
        call.ann.expect_partner_disconnected(&call.session).await;
        assert!(stage.session(&call.session).await.is_some(), "it waits");
        stage.until_over(&call.session).await;
        // She knows already.
        call.ann.expect_nothing().await;
        call.ann.send(offer(&call.session, "x")).await;
        call.ann.expect_error(ErrorCode::UnknownSession, Some(&call.session)).await;
        stage.client("bob 2").await.expect_nothing().await;
    };
    let returns = async {
        let Call { session, ann, mut bob } = stage.call_of("ann 3", "bob 3").await;
        ann.reset();
        bob.expect_partner_disconnected(&session).await;
        let mut ann = stage.connect("ann 3").await;
        ann.expect_match(&session, "bob 3", true).await;
        bob.expect_match(&session, "ann 3", false).await;
        Call { session, ann, bob }
    };
    let (_, (), mut call) = futures::join!(never_comes, stays_away, returns);
    // What the others had to wait for is over for this one as well, however late it began.
    time::sleep(PATIENCE + Duration::from_millis(500)).await;
    assert!(stage.session(&call.session).await.is_some(), "all are there");
    call.talk().await;
}
