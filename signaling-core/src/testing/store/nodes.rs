//! What is found by something else than its key: overdue sessions, leases, and what a node has left.

use std::time::Duration;

use super::{Names, Outcome, Store, attach, connect, store_time};
use crate::{
    reason::PartnerReason,
    session::{Role, SessionRecord},
    store::{Counts, Joined, StoreError, Written},
};

/// A session whose deadline was so many seconds ago.
async fn overdue_since(
    store: Store<'_>,
    seconds: u64,
) -> Result<(Names, SessionRecord), StoreError> {
    let now = store_time(store).await?.before(Duration::from_secs(seconds));
    let names = Names { now, ..Names::new() };
    let record = names.opened(1, Duration::ZERO);
    assert_eq!(store.put(&record, None).await?, Written::Done);
    Ok((names, record))
}

pub(super) async fn overdue_sessions_are_listed_with_the_longest_first(
    store: Store<'_>,
) -> Outcome {
    let mut all = Vec::new();
    for seconds in [10, 30, 20, 40, 50] {
        all.push(overdue_since(store, seconds).await?);
    }
    // Active sessions have no deadline, and deleted ones are gone.
    let (names, record) = &all[3];
    let attached = names.attached(record, Role::Initiator, 1);
    assert_eq!(store.put(&attached, Some(record)).await?, Written::Done);
    let active = names.attached(&attached, Role::Responder, 2);
    assert_eq!(store.put(&active, Some(&attached)).await?, Written::Done);
    assert_eq!(store.delete(&all[4].1).await?, Written::Done);
    let listed = store.overdue(1_000).await?;
    let of = |record: &SessionRecord| all.iter().position(|(n, _)| n.session == record.id);
    assert_eq!(listed.iter().filter_map(of).collect::<Vec<_>>(), [1, 2, 0]);
    for record in [&active, &all[0].1, &all[1].1, &all[2].1] {
        assert_eq!(store.delete(record).await?, Written::Done);
    }
    let more = [overdue_since(store, 10).await?, overdue_since(store, 20).await?];
    assert_eq!(store.overdue(1).await?.len(), 1);
    for (_, record) in &more {
        assert_eq!(store.delete(record).await?, Written::Done);
    }
    Ok(())
}

pub(super) async fn a_session_is_overdue_by_the_clock_of_the_store(store: Store<'_>) -> Outcome {
    let now = store_time(store).await?;
    let names = Names { now, ..Names::new() };
    let record = names.opened(1, Duration::from_secs(1));
    assert_eq!(store.put(&record, None).await?, Written::Done);
    let listed = async || {
        let listed = store.overdue(1_000).await?;
        Ok::<_, StoreError>(listed.iter().any(|record| record.id == names.session))
    };
    while !listed().await? {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let waited = store_time(store).await?.since(now);
        assert!(waited < Duration::from_secs(5), "not listed {waited:?} after it was opened");
    }
    assert!(store_time(store).await?.since(now) >= Duration::from_secs(1), "before its deadline");
    assert_eq!(store.delete(&record).await?, Written::Done);
    Ok(())
}

const LEASE: Duration = Duration::from_secs(2);
const NOTHING: Counts = Counts { connections: 0, sessions: 0 };

pub(super) async fn a_lease_is_held_until_it_runs_out(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let first = store.renew_lease(&names.node, LEASE, NOTHING, &[]).await?;
    assert!(!first.held);
    let second = store.renew_lease(&names.node, LEASE, NOTHING, &[]).await?;
    assert!(second.held);
    assert_eq!(second.generation, first.generation);
    assert!(!second.lost.contains(&names.node));
    store.forget_node(&names.node).await?;
    assert!(!store.renew_lease(&names.node, LEASE, NOTHING, &[]).await?.held);
    store.forget_node(&names.node).await
}

pub(super) async fn what_living_nodes_have_is_added_up(store: Store<'_>) -> Outcome {
    let (first, second, third) = (Names::new(), Names::new(), Names::new());
    // Others may be at work on the same store, and have nothing.
    let has = |connections, sessions| Counts { connections, sessions };
    let say = async |names: &Names, lease, counts| {
        store.renew_lease(&names.node, lease, counts, &[]).await.map(drop)
    };
    assert_eq!(store.counts().await?, NOTHING);
    say(&first, LEASE, has(3, 1)).await?;
    say(&second, LEASE * 1_000, has(20, 10)).await?;
    assert_eq!(store.counts().await?, has(23, 11));
    say(&first, LEASE, has(4_000_000_000, 0)).await?;
    assert_eq!(store.counts().await?, has(4_000_000_020, 10));
    let others = [&first, &second].map(|names| names.node.clone());
    store.renew_lease(&third.node, LEASE * 1_000, NOTHING, &others).await?;
    for _ in 0..100 {
        tokio::time::sleep(LEASE / 10).await;
        if store.counts().await? == has(20, 10) {
            break;
        }
    }
    assert_eq!(store.counts().await?, has(20, 10), "without the one that is lost");
    for node in &others {
        store.forget_node(node).await?;
    }
    // A node that is back reports its counts again.
    store.renew_lease(&third.node, LEASE * 1_000, NOTHING, &others).await?;
    assert_eq!(store.counts().await?, NOTHING);
    for names in [&first, &second, &third] {
        store.forget_node(&names.node).await?;
    }
    Ok(())
}

