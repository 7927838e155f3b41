//! Who is let in: second connections of a user, and what the host's own code says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use signaling_core::{
    auth::{Client, Identity},
    event::{Event, Events},
    frame::CloseReason,
    id::{ConnectionId, NodeId, SessionId},
    protocol::Dialect,
    reason::DisconnectReason,
    relay::{
        Arbiter, HookError, Hooks, NewSession, Newcomer, OpenError, RelayBuilder, SecondConnection,
        Stays,
    },
    session::SessionRecord,
    store::{Accepted, Connect, Membership, Replace, SessionStore},
    testing::{
        fault::Trouble,
        wire::{Received, wire},
    },
};
use tokio::time::{self, Instant};

use crate::harness::{Deployment, Guest, Node, matched, user};

fn refusing(builder: RelayBuilder) -> RelayBuilder {
    builder.second_connection(SecondConnection::Refuse)
}

async fn refused(guest: &mut Guest) {
    match guest.next().await {
        Received::Closed(Some(close)) => {
            assert_eq!((close.code, &*close.reason), (4409, "already connected"));
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// Comes again until it is admitted; says after how long that was.
async fn insist(node: &Node, name: &str) -> (Guest, Duration) {
    let began = Instant::now();
    loop {
        let mut guest = Guest::connect_quiet(node, name);
        guest.send(r#"{"type":"heartbeat","id":0}"#).await;
        match guest.next().await {
            Received::Text(_) => return (guest, began.elapsed()),
            Received::Closed(Some(close)) => assert_eq!(close.code, 4409),
            other => panic!("an ack or a refusal was expected, not {other:?}"),
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{name} is locked out");
        time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_is_refused_on_any_node_and_the_call_goes_on() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node_with(refusing).await, deployment.node_with(refusing).await);
    let (mut ann, mut bob, session) = matched(&a, &b).await;
    for node in [&a, &b] {
        let mut second = Guest::connect(node, "ann");
        refused(&mut second).await;
        ann.signal(&session, "offer", "o").await;
        bob.expect("offer o").await;
    }
    ann.expect_nothing().await;
    bob.expect_nothing().await;
    assert_eq!(a.relay.connections() + b.relay.connections(), 2);
    drop(ann);
    bob.expect("partner-disconnected").await;
    let (_ann, waited) = insist(&b, "ann").await;
    assert!(waited < Duration::from_millis(300), "{waited:?}");
}

/// The store made the newcomer its user's, and the answer was lost: the newcomer is told to try again, and
/// the older connection is its user's once more.
#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_leaves_the_older_connection_its_users() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut ann = Guest::connect(&a, "ann");
    ann.settled().await;
    let mut failing = Trouble::NONE;
    failing.failures = 1.0;
    let mut claims = 0;
    for number in 0..16 {
        b.faults.set(failing);
        let mut second = Guest::connect(&b, "ann");
        second.expect_close(4503).await;
        let there = deployment.store.user(&user("ann")).await.unwrap().connection;
        claims += usize::from(there.is_none_or(|there| there.node() == b.relay.node_id()));
        b.faults.set(Trouble::NONE);
        // Its end is tried again meanwhile.
        time::sleep(Duration::from_secs(1)).await;
        let bob = format!("bob-{number}");
        let session = a.relay.open_session(&user("ann"), &user(&bob)).await.unwrap();
        // Before its next heartbeat, with which a store may find out.
        let told = ann.expect_match(&session, &bob, true);
        time::timeout(Duration::from_secs(1), told).await.expect("ann is told");
        assert!(a.relay.close_session(&session, CloseReason::default()).await.unwrap());
        ann.expect("partner-disconnected").await;
    }
    assert!(claims > 0, "the store never did what it was asked for");
    assert_eq!(b.relay.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_newcomers_at_the_same_time_one_is_admitted() {
    let deployment = Deployment::new();
    let nodes = [
        deployment.node_with(refusing).await,
        deployment.node_with(refusing).await,
        deployment.node_with(refusing).await,
    ];
    let mut slow = Trouble::NONE;
    slow.delay = Duration::from_millis(50);
    for node in &nodes {
        node.faults.set(slow);
    }
    for n in 0..40 {
        let name = format!("ann-{n}");
        let newcomers = nodes.iter().chain(&nodes).map(|node| Guest::connect_quiet(node, &name));
        let mut admitted = Vec::new();
        for mut guest in newcomers.collect::<Vec<_>>() {
            guest.send(r#"{"type":"heartbeat","id":0}"#).await;
            match guest.next().await {
                Received::Text(_) => admitted.push(guest),
                Received::Closed(Some(close)) if &*close.reason == "already connected" => {}
                other => panic!("an ack or a refusal was expected, not {other:?}"),
            }
        }
        assert_eq!(admitted.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_answer_was_lost_locks_nobody_out() {
    let deployment = Deployment::new();
    let node = deployment.node_with(refusing).await;
    let mut failing = Trouble::NONE;
    failing.failures = 1.0;
    let mut done = 0;
    for n in 0..20 {
        let name = format!("ann-{n}");
        node.faults.set(failing);
        Guest::connect(&node, &name).expect_close(4503).await;
        let there = deployment.store.user(&user(&name)).await.unwrap().connection;
        done += usize::from(there.is_some());
        node.faults.set(Trouble::NONE);
        // As soon as its end is written, or at once: it is over, and of this node.
        let (_ann, waited) = insist(&node, &name).await;
        assert!(waited < Duration::from_millis(10), "{waited:?}");
    }
    assert!((1..20).contains(&done), "both outcomes: {done}");
}

#[tokio::test(start_paused = true)]
async fn who_was_on_a_node_that_died_is_back_within_thirty_seconds() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node_with(refusing).await, deployment.node_with(refusing).await);
    let mut ann = Guest::connect(&a, "ann");
    ann.settled().await;
    a.kill();
    let (_ann, waited) = insist(&b, "ann").await;
    assert!(waited > Duration::from_secs(5), "the record counts until then: {waited:?}");
    assert!(waited < Duration::from_secs(30), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_vanished_is_back_within_thirty_seconds() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node_with(refusing).await, deployment.node_with(refusing).await);
    let (server, _silent) = wire(16);
    let relay = a.relay.clone();
    tokio::spawn(async move { relay.serve(server, Identity::new(user("ann"))).await });
    time::sleep(Duration::from_millis(100)).await;
    let (_ann, waited) = insist(&b, "ann").await;
    assert!((24..=30).contains(&waited.as_secs()), "{waited:?}");
}

async fn next(events: &mut Events) -> Event {
    let next = time::timeout(Duration::from_secs(60), events.next()).await;
    next.expect("an event").unwrap().unwrap()
}

async fn recorded(deployment: &Deployment, node: &NodeId) -> ConnectionId {
    let there = ConnectionId::new(node.clone(), 999);
    let connect = deployment
        .store
        .connect(&user("ann"), &there, Accepted::UNKNOWN, Replace::Older)
        .await
        .unwrap();
    assert!(matches!(connect, Connect::Done(_)));
    there
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_node_without_a_lease_locks_nobody_out_for_longer() {
    let deployment = Deployment::new();
    let node = deployment.node_with(refusing).await;
    recorded(&deployment, &NodeId::new("never-seen").unwrap()).await;
    let (_ann, waited) = insist(&node, "ann").await;
    assert!((14..30).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_connection_that_its_node_does_not_have_is_taken_back() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node_with(refusing).await, deployment.node_with(refusing).await);
    recorded(&deployment, b.relay.node_id()).await;
    let mut ann = Guest::connect(&a, "ann");
    refused(&mut ann).await;
    let (ann, waited) = insist(&a, "ann").await;
    assert!(waited < Duration::from_millis(300), "{waited:?}");
    drop(ann);
    time::sleep(Duration::from_millis(10)).await;
    // Its own node knows at once.
    recorded(&deployment, a.relay.node_id()).await;
    Guest::connect(&a, "ann").settled().await;
}

/// What an arbiter or a hook does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Yes,
    No,
    Panic,
    /// No, so much later.
    Wait(Duration),
    /// Yes, so much later.
    Late(Duration),
}

impl Does {
    async fn answer(self) -> bool {
        match self {
            Self::Yes => true,
            Self::No => false,
            Self::Panic => panic!("the host's own fault"),
            Self::Wait(span) | Self::Late(span) => {
                time::sleep(span).await;
                self == Self::Late(span)
            }
        }
    }
}

const FOR_EVER: Does = Does::Wait(Duration::from_secs(1 << 30));

#[derive(Debug)]
struct Decides(Does);

#[async_trait]
impl Arbiter for Decides {
    async fn decide(&self, newcomer: &Newcomer, present: &ConnectionId) -> Stays {
        assert_eq!(newcomer.user(), &user("ann"));
        assert_ne!(newcomer.connection, *present);
        if self.0.answer().await { Stays::Newcomer } else { Stays::Present }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_store_learns_of_late_does_not_replace_a_newer_one() {
    let asking = SecondConnection::Ask(Arc::new(Decides(Does::Yes)));
    let policies = [SecondConnection::Replace, asking];
    for (policy, client_goes) in
        policies.iter().flat_map(|policy| [(policy, true), (policy, false)])
    {
        let deployment = Deployment::new();
        let with = |builder: RelayBuilder| builder.second_connection(policy.clone());
        let (a, b) = (deployment.node_with(with).await, deployment.node_with(with).await);
        let mut slow = Trouble::NONE;
        slow.delay = Duration::from_secs(4);
        a.faults.set(slow);
        let mut events = a.relay.events();
        let mut older = Some(Guest::connect_quiet(&a, "ann"));
        time::sleep(Duration::from_millis(10)).await;
        if client_goes {
            older = None;
        }
        let mut newer = Guest::connect(&b, "ann");
        newer.settled().await;
        let refused = next(&mut events).await;
        assert!(matches!(refused, Event::ConnectionRefused { .. }), "{policy:?}: {refused:?}");
        if let Some(older) = &mut older {
            older.expect_close(4409).await;
        }
        newer.settled().await;
        let known = deployment.store.user(&user("ann")).await.unwrap().connection.unwrap();
        assert_eq!(known.node(), b.relay.node_id());
        a.faults.set(Trouble::NONE);
        let _newest = Guest::connect(&a, "ann");
        newer.expect_close(4409).await;
    }
}

/// Whom the store had lost when the second one came.
#[tokio::test(start_paused = true)]
async fn a_second_connection_after_a_loss_stays_only_where_it_replaces() {
    let asking = SecondConnection::Ask(Arc::new(Decides(Does::No)));
    for policy in [SecondConnection::Replace, SecondConnection::Refuse, asking] {
        let deployment = Deployment::new();
        let with = |builder: RelayBuilder| builder.second_connection(policy.clone());
        let (a, b) = (deployment.node_with(with).await, deployment.node_with(with).await);
        let mut first = Guest::connect(&a, "ann");
        first.settled().await;
        time::sleep(Duration::from_secs(1)).await;
        deployment.store.lose_everything();
        let mut second = Guest::connect(&b, "ann");
        let replaces = matches!(policy, SecondConnection::Replace);
        let (stays, goes) =
            if replaces { (&mut second, &mut first) } else { (&mut first, &mut second) };
        goes.expect_close(4409).await;
        stays.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_host_decides_which_connection_stays() {
    for (does, first, second) in [
        (Does::Yes, Some(4409), None),
        (Does::No, None, Some(4409)),
        (Does::Wait(Duration::from_secs(4)), None, Some(4409)),
        (FOR_EVER, None, Some(4503)),
        (Does::Panic, None, Some(1011)),
    ] {
        let deployment = Deployment::new();
        let asking = |builder: RelayBuilder| {
            builder.second_connection(SecondConnection::Ask(Arc::new(Decides(does))))
        };
        let (a, b) = (deployment.node_with(asking).await, deployment.node_with(asking).await);
        let mut ann = Guest::connect(&a, "ann");
        ann.settled().await;
        let came = Instant::now();
        let mut newcomer = Guest::connect(&b, "ann");
        for (guest, close) in [(&mut ann, first), (&mut newcomer, second)] {
            if let Some(code) = close {
                guest.expect_close(code).await;
            }
        }
        let expected = match does {
            FOR_EVER => 5,
            Does::Wait(span) => span.as_secs(),
            _ => 0,
        };
        assert_eq!(came.elapsed().as_secs(), expected, "{does:?}");
        let (stays, on) = if first.is_none() { (&mut ann, &a) } else { (&mut newcomer, &b) };
        stays.expect_nothing().await;
        let there = deployment.store.user(&user("ann")).await.unwrap().connection.unwrap();
        assert_eq!(there.node(), on.relay.node_id(), "{does:?}");
        // The node lives.
        Guest::connect(&b, "bob").settled().await;
    }
}

/// Asks once more about whoever came while it thought.
#[derive(Debug)]
struct Slow;

#[async_trait]
impl Arbiter for Slow {
    async fn decide(&self, _: &Newcomer, _: &ConnectionId) -> Stays {
        time::sleep(Duration::from_secs(2)).await;
        Stays::Newcomer
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_about_the_connection_that_was_asked_about() {
    let deployment = Deployment::new();
    let slow =
        |builder: RelayBuilder| builder.second_connection(SecondConnection::Ask(Arc::new(Slow)));
    let node = deployment.node_with(slow).await;
    let mut first = Guest::connect(&node, "ann");
    first.settled().await;
    let mut second = Guest::connect(&node, "ann");
    time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let mut third = Guest::connect(&node, "ann");
    first.expect_close(4409).await;
    second.settled().await;
    second.expect_close(4409).await;
    third.settled().await;
    assert_eq!(began.elapsed().as_secs(), 4, "asked about the first, then about the second");
}

#[derive(Debug, Default)]
struct Doorkeeper {
    connection: Option<Does>,
    session: Option<Does>,
    saw_v1: AtomicBool,
}

impl Doorkeeper {
    fn of(connection: Does) -> Self {
        Self { connection: Some(connection), ..Self::default() }
    }
}

async fn says(does: Option<Does>) -> Result<(), CloseReason> {
    match does.unwrap_or(Does::Yes).answer().await {
        true => Ok(()),
        false => Err(CloseReason::new("come back on Monday").unwrap()),
    }
}

#[async_trait]
impl Hooks for Doorkeeper {
    async fn before_connection(&self, newcomer: &Newcomer) -> Result<(), CloseReason> {
        self.saw_v1.fetch_or(newcomer.client.dialect == Dialect::V1, Ordering::SeqCst);
        if *newcomer.user() == user("regular") {
            return Ok(());
        }
        says(self.connection).await
    }

    async fn before_session(&self, session: &SessionRecord) -> Result<(), CloseReason> {
        assert_eq!(session.participants[0].user, user("ann"));
        says(self.session).await
    }
}

fn kept_by(hooks: Doorkeeper) -> impl FnOnce(RelayBuilder) -> RelayBuilder {
    |builder| builder.hooks(Arc::new(hooks))
}

#[tokio::test(start_paused = true)]
async fn the_host_is_asked_before_a_connection_is_admitted() {
    for (does, code, reason, after) in [
        (Does::No, 1008, "come back on Monday", 0),
        (Does::Wait(Duration::from_secs(4)), 1008, "come back on Monday", 4),
        (FOR_EVER, 4503, "service unavailable", 5),
        (Does::Panic, 1011, "internal error", 0),
    ] {
        let deployment = Deployment::new();
        let node = deployment.node_with(kept_by(Doorkeeper::of(does))).await;
        let mut events = node.relay.events();
        let came = Instant::now();
        let mut ann = Guest::connect(&node, "ann");
        // Nobody else waits meanwhile.
        Guest::connect(&node, "regular").settled().await;
        assert!(came.elapsed() < Duration::from_millis(10));
        match ann.next().await {
            Received::Closed(Some(close)) => {
                assert_eq!((close.code, &*close.reason), (code, reason), "{does:?}");
            }
            other => panic!("a close was expected, not {other:?}"),
        }
        assert_eq!(came.elapsed().as_secs(), after, "{does:?}");
        time::sleep(Duration::from_millis(10)).await;
        let known = deployment.store.user(&user("ann")).await.unwrap();
        assert_eq!(known.connection, None);
        let told = loop {
            match next(&mut events).await {
                Event::ConnectionRefused { user: who, reason, text, .. } if who == user("ann") => {
                    let said = if code == 1008 { "come back on Monday" } else { "" };
                    assert_eq!(text.as_str(), said);
                    break reason;
                }
                Event::UserConnected { user: who, .. } => assert_eq!(who, user("regular")),
                other => assert!(matches!(other, Event::UserDisconnected { .. }), "{other:?}"),
            }
        };
        assert_eq!(told.close_code().map(|code| code.code()), Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_while_the_host_thinks_never_was_there() {
    let deployment = Deployment::new();
    let admits_late = Doorkeeper::of(Does::Late(Duration::from_secs(4)));
    let node = deployment.node_with(kept_by(admits_late)).await;
    let mut events = node.relay.events();
    let (server, client) = wire(16);
    let relay = node.relay.clone();
    let serving = tokio::spawn(async move {
        relay.serve(server, Identity::new(user("ann"))).await;
    });
    time::sleep(Duration::from_secs(1)).await;
    serving.abort();
    let told = next(&mut events).await;
    let lost = matches!(told, Event::ConnectionRefused { reason: DisconnectReason::Lost, .. });
    assert!(lost, "{told:?}");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_the_dialect() {
    let hooks = Arc::new(Doorkeeper::default());
    let node = Deployment::new().node_with(|builder| builder.hooks(hooks.clone())).await;
    Guest::connect(&node, "ann").settled().await;
    assert!(!hooks.saw_v1.load(Ordering::SeqCst));
    let (server, _client) = wire(16);
    let relay = node.relay.clone();
    let client = Client::new(Identity::new(user("bob"))).speaking(Dialect::V1);
    tokio::spawn(async move { relay.serve(server, client).await });
    time::sleep(Duration::from_millis(10)).await;
    assert!(hooks.saw_v1.load(Ordering::SeqCst));
}

/// Whatever else happens to its connection meanwhile.
#[tokio::test(start_paused = true)]
async fn who_is_refused_comes_into_no_session() {
    let deployment = Deployment::new();
    let refuses_late = Doorkeeper::of(Does::Wait(Duration::from_secs(4)));
    let (a, b) = (deployment.node_with(kept_by(refuses_late)).await, deployment.node().await);
    let mut bob = Guest::connect(&b, "bob");
    let mut regular = Guest::connect(&a, "regular");
    let session = b.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    bob.expect_match(&session, "ann", false).await;
    regular.settled().await;
    let mut ann = Guest::connect(&a, "ann");
    time::sleep(Duration::from_secs(1)).await;
    // Notices to her node are lost, so all its connections look up how things are.
    let mut losing = Trouble::NONE;
    losing.losses = 1.0;
    a.faults.set(losing);
    assert!(b.relay.disconnect(&user("regular"), CloseReason::default()).await.unwrap());
    ann.expect_close(1008).await;
    bob.expect_nothing().await;
    let record = b.relay.session(&session).await.unwrap().unwrap();
    assert_eq!(record.revision, 1, "only Bob was attached: {record:?}");
}

#[tokio::test(start_paused = true)]
async fn the_host_is_asked_before_a_session_opens() {
    for does in [Does::No, Does::Panic, FOR_EVER] {
        let deployment = Deployment::new();
        let hooks = Doorkeeper { session: Some(does), ..Doorkeeper::default() };
        let node = deployment.node_with(kept_by(hooks)).await;
        let mut ann = Guest::connect(&node, "ann");
        ann.settled().await;
        let (id, began) = (SessionId::new("lesson").unwrap(), Instant::now());
        let opened = node.relay.open(NewSession::between(&user("ann"), &user("bob")).id(&id)).await;
        match (does, opened) {
            (Does::No, Err(OpenError::Refused(reason))) => {
                assert_eq!(reason.as_str(), "come back on Monday");
            }
            (Does::Panic, Err(OpenError::Hook(HookError::Panicked))) => {}
            (_, Err(OpenError::Hook(HookError::TimedOut))) => {
                assert_eq!(began.elapsed(), Duration::from_secs(5));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(node.relay.session(&id).await.unwrap(), None);
        let memberships: Vec<Membership> =
            deployment.store.user(&user("ann")).await.unwrap().memberships;
        assert_eq!(memberships, []);
        ann.expect_nothing().await;
    }
}

/// Takes three seconds for the first newcomer, and none for others.
#[derive(Debug, Default)]
struct SlowAtFirst(AtomicBool);

#[async_trait]
impl Hooks for SlowAtFirst {
    async fn before_connection(&self, _: &Newcomer) -> Result<(), CloseReason> {
        if !self.0.swap(true, Ordering::SeqCst) {
            time::sleep(Duration::from_secs(3)).await;
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_is_gone_before_it_is_admitted_replaces_nobody() {
    let deployment = Deployment::new();
    let slow = |builder: RelayBuilder| builder.hooks(Arc::new(SlowAtFirst::default()));
    let node = deployment.node_with(slow).await;
    let gone = Guest::connect(&node, "ann");
    time::sleep(Duration::from_secs(1)).await;
    drop(gone);
    let mut ann = Guest::connect(&node, "ann");
    ann.expect_nothing().await;
}

/// As after a node was frozen: it finds connections that were given up meanwhile.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_over_before_it_is_served_replaces_nobody() {
    let node = Deployment::new().node().await;
    let mut ann = Guest::connect(&node, "ann");
    ann.settled().await;
    let (server, gone) = wire(16);
    gone.send(r#"{"type":"heartbeat"}"#).await;
    drop(gone);
    let reason = node.relay.serve(server, Identity::new(user("ann"))).await;
    assert_eq!(reason, DisconnectReason::Lost);
    ann.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_before_it_is_admitted_is_heard_afterwards() {
    let deployment = Deployment::new();
    let slow = |builder: RelayBuilder| builder.hooks(Arc::new(SlowAtFirst::default()));
    let node = deployment.node_with(slow).await;
    let mut ann = Guest::connect_quiet(&node, "ann");
    for id in 0..100 {
        ann.send(format!(r#"{{"type":"heartbeat","id":{id}}}"#)).await;
    }
    for id in 0..100 {
        assert_eq!(ann.message().await["id"], id);
    }
}
