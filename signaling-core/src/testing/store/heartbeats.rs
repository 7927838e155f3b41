//! Heartbeats: written where they belong, and what they find out.

use std::time::Duration;

use super::{Names, Outcome, Store, attach, connect, last_heartbeats};
use crate::{
    id::SessionId,
    session::{Place, Role},
    store::Written,
};

pub(super) async fn heartbeats_move_forward_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let record = attach(store, &names, &record, Role::Initiator, 1).await?;
    assert_eq!(last_heartbeats(store, &names).await?, [None, None]);
    let later = names.now.after(Duration::from_secs(10));
    for at in [names.now, later, names.now] {
        let heartbeat = names.heartbeat(1, Role::Initiator, at);
        store.record_heartbeats(&[heartbeat]).await?;
    }
    assert_eq!(last_heartbeats(store, &names).await?, [Some(later), None]);
    // A write of the record that knows of none leaves them alone.
    attach(store, &names, &record, Role::Responder, 2).await?;
    assert_eq!(last_heartbeats(store, &names).await?, [Some(later), None]);
    Ok(())
}

pub(super) async fn heartbeats_are_for_who_is_attached(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    attach(store, &names, &record, Role::Initiator, 1).await?;
    let foreign = [
        names.heartbeat(2, Role::Initiator, names.now),
        names.heartbeat(1, Role::Responder, names.now),
    ];
    store.record_heartbeats(&foreign).await?;
    assert_eq!(last_heartbeats(store, &names).await?, [None, None]);
    Ok(())
}

pub(super) async fn heartbeats_do_not_bring_a_session_back(store: Store<'_>) -> Outcome {
    let names = Names::new();
    store.record_heartbeats(&[names.heartbeat(1, Role::Initiator, names.now)]).await?;
    assert_eq!(store.load(&names.session).await?, None);
    assert_eq!(store.put(&names.record(), None).await?, Written::Done);
    Ok(())
}

pub(super) async fn connections_that_believe_something_wrong_are_named(
    store: Store<'_>,
) -> Outcome {
    let names = Names::new();
    let [ann, bob] = &names.users;
    connect(store, ann, &names.connection(1)).await?;
    connect(store, ann, &names.connection(2)).await?;
    connect(store, bob, &names.connection(3)).await?;
    let record = names.create(store).await?;
    let record = attach(store, &names, &record, Role::Initiator, 2).await?;
    attach(store, &names, &record, Role::Responder, 3).await?;
    let beat = |number, role, change: fn(&mut Place)| {
        let mut heartbeat = names.heartbeat(number, role, names.now);
        heartbeat.places[0].revision = 2;
        change(&mut heartbeat.places[0]);
        heartbeat
    };
    let right = [beat(2, Role::Initiator, |_| {}), beat(3, Role::Responder, |_| {})];
    assert_eq!(store.record_heartbeats(&right).await?, []);
    for wrong in [
        beat(1, Role::Initiator, |_| {}),
        beat(4, Role::Responder, |_| {}),
        beat(2, Role::Responder, |_| {}),
        beat(3, Role::Responder, |place| place.revision = 1),
        beat(3, Role::Responder, |place| place.opening = 2),
        beat(3, Role::Responder, |place| {
            place.session = SessionId::new("gone").expect("an id");
        }),
    ] {
        // A store may say so some heartbeats late, but not never.
        let mut named = Vec::new();
        for _ in 0..100 {
            named = store.record_heartbeats(std::slice::from_ref(&wrong)).await?;
            if !named.is_empty() {
                break;
            }
        }
        assert_eq!(named, std::slice::from_ref(&wrong.connection), "{wrong:?}");
    }
    Ok(())
}
