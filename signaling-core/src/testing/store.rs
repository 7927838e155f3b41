//! What every [`SessionStore`] must do.

use std::time::Duration;

use crate::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    protocol::PartnerReason,
    session::{Metadata, Place, Role, SessionRecord},
    store::{
        Connect, Connected, Counts, Created, Enrolled, Enrolment, Heartbeat, Replace, SessionStore,
        StoreError, UserRecord, Written,
    },
    time::{Clock, SystemClock, Timestamp},
};

type Store<'a> = &'a dyn SessionStore;
type Outcome = Result<(), StoreError>;

/// Runs every case, each on ids of its own, against stores from `make`, which may all be the same.
///
/// # Panics
///
/// In the case that does not hold.
pub async fn suite<S: SessionStore>(make: impl AsyncFn() -> S) {
    macro_rules! run {
        ($($case:ident),* $(,)?) => {$(
            if let Err(error) = $case(&make().await).await {
                panic!("{}: {error}: {:?}", stringify!($case), std::error::Error::source(&error));
            }
        )*};
    }
    run!(
        a_record_is_created_once,
        a_record_that_is_older_is_created_anew,
        a_record_is_replaced_by_its_next_revision_only,
        a_record_of_another_opening_is_neither_replaced_nor_deleted,
        a_record_is_deleted_at_its_revision_only,
        writes_done_twice_have_the_effect_of_one,
        of_racing_writes_one_wins,
        metadata_is_kept_as_it_was_first,
        why_somebody_is_away_is_kept_until_it_is_away_again,
        a_newer_connection_replaces_the_older,
        a_connection_replaces_only_what_it_may,
        of_racing_connections_that_replace_nothing_one_is_done,
        a_connection_in_the_way_is_gone_with_its_node,
        epochs_rise_also_after_a_disconnect,
        an_old_connections_disconnect_changes_nothing,
        enrolments_are_bounded_and_kept_once,
        heartbeats_move_forward_only,
        heartbeats_are_for_who_is_attached,
        heartbeats_do_not_bring_a_session_back,
        connections_that_believe_something_wrong_are_named,
        overdue_sessions_are_listed_with_the_longest_first,
        a_lease_is_held_until_it_runs_out,
        what_living_nodes_have_is_added_up,
        a_lost_node_is_named_until_it_is_forgotten,
        a_node_without_a_lease_is_presumed_alive,
        attachments_to_a_node_are_listed,
        attachments_of_replaced_connections_are_listed_until_they_disconnect,
    );
}

/// Connects, whoever is there.
async fn connect(
    store: Store<'_>,
    user: &UserId,
    connection: &ConnectionId,
    now: Timestamp,
) -> Result<Connected, StoreError> {
    match store.connect(user, connection, Replace::Any, now).await? {
        Connect::Done(connected) => Ok(connected),
        Connect::Taken(there) => panic!("{there} was not replaced, though any may be"),
    }
}

/// Ids that no other case has.
struct Names {
    session: SessionId,
    users: [UserId; 2],
    node: NodeId,
    now: Timestamp,
}

impl Names {
    fn new() -> Self {
        let session = SessionId::generate().expect("randomness");
        let user = |name| UserId::new(&format!("{name}-{session}")).expect("a user id");
        Self {
            users: [user("ann"), user("bob")],
            node: NodeId::generate(Some("store-suite")).expect("randomness"),
            now: SystemClock.now(),
            session,
        }
    }

    fn connection(&self, number: u64) -> ConnectionId {
        ConnectionId::new(self.node.clone(), number)
    }

    fn record(&self) -> SessionRecord {
        self.opened(1, Duration::from_secs(60))
    }

    fn opened(&self, opening: u64, patience: Duration) -> SessionRecord {
        let [ann, bob] = self.users.clone();
        SessionRecord::open(self.session.clone(), opening, ann, bob, self.now.after(patience))
            .expect("two users")
    }

    fn attached(&self, record: &SessionRecord, role: Role, number: u64) -> SessionRecord {
        record.attach(role, &self.connection(number), number).expect("a newer connection")
    }

