//! One node: how connections and sessions begin and end, and what the host sees of it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use signaling_core::{
    auth::Identity,
    event::{Event, Missed},
    frame::{CloseReason, Frame, TransportError},
    id::SessionId,
    reason::{DisconnectReason, EndReason},
    relay::{NewSession, OpenError, Opened, Shutdown},
    session::Status,
    store::SessionStore,
    testing::{
        fault::Trouble,
        wire::{Received, Wire, wire},
    },
    time::Timestamp,
};
use tokio::{
    task,
    time::{self, Instant},
};

use crate::harness::{Deployment, Guest, Node, user};

async fn pair(node: &Node) -> (Guest, Guest, SessionId) {
    let (mut ann, mut bob) = (Guest::connect(node, "ann"), Guest::connect(node, "bob"));
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    bob.expect_match(&session, "ann", false).await;
    (ann, bob, session)
}

#[tokio::test(start_paused = true)]
async fn opening_is_idempotent_on_a_given_id() {
    let node = Deployment::new().node().await;
    let id = SessionId::new("lesson:1").unwrap();
    let (ann, bob, eve) = (user("ann"), user("bob"), user("eve"));
    let open = async |a, b| {
        let new = NewSession::between(a, b).id(&id);
        node.relay.open(new).await.map(|(_, opened)| opened)
    };
    assert_eq!(open(&ann, &bob).await.unwrap(), Opened::New);
    assert_eq!(open(&ann, &bob).await.unwrap(), Opened::Existing);
    assert!(matches!(open(&ann, &eve).await, Err(OpenError::Conflict)));
    assert!(matches!(open(&bob, &ann).await, Err(OpenError::Conflict)));
    assert!(matches!(open(&ann, &ann).await, Err(OpenError::SameUser(_))));
    assert!(node.relay.close_session(&id, CloseReason::default()).await.unwrap());
    assert!(!node.relay.close_session(&id, CloseReason::default()).await.unwrap());
    assert_eq!(open(&ann, &eve).await.unwrap(), Opened::New);
}

