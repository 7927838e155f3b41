//! Why a partner is gone, as clients that negotiated `signaling.v1` are told. That others are told
//! nothing of it is checked wherever they read.

use std::time::Duration;

use super::stage::{Call, Host, Stage, heartbeat, leave};
use crate::{
    config::Config,
    frame::CloseCode,
    protocol::Dialect,
    reason::PartnerReason,
    testing::client::{Client, Incoming, Opcode, RawFrame},
};

/// Ann negotiated `signaling.v1`, Bob nothing; they are matched, and Ann is the initiator.
async fn call(stage: &Stage) -> Call {
    let session = stage.open_new("ann", "bob").await;
    let mut ann = stage.dial("ann").v1().connect().await;
    assert_eq!(ann.subprotocol(), Some(Dialect::V1_SUBPROTOCOL));
    ann.expect_match(&session, "bob", true).await;
    let mut bob = stage.connect("bob").await;
    bob.expect_match(&session, "ann", false).await;
    stage
        .session_when(&session, "active", |state| {
            state.participants.iter().all(|one| one.connected)
        })
        .await;
    Call { session, ann, bob }
}

impl Call {
    /// Ann is told once that Bob is gone, and he comes back.
    async fn told(&mut self, stage: &Stage, reason: PartnerReason) {
        self.ann.expect_partner_gone(&self.session, reason).await;
        stage.until_absent(&self.session, 1).await;
        self.ann.expect_nothing().await;
        self.bob = stage.connect("bob").await;
        self.bob.expect_match(&self.session, "ann", false).await;
        self.ann.expect_match(&self.session, "bob", true).await;
    }

    /// Takes Bob's connection, to end it.
    fn take_bob(&mut self, stand_in: Client) -> Client {
        std::mem::replace(&mut self.bob, stand_in)
    }
}

/// Answers pings and heartbeats until the next message.
async fn beating(client: &mut Client) -> String {
    loop {
        client.send(heartbeat()).await;
        match client.next_incoming().await {
            Incoming::Text(text) => return text,
            Incoming::Ping => {}
            other => panic!("{client:?} expected a message, got {other:?}"),
        }
    }
}

pub(super) async fn a_partner_that_closes_or_hangs_up_has_left(host: &Host) {
    let stage = host.start().await;
    let mut call = call(&stage).await;
    let other = stage.client("other").await;
    call.take_bob(other).close().await;
    call.told(&stage, PartnerReason::Left).await;
    call.bob.send(leave(&call.session)).await;
    call.ann.expect_partner_gone(&call.session, PartnerReason::Left).await;
    call.expect_nothing().await;
}

pub(super) async fn a_partner_whose_connection_breaks_is_lost(host: &Host) {
    let stage = host.start().await;
    let mut call = call(&stage).await;
    let other = stage.client("other").await;
    call.take_bob(other).cut().await;
    call.told(&stage, PartnerReason::Lost).await;
    let other = stage.client("other").await;
    call.take_bob(other).reset();
    call.told(&stage, PartnerReason::Lost).await;
    call.bob.send_frame(&RawFrame::new(Opcode::Other(3), "x")).await;
    call.bob.expect_close(CloseCode::ProtocolError).await;
    call.told(&stage, PartnerReason::Lost).await;
}

pub(super) async fn a_partner_that_is_not_heard_of_timed_out(host: &Host) {
    let change = |config: &mut Config| {
        config.ping_interval = Duration::from_millis(500);
        config.heartbeat_timeout = Duration::from_secs(2);
        config.abandon_after = Duration::from_secs(2);
        config.sweep_interval = Duration::from_millis(100);
        config.node_renewal = Duration::from_millis(200);
    };
    let stage = host.start_with(change).await;
    let falls_silent = async {
        let mut call = call(&stage).await;
        let told = beating(&mut call.ann).await;
        assert!(told.contains(r#""reason":"timeout""#), "{told}");
    };
    let never_comes = async {
        let session = stage.open_new("carl", "nobody").await;
        let mut carl = stage.dial("carl").v1().connect().await;
        carl.expect_match(&session, "nobody", true).await;
        let told = beating(&mut carl).await;
        assert!(told.contains(r#""reason":"timeout""#), "{told}");
    };
    futures::join!(falls_silent, never_comes);
}

pub(super) async fn a_partner_on_a_newer_connection_was_replaced(host: &Host) {
    let stage = host.start().await;
    let mut call = call(&stage).await;
    let mut newer = stage.connect("bob").await;
    newer.expect_match(&call.session, "ann", false).await;
    call.ann.expect_partner_gone(&call.session, PartnerReason::Replaced).await;
    call.ann.expect_match(&call.session, "bob", true).await;
    call.bob.expect_close(CloseCode::Replaced).await;
    call.bob = newer;
    call.talk().await;
}

pub(super) async fn a_partner_or_a_session_that_the_host_ends_has_ended(host: &Host) {
    let stage = host.start().await;
    let mut call = call(&stage).await;
    assert!(stage.disconnect("bob").await);
    call.bob.expect_close(CloseCode::Normal).await;
    call.told(&stage, PartnerReason::Ended).await;
    assert!(stage.close(&call.session).await);
    call.ann.expect_partner_gone(&call.session, PartnerReason::Ended).await;
    call.bob.expect_partner_disconnected(&call.session).await;
    call.expect_nothing().await;
}