    async fn create(&self, store: Store<'_>) -> Result<SessionRecord, StoreError> {
        let record = self.record();
        assert_eq!(store.create(&record).await?, Created::Done);
        Ok(record)
    }

    fn heartbeat(&self, number: u64, role: Role, at: Timestamp) -> Heartbeat {
        Heartbeat {
            user: self.users[role as usize].clone(),
            connection: self.connection(number),
            at,
            places: vec![Place { session: self.session.clone(), role, opening: 1, revision: 0 }],
        }
    }
}

async fn a_record_is_created_once(store: Store<'_>) -> Outcome {
    let names = Names::new();
    assert_eq!(store.load(&names.session).await?, None);
    let record = names.create(store).await?;
    assert_eq!(store.load(&names.session).await?, Some(record.clone()));
    let other = names.opened(2, Duration::from_secs(9));
    assert_eq!(store.create(&other).await?, Created::Exists(Box::new(record.clone())));
    assert_eq!(store.load(&names.session).await?, Some(record));
    Ok(())
}

async fn a_record_that_is_older_is_created_anew(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let opened = names.create(store).await?;
    let first = names.attached(&opened, Role::Initiator, 1);
    assert_eq!(store.replace(&first).await?, Written::Done);
    store.record_heartbeats(&[names.heartbeat(1, Role::Initiator, names.now)]).await?;
    let first = store.load(&names.session).await?.expect("it was created");
    let exists = |record: &SessionRecord| Created::Exists(Box::new(record.clone()));
    let second = names.attached(&first, Role::Responder, 2);
    let mut third = second
        .detach(&names.connection(1), PartnerReason::Timeout, names.now, Duration::from_secs(5))
        .expect("it is attached");
    assert_eq!(store.create(&opened).await?, exists(&first));
    assert_eq!(store.create(&first).await?, exists(&first));
    let other = names.attached(&names.opened(2, Duration::from_secs(60)), Role::Responder, 2);
    let other = names.attached(&other, Role::Initiator, 3);
    assert_eq!(store.create(&other).await?, exists(&first));
    // What the writer knows of heartbeats does not count, here as elsewhere.
    third.participants[0].last_heartbeat = None;
    assert_eq!(store.create(&third).await?, Created::Done);
    let there = store.load(&names.session).await?.expect("it was created");
    assert!(there.same_state(&third), "{there:?} is not {third:?}");
    assert_eq!(last_heartbeats(store, &names).await?, [Some(names.now), None]);
    assert_eq!(store.create(&second).await?, exists(&there));
    // Its deadline went with it, and the new one counts.
    let due = store.overdue(names.now.after(Duration::from_secs(6)), 1_000).await?;
    assert!(due.iter().any(|record| record.id == names.session));
    assert_eq!(store.delete(&there).await?, Written::Done);
    Ok(())
}

async fn a_record_is_replaced_by_its_next_revision_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.record();
    let first = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&first).await?, Written::Missing);
    assert_eq!(store.load(&names.session).await?, None);
    names.create(store).await?;
    let second = names.attached(&first, Role::Responder, 2);
    assert_eq!(store.replace(&second).await?, Written::Conflict(Box::new(record)));
    assert_eq!(store.replace(&first).await?, Written::Done);
    assert_eq!(store.replace(&second).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, Some(second.clone()));
    let third = second
        .detach(&names.connection(1), PartnerReason::Timeout, names.now, Duration::from_secs(5))
        .expect("it is attached");
    assert_eq!(store.replace(&third).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, Some(third));
    Ok(())
}

async fn a_record_of_another_opening_is_neither_replaced_nor_deleted(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let other = names.opened(2, Duration::from_secs(60));
    let there = Written::Conflict(Box::new(record));
    assert_eq!(store.replace(&names.attached(&other, Role::Initiator, 1)).await?, there);
    assert_eq!(store.delete(&other).await?, there);
    Ok(())
}