#[tokio::test(start_paused = true)]
async fn a_user_is_in_eight_sessions_at_most() {
    let node = Deployment::new().node().await;
    let ann = user("ann");
    let mut sessions = Vec::new();
    for n in 0..8 {
        sessions.push(node.relay.open_session(&ann, &user(&n.to_string())).await.unwrap());
    }
    let ninth = node.relay.open_session(&user("x"), &ann).await;
    assert!(matches!(ninth, Err(OpenError::TooManySessions(user)) if user == ann));
    // The other one of the refused session is free again.
    for n in 0..8 {
        node.relay.open_session(&user("x"), &user(&format!("y{n}"))).await.unwrap();
    }
    node.relay.close_session(&sessions[3], CloseReason::default()).await.unwrap();
    node.relay.open_session(&ann, &user("z")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_heartbeat_a_participant_is_disconnected_after_exactly_thirty_seconds() {
    let node = Deployment::new().node().await;
    let (mut ann, _bob, session) = pair(&node).await;
    let (server, mut silent) = wire(16);
    let connected = Instant::now();
    let relay = node.relay.clone();
    let served = tokio::spawn(async move {
        relay.serve(server, Identity::new(user("bob"))).await;
    });
    ann.expect("partner-disconnected").await;
    ann.expect_match(&session, "bob", true).await;
    // It reads and answers pings, and sends no heartbeat.
    loop {
        if let Received::Closed(close) = silent.receive().await {
            assert_eq!(close.unwrap().code, 4408);
            break;
        }
    }
    assert_eq!(connected.elapsed().as_secs(), 30);
    ann.expect("partner-disconnected").await;
    assert!(connected.elapsed() < Duration::from_millis(30_100), "{:?}", connected.elapsed());
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn heartbeats_reach_the_record_within_a_second() {
    let node = Deployment::new().node().await;
    let (mut ann, _bob, session) = pair(&node).await;
    for _ in 0..20 {
        time::sleep(Duration::from_millis(777)).await;
        ann.settled().await;
        let before = last_heartbeat(&node, &session).await;
        time::sleep(Duration::from_secs(1)).await;
        let after = last_heartbeat(&node, &session).await;
        assert!(after > before, "{before:?} {after:?}");
    }
}

async fn last_heartbeat(node: &Node, session: &SessionId) -> Option<Timestamp> {
    node.relay.session(session).await.unwrap().unwrap().participants[0].last_heartbeat
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_participant_stays_away_ends_after_sixty_seconds() {
    let node = Deployment::new().node().await;
    let (mut ann, bob, session) = pair(&node).await;
    let mut events = node.relay.events();
    drop(bob);
    ann.expect("partner-disconnected").await;
    let lost = Instant::now();
    loop {
        if let Some(Event::SessionEnded { reason, .. }) = events.next().await.unwrap() {
            assert_eq!(reason, EndReason::Abandoned);
            break;
        }
    }
    let stayed = lost.elapsed();
    assert!(stayed >= Duration::from_secs(60) && stayed <= Duration::from_secs(62), "{stayed:?}");
    ann.signal(&session, "offer", "o").await;
    ann.expect("error unknown-session").await;
    assert_eq!(node.relay.session(&session).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_partner_that_never_comes_is_told_at_the_end() {
    let node = Deployment::new().node().await;
    let mut ann = Guest::connect(&node, "ann");
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    let opened = Instant::now();
    ann.expect_match(&session, "bob", true).await;
    ann.signal(&session, "offer", "o").await;
    ann.expect("partner-disconnected").await;
    let waited = opened.elapsed();
    assert!(waited >= Duration::from_secs(60) && waited <= Duration::from_secs(62), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_in_time_finds_its_partner() {
    let node = Deployment::new().node().await;
    let (mut ann, bob, session) = pair(&node).await;
    drop(bob);
    ann.expect("partner-disconnected").await;
    time::sleep(Duration::from_secs(58)).await;
    assert_eq!(node.relay.session(&session).await.unwrap().unwrap().status(), Status::Waiting);
    let mut bob = Guest::connect(&node, "bob");
    bob.expect_match(&session, "ann", false).await;
    ann.expect_match(&session, "bob", true).await;
    time::sleep(Duration::from_secs(10)).await;
    assert_eq!(node.relay.session(&session).await.unwrap().unwrap().status(), Status::Active);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_and_its_partner_told() {
    let node = Deployment::new().node().await;
    let (server, mut lazy) = wire(4);
    let relay = node.relay.clone();
    let served = tokio::spawn(async move { relay.serve(server, Identity::new(user("bob"))).await });
    let mut ann = Guest::connect(&node, "ann");
    let session = node.relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    assert!(matches!(lazy.receive().await, Received::Text(_)));
    let began = Instant::now();
    for _ in 0..20 {
        ann.signal(&session, "ice-candidate", "c").await;
    }
    ann.settled().await;
    // What waits goes out as long as he reads now and then.
    for _ in 0..3 {
        time::sleep(Duration::from_secs(8)).await;
        assert!(matches!(lazy.receive().await, Received::Text(_)));
        lazy.send(r#"{"type":"heartbeat"}"#).await;
    }
    ann.settled().await;
    let read_last = began.elapsed();
    ann.expect("partner-disconnected").await;
    assert_eq!(began.elapsed(), read_last + Duration::from_secs(10));
    assert_eq!(served.await.unwrap(), DisconnectReason::ReadsTooSlowly);
}

#[tokio::test(start_paused = true)]
async fn one_participants_noise_does_not_hold_up_another_session() {
    let node = Deployment::new().node().await;
    let (ann, mut bob, _) = pair(&node).await;
    let mut cat = Guest::connect(&node, "cat");
    let second = node.relay.open_session(&user("cat"), &user("bob")).await.unwrap();
    cat.expect_match(&second, "bob", true).await;
    bob.expect_match(&second, "cat", false).await;
    for _ in 0..100 {
        ann.send("noise").await;
    }
    cat.signal(&second, "offer", "o").await;
    bob.expect("partner-disconnected").await;
    bob.expect("offer o").await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_ends_its_connection() {
    let node = Deployment::new().node().await;
    let start = Timestamp::from_millis(1_700_000_000_000);
    let identity = Identity::new(user("ann")).expiring(start.after(Duration::from_secs(100)));
    let connected = Instant::now();
    let mut ann = Guest::connect_as(&node.relay, identity);
    ann.expect_close(4401).await;
    assert_eq!(connected.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_cleanly() {
    let node = Deployment::with(|config| config.max_connections = Some(2)).node().await;
    let mut ann = Guest::connect(&node, "ann");
    let mut bob = Guest::connect(&node, "bob");
    ann.settled().await;
    bob.settled().await;
    Guest::connect(&node, "cat").expect_close(4503).await;
    drop(bob);
    time::sleep(Duration::from_millis(1)).await;
    Guest::connect(&node, "cat").settled().await;
}

#[tokio::test(start_paused = true)]
async fn shutting_down_closes_everybody_and_writes_every_end() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let other = deployment.node().await;
    let (mut ann, mut bob, session) = pair(&node).await;
    let mut cat = Guest::connect(&other, "cat");
    let across = other.relay.open_session(&user("cat"), &user("ann")).await.unwrap();
    cat.expect_match(&across, "ann", true).await;
    ann.expect_match(&across, "cat", false).await;
    assert!(node.relay.is_ready());
    let shutdown = node.relay.shutdown(Duration::from_secs(10)).await;
    assert_eq!(shutdown, Shutdown::Complete);
    assert!(!node.relay.is_ready());
    assert_eq!(node.relay.connections(), 0);
    // Whoever is closed second may have seen the first one go.
    let mut ends = Vec::new();
    for guest in [&mut ann, &mut bob] {
        ends.push(loop {
            if let Received::Closed(close) = guest.next().await {
                break close.unwrap().code;
            }
        });
    }
    assert_eq!(ends, [1001, 1001]);
    cat.expect("partner-disconnected").await;
    let record = other.relay.session(&session).await.unwrap().unwrap();
    assert!(record.participants.iter().all(|p| p.connection().is_none()));
    assert!(!other.relay.is_connected(&user("ann")).await.unwrap());
    Guest::connect(&node, "eve").expect_close(1001).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_longer_than_it_may() {
    let node = Deployment::new().node().await;
    let (ann, _bob, _) = pair(&node).await;
    node.faults.cut(true);
    let began = Instant::now();
    assert_eq!(node.relay.shutdown(Duration::from_secs(5)).await, Shutdown::TimedOut);
    assert_eq!(began.elapsed().as_secs(), 5);
    drop(ann);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_drops_a_connection_midway_has_lost_it() {
    let node = Deployment::new().node().await;
    let (mut ann, _bob, session) = pair(&node).await;
    let (server, _client) = wire(16);
    let relay = node.relay.clone();
    let serving = tokio::spawn(async move {
        relay.serve(server, Identity::new(user("bob"))).await;
    });
    ann.expect("partner-disconnected").await;
    ann.expect_match(&session, "bob", true).await;
    serving.abort();
    ann.expect("partner-disconnected").await;
    time::sleep(Duration::from_millis(10)).await;
    assert!(!node.relay.is_connected(&user("bob")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_host_disconnects_a_user_and_its_session_waits() {
    let node = Deployment::new().node().await;
    let (mut ann, mut bob, session) = pair(&node).await;
    assert!(node.relay.is_connected(&user("bob")).await.unwrap());
    assert!(node.relay.disconnect(&user("bob"), CloseReason::default()).await.unwrap());
    bob.expect_close(1000).await;
    ann.expect("partner-disconnected").await;
    time::sleep(Duration::from_millis(10)).await;
    assert!(!node.relay.disconnect(&user("bob"), CloseReason::default()).await.unwrap());
    assert!(!node.relay.is_connected(&user("bob")).await.unwrap());
    Guest::connect(&node, "bob").expect_match(&session, "ann", false).await;
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_story_of_a_call() {
    let node = Deployment::new().node().await;
    let mut events = node.relay.events();
    let (mut ann, bob, session) = pair(&node).await;
    drop(bob);
    ann.expect("partner-disconnected").await;
    ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    ann.settled().await;
    let mut told = Vec::new();
    while let Ok(event) = time::timeout(Duration::from_secs(1), events.next()).await {
        told.push(match event.unwrap().unwrap() {
            Event::SessionOpened { initiator, responder, .. } => {
                format!("opened {initiator} {responder}")
            }
            Event::UserConnected { user, .. } => format!("there {user}"),
            Event::UserDisconnected { user, reason, .. } => format!("gone {user} {reason:?}"),
            Event::ParticipantConnected { .. } => "connected".to_owned(),
            Event::SessionActive { .. } => "active".to_owned(),
            Event::ParticipantDisconnected { user, reason, .. } => {
                format!("disconnected {user} {reason:?}")
            }
            Event::SessionEnded { reason, .. } => format!("ended {reason:?}"),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(
        told,
        [
            "opened ann bob",
            "there ann",
            "connected",
            "there bob",
            "connected",
            "active",
            "gone bob Lost",
            "disconnected bob Lost",
            "ended Left"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_was_lost_is_found_out() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let (mut gone, mut there) = (0, 0);
    for _ in 0..20 {
        let mut events = node.relay.events();
        let (mut ann, bob, session) = pair(&node).await;
        let mut failing = Trouble::NONE;
        failing.failures = 1.0;
        node.faults.set(failing);
        ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
        ann.expect("error unavailable").await;
        let left = Instant::now();
        node.faults.set(Trouble::NONE);
        if deployment.store.load(&session).await.unwrap().is_some() {
            there += 1;
            assert!(node.relay.close_session(&session, CloseReason::default()).await.unwrap());
        } else {
            gone += 1;
        }
        loop {
            let event = time::timeout(Duration::from_secs(60), events.next()).await;
            let event = event.expect("the end is told").unwrap();
            if matches!(&event, Some(Event::SessionEnded { session: id, .. }) if *id == session) {
                break;
            }
        }
        assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
        time::sleep(Duration::from_millis(10)).await;
        for name in ["ann", "bob"] {
            assert_eq!(deployment.store.user(&user(name)).await.unwrap().memberships, []);
        }
        drop((ann, bob));
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(gone > 0 && there > 0, "both outcomes: {gone} {there}");
}

#[tokio::test(start_paused = true)]
async fn missed_events_are_counted() {
    let node = Deployment::with(|config| config.event_capacity = 4).node().await;
    let mut events = node.relay.events();
    for n in 0..6 {
        let (a, b) = (user(&format!("a{n}")), user(&format!("b{n}")));
        node.relay.open_session(&a, &b).await.unwrap();
    }
    assert_eq!(events.next().await, Err(Missed(2)));
    for _ in 0..4 {
        assert!(events.next().await.unwrap().is_some());
    }
}

/// A transport of which nothing is read until a certain moment, and which wakes nobody then.
struct Held {
    wire: Wire,
    until: Instant,
}

impl Stream for Held {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if Instant::now() < self.until {
            return Poll::Pending;
        }
        self.wire.poll_next_unpin(cx)
    }
}

impl Sink<Frame> for Held {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.wire.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        self.wire.start_send_unpin(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.wire.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.wire.poll_close_unpin(cx)
    }
}

/// As after a process was frozen: a deadline is due, and what was sent before it waits to be read.
#[tokio::test(start_paused = true)]
async fn what_waits_to_be_read_counts_before_a_deadline() {
    let node = Deployment::new().node().await;
    let (wire, mut ann) = wire(64);
    let server = Held { wire, until: Instant::now() + Duration::from_millis(24_900) };
    let relay = node.relay.clone();
    tokio::spawn(async move { relay.serve(server, Identity::new(user("ann"))).await });
    for id in 1..40 {
        ann.send(format!(r#"{{"type":"heartbeat","id":{id}}}"#)).await;
    }
    for id in 1..40 {
        let ack = format!(r#"{{"type":"heartbeat-ack","id":{id}}}"#);
        assert_eq!(ann.receive().await, Received::Text(ack));
    }
}

/// So many sessions are in the store.
fn stored(deployment: &Deployment) -> usize {
    let shown = format!("{:?}", deployment.store);
    let sessions = shown.split("sessions: ").nth(1).and_then(|rest| rest.split(',').next());
    sessions.unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn abandoned_sessions_are_ended_as_fast_as_they_come_and_others_have_their_turns() {
    const SESSIONS: usize = 6_000;
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let opened = Instant::now();
    for n in 0..SESSIONS {
        let (ann, bob) = (user(&format!("ann-{n}")), user(&format!("bob-{n}")));
        node.relay.open_session(&ann, &bob).await.unwrap();
    }
    time::sleep_until(opened + Duration::from_secs(60) - Duration::from_millis(10)).await;
    let (mut before, mut most) = (stored(&deployment), 0);
    assert_eq!(before, SESSIONS);
    // One turn of the scheduler each. Time passes by itself only where nobody has anything to do.
    for turn in 0.. {
        match before {
            SESSIONS => time::advance(Duration::from_millis(1)).await,
            0 => break,
            _ => tokio::task::yield_now().await,
        }
        let now = stored(&deployment);
        (before, most) = (now, most.max(before - now));
        if turn > 2 * SESSIONS {
            break;
        }
    }
    let late = opened.elapsed() - Duration::from_secs(60);
    assert!(late < Duration::from_millis(1_100), "{late:?}");
    assert_eq!(before, 0, "they wait for a later look");
    assert!(most <= 32, "{most} were ended in one turn");
}

/// A transport from which there is always one more of this frame to read.
struct Flood(Wire, Frame);

impl Stream for Flood {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(self.1.clone())))
    }
}

impl Sink<Frame> for Flood {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        self.0.start_send_unpin(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_close_unpin(cx)
    }
}

/// How a flood of `frame` ends, with no limit on messages and a token for `life`. Panics if it goes
/// on for 60 s.
async fn end_of_flood(frame: Frame, life: Duration) -> DisconnectReason {
    let node = Deployment::with(|config| config.max_signals_per_second = 0).node().await;
    let start = Timestamp::from_millis(1_700_000_000_000);
    let identity = Identity::new(user("ann")).expiring(start.after(life));
    let (server, mut ann) = wire(64);
    let relay = node.relay.clone();
    let served = tokio::spawn(async move { relay.serve(Flood(server, frame), identity).await });
    // Paused time does not pass by itself while a task is always ready.
    for _ in 0..60 {
        for _ in 0..40 {
            task::yield_now().await;
        }
        time::advance(Duration::from_secs(1)).await;
        if served.is_finished() {
            assert!(matches!(ann.receive().await, Received::Closed(_)));
            return served.await.unwrap();
        }
    }
    panic!("it goes on");
}

#[tokio::test(start_paused = true)]
async fn an_endless_flood_does_not_outlive_its_token() {
    let end =
        end_of_flood(Frame::Text(r#"{"type":"heartbeat"}"#.into()), Duration::from_secs(5)).await;
    assert_eq!(end, DisconnectReason::TokenExpired);
}

#[tokio::test(start_paused = true)]
async fn an_endless_flood_without_heartbeats_closes_as_silence_does() {
    let end = end_of_flood(Frame::Pong(Bytes::new()), Duration::from_secs(3600)).await;
    assert_eq!(end, DisconnectReason::HeartbeatTimeout);
}
