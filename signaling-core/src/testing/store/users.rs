//! Users: which connection is theirs, and which sessions they are members of.

use std::{collections::BTreeSet, time::Duration};

use super::{Names, Outcome, Store, connect, store_time};
use crate::{
    id::{ConnectionId, SessionId},
    store::{Accepted, Connect, Joined, Membership, Replace, StoreError, UserRecord},
    time::Timestamp,
};

pub(super) async fn a_newer_connection_replaces_the_older(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let first = connect(store, ann, &names.connection(1)).await?;
    assert_eq!((first.previous, first.memberships), (None, vec![]));
    let second = connect(store, ann, &names.connection(2)).await?;
    assert_eq!(second.previous, Some(names.connection(1)));
    assert!(second.epoch > first.epoch);
    assert_eq!(store.user(ann).await?.connection, Some(names.connection(2)));
    Ok(())
}

pub(super) async fn a_connection_replaces_only_what_it_may(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let [first, second, third] = [1, 2, 3].map(|number| names.connection(number));
    let taken = |there: &ConnectionId| Connect::Taken(there.clone());
    let connect = async |connection: &ConnectionId, replace: Replace<'_>| {
        store.connect(ann, connection, Accepted::UNKNOWN, replace).await
    };
    let done = |connect| match connect {
        Connect::Done(connected) => connected,
        other => panic!("it was not done: {other:?}"),
    };
    let alone = done(connect(&first, Replace::Nothing).await?);
    assert_eq!(alone.previous, None);
    for replace in [Replace::Nothing, Replace::Only(&third), Replace::Only(&second)] {
        assert_eq!(connect(&second, replace).await?, taken(&first));
    }
    assert_eq!(store.user(ann).await?.connection.as_ref(), Some(&first));
    assert!(!store.disconnect(ann, &second).await?, "it never was");
    // Once more with the one that is there is done, as before.
    for replace in [Replace::Nothing, Replace::Only(&third), Replace::Older] {
        assert_eq!(done(connect(&first, replace).await?), alone);
    }
    let replaced = done(connect(&second, Replace::Only(&first)).await?);
    assert_eq!(replaced.previous.as_ref(), Some(&first));
    assert!(replaced.epoch > alone.epoch);
    // The answer was lost; whether it may be replaced was settled before.
    assert_eq!(done(connect(&second, Replace::Only(&first)).await?), replaced);
    assert_eq!(connect(&first, Replace::Nothing).await?, taken(&second));
    assert!(store.disconnect(ann, &second).await?);
    // What may be replaced is gone, and so nothing is in the way.
    let after = done(connect(&third, Replace::Only(&second)).await?);
    assert_eq!(after.previous, None);
    assert!(after.epoch > replaced.epoch);
    Ok(())
}

/// Each is known to have been accepted within a span; where two of them overlap, the one that comes to the
/// store later replaces the other.
pub(super) async fn a_connection_does_not_replace_one_that_was_accepted_later(
    store: Store<'_>,
) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let [first, late, overlapping, last] = [1, 2, 3, 4].map(|number| names.connection(number));
    let start = store_time(store).await?.before(Duration::from_secs(10));
    let span = |earliest, latest| {
        let [earliest, latest] = [earliest, latest].map(Duration::from_millis);
        let (earliest, latest) = (start.after(earliest), start.after(latest));
        Accepted { earliest, latest, ..Accepted::UNKNOWN }
    };
    let connect = async |connection: &ConnectionId, accepted, replace: Replace<'_>| {
        Ok::<_, StoreError>(match store.connect(ann, connection, accepted, replace).await? {
            Connect::Done(connected) => Ok(connected.previous),
            Connect::Taken(there) => Err(there),
            Connect::Revoked => panic!("nothing was revoked"),
        })
    };
    let (older, first_span, late_span) = (Replace::Older, span(1_000, 1_010), span(980, 999));
    assert_eq!(connect(&first, first_span, older).await?, Ok(None));
    for replace in [older, Replace::Only(&first)] {
        assert_eq!(connect(&late, late_span, replace).await?, Err(first.clone()));
    }
    assert_eq!(store.user(ann).await?.connection.as_ref(), Some(&first));
    let replaced = Ok(Some(first.clone()));
    assert_eq!(connect(&overlapping, span(0, 1_000), older).await?, replaced);
    let replaced = Ok(Some(overlapping.clone()));
    assert_eq!(connect(&last, span(900, 1_001), older).await?, replaced);
    // Once more with the one that is there, of which more is known, and then nothing.
    for accepted in [span(1_000, 1_001), Accepted::UNKNOWN] {
        assert_eq!(connect(&last, accepted, older).await?, replaced);
        assert_eq!(connect(&late, late_span, older).await?, Err(last.clone()));
    }
    // With no connection there, the time does not matter.
    assert!(store.disconnect(ann, &last).await?);
    assert_eq!(connect(&late, late_span, older).await?, Ok(None));
    Ok(())
}