async fn a_record_is_deleted_at_its_revision_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let next = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&next).await?, Written::Done);
    assert_eq!(store.delete(&record).await?, Written::Conflict(Box::new(next.clone())));
    assert_eq!(store.delete(&next).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, None);
    Ok(())
}

async fn writes_done_twice_have_the_effect_of_one(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    assert_eq!(store.create(&record).await?, Created::Exists(Box::new(record.clone())));
    let next = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&next).await?, Written::Done);
    match store.replace(&next).await? {
        Written::Conflict(there) => assert!(there.same_state(&next)),
        other => panic!("the second write was {other:?}"),
    }
    let [ann, _] = &names.users;
    let mut previous = None;
    for number in [1, 2] {
        let once = connect(store, ann, &names.connection(number), names.now).await?;
        let twice = connect(store, ann, &names.connection(number), names.now).await?;
        assert_eq!(twice, once);
        assert_eq!(once.previous, previous);
        previous = Some(names.connection(number));
    }
    assert_eq!(store.delete(&next).await?, Written::Done);
    assert_eq!(store.delete(&next).await?, Written::Missing);
    assert!(store.disconnect(ann, &names.connection(2)).await?);
    assert!(!store.disconnect(ann, &names.connection(2)).await?);
    Ok(())
}

async fn of_racing_writes_one_wins(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let writes = (1..=16).map(|n| {
        let next = names.attached(&record, Role::BOTH[n as usize % 2], n);
        async move { Ok::<_, StoreError>((store.replace(&next).await?, next)) }
    });
    let mut winners = Vec::new();
    for result in futures::future::join_all(writes).await {
        let (written, record) = result?;
        if written == Written::Done {
            winners.push(record);
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.load(&names.session).await?, winners.pop());
    Ok(())
}

async fn metadata_is_kept_as_it_was_first(store: Store<'_>) -> Outcome {
    let with = |record: &SessionRecord, text: &str| {
        let metadata = Some(Metadata::new(text).expect("a short text"));
        SessionRecord { metadata, ..record.clone() }
    };
    let longest = "\u{0} {\"a\":\"é\"}\r\n".repeat(240) + "x";
    for first in ["", &longest] {
        let names = Names::new();
        let opened = with(&names.record(), first);
        let metadata = || opened.metadata.clone();
        assert_eq!(store.create(&opened).await?, Created::Done);
        assert_eq!(store.load(&names.session).await?, Some(opened.clone()));
        let other = with(&names.opened(2, Duration::from_secs(60)), "other");
        assert_eq!(store.create(&other).await?, Created::Exists(Box::new(opened.clone())));
        // A change by one that knows another, and by one that knows none.
        let first = names.attached(&with(&opened, "other"), Role::Initiator, 1);
        assert_eq!(store.replace(&first).await?, Written::Done);
        let mut second = names.attached(&first, Role::Responder, 2);
        second.metadata = None;
        assert_eq!(store.replace(&second).await?, Written::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!(there.metadata, metadata());
        // One that is put back over an older one, by one that knows none.
        let mut fourth =
            names.attached(&names.attached(&there, Role::Initiator, 3), Role::Responder, 4);
        fourth.metadata = None;
        assert_eq!(store.create(&fourth).await?, Created::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!((there.revision, there.metadata.clone()), (4, metadata()));
        assert_eq!(store.delete(&there).await?, Written::Done);
        // One that is put back into a store that has lost it.
        assert_eq!(store.create(&there).await?, Created::Done);
        assert_eq!(store.load(&names.session).await?, Some(there.clone()));
        assert_eq!(store.delete(&there).await?, Written::Done);
        let plain = names.opened(3, Duration::from_secs(60));
        assert_eq!(store.create(&plain).await?, Created::Done);
        assert_eq!(store.load(&names.session).await?, Some(plain));
    }
    Ok(())
}

async fn why_somebody_is_away_is_kept_until_it_is_away_again(store: Store<'_>) -> Outcome {
    for reason in PartnerReason::ALL {
        let names = Names::new();
        let opened = names.create(store).await?;
        let first = names.attached(&opened, Role::Initiator, 1);
        assert_eq!(store.replace(&first).await?, Written::Done);
        let left = first
            .detach(&names.connection(1), reason, names.now, Duration::from_secs(5))
            .expect("it is attached");
        assert_eq!(store.replace(&left).await?, Written::Done);
        assert_eq!(store.load(&names.session).await?, Some(left.clone()));
        let back = names.attached(&left, Role::Initiator, 2);
        assert_eq!(store.replace(&back).await?, Written::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!(there.participants.map(|one| one.ended), [Some(reason), None]);
    }
    Ok(())
}

async fn a_newer_connection_replaces_the_older(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let first = connect(store, ann, &names.connection(1), names.now).await?;
    assert_eq!((first.previous, first.enrolments), (None, vec![]));
    let second = connect(store, ann, &names.connection(2), names.now).await?;
    assert_eq!(second.previous, Some(names.connection(1)));
    assert!(second.epoch > first.epoch);
    assert_eq!(store.user(ann).await?.connection, Some(names.connection(2)));
    Ok(())
}

async fn a_connection_replaces_only_what_it_may(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let [first, second, third] = [1, 2, 3].map(|number| names.connection(number));
    let taken = |there: &ConnectionId| Connect::Taken(there.clone());
    let connect = async |connection: &ConnectionId, replace: Replace<'_>| {
        store.connect(ann, connection, replace, names.now).await
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

async fn of_racing_connections_that_replace_nothing_one_is_done(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let racing = (1..=16).map(|number| {
        let connection = names.connection(number);
        async move {
            let connect = store.connect(ann, &connection, Replace::Nothing, names.now).await?;
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

async fn a_connection_in_the_way_is_gone_with_its_node(store: Store<'_>) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, _] = &names.users;
    let (there, newcomer) = (names.connection(1), other.connection(2));
    for replace in [Replace::Any, Replace::Nothing] {
        let connect = store.connect(ann, &there, replace, names.now).await?;
        assert!(matches!(connect, Connect::Done(_)));
    }
    let refused = store.connect(ann, &newcomer, Replace::Nothing, names.now).await?;
    assert_eq!(refused, Connect::Taken(there));
    assert!(!store.disconnect(ann, &newcomer).await?);
    store.forget_node(&names.node).await?;
    assert_eq!(store.user(ann).await?, UserRecord::default());
    let connect = store.connect(ann, &newcomer, Replace::Nothing, names.now).await?;
    assert!(matches!(connect, Connect::Done(_)), "{connect:?}");
    store.forget_node(&other.node).await
}

async fn epochs_rise_also_after_a_disconnect(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let mut last = 0;
    for number in 1..20 {
        let epoch = connect(store, ann, &names.connection(number), names.now).await?.epoch;
        assert!(epoch > last, "epoch {epoch} after {last}");
        last = epoch;
        if number % 2 == 0 {
            assert!(store.disconnect(ann, &names.connection(number)).await?);
        }
    }
    Ok(())
}

async fn an_old_connections_disconnect_changes_nothing(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    connect(store, ann, &names.connection(1), names.now).await?;
    connect(store, ann, &names.connection(2), names.now).await?;
    assert!(!store.disconnect(ann, &names.connection(1)).await?);
    assert_eq!(store.user(ann).await?.connection, Some(names.connection(2)));
    assert!(store.disconnect(ann, &names.connection(2)).await?);
    assert_eq!(store.user(ann).await?, UserRecord::default());
    Ok(())
}

async fn enrolments_are_bounded_and_kept_once(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, _] = &names.users;
    let session = |n: usize| SessionId::new(&format!("{n}:{}", names.session)).expect("an id");
    let enrolment = |n: usize| Enrolment { session: session(n), since: names.now };
    for n in [1, 2, 1] {
        assert_eq!(store.enrol(ann, &session(n), names.now, 2).await?, Enrolled::Done);
    }
    match store.enrol(ann, &session(3), names.now, 2).await? {
        Enrolled::Full(mut all) => {
            all.sort_by_key(|enrolment| enrolment.session.clone());
            assert_eq!(all, [enrolment(1), enrolment(2)]);
        }
        Enrolled::Done => panic!("a third of two"),
    }
    assert_eq!(store.enrol(ann, &session(2), names.now, 2).await?, Enrolled::Done);
    store.withdraw(ann, &session(1)).await?;
    store.withdraw(ann, &session(1)).await?;
    let connected = connect(store, ann, &names.connection(1), names.now).await?;
    assert_eq!(connected.enrolments, [enrolment(2)]);
    assert_eq!(store.user(ann).await?.enrolments, [enrolment(2)]);
    Ok(())
}

async fn last_heartbeats(
    store: Store<'_>,
    names: &Names,
) -> Result<[Option<Timestamp>; 2], StoreError> {
    let record = store.load(&names.session).await?.expect("a record");
    Ok(record.participants.map(|participant| participant.last_heartbeat))
}

async fn heartbeats_move_forward_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let record = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&record).await?, Written::Done);
    assert_eq!(last_heartbeats(store, &names).await?, [None, None]);
    let later = names.now.after(Duration::from_secs(10));
    for at in [names.now, later, names.now] {
        let heartbeat = names.heartbeat(1, Role::Initiator, at);
        store.record_heartbeats(&[heartbeat]).await?;
    }
    assert_eq!(last_heartbeats(store, &names).await?, [Some(later), None]);
    // A write of the record that knows of none leaves them alone.
    let record = names.attached(&record, Role::Responder, 2);
    assert_eq!(store.replace(&record).await?, Written::Done);
    assert_eq!(last_heartbeats(store, &names).await?, [Some(later), None]);
    Ok(())
}

async fn heartbeats_are_for_who_is_attached(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let record = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&record).await?, Written::Done);
    let foreign = [
        names.heartbeat(2, Role::Initiator, names.now),
        names.heartbeat(1, Role::Responder, names.now),
    ];
    store.record_heartbeats(&foreign).await?;
    assert_eq!(last_heartbeats(store, &names).await?, [None, None]);
    Ok(())
}

async fn heartbeats_do_not_bring_a_session_back(store: Store<'_>) -> Outcome {
    let names = Names::new();
    store.record_heartbeats(&[names.heartbeat(1, Role::Initiator, names.now)]).await?;
    assert_eq!(store.load(&names.session).await?, None);
    assert_eq!(store.create(&names.record()).await?, Created::Done);
    Ok(())
}

async fn connections_that_believe_something_wrong_are_named(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let [ann, bob] = &names.users;
    connect(store, ann, &names.connection(1), names.now).await?;
    connect(store, ann, &names.connection(2), names.now).await?;
    connect(store, bob, &names.connection(3), names.now).await?;
    let record = names.create(store).await?;
    let record = names.attached(&record, Role::Initiator, 2);
    assert_eq!(store.replace(&record).await?, Written::Done);
    let record = names.attached(&record, Role::Responder, 3);
    assert_eq!(store.replace(&record).await?, Written::Done);
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

async fn overdue_sessions_are_listed_with_the_longest_first(store: Store<'_>) -> Outcome {
    let now = SystemClock.now();
    let mut all = Vec::new();
    for seconds in [30, 10, 20] {
        let names = Names { now, ..Names::new() };
        let record = names.opened(1, Duration::from_secs(seconds));
        assert_eq!(store.create(&record).await?, Created::Done);
        all.push((names, record));
    }
    let ours = async |at: u64| {
        let listed = store.overdue(now.after(Duration::from_secs(at)), 1_000).await?;
        let of = |record: &SessionRecord| all.iter().position(|(n, _)| n.session == record.id);
        Ok::<_, StoreError>(listed.iter().filter_map(of).collect::<Vec<_>>())
    };
    assert_eq!(ours(9).await?, [0_usize; 0]);
    assert_eq!(ours(10).await?, [1]);
    assert_eq!(ours(60).await?, [1, 2, 0]);
    assert_eq!(store.overdue(now.after(Duration::from_secs(60)), 1).await?.len(), 1);
    // Active sessions have no deadline, and deleted ones are gone.
    let (names, record) = &all[1];
    let attached = names.attached(record, Role::Initiator, 1);
    assert_eq!(store.replace(&attached).await?, Written::Done);
    let active = names.attached(&attached, Role::Responder, 2);
    assert_eq!(store.replace(&active).await?, Written::Done);
    assert_eq!(store.delete(&all[2].1).await?, Written::Done);
    assert_eq!(ours(60).await?, [0]);
    assert_eq!(store.delete(&active).await?, Written::Done);
    assert_eq!(store.delete(&all[0].1).await?, Written::Done);
    Ok(())
}

const LEASE: Duration = Duration::from_secs(2);
const NOTHING: Counts = Counts { connections: 0, sessions: 0 };

async fn a_lease_is_held_until_it_runs_out(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let first = store.renew_lease(&names.node, names.now, LEASE, NOTHING).await?;
    assert!(!first.held);
    let second = store.renew_lease(&names.node, names.now, LEASE, NOTHING).await?;
    assert!(second.held);
    assert_eq!(second.generation, first.generation);
    assert!(!second.lost.contains(&names.node));
    store.forget_node(&names.node).await?;
    assert!(!store.renew_lease(&names.node, names.now, LEASE, NOTHING).await?.held);
    store.forget_node(&names.node).await
}

async fn what_living_nodes_have_is_added_up(store: Store<'_>) -> Outcome {
    let (first, second) = (Names::new(), Names::new());
    // Others may be at work on the same store, and have nothing.
    let has = |connections, sessions| Counts { connections, sessions };
    let say = async |names: &Names, now, lease, counts| {
        store.renew_lease(&names.node, now, lease, counts).await.map(drop)
    };
    assert_eq!(store.counts(first.now).await?, NOTHING);
    say(&first, first.now, LEASE, has(3, 1)).await?;
    say(&second, first.now, LEASE * 1_000, has(20, 10)).await?;
    assert_eq!(store.counts(first.now).await?, has(23, 11));
    say(&first, first.now, LEASE, has(4_000_000_000, 0)).await?;
    assert_eq!(store.counts(first.now).await?, has(4_000_000_020, 10));
    store.presume_alive(&first.node, first.now, LEASE * 1_000).await?;
    let mut now = first.now;
    for _ in 0..100 {
        now = now.after(LEASE / 10);
        tokio::time::sleep(LEASE / 10).await;
        if store.counts(now).await? == has(20, 10) {
            break;
        }
    }
    assert_eq!(store.counts(now).await?, has(20, 10), "without the one that is lost");
    for names in [&first, &second] {
        store.forget_node(&names.node).await?;
    }
    // A node that is back says anew what it has.
    store.presume_alive(&second.node, now, LEASE * 1_000).await?;
    assert_eq!(store.counts(now).await?, NOTHING);
    store.forget_node(&second.node).await
}

async fn a_lost_node_is_named_until_it_is_forgotten(store: Store<'_>) -> Outcome {
    let (names, survivor) = (Names::new(), Names::new());
    let (lost, [ann, _]) = (&names.node, &names.users);
    store.renew_lease(lost, names.now, LEASE, NOTHING).await?;
    connect(store, ann, &names.connection(1), names.now).await?;
    // Stores with a clock of their own need the time to pass, stores without to be told of it.
    let mut now = names.now;
    for _ in 0..100 {
        now = now.after(LEASE / 10);
        tokio::time::sleep(LEASE / 10).await;
        if store.renew_lease(&survivor.node, now, LEASE, NOTHING).await?.lost.contains(lost) {
            break;
        }
    }
    let again = store.renew_lease(&survivor.node, now, LEASE, NOTHING).await?;
    assert!(again.held && again.lost.contains(lost), "named until forgotten: {again:?}");
    store.forget_node(lost).await?;
    assert!(!store.renew_lease(&survivor.node, now, LEASE, NOTHING).await?.lost.contains(lost));
    store.forget_node(&survivor.node).await
}

async fn a_node_without_a_lease_is_presumed_alive(store: Store<'_>) -> Outcome {
    let (presumed, held, survivor) = (Names::new(), Names::new(), Names::new());
    store.presume_alive(&presumed.node, presumed.now, LEASE).await?;
    let first = store.renew_lease(&presumed.node, presumed.now, LEASE, NOTHING).await?;
    assert!(first.held);
    // A lease that is known is not made longer, whether it has run out or not.
    store.renew_lease(&held.node, held.now, LEASE, NOTHING).await?;
    store.presume_alive(&held.node, held.now, LEASE * 1_000).await?;
    let mut now = held.now;
    for _ in 0..100 {
        now = now.after(LEASE / 10);
        tokio::time::sleep(LEASE / 10).await;
        let lost = store.renew_lease(&survivor.node, now, LEASE, NOTHING).await?.lost;
        if lost.contains(&held.node) && lost.contains(&presumed.node) {
            break;
        }
    }
    store.presume_alive(&held.node, now, LEASE * 1_000).await?;
    let lost = store.renew_lease(&survivor.node, now, LEASE, NOTHING).await?.lost;
    assert!(lost.contains(&held.node) && lost.contains(&presumed.node), "{lost:?}");
    for names in [&presumed, &held, &survivor] {
        store.forget_node(&names.node).await?;
    }
    Ok(())
}

impl Names {
    /// Both users are enrolled.
    async fn enrol(&self, store: Store<'_>) -> Outcome {
        for user in &self.users {
            assert_eq!(store.enrol(user, &self.session, self.now, 8).await?, Enrolled::Done);
        }
        Ok(())
    }
}

async fn attachments_to_a_node_are_listed(store: Store<'_>) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, bob] = &names.users;
    names.enrol(store).await?;
    let record = names.create(store).await?;
    connect(store, ann, &names.connection(1), names.now).await?;
    connect(store, bob, &other.connection(2), names.now).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    let record = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&record).await?, Written::Done);
    let record = record.attach(Role::Responder, &other.connection(2), 2).expect("newer");
    assert_eq!(store.replace(&record).await?, Written::Done);
    for node in [&names.node, &other.node] {
        assert_eq!(store.attached_to(node, 10).await?, std::slice::from_ref(&record));
    }
    assert_eq!(store.attached_to(&names.node, 0).await?, []);
    let record = record
        .detach(&names.connection(1), PartnerReason::Timeout, names.now, Duration::from_secs(9))
        .expect("attached");
    assert_eq!(store.replace(&record).await?, Written::Done);
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    assert_eq!(store.attached_to(&other.node, 10).await?, [record]);
    Ok(())
}

async fn attachments_of_replaced_connections_are_listed_until_they_disconnect(
    store: Store<'_>,
) -> Outcome {
    let (names, other) = (Names::new(), Names::new());
    let [ann, _] = &names.users;
    names.enrol(store).await?;
    let record = names.create(store).await?;
    connect(store, ann, &names.connection(1), names.now).await?;
    let record = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.replace(&record).await?, Written::Done);
    connect(store, ann, &names.connection(2), names.now).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    assert!(store.disconnect(ann, &names.connection(2)).await?);
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    connect(store, ann, &other.connection(3), names.now).await?;
    assert_eq!(store.attached_to(&names.node, 10).await?, std::slice::from_ref(&record));
    assert_eq!(store.attached_to(&other.node, 10).await?, []);
    let record = record.attach(Role::Initiator, &other.connection(3), 3).expect("newer");
    assert_eq!(store.replace(&record).await?, Written::Done);
    assert_eq!(store.attached_to(&names.node, 10).await?, []);
    assert_eq!(store.attached_to(&other.node, 10).await?, [record]);
    assert!(!store.disconnect(ann, &names.connection(1)).await?);
    Ok(())
}
