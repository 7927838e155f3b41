//! Opening, matching, keeping, negotiating: the rules of a session while both mean to be there.

use serde_json::json;

use super::{
    Opening,
    stage::{Host, answer, candidate, leave, offer, say},
};
use crate::{protocol::ErrorCode, session::Status};

pub(super) async fn a_match_is_announced_to_whoever_is_there_and_to_the_other_when_it_comes(
    host: &Host,
) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    bob.expect_nothing().await;
    ann.expect_nothing().await;
    // The responder may be the one who is there, or nobody.
    let s = stage.open_new("carl", "ann").await;
    ann.expect_match(&s, "carl", false).await;
    stage.connect("carl").await.expect_match(&s, "ann", true).await;
    let s = stage.open_new("dora", "emil").await;
    let mut emil = stage.connect("emil").await;
    emil.expect_match(&s, "dora", false).await;
    let mut dora = stage.connect("dora").await;
    dora.expect_match(&s, "emil", true).await;
    say(&mut dora, &mut emil, &[offer(&s, "x")]).await;
}

pub(super) async fn opening_again_changes_nothing(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let opened = stage.open(Some("room:1"), "ann", "bob").await;
    assert_eq!(opened, Opening::New("room:1".into()));
    ann.expect_match("room:1", "bob", true).await;
    for _ in 0..3 {
        let again = stage.open(Some("room:1"), "ann", "bob").await;
        assert_eq!(again, Opening::Existing("room:1".into()));
    }
    ann.expect_nothing().await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match("room:1", "ann", false).await;
    say(&mut ann, &mut bob, &[offer("room:1", "x")]).await;
    let again = stage.open(Some("room:1"), "ann", "bob").await;
    assert_eq!(again, Opening::Existing("room:1".into()));
    // The negotiation goes on where it was.
    let texts = [offer("room:1", "y")];
    say(&mut bob, &mut ann, &texts).await;
    ann.expect_nothing().await;
    bob.expect_nothing().await;
}

pub(super) async fn an_id_is_not_shared_by_other_users_or_roles(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let mut carl = stage.client("carl").await;
    let opened = stage.open(Some("s"), "ann", "bob").await;
    assert_eq!(opened, Opening::New("s".into()));
    ann.expect_match("s", "bob", true).await;
    for (initiator, responder) in [("bob", "ann"), ("ann", "carl"), ("carl", "bob"), ("x", "y")] {
        let other = stage.open(Some("s"), initiator, responder).await;
        assert_eq!(other, Opening::Conflict, "{initiator} and {responder}");
    }
    ann.expect_nothing().await;
    carl.expect_nothing().await;
    drop(carl);
    stage.client("carl").await.expect_nothing().await;
    let state = stage.session("s").await.expect("the session is open");
    let users = state.participants.map(|one| one.user);
    assert_eq!(users, ["ann", "bob"]);
}

pub(super) async fn a_user_is_not_matched_with_itself(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    assert_eq!(stage.open(Some("s"), "ann", "ann").await, Opening::Refused);
    assert_eq!(stage.open(None, "ann", "ann").await, Opening::Refused);
    assert_eq!(stage.session("s").await, None);
    ann.expect_nothing().await;
}

pub(super) async fn a_session_is_active_while_both_are_there(host: &Host) {
    let stage = host.start().await;
    let s = stage.open_new("ann", "bob").await;
    let state = stage.session(&s).await.expect("the session is open");
    assert_eq!(state.status, Status::Waiting);
    assert_eq!(
        state.participants.map(|one| (one.user, one.connected)),
        [("ann".into(), false), ("bob".into(), false)]
    );
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    let state = stage.session(&s).await.expect("the session is open");
    assert_eq!(state.status, Status::Waiting);
    assert_eq!(state.participants.map(|one| one.connected), [false, true]);
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    let state = stage.session(&s).await.expect("the session is open");
    assert_eq!(state.status, Status::Active);
    bob.close().await;
    ann.expect_partner_disconnected(&s).await;
    let waiting = |state: &super::SessionState| state.status == Status::Waiting;
    let state = stage.session_when(&s, "waiting", waiting).await;
    assert_eq!(state.participants.map(|one| one.connected), [true, false]);
}

