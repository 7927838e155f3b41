//! Clients that go on with their negotiation on another connection, on one node and across two.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use signaling_core::{
    Config,
    auth::{Client, Identity},
    event::Event,
    ice::{IceServer, IceServerProvider, IceServers, ProviderError},
    id::{SessionId, UserId},
    protocol::{Continue, Dialect},
    reason::DisconnectReason,
    testing::fault::Trouble,
    time::Timestamp,
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, user};

/// A negotiation of Ann and Bob.
struct Talk {
    session: SessionId,
    negotiation: String,
}

impl Talk {
    /// Ann on `a` and Bob on `b`, both of `signaling.v1`. Ann has sent one signal.
    async fn start(a: &Node, b: &Node) -> (Self, Guest, Guest) {
        let (mut ann, mut bob) = (Guest::connect_v1(a, "ann"), Guest::connect_v1(b, "bob"));
        let session = a.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
        let negotiation = ann.found().await.1.unwrap();
        assert_eq!(bob.found().await.1.as_ref(), Some(&negotiation));
        let talk = Self { session, negotiation };
        talk.number(&ann, 1).await;
        bob.expect("offer 1").await;
        (talk, ann, bob)
    }

    async fn number(&self, guest: &Guest, seq: u64) {
        let Self { session, negotiation } = self;
        guest
            .send(format!(
                r#"{{"type":"offer","sessionId":"{session}","negotiation":"{negotiation}","seq":{seq},"sdp":"{seq}"}}"#
            ))
            .await;
    }

    /// A new connection of the client of `name`, which has received signals up to `seq`.
    fn continues(&self, node: &Node, name: &str, seq: u64) -> Guest {
        let (session, negotiation) = (self.session.clone(), self.negotiation.parse().unwrap());
        let client = Client::new(Identity::new(user(name))).speaking(Dialect::V1);
        let named = vec![Continue { session, negotiation, seq }];
        Guest::connect_as(&node.relay, client.continuing(named))
    }