pub(super) async fn a_lost_node_is_named_until_it_is_forgotten(store: Store<'_>) -> Outcome {
    let (names, survivor) = (Names::new(), Names::new());
    let (lost, [ann, _]) = (&names.node, &names.users);
    store.renew_lease(lost, LEASE, NOTHING, &[]).await?;
    connect(store, ann, &names.connection(1)).await?;
    for _ in 0..100 {
        tokio::time::sleep(LEASE / 10).await;
        if store.renew_lease(&survivor.node, LEASE, NOTHING, &[]).await?.lost.contains(lost) {
            break;
        }
    }
    let again = store.renew_lease(&survivor.node, LEASE, NOTHING, &[]).await?;
    assert!(again.held && again.lost.contains(lost), "named until forgotten: {again:?}");
    store.forget_node(lost).await?;
    assert!(!store.renew_lease(&survivor.node, LEASE, NOTHING, &[]).await?.lost.contains(lost));
    store.forget_node(&survivor.node).await
}

pub(super) async fn a_node_without_a_lease_gets_one_from_another(store: Store<'_>) -> Outcome {
    let (added, held, survivor) = (Names::new(), Names::new(), Names::new());
    let others = [&added, &held].map(|names| names.node.clone());
    store.renew_lease(&survivor.node, LEASE, NOTHING, &others[..1]).await?;
    let first = store.renew_lease(&added.node, LEASE, NOTHING, &[]).await?;
    assert!(first.held);
    // A lease that is known is not made longer, whether it has run out or not.
    store.renew_lease(&held.node, LEASE, NOTHING, &[]).await?;
    store.renew_lease(&survivor.node, LEASE * 1_000, NOTHING, &others).await?;
    for _ in 0..100 {
        tokio::time::sleep(LEASE / 10).await;
        let lost = store.renew_lease(&survivor.node, LEASE, NOTHING, &[]).await?.lost;
        if lost.contains(&held.node) && lost.contains(&added.node) {
            break;
        }
    }
    store.renew_lease(&survivor.node, LEASE * 1_000, NOTHING, &others).await?;
    let lost = store.renew_lease(&survivor.node, LEASE, NOTHING, &[]).await?.lost;
    assert!(lost.contains(&held.node) && lost.contains(&added.node), "{lost:?}");
    for names in [&added, &held, &survivor] {
        store.forget_node(&names.node).await?;
    }
    Ok(())
}

impl Names {
    /// Both users are members.
    async fn join(&self, store: Store<'_>) -> Outcome {
        for user in &self.users {
            assert_eq!(store.join(user, &self.session, 8).await?, Joined::Done(None));
        }
        Ok(())
    }
}

pub(super) async fn attachments_to_a_node_are_listed(store: Store<'_>) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, bob] = &names.users;
    names.join(store).await?;
    let record = names.create(store).await?;
    connect(store, ann, &names.connection(1)).await?;
    connect(store, bob, &other.connection(2)).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    let record = attach(store, &names, &record, Role::Initiator, 1).await?;
    let before = record;
    let record = before.attach(Role::Responder, &other.connection(2), 2, None, 2).expect("newer");
    assert_eq!(store.put(&record, Some(&before)).await?, Written::Done);
    for node in [&names.node, &other.node] {
        assert_eq!(store.attached_to(node, 10).await?, std::slice::from_ref(&record));
    }
    assert_eq!(store.attached_to(&names.node, 0).await?, []);
    let before = record;
    let record = before
        .detach(&names.connection(1), PartnerReason::Timeout, names.now, Duration::from_secs(9))
        .expect("attached");
    assert_eq!(store.put(&record, Some(&before)).await?, Written::Done);
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    assert_eq!(store.attached_to(&other.node, 10).await?, [record]);
    Ok(())
}

pub(super) async fn attachments_of_replaced_connections_are_listed_until_they_disconnect(
    store: Store<'_>,
) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, _] = &names.users;
    names.join(store).await?;
    let record = names.create(store).await?;
    connect(store, ann, &names.connection(1)).await?;
    let record = attach(store, &names, &record, Role::Initiator, 1).await?;
    connect(store, ann, &names.connection(2)).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    assert!(store.disconnect(ann, &names.connection(2)).await?);
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    connect(store, ann, &other.connection(3)).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    assert_eq!(store.attached_to(&other.node, 10).await?, []);
    let before = record;
    let record = before.attach(Role::Initiator, &other.connection(3), 3, None, 3).expect("newer");
    assert_eq!(store.put(&record, Some(&before)).await?, Written::Done);
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    assert_eq!(store.attached_to(&other.node, 10).await?, [record]);
    assert!(!store.disconnect(ann, &names.connection(1)).await?);
    Ok(())
}
