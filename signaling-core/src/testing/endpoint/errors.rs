//! Every error code, and that a connection goes on after it.

use std::time::Duration;

use serde_json::json;
use tokio::time;

use super::{
    faulty::{Fault, FaultyStore},
    stage::{Host, answer, candidate, leave, offer, say, token},
};
use crate::protocol::{ErrorCode, ServerMessage};

pub(super) async fn a_strange_session_is_unknown_and_nothing_is_disclosed(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let mut eve = stage.client("eve").await;
    let others = call.session.clone();
    // One that is open and one that is not: the answers differ by the id alone.
    for s in [&*others, "no-such-session"] {
        for text in [
            offer(s, "x"),
            answer(s, "x"),
            candidate(s, "x"),
            leave(s),
            json!({"type": "heartbeat", "sessionId": s}).to_string(),
        ] {
            eve.send(text).await;
            eve.expect_error(ErrorCode::UnknownSession, Some(s)).await;
        }
    }
    eve.send_json(json!({"type": "heartbeat", "sessionId": others, "id": 1})).await;
    let answers = [eve.next_text().await, eve.next_text().await];
    let has = |what: &str| answers.iter().filter(|text| text.contains(what)).count();
    assert_eq!((has("heartbeat-ack"), has("unknown-session")), (1, 1), "{answers:?}");
    eve.expect_nothing().await;
    call.talk().await;
}

pub(super) async fn the_responders_first_offer_is_refused(host: &Host) {
    let mut call = host.start().await.call().await;
    let s = call.session.clone();
    for _ in 0..3 {
        call.bob.send(offer(&s, "x")).await;
        call.bob.expect_error(ErrorCode::NotInitiator, Some(&s)).await;
    }
    call.ann.expect_nothing().await;
    call.talk().await;
    say(&mut call.bob, &mut call.ann, &[offer(&s, "now I may")]).await;
}

pub(super) async fn a_told_sender_is_refused(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    call.talk().await;
    let s = call.session.clone();
    call.bob.reset();
    call.ann.expect_partner_disconnected(&s).await;
    for text in [offer(&s, "x"), answer(&s, "x"), candidate(&s, "x")] {
        call.ann.send(text).await;
        call.ann.expect_error(ErrorCode::PartnerAbsent, Some(&s)).await;
    }
    call.ann.send_json(json!({"type": "heartbeat", "sessionId": s})).await;
    call.ann.expect_nothing().await;
    // None of it was kept.
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    call.ann.expect_match(&s, "bob", true).await;
    bob.expect_nothing().await;
    say(&mut call.ann, &mut bob, &[offer(&s, "afresh")]).await;
}

pub(super) async fn a_signal_too_large_to_be_kept_is_refused(host: &Host) {
    let stage = host.start_with(|c| c.max_kept_bytes = 1000).await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    let (small, large) = (offer(&s, "x"), offer(&s, &"x".repeat(1000)));
    ann.send(&small).await;
    ann.send(&large).await;
    ann.expect_error(ErrorCode::TooLarge, Some(&s)).await;
    ann.expect_nothing().await;
    // What was kept still is, and a partner that is there gets the large one.
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    bob.expect_text(&small).await;
    bob.expect_nothing().await;
    say(&mut ann, &mut bob, &[large]).await;
}

pub(super) async fn signals_beyond_the_rate_are_refused_and_a_patient_client_goes_on(host: &Host) {
    let stage = host.start_with(|c| (c.max_signals_per_second, c.signal_burst) = (1, 20)).await;
    let mut call = stage.call().await;
    let s = call.session.clone();
    let texts: Vec<_> = (0..30).map(|n| offer(&s, &n.to_string())).collect();
    for text in &texts {
        call.ann.send(text).await;
    }
    let refusals = call.ann.drain().await;
    let delivered = call.bob.drain().await;
    let id = s.parse().ok();
    let refusal = ServerMessage::error(ErrorCode::RateLimited, id.as_ref()).to_text();
    assert!(!refusals.is_empty(), "nothing was refused");
    assert!(refusals.iter().all(|text| *text == *refusal), "{refusals:?}");
    // Each is delivered or refused; time passes meanwhile, so more than the burst may pass.
    assert_eq!(delivered.len() + refusals.len(), texts.len());
    assert_eq!(delivered[..20], texts[..20]);
    assert!(delivered.is_sorted_by_key(|text| texts.iter().position(|sent| sent == text)));
    // What the rate brings back after a second may be said then.
    time::sleep(Duration::from_millis(1100)).await;
    say(&mut call.ann, &mut call.bob, &[offer(&s, "patient")]).await;
    call.expect_nothing().await;
}

