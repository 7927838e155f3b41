//! Who has its turn when: what is done at once, what comes first, and who waits when thousands end.

use std::pin::pin;

use futures::{FutureExt, poll};
use signaling_core::{
    Relay,
    auth::Identity,
    event::{Event, Missed},
    reason::DisconnectReason,
    testing::{
        guest::Nobody,
        wire::{Client, Received, wire},
    },
};
use tokio::task::yield_now;

use crate::harness::user;

/// With its sessions in memory, and no fault between: nothing there has to be waited for.
async fn relay() -> Relay {
    Relay::builder(Nobody).start().await.unwrap()
}

fn received(client: &mut Client) -> Option<String> {
    match client.receive().now_or_never()? {
        Received::Text(text) => Some(text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_match_in_memory_is_told_without_a_wait() {
    let relay = relay().await;
    relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    let (wire, mut ann) = wire(4);
    let mut serving = pin!(relay.serve(wire, Identity::new(user("ann"))));
    assert!(poll!(&mut serving).is_pending());
    let told = received(&mut ann).expect("told at once");
    assert!(told.contains(r#""match-found""#), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_partner_learns_of_an_end_before_the_store_does() {
    let relay = relay().await;
    let session = relay.open_session(&user("ann"), &user("bob")).await.unwrap();
    let ((ann_wire, ann), (bob_wire, mut bob)) = (wire(4), wire(4));
    let mut ann_serving = pin!(relay.serve(ann_wire, Identity::new(user("ann"))));
    let mut bob_serving = pin!(relay.serve(bob_wire, Identity::new(user("bob"))));
    for _ in 0..2 {
        assert!(poll!(&mut ann_serving).is_pending());
        assert!(poll!(&mut bob_serving).is_pending());
    }
    let absent = async || {
        let record = relay.session(&session).await.unwrap().unwrap();
        record.participants.iter().filter(|there| there.connection().is_none()).count()
    };
    assert!(received(&mut bob).is_some_and(|told| told.contains(r#""match-found""#)));
    assert_eq!(absent().await, 0);

    drop(ann);
    assert!(poll!(&mut ann_serving).is_pending());
    assert!(poll!(&mut bob_serving).is_pending());
    let told = received(&mut bob).expect("told first");
    assert!(told.contains(r#""partner-disconnected""#), "{told}");
    assert_eq!(absent().await, 0);

    assert!(poll!(&mut ann_serving).is_ready());
    assert_eq!(absent().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_dropped_while_it_ends_is_written_off() {
    let relay = relay().await;
    let (wire, ann) = wire(4);
    {
        let mut serving = pin!(relay.serve(wire, Identity::new(user("ann"))));
        assert!(poll!(&mut serving).is_pending());
        assert!(relay.is_connected(&user("ann")).await.unwrap());
        drop(ann);
        assert!(poll!(&mut serving).is_pending());
    }
    yield_now().await;
    assert!(!relay.is_connected(&user("ann")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn when_all_are_lost_at_once_others_have_their_turn_in_between() {
    const CLIENTS: usize = 300;
    let relay = relay().await;
    let mut events = relay.events();
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let (wire, client) = wire(4);
        let (relay, user) = (relay.clone(), user(&format!("user-{n}")));
        tokio::spawn(async move { relay.serve(wire, Identity::new(user)).await });
        clients.push(client);
        yield_now().await;
    }
    let mut lost_since = || {
        let mut lost = 0;
        while let Some(event) = events.next().now_or_never() {
            match event {
                Ok(Some(Event::UserDisconnected { reason: DisconnectReason::Lost, .. })) => {
                    lost += 1
                }
                Ok(Some(_)) => {}
                Ok(None) => panic!("no relay"),
                Err(Missed(missed)) => panic!("{missed} events missed"),
            }
        }
        lost
    };
    assert_eq!(lost_since(), 0);
    drop(clients);
    let (mut lost, mut most) = (0, 0);
    while lost < CLIENTS {
        yield_now().await;
        let now = lost_since();
        (lost, most) = (lost + now, most.max(now));
    }
    assert!(most < 10, "{most} in one turn");
}
