//! Clients that negotiated `signaling.v1` and continue their negotiation on another connection.

use serde_json::{Value, json};

use super::{
    Setup,
    stage::{Host, Stage},
};
use crate::{
    frame::CloseCode, protocol::ErrorCode, reason::PartnerReason, relay::SecondConnection,
    testing::client::Client,
};

/// A negotiation of Ann and Bob; Ann is the initiator.
struct Talk {
    session: String,
    negotiation: String,
}

impl Talk {
    /// With the two, each of whom has sent one signal.
    async fn start(stage: &Stage) -> (Self, Client, Client) {
        let session = stage.open_new("ann", "bob").await;
        let mut ann = stage.dial("ann").v1().connect().await;
        let mut bob = stage.dial("bob").v1().connect().await;
        let negotiation = ann.expect_match(&session, "bob", true).await.expect("of signaling.v1");
        assert_eq!(bob.expect_match(&session, "ann", false).await.as_ref(), Some(&negotiation));
        let talk = Self { session, negotiation };
        ann.send_json(talk.signal("offer", 1)).await;
        bob.expect(talk.signal("offer", 1)).await;
        bob.send_json(talk.signal("answer", 1)).await;
        ann.expect(talk.signal("answer", 1)).await;
        (talk, ann, bob)
    }

    fn signal(&self, kind: &str, seq: u64) -> Value {
        json!({
            "type": kind,
            "sessionId": self.session,
            "negotiation": self.negotiation,
            "seq": seq,
            "sdp": format!("{kind} {seq}"),
        })
    }

    /// A new connection of `user`, which has received signals up to `seq`.
    async fn continues(&self, stage: &Stage, user: &str, seq: u64) -> Client {
        let Self { session, negotiation } = self;
        stage.dial(user).v1().continuing(&format!("{session}~{negotiation}~{seq}")).connect().await
    }

    fn continued(&self, partner_connected: bool) -> Value {
        let Self { session, negotiation } = self;
        json!({
            "type": "continued",
            "sessionId": session,
            "negotiation": negotiation,
            "partnerConnected": partner_connected,
        })
    }

    fn received(&self, seq: u64) -> Value {
        let Self { session, negotiation } = self;
        json!({"type": "received", "sessionId": session, "negotiation": negotiation, "seq": seq})
    }

    fn partner_reconnected(&self) -> Value {
        let Self { session, negotiation } = self;
        json!({"type": "partner-reconnected", "sessionId": session, "negotiation": negotiation})
    }
}

pub(super) async fn who_opens_a_new_connection_first_is_never_missed(host: &Host) {
    let stage = host.start().await;
    let (talk, mut ann, mut bob) = Talk::start(&stage).await;
    let mut newer = talk.continues(&stage, "ann", 1).await;
    newer.expect(talk.continued(true)).await;
    newer.expect(talk.received(1)).await;
    ann.expect_close(CloseCode::Replaced).await;
    bob.expect(talk.received(1)).await;
    newer.send_json(talk.signal("offer", 2)).await;
    // One that the partner has already, as it may be sent again.
    newer.send_json(talk.signal("offer", 2)).await;
    bob.expect(talk.signal("offer", 2)).await;
    bob.send_json(talk.signal("answer", 2)).await;
    newer.expect(talk.signal("answer", 2)).await;
    newer.expect_nothing().await;
    bob.expect_nothing().await;
}

pub(super) async fn who_comes_back_goes_on_and_so_do_both(host: &Host) {
    let stage = host.start().await;
    let (talk, ann, mut bob) = Talk::start(&stage).await;
    ann.reset();
    bob.expect_partner_gone(&talk.session, PartnerReason::Lost).await;
    bob.send_json(talk.signal("answer", 2)).await;
    bob.expect_error(ErrorCode::PartnerAbsent, Some(&talk.session)).await;
    let mut ann = talk.continues(&stage, "ann", 1).await;
    ann.expect(talk.continued(true)).await;
    ann.expect(talk.received(1)).await;
    bob.expect(talk.partner_reconnected()).await;
    bob.expect(talk.received(1)).await;
    bob.send_json(talk.signal("answer", 2)).await;
    ann.expect(talk.signal("answer", 2)).await;
    // Both go, and come back one after the other.
    ann.reset();
    bob.expect_partner_gone(&talk.session, PartnerReason::Lost).await;
    bob.reset();
    stage.until_absent(&talk.session, 0).await;
    stage.until_absent(&talk.session, 1).await;
    let mut bob = talk.continues(&stage, "bob", 1).await;
    bob.expect(talk.continued(false)).await;
    let mut ann = talk.continues(&stage, "ann", 2).await;
    ann.expect(talk.continued(true)).await;
    ann.expect(talk.received(1)).await;
    bob.expect(talk.partner_reconnected()).await;
    bob.expect(talk.received(2)).await;
}

pub(super) async fn what_cannot_be_continued_begins_anew(host: &Host) {
    let stage = host.start().await;
    let (Talk { session, negotiation }, mut ann, mut bob) = Talk::start(&stage).await;
    for named in [
        String::new(),
        session.clone(),
        format!("{session}~{negotiation}"),
        format!("{session}~{negotiation}~x"),
        format!("{session}~{negotiation}0~1"),
        format!("{session}~0000000000000000~1"),
        format!("another~{negotiation}~1"),
    ] {
        let mut newer = stage.dial("ann").v1().continuing(&named).connect().await;
        let begun = newer.expect_match(&session, "bob", true).await;
        assert!(begun.is_some_and(|begun| begun != negotiation), "{named}");
        ann.expect_close(CloseCode::Replaced).await;
        bob.expect_partner_gone(&session, PartnerReason::Replaced).await;
        bob.expect_match(&session, "ann", false).await;
        ann = newer;
    }
    // A base client has no negotiation to continue, and none continues with it.
    let named = format!("{session}~{negotiation}~1");
    let mut base = stage.dial("ann").continuing(&named).connect().await;
    base.expect_match(&session, "bob", true).await;
    bob.expect_partner_gone(&session, PartnerReason::Replaced).await;
    let begun = bob.expect_match(&session, "ann", false).await.expect("of signaling.v1");
    let named = format!("{session}~{begun}~0");
    let mut newer = stage.dial("bob").v1().continuing(&named).connect().await;
    let next = newer.expect_match(&session, "ann", false).await;
    assert!(next.is_some_and(|next| next != begun));
    base.expect_partner_disconnected(&session).await;
    base.expect_match(&session, "bob", true).await;
}

pub(super) async fn where_second_connections_are_refused_the_same_client_goes_on(host: &Host) {
    let setup = Setup { second_connection: SecondConnection::Refuse, ..Setup::default() };
    let Some(stage) = host.start_if_possible(setup).await else {
        return;
    };
    let (talk, mut ann, mut bob) = Talk::start(&stage).await;
    let mut other = stage.dial("ann").v1().connect().await;
    other.expect_close(CloseCode::AlreadyConnected).await;
    let mut same = talk.continues(&stage, "ann", 1).await;
    same.expect(talk.continued(true)).await;
    ann.expect_close(CloseCode::Replaced).await;
    bob.expect(talk.received(1)).await;
    bob.expect_nothing().await;
}
