//! What a host gives a session to keep, and what it says when it ends something.

use std::time::Duration;

use signaling_core::{
    event::{Event, Events},
    frame::CloseReason,
    id::SessionId,
    reason::{DisconnectReason, EndReason},
    relay::{NewSession, OpenError, Opened},
    session::Metadata,
    store::SessionStore,
    testing::{fault::Trouble, wire::Received},
};
use tokio::time;

use crate::harness::{Deployment, Guest, matched, user};

fn metadata(text: &str) -> Metadata {
    Metadata::new(text).unwrap()
}

fn said(text: &str) -> CloseReason {
    CloseReason::new(text).unwrap()
}

/// The next event that `wanted` makes something of.
async fn event<T>(events: &mut Events, wanted: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let next = time::timeout(Duration::from_secs(60), events.next()).await;
        let next = next.expect("an event in time").unwrap().expect("the relay is there");
        if let Some(found) = wanted(next) {
            return found;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_there_for_hosts_on_every_node_and_for_no_client() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let (mut opening, mut ending) = (a.relay.events(), b.relay.events());
    let mut ann = Guest::connect_v1(&a, "ann");
    let given = metadata(r#"{"lesson":7}"#);
    let new = NewSession::between(&user("ann"), &user("bob")).metadata(given.clone());
    let (session, opened) = a.relay.open(new).await.unwrap();
    assert_eq!(opened, Opened::New);
    let told = event(&mut opening, |event| match event {
        Event::SessionOpened { metadata, .. } => Some(metadata),
        _ => None,
    });
    assert_eq!(told.await, Some(given.clone()));
    ann.expect_match(&session, "bob", true).await;
    let mut bob = Guest::connect(&b, "bob");
    bob.expect_match(&session, "ann", false).await;
    for node in [&a, &b] {
        let record = node.relay.session(&session).await.unwrap().unwrap();
        assert_eq!(record.metadata, Some(given.clone()));
    }
    bob.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    let told = event(&mut ending, |event| match event {
        Event::SessionEnded { metadata, .. } => Some(metadata),
        _ => None,
    });
    assert_eq!(told.await, Some(given));
}

#[tokio::test(start_paused = true)]
async fn the_first_metadata_stays() {
    let node = Deployment::new().node().await;
    let (ann, bob) = (user("ann"), user("bob"));
    let id = SessionId::new("lesson:1").unwrap();
    let open = async |text: Option<&str>| {
        let mut new = NewSession::between(&ann, &bob).id(&id);
        if let Some(text) = text {
            new = new.metadata(metadata(text));
        }
        node.relay.open(new).await.unwrap()
    };
    assert_eq!(open(Some("first")).await, (id.clone(), Opened::New));
    for other in [Some("second"), None, Some("first")] {
        assert_eq!(open(other).await, (id.clone(), Opened::Existing));
        let record = node.relay.session(&id).await.unwrap().unwrap();
        assert_eq!(record.metadata, Some(metadata("first")));
    }
    node.relay.close_session(&id, CloseReason::default()).await.unwrap();
    assert_eq!(open(None).await, (id.clone(), Opened::New));
    assert_eq!(node.relay.session(&id).await.unwrap().unwrap().metadata, None);
}

#[tokio::test(start_paused = true)]
async fn metadata_comes_back_with_a_record_that_the_store_lost() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let mut ann = Guest::connect(&node, "ann");
    let new = NewSession::between(&user("ann"), &user("bob")).metadata(metadata("kept"));
    let (session, _) = node.relay.open(new).await.unwrap();
    ann.expect_match(&session, "bob", true).await;
    ann.settled().await;
    deployment.store.lose_everything();
    assert_eq!(node.relay.session(&session).await.unwrap(), None);
    time::sleep(Duration::from_secs(30)).await;
    let record = node.relay.session(&session).await.unwrap().expect("it is opened again");
    assert_eq!(record.metadata, Some(metadata("kept")));
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_client_reads_what_the_host_says() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut events = b.relay.events();
    for (text, shown) in [("see you tomorrow", "see you tomorrow"), ("", "closed normally")] {
        let (_ann, mut bob, session) = matched(&a, &b).await;
        assert!(a.relay.disconnect(&user("bob"), said(text)).await.unwrap());
        match bob.next().await {
            Received::Closed(Some(frame)) => {
                assert_eq!((frame.code, &*frame.reason), (1000, shown));
            }
            other => panic!("{other:?}"),
        }
        let told = event(&mut events, |event| match event {
            Event::ParticipantDisconnected { reason, text, .. } => Some((reason, text)),
            _ => None,
        });
        assert_eq!(told.await, (DisconnectReason::ByHost, said(text)));
        assert!(a.relay.close_session(&session, CloseReason::default()).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_host_says_of_a_session_it_ends_is_in_the_event() {
    let deployment = Deployment::new();
    let (a, b) = (deployment.node().await, deployment.node().await);
    let mut events = b.relay.events();
    for text in ["reported", ""] {
        let (mut ann, mut bob, session) = matched(&a, &b).await;
        assert!(b.relay.close_session(&session, said(text)).await.unwrap());
        let told = event(&mut events, |event| match event {
            Event::SessionEnded { reason, text, .. } => Some((reason, text)),
            _ => None,
        });
        assert_eq!(told.await, (EndReason::ByHost, said(text)));
        ann.expect("partner-disconnected").await;
        bob.expect("partner-disconnected").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_which_the_store_says_nothing_can_be_opened_once_more() {
    let deployment = Deployment::new();
    let node = deployment.node().await;
    let (ann, bob) = (user("ann"), user("bob"));
    let mut failing = Trouble::NONE;
    failing.failures = 1.0;
    let (mut gone, mut there) = (0, 0);
    for _ in 0..20 {
        node.faults.set(failing);
        let Err(OpenError::Store { session, .. }) = node.relay.open_session(&ann, &bob).await
        else {
            panic!("every call fails");
        };
        node.faults.set(Trouble::NONE);
        let (_, opened) =
            node.relay.open(NewSession::between(&ann, &bob).id(&session)).await.unwrap();
        match opened {
            Opened::New => gone += 1,
            Opened::Existing => there += 1,
        }
        assert!(deployment.store.load(&session).await.unwrap().is_some());
        assert!(node.relay.close_session(&session, CloseReason::default()).await.unwrap());
    }
    assert!(gone > 0, "{gone} {there}");
}