/// The store's clock was set back, and this connection was accepted before that.
pub(super) async fn a_time_that_is_still_to_come_keeps_nobody_out(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let [there, newer] = [1, 2].map(|number| names.connection(number));
    let now = store_time(store).await?;
    let ahead = now.after(Duration::from_secs(3_600));
    let accepted = Accepted { earliest: ahead, latest: ahead, ..Accepted::UNKNOWN };
    let connect = store.connect(ann, &there, accepted, Replace::Older).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    let accepted = Accepted { earliest: now, latest: now, ..Accepted::UNKNOWN };
    match store.connect(ann, &newer, accepted, Replace::Older).await? {
        Connect::Done(connected) => assert_eq!(connected.previous, Some(there)),
        other => panic!("it was not done: {other:?}"),
    }
    Ok(())
}

pub(super) async fn of_racing_connections_that_replace_nothing_one_is_done(
    store: Store<'_>,
) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let racing = (1..=16).map(|number| {
        let connection = names.connection(number);
        async move {
            let connect =
                store.connect(ann, &connection, Accepted::UNKNOWN, Replace::Nothing).await?;
            Ok::<_, StoreError>((connection, connect))
        }
    });
    let (mut winners, mut named) = (Vec::new(), Vec::new());
    for result in futures::future::join_all(racing).await {
        match result? {
            (connection, Connect::Done(_)) => winners.push(connection),
            (_, Connect::Taken(there)) => named.push(there),
            (_, Connect::Revoked) => panic!("nothing was revoked"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(store.user(ann).await?.connection.as_ref(), winners.first());
    assert_eq!(named.len(), 15);
    assert!(named.iter().all(|there| *there == winners[0]), "{named:?}");
    Ok(())
}

pub(super) async fn a_connection_in_the_way_is_gone_with_its_node(store: Store<'_>) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, _] = &names.users;
    let (there, newcomer) = (names.connection(1), other.connection(2));
    for replace in [Replace::Older, Replace::Nothing] {
        let connect = store.connect(ann, &there, Accepted::UNKNOWN, replace).await?;
        assert!(matches!(connect, Connect::Done(_)));
    }
    let refused = store.connect(ann, &newcomer, Accepted::UNKNOWN, Replace::Nothing).await?;
    assert_eq!(refused, Connect::Taken(there));
    assert!(!store.disconnect(ann, &newcomer).await?);
    store.forget_node(&names.node).await?;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let connect = store.connect(ann, &newcomer, Accepted::UNKNOWN, Replace::Nothing).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    store.forget_node(&other.node).await
}

pub(super) async fn a_revoked_token_connects_nobody(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, bob] = &names.users;
    let [first, second, third] = [1, 2, 3].map(|number| names.connection(number));
    let at = Timestamp::from_millis;
    let issued = |at: u64| Accepted { issued_at: Timestamp::from_millis(at), ..Accepted::UNKNOWN };
    let (keep, older) = (Duration::from_secs(60), Replace::Older);
    assert_eq!(store.revoke(ann, at(1_000), keep).await?, None);
    assert_eq!(store.user(ann).await?.revoked_before, Some(at(1_000)));
    for issued_at in [0, 999] {
        let connect = store.connect(ann, &first, issued(issued_at), older).await?;
        assert_eq!(connect, Connect::Revoked);
    }
    assert_eq!(store.user(ann).await?.connection, None);
    let connect = store.connect(ann, &first, issued(1_000), older).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    // The latest time counts, and what was revoked stays so, whoever comes and goes.
    assert_eq!(store.revoke(ann, at(3_000), keep).await?.as_ref(), Some(&first));
    assert_eq!(store.revoke(ann, at(2_000), keep).await?.as_ref(), Some(&first));
    store.disconnect(ann, &first).await?;
    store.forget_node(&names.node).await?;
    let _ = store.join(ann, &names.session, 8).await?;
    store.leave(ann, &names.session, None).await?;
    assert_eq!(store.user(ann).await?.revoked_before, Some(at(3_000)));
    assert_eq!(store.connect(ann, &second, issued(2_999), older).await?, Connect::Revoked);
    let connect = store.connect(ann, &second, issued(3_000), older).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    // One of which nothing is known passes, and other users do.
    let connect = store.connect(ann, &third, Accepted::UNKNOWN, older).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    let connect = store.connect(bob, &first, issued(0), older).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    Ok(())
}

pub(super) async fn epochs_rise_also_after_a_disconnect(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let mut last = 0;
    for number in 1..20 {
        let epoch = connect(store, ann, &names.connection(number)).await?.epoch;
        assert!(epoch > last, "epoch {epoch} after {last}");
        last = epoch;
        if number % 2 == 0 {
            assert!(store.disconnect(ann, &names.connection(number)).await?);
        }
    }
    Ok(())
}

pub(super) async fn an_old_connections_disconnect_changes_nothing(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    connect(store, ann, &names.connection(1)).await?;
    connect(store, ann, &names.connection(2)).await?;
    assert!(!store.disconnect(ann, &names.connection(1)).await?);
    assert_eq!(store.user(ann).await?.connection, Some(names.connection(2)));
    assert!(store.disconnect(ann, &names.connection(2)).await?);
    assert_eq!(store.user(ann).await?, UserRecord::default());
    Ok(())
}

pub(super) async fn memberships_are_bounded_and_kept_once(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let session = |n: usize| SessionId::new(&format!("{n}:{}", names.session)).expect("an id");
    let since = store_time(store).await?;
    for n in [1, 2, 1] {
        assert_eq!(store.join(ann, &session(n), 2).await?, Joined::Done(None));
    }
    let until = store_time(store).await?;
    let sessions = |memberships: Vec<Membership>| {
        let by_its_clock = |one: &Membership| (since..=until).contains(&one.since);
        assert!(
            memberships.iter().all(by_its_clock),
            "{memberships:?} from {since:?} to {until:?}"
        );
        memberships.into_iter().map(|membership| membership.session).collect::<BTreeSet<_>>()
    };
    match store.join(ann, &session(3), 2).await? {
        Joined::Full(all) => assert_eq!(sessions(all), BTreeSet::from([1, 2].map(session))),
        Joined::Done(_) => panic!("a third of two"),
    }
    assert_eq!(store.join(ann, &session(2), 2).await?, Joined::Done(None));
    let joined = store.user(ann).await?.memberships;
    let first = joined.iter().find(|one| one.session == session(1)).expect("it was joined").since;
    let later = first.after(Duration::from_millis(1));
    // A membership that is not known to whoever leaves stays.
    store.leave(ann, &session(1), Some(later)).await?;
    assert_eq!(sessions(store.user(ann).await?.memberships).len(), 2);
    store.leave(ann, &session(1), Some(first)).await?;
    store.leave(ann, &session(1), None).await?;
    let connected = connect(store, ann, &names.connection(1)).await?;
    let left = BTreeSet::from([session(2)]);
    assert_eq!(sessions(connected.memberships), left);
    assert_eq!(sessions(store.user(ann).await?.memberships), left);
    // Whoever adds a user learns of its connection in the same step.
    let there = Joined::Done(Some(names.connection(1)));
    for n in [2, 4, 4] {
        assert_eq!(store.join(ann, &session(n), 2).await?, there);
    }
    assert!(store.disconnect(ann, &names.connection(1)).await?);
    assert_eq!(store.join(ann, &session(2), 2).await?, Joined::Done(None));
    Ok(())
}