pub(super) async fn signals_beyond_the_bytes_of_a_user_are_refused_and_harm_nobody(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let mut cat = stage.client("cat").await;
    let other = stage.open_new("bob", "cat").await;
    call.bob.expect_match(&other, "cat", true).await;
    cat.expect_match(&other, "bob", false).await;
    let s = call.session.clone();
    let texts: Vec<_> = (0..40).map(|n| offer(&s, &format!("{n:0>60000}"))).collect();
    for text in &texts {
        call.ann.send(text).await;
    }
    let refusals = call.ann.drain().await;
    let delivered = call.bob.drain().await;
    let refusal = ServerMessage::error(ErrorCode::RateLimited, s.parse().ok().as_ref()).to_text();
    assert!(refusals.iter().all(|text| *text == *refusal), "{refusals:?}");
    assert_eq!(delivered.len() + refusals.len(), texts.len());
    // 512 KiB at once; time passes in between and brings more.
    assert!((8..40).contains(&delivered.len()), "{} were delivered", delivered.len());
    assert_eq!(delivered[..8], texts[..8]);
    assert!(delivered.is_sorted_by_key(|text| texts.iter().position(|sent| sent == text)));
    call.bob.expect_nothing().await;
    cat.expect_nothing().await;
}

pub(super) async fn what_the_store_must_know_is_unavailable_without_it(host: &Host) {
    let store = FaultyStore::new();
    let Some(stage) = host.start_on(store.clone()).await else {
        return;
    };
    let mut call = stage.call().await;
    let s = call.session.clone();
    store.set(Fault::Unavailable);
    call.ann.send(leave(&s)).await;
    call.ann.expect_error(ErrorCode::Unavailable, Some(&s)).await;
    // Between two on one node, talking needs no store; nor does learning of an end.
    call.talk().await;
    call.bob.close().await;
    call.ann.expect_partner_disconnected(&s).await;
    store.set(Fault::None);
    stage.until_absent(&s, 1).await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    call.ann.expect_match(&s, "bob", true).await;
    call.ann.send(leave(&s)).await;
    bob.expect_partner_disconnected(&s).await;
    stage.until_over(&s).await;
    call.ann.expect_nothing().await;
}

pub(super) async fn errors_quote_nothing(host: &Host) {
    let stage = host.start().await;
    let mut eve = stage.client("eve").await;
    let jwt = token("eve");
    let texts = [
        jwt.clone(),
        format!(r#"{{"type":"{jwt}"}}"#),
        format!(r#"{{"type":"offer","sessionId":"none","sdp":"a=ice-pwd:{jwt}"}}"#),
        format!(r#"{{"type":"offer","sessionId":7,"sdp":"a=ice-pwd:{jwt}"}}"#),
        format!(r#"{{"type":"ice-candidate","sessionId":"none","candidate":"{jwt}","{jwt}":1}}"#),
        format!(r#"{{"type":"heartbeat","sessionId":"{jwt} "}}"#),
    ];
    for text in texts {
        eve.send(text).await;
        let error = eve.next_text().await;
        assert!(error.contains(r#""type":"error""#), "{error}");
        for secret in [jwt.as_str(), "ice-pwd", "line 1", "column"] {
            assert!(!error.contains(secret), "{error} quotes {secret}");
        }
    }
    eve.expect_nothing().await;
}