pub(super) async fn what_is_said_before_the_responder_comes_follows_its_match(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    let mut texts = vec![offer(&s, "early")];
    texts.extend((0..40).map(|n| candidate(&s, &format!("early {n}"))));
    for text in &texts {
        ann.send(text).await;
    }
    ann.expect_nothing().await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    for text in &texts {
        bob.expect_text(text).await;
    }
    bob.expect_nothing().await;
    // The sender never notices.
    say(&mut bob, &mut ann, &[answer(&s, "y"), offer(&s, "z")]).await;
    ann.expect_nothing().await;
}

pub(super) async fn what_the_responder_says_first_is_kept_too(host: &Host) {
    let stage = host.start().await;
    let mut bob = stage.client("bob").await;
    let s = stage.open_new("ann", "bob").await;
    bob.expect_match(&s, "ann", false).await;
    bob.send(candidate(&s, "1")).await;
    bob.send(offer(&s, "not yet")).await;
    bob.expect_error(ErrorCode::NotInitiator, Some(&s)).await;
    bob.send(candidate(&s, "2")).await;
    bob.expect_nothing().await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    ann.expect_text(&candidate(&s, "1")).await;
    ann.expect_text(&candidate(&s, "2")).await;
    ann.expect_nothing().await;
    say(&mut ann, &mut bob, &[offer(&s, "x")]).await;
}

pub(super) async fn too_many_signals_for_an_absent_partner_are_refused_and_it_all_starts_over(
    host: &Host,
) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    for n in 0..128 {
        ann.send(candidate(&s, &format!("kept {n}"))).await;
    }
    ann.expect_nothing().await;
    for _ in 0..3 {
        ann.send(candidate(&s, "one too many")).await;
        ann.expect_error(ErrorCode::PartnerAbsent, Some(&s)).await;
    }
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_nothing().await;
    say(&mut ann, &mut bob, &[offer(&s, "afresh")]).await;
    ann.expect_nothing().await;
}

pub(super) async fn too_many_bytes_for_an_absent_partner_are_refused_and_it_all_starts_over(
    host: &Host,
) {
    let stage = host.start_with(|c| c.max_kept_bytes = 2000).await;
    let mut ann = stage.client("ann").await;
    let s = stage.open_new("ann", "bob").await;
    ann.expect_match(&s, "bob", true).await;
    let half = offer(&s, &"x".repeat(800));
    assert!((800..1000).contains(&half.len()), "two of it can be kept");
    ann.send(&half).await;
    ann.send(&half).await;
    ann.expect_nothing().await;
    ann.send(&half).await;
    ann.expect_error(ErrorCode::PartnerAbsent, Some(&s)).await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&s, "ann", false).await;
    ann.expect_match(&s, "bob", true).await;
    bob.expect_nothing().await;
    say(&mut ann, &mut bob, &[half]).await;
}

pub(super) async fn after_the_first_offer_either_side_may_offer(host: &Host) {
    let mut call = host.start().await.call().await;
    call.talk().await;
    let s = call.session.clone();
    for n in 0..3 {
        let again = offer(&s, &format!("of the responder {n}"));
        say(&mut call.bob, &mut call.ann, &[again]).await;
        say(&mut call.ann, &mut call.bob, &[answer(&s, "ok")]).await;
        let restart = offer(&s, &format!("of the initiator {n}"));
        say(&mut call.ann, &mut call.bob, &[restart]).await;
        say(&mut call.bob, &mut call.ann, &[answer(&s, "ok")]).await;
    }
    // Both at the same time: which of them yields is the clients' affair.
    call.ann.send(offer(&s, "glare 1")).await;
    call.bob.send(offer(&s, "glare 2")).await;
    call.ann.expect_text(&offer(&s, "glare 2")).await;
    call.bob.expect_text(&offer(&s, "glare 1")).await;
    call.expect_nothing().await;
}

pub(super) async fn after_a_return_the_initiator_offers_first_again(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    call.talk().await;
    let s = call.session.clone();
    call.ann.close().await;
    call.bob.expect_partner_disconnected(&s).await;
    let mut ann = stage.connect("ann").await;
    ann.expect_match(&s, "bob", true).await;
    call.bob.expect_match(&s, "ann", false).await;
    call.bob.send(offer(&s, "too early")).await;
    call.bob.expect_error(ErrorCode::NotInitiator, Some(&s)).await;
    say(&mut ann, &mut call.bob, &[offer(&s, "first")]).await;
    say(&mut call.bob, &mut ann, &[offer(&s, "second")]).await;
    ann.expect_nothing().await;
}

