//! Users: which connection is theirs, and what they are enrolled in.

use std::collections::BTreeSet;

use super::{Names, Outcome, Store, connect, store_time};
use crate::{
    id::{ConnectionId, SessionId},
    store::{Connect, Enrolled, Enrolment, Replace, StoreError, UserRecord},
};

pub(super) async fn a_newer_connection_replaces_the_older(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let first = connect(store, ann, &names.connection(1)).await?;
    assert_eq!((first.previous, first.enrolments), (None, vec![]));
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
        store.connect(ann, connection, replace).await
    };
    let done = |connect| match connect {
        Connect::Done(connected) => connected,
        Connect::Taken(there) => panic!("{there} is in the way"),
    };
    let alone = done(connect(&first, Replace::Nothing).await?);
    assert_eq!(alone.previous, None);
    for replace in [Replace::Nothing, Replace::Only(&third), Replace::Only(&second)] {
        assert_eq!(connect(&second, replace).await?, taken(&first));
    }
    assert_eq!(store.user(ann).await?.connection.as_ref(), Some(&first));
    assert!(!store.disconnect(ann, &second).await?, "it never was");
    // Once more with the one that is there is done, as before.
    for replace in [Replace::Nothing, Replace::Only(&third), Replace::Any] {
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

pub(super) async fn of_racing_connections_that_replace_nothing_one_is_done(
    store: Store<'_>,
) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let racing = (1..=16).map(|number| {
        let connection = names.connection(number);
        async move {
            let connect = store.connect(ann, &connection, Replace::Nothing).await?;
            Ok::<_, StoreError>((connection, connect))
        }
    });
    let (mut winners, mut named) = (Vec::new(), Vec::new());
    for result in futures::future::join_all(racing).await {
        match result? {
            (connection, Connect::Done(_)) => winners.push(connection),
            (_, Connect::Taken(there)) => named.push(there),
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
    for replace in [Replace::Any, Replace::Nothing] {
        let connect = store.connect(ann, &there, replace).await?;
        assert!(matches!(connect, Connect::Done(_)));
    }
    let refused = store.connect(ann, &newcomer, Replace::Nothing).await?;
    assert_eq!(refused, Connect::Taken(there));
    assert!(!store.disconnect(ann, &newcomer).await?);
    store.forget_node(&names.node).await?;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let connect = store.connect(ann, &newcomer, Replace::Nothing).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    store.forget_node(&other.node).await
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

pub(super) async fn enrolments_are_bounded_and_kept_once(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let session = |n: usize| SessionId::new(&format!("{n}:{}", names.session)).expect("an id");
    let since = store_time(store).await?;
    for n in [1, 2, 1] {
        assert_eq!(store.enrol(ann, &session(n), 2).await?, Enrolled::Done(None));
    }
    let until = store_time(store).await?;
    let sessions = |enrolments: Vec<Enrolment>| {
        let by_its_clock = |one: &Enrolment| (since..=until).contains(&one.since);
        assert!(enrolments.iter().all(by_its_clock), "{enrolments:?} from {since:?} to {until:?}");
        enrolments.into_iter().map(|enrolment| enrolment.session).collect::<BTreeSet<_>>()
    };
    match store.enrol(ann, &session(3), 2).await? {
        Enrolled::Full(all) => assert_eq!(sessions(all), BTreeSet::from([1, 2].map(session))),
        Enrolled::Done(_) => panic!("a third of two"),
    }
    assert_eq!(store.enrol(ann, &session(2), 2).await?, Enrolled::Done(None));
    store.withdraw(ann, &session(1)).await?;
    store.withdraw(ann, &session(1)).await?;
    let connected = connect(store, ann, &names.connection(1)).await?;
    let left = BTreeSet::from([session(2)]);
    assert_eq!(sessions(connected.enrolments), left);
    assert_eq!(sessions(store.user(ann).await?.enrolments), left);
    // Whoever enrols a user learns of its connection in the same step.
    let there = Enrolled::Done(Some(names.connection(1)));
    for n in [2, 4, 4] {
        assert_eq!(store.enrol(ann, &session(n), 2).await?, there);
    }
    assert!(store.disconnect(ann, &names.connection(1)).await?);
    assert_eq!(store.enrol(ann, &session(2), 2).await?, Enrolled::Done(None));
    Ok(())
}