    async fn received(&self, guest: &mut Guest, seq: u64) {
        let Self { session, negotiation } = self;
        let expected = json!({
            "type": "received",
            "sessionId": session.as_str(),
            "negotiation": negotiation,
            "seq": seq,
        });
        assert_eq!(guest.message().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_moves_to_another_node_and_its_partner_hears_of_no_absence() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (talk, mut ann, mut bob) = Talk::start(&a, &b).await;
    for (node, seq) in [(&b, 2), (&a, 3), (&a, 4)] {
        let mut newer = talk.continues(node, "ann", 0);
        newer.expect("continued").await;
        talk.received(&mut newer, seq - 1).await;
        ann.expect_close(4409).await;
        talk.received(&mut bob, 0).await;
        talk.number(&newer, seq).await;
        bob.expect(&format!("offer {seq}")).await;
        ann = newer;
    }
    bob.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_on_a_node_that_died_goes_on_on_another() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (talk, ann, mut bob) = Talk::start(&a, &b).await;
    a.kill();
    drop(ann);
    let mut ann = talk.continues(&b, "ann", 0);
    ann.expect("continued").await;
    talk.received(&mut ann, 1).await;
    talk.received(&mut bob, 0).await;
    talk.number(&ann, 2).await;
    bob.expect("offer 2").await;
    // Nothing more comes when the node is found dead.
    bob.expect_nothing().await;
    ann.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_sees_a_client_that_continues_move() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let (talk, _ann, _bob) = Talk::start(&node, &node).await;
    let mut events = node.relay.events();
    let mut newer = talk.continues(&node, "ann", 0);
    newer.expect("continued").await;
    talk.received(&mut newer, 1).await;
    newer.settled().await;
    let mut seen = Vec::new();
    while let Ok(Ok(Some(event))) = time::timeout(Duration::from_secs(1), events.next()).await {
        seen.push(match event {
            Event::UserConnected { .. } => "connected",
            Event::ParticipantDisconnected { reason: DisconnectReason::Replaced, .. } => "detached",
            Event::ParticipantConnected { .. } => "attached",
            Event::SessionActive { .. } => "active",
            Event::UserDisconnected { reason: DisconnectReason::Replaced, .. } => "replaced",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["connected", "detached", "attached", "active", "replaced"]);
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_that_is_not_admitted_leaves_the_older_one_its_users() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (talk, ann, mut bob) = Talk::start(&a, &b).await;
    // The store makes it its user's, and it is gone before it is admitted.
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_millis(200);
    b.faults.set(slow);
    let newer = talk.continues(&b, "ann", 0);
    let claimed = async {
        while deployment.connection("ann").await.is_none_or(|id| id.node() == a.relay.node_id()) {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(Duration::from_secs(1), claimed).await.unwrap();
    drop(newer);
    time::sleep(Duration::from_secs(5)).await;
    assert_eq!(deployment.connection("ann").await.unwrap().node(), a.relay.node_id());
    talk.number(&ann, 2).await;
    while bob.message().await["type"] != "offer" {}
}

#[tokio::test(start_paused = true)]
async fn a_signal_beyond_the_rate_is_asked_for_a_second_later() {
    let deployment = Deployment::with(|config: &mut Config| config.max_signals_per_second = 1);
    let node = deployment.node().await;
    let (talk, mut ann, _bob) = Talk::start(&node, &node).await;
    let mut seq = 1;
    let mut refused = None;
    while refused.is_none() {
        seq += 1;
        talk.number(&ann, seq).await;
        let heard = time::timeout(Duration::from_millis(1), ann.message()).await;
        refused = heard.ok();
    }
    assert_eq!(refused.unwrap()["code"], "rate-limited");
    let refused_at = Instant::now();
    talk.received(&mut ann, seq - 1).await;
    assert!(refused_at.elapsed() <= Duration::from_millis(1000));
}

/// Asks for so long.
#[derive(Debug)]
struct SlowServers(Duration);

#[async_trait]
impl IceServerProvider for SlowServers {
    async fn ice_servers(&self, _: &UserId, _: Timestamp) -> Result<IceServers, ProviderError> {
        time::sleep(self.0).await;
        Ok(IceServers::new([IceServer::stun(["stun:a"]).unwrap()]))
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_the_older_connection_does_not_end_it_before_its_time() {
    let deployment = Deployment::new();
    let slow = Arc::new(SlowServers(Duration::from_millis(1500)));
    let node = deployment.node_with(|builder| builder.ice_servers(slow)).await;
    let (talk, mut ann, mut bob) = Talk::start(&node, &node).await;
    let mut newer = talk.continues(&node, "ann", 0);
    // With this the store finds out that the user has another connection.
    time::sleep(Duration::from_millis(100)).await;
    ann.send(r#"{"type":"heartbeat"}"#).await;
    newer.expect("continued").await;
    talk.received(&mut newer, 1).await;
    ann.expect_close(4409).await;
    talk.received(&mut bob, 0).await;
    bob.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_between_claim_and_attach_does_not_end_the_older_connection() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (talk, mut ann, mut bob) = Talk::start(&a, &a).await;
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_secs(3);
    b.faults.set(slow);
    let mut newer = talk.continues(&b, "ann", 0);
    let claimed = async {
        while deployment.connection("ann").await.is_none_or(|id| id.node() == a.relay.node_id()) {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(Duration::from_secs(5), claimed).await.unwrap();
    ann.send(r#"{"type":"heartbeat"}"#).await;
    newer.expect("continued").await;
    talk.received(&mut newer, 1).await;
    ann.expect_close(4409).await;
    talk.received(&mut bob, 0).await;
    b.faults.set(Trouble::NONE);
    bob.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_may_drop_its_older_connection_before_its_partner_hears_of_the_newer_one() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (talk, ann, mut bob) = Talk::start(&a, &a).await;
    // What the other node says comes late.
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_millis(500);
    a.faults.set(slow);
    let mut newer = talk.continues(&b, "ann", 0);
    newer.expect("continued").await;
    drop(ann);
    talk.received(&mut bob, 0).await;
    a.faults.set(Trouble::NONE);
    bob.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_on_the_same_node_while_the_store_is_away() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let (_talk, ann, mut bob) = Talk::start(&node, &node).await;
    let mut failing = Trouble::NONE;
    failing.failures = 1.0;
    node.faults.set(failing);
    let start = Instant::now();
    drop(ann);
    bob.expect("partner-disconnected lost").await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    node.faults.set(Trouble::NONE);
    bob.expect_nothing().await;
}

/// Its node did not hear that it was replaced before the store lost everything.
#[tokio::test(start_paused = true)]
async fn after_a_loss_the_older_connection_gives_way_whichever_looks_up_first() {
    for first in [0, 1] {
        let deployment = Deployment::new();
        let (a, b) = (deployment.node().await, deployment.node().await);
        let (talk, mut ann, _bob) = Talk::start(&a, &b).await;
        time::sleep(Duration::from_secs(1)).await;
        a.faults.cut(true);
        let mut newer = talk.continues(&b, "ann", 0);
        newer.expect("continued").await;
        talk.received(&mut newer, 1).await;
        time::sleep(Duration::from_secs(1)).await;
        // The node that is cut off from the store now looks up later.
        [&a, &b][first].faults.cut(false);
        [&a, &b][1 - first].faults.cut(true);
        deployment.store.lose_everything();
        time::sleep(Duration::from_secs(1)).await;
        [&a, &b][1 - first].faults.cut(false);
        time::sleep(Duration::from_secs(20)).await;
        assert_eq!(deployment.connection("ann").await.unwrap().node(), b.relay.node_id());
        ann.expect_close(4409).await;
        newer.send(r#"{"type":"heartbeat","id":7}"#).await;
        while newer.message().await["type"] != "heartbeat-ack" {}
    }
}