pub(super) async fn a_user_may_be_in_several_sessions(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let mut partners = Vec::new();
    for name in ["p1", "p2", "p3"] {
        let mut partner = stage.client(name).await;
        let s = stage.open_new("ann", name).await;
        ann.expect_match(&s, name, true).await;
        partner.expect_match(&s, "ann", false).await;
        partners.push((s, partner));
    }
    // The same two may have another, in the other roles.
    let second = stage.open_new("p1", "ann").await;
    ann.expect_match(&second, "p1", false).await;
    partners[0].1.expect_match(&second, "ann", true).await;
    for (s, _) in &partners {
        ann.send(offer(s, &format!("for {s}"))).await;
    }
    for (s, partner) in &mut partners {
        partner.expect_text(&offer(s, &format!("for {s}"))).await;
    }
    say(&mut partners[0].1, &mut ann, &[offer(&second, "mine")]).await;
    // One ends, and the others go on.
    let (s, partner) = &mut partners[1];
    ann.send(leave(s)).await;
    partner.expect_partner_disconnected(s).await;
    stage.until_over(s).await;
    for n in [0, 2] {
        let (s, partner) = &mut partners[n];
        say(partner, &mut ann, &[answer(s, "still here")]).await;
    }
    // All learn of the end of the connection that they share.
    ann.close().await;
    let (s1, s3) = (partners[0].0.clone(), partners[2].0.clone());
    let told = [partners[0].1.next_text().await, partners[0].1.next_text().await];
    for s in [&s1, &second] {
        let expected = json!({"type": "partner-disconnected", "sessionId": s}).to_string();
        let equal = |text: &&String| serde_json::from_str(text).ok() == Some(json_of(&expected));
        assert_eq!(told.iter().filter(equal).count(), 1, "{told:?}");
    }
    partners[2].1.expect_partner_disconnected(&s3).await;
    for (_, partner) in &mut partners {
        partner.expect_nothing().await;
    }
}

fn json_of(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no JSON: {error}"))
}

pub(super) async fn a_user_is_in_no_more_sessions_than_allowed(host: &Host) {
    let stage = host.start_with(|c| c.max_sessions_per_user = 2).await;
    let mut ann = stage.client("ann").await;
    let first = stage.open_new("ann", "p1").await;
    ann.expect_match(&first, "p1", true).await;
    let second = stage.open_new("p2", "ann").await;
    ann.expect_match(&second, "p2", false).await;
    assert_eq!(stage.open(None, "ann", "p3").await, Opening::Refused);
    assert_eq!(stage.open(None, "p3", "ann").await, Opening::Refused);
    ann.expect_nothing().await;
    // Neither refusal counts for the partner, and an end makes room.
    stage.open_new("p3", "p4").await;
    stage.open_new("p3", "p5").await;
    assert!(stage.close(&first).await);
    ann.expect_partner_disconnected(&first).await;
    let third = stage.open_new("ann", "p6").await;
    ann.expect_match(&third, "p6", true).await;
    ann.expect_nothing().await;
}

pub(super) async fn an_id_may_be_used_again_after_its_session(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.client("ann").await;
    let mut bob = stage.client("bob").await;
    for _ in 0..3 {
        let opened = stage.open(Some("again"), "ann", "bob").await;
        assert_eq!(opened, Opening::New("again".into()));
        ann.expect_match("again", "bob", true).await;
        bob.expect_match("again", "ann", false).await;
        bob.send(offer("again", "too early")).await;
        bob.expect_error(ErrorCode::NotInitiator, Some("again")).await;
        say(&mut ann, &mut bob, &[offer("again", "x")]).await;
        ann.send(leave("again")).await;
        bob.expect_partner_disconnected("again").await;
        stage.until_over("again").await;
        ann.expect_nothing().await;
    }
    // By others too, and with the first ones still connected.
    let opened = stage.open(Some("again"), "bob", "carl").await;
    assert_eq!(opened, Opening::New("again".into()));
    bob.expect_match("again", "carl", true).await;
    ann.send(offer("again", "x")).await;
    ann.expect_error(ErrorCode::UnknownSession, Some("again")).await;
}

pub(super) async fn a_user_id_may_be_any_text(host: &Host) {
    let stage = host.start().await;
    let long = "é".repeat(128);
    let users = ["a b", "Zoë \"Z\" \\ /", "😀🇪🇺", "user:1;--", "<b>&amp;", &long];
    for pair in users.chunks(2) {
        stage.call_of(pair[0], pair[1]).await.talk().await;
    }
}
