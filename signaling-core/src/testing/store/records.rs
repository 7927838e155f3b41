//! Records: created, replaced and deleted under the condition that each write names.

use std::time::Duration;

use super::{Names, Outcome, Store, attach, connect, last_heartbeats, store_time};
use crate::{
    reason::PartnerReason,
    session::{Metadata, Role, SessionRecord},
    store::{StoreError, Written},
};

pub(super) async fn a_record_is_created_once(store: Store<'_>) -> Outcome {
    let names = Names::new();
    assert_eq!(store.load(&names.session).await?, None);
    let record = names.create(store).await?;
    assert_eq!(store.load(&names.session).await?, Some(record.clone()));
    let other = names.opened(2, Duration::from_secs(9));
    assert_eq!(store.put(&other, None).await?, Written::Conflict(Box::new(record.clone())));
    assert_eq!(store.load(&names.session).await?, Some(record));
    Ok(())
}

pub(super) async fn a_record_is_put_in_place_of_the_expected_one(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let opened = names.create(store).await?;
    let first = names.attached(&opened, Role::Initiator, 1);
    assert_eq!(store.put(&first, Some(&opened)).await?, Written::Done);
    store.record_heartbeats(&[names.heartbeat(1, Role::Initiator, names.now)]).await?;
    let there = store.load(&names.session).await?.expect("it was created");
    let exists = |record: &SessionRecord| Written::Conflict(Box::new(record.clone()));
    // Its deadline has passed already.
    let past = store_time(store).await?.before(Duration::from_secs(9));
    let mut again = names.attached(&first, Role::Responder, 2).reopen(2, past);
    // What the writer knows of heartbeats does not count, here as elsewhere.
    again.participants[0].last_heartbeat = None;
    let other = names.opened(3, Duration::from_secs(60));
    for expected in [None, Some(&opened), Some(&other), Some(&again)] {
        assert_eq!(store.put(&again, expected).await?, exists(&there), "{expected:?}");
    }
    assert_eq!(store.put(&again, Some(&first)).await?, Written::Done);
    let there = store.load(&names.session).await?.expect("it was created");
    assert!(there.same_state(&again), "{there:?} is not {again:?}");
    assert_eq!((there.first_opening, there.opening, there.revision), (1, 2, 0));
    assert_eq!(last_heartbeats(store, &names).await?, [Some(names.now), None]);
    // Once more, after an answer that was lost.
    assert_eq!(store.put(&again, Some(&first)).await?, exists(&there));
    assert_eq!(store.put(&first, Some(&opened)).await?, exists(&there));
    // Its deadline went with it, and the new one counts.
    let due = store.overdue(1_000).await?;
    assert!(due.iter().any(|record| record.id == names.session));
    let next = names.attached(&there, Role::Initiator, 1);
    assert_eq!(store.put(&next, Some(&there)).await?, Written::Done);
    assert_eq!(store.delete(&next).await?, Written::Done);
    assert_eq!(store.put(&again, Some(&next)).await?, Written::Missing);
    assert_eq!(store.load(&names.session).await?, None);
    Ok(())
}

pub(super) async fn a_record_is_replaced_at_its_revision_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.record();
    let first = names.attached(&record, Role::Initiator, 1);
    assert_eq!(store.put(&first, Some(&record)).await?, Written::Missing);
    assert_eq!(store.load(&names.session).await?, None);
    names.create(store).await?;
    let second = names.attached(&first, Role::Responder, 2);
    let there = Written::Conflict(Box::new(record.clone()));
    assert_eq!(store.put(&second, Some(&first)).await?, there);
    assert_eq!(store.put(&first, Some(&record)).await?, Written::Done);
    assert_eq!(store.put(&second, Some(&first)).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, Some(second.clone()));
    let third = second
        .detach(&names.connection(1), PartnerReason::Timeout, names.now, Duration::from_secs(5))
        .expect("it is attached");
    assert_eq!(store.put(&third, Some(&second)).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, Some(third));
    Ok(())
}

pub(super) async fn a_record_of_another_opening_is_neither_replaced_nor_deleted(
    store: Store<'_>,
) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let other = names.opened(2, Duration::from_secs(60));
    let there = Written::Conflict(Box::new(record));
    let attached = names.attached(&other, Role::Initiator, 1);
    assert_eq!(store.put(&attached, Some(&other)).await?, there);
    assert_eq!(store.delete(&other).await?, there);
    Ok(())
}

pub(super) async fn a_record_is_deleted_at_its_revision_only(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let next = attach(store, &names, &record, Role::Initiator, 1).await?;
    assert_eq!(store.delete(&record).await?, Written::Conflict(Box::new(next.clone())));
    assert_eq!(store.delete(&next).await?, Written::Done);
    assert_eq!(store.load(&names.session).await?, None);
    Ok(())
}

pub(super) async fn writes_done_twice_have_the_effect_of_one(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    assert_eq!(store.put(&record, None).await?, Written::Conflict(Box::new(record.clone())));
    let next = attach(store, &names, &record, Role::Initiator, 1).await?;
    match store.put(&next, Some(&record)).await? {
        Written::Conflict(there) => assert!(there.same_state(&next)),
        other => panic!("the second write was {other:?}"),
    }
    let [ann, _] = &names.users;
    let mut previous = None;
    for number in [1, 2] {
        let once = connect(store, ann, &names.connection(number)).await?;
        let twice = connect(store, ann, &names.connection(number)).await?;
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

pub(super) async fn of_racing_writes_one_wins(store: Store<'_>) -> Outcome {
    let names = Names::new();
    let record = names.create(store).await?;
    let writes = (1..=16).map(|n| {
        let next = names.attached(&record, Role::BOTH[n as usize % 2], n);
        let record = &record;
        async move { Ok::<_, StoreError>((store.put(&next, Some(record)).await?, next)) }
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

pub(super) async fn metadata_is_kept_as_it_was_first(store: Store<'_>) -> Outcome {
    let with = |record: &SessionRecord, text: &str| {
        let metadata = Some(Metadata::new(text).expect("a short text"));
        SessionRecord { metadata, ..record.clone() }
    };
    let longest = "\u{0} {\"a\":\"é\"}\r\n".repeat(240) + "x";
    for first in ["", &longest] {
        let names = Names::new();
        let opened = with(&names.record(), first);
        let metadata = || opened.metadata.clone();
        assert_eq!(store.put(&opened, None).await?, Written::Done);
        assert_eq!(store.load(&names.session).await?, Some(opened.clone()));
        let other = with(&names.opened(2, Duration::from_secs(60)), "other");
        assert_eq!(store.put(&other, None).await?, Written::Conflict(Box::new(opened.clone())));
        // A change by one that knows another, and by one that knows none.
        let first = names.attached(&with(&opened, "other"), Role::Initiator, 1);
        assert_eq!(store.put(&first, Some(&opened)).await?, Written::Done);
        let mut second = names.attached(&first, Role::Responder, 2);
        second.metadata = None;
        assert_eq!(store.put(&second, Some(&first)).await?, Written::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!(there.metadata, metadata());
        // It is opened again in place of that one, by a node that knows no metadata.
        let mut again = there.reopen(4, names.now.after(Duration::from_secs(60)));
        again.metadata = None;
        assert_eq!(store.put(&again, Some(&there)).await?, Written::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!((there.opening, there.metadata.clone()), (4, metadata()));
        assert_eq!(store.delete(&there).await?, Written::Done);
        // It is opened again in a store that has lost it.
        assert_eq!(store.put(&there, None).await?, Written::Done);
        assert_eq!(store.load(&names.session).await?, Some(there.clone()));
        assert_eq!(store.delete(&there).await?, Written::Done);
        let plain = names.opened(3, Duration::from_secs(60));
        assert_eq!(store.put(&plain, None).await?, Written::Done);
        assert_eq!(store.load(&names.session).await?, Some(plain));
    }
    Ok(())
}

pub(super) async fn why_somebody_is_away_is_kept_until_it_is_away_again(
    store: Store<'_>,
) -> Outcome {
    for reason in PartnerReason::ALL {
        let names = Names::new();
        let opened = names.create(store).await?;
        let first = names.attached(&opened, Role::Initiator, 1);
        assert_eq!(store.put(&first, Some(&opened)).await?, Written::Done);
        let left = first
            .detach(&names.connection(1), reason, names.now, Duration::from_secs(5))
            .expect("it is attached");
        assert_eq!(store.put(&left, Some(&first)).await?, Written::Done);
        assert_eq!(store.load(&names.session).await?, Some(left.clone()));
        let back = names.attached(&left, Role::Initiator, 2);
        assert_eq!(store.put(&back, Some(&left)).await?, Written::Done);
        let there = store.load(&names.session).await?.expect("it was created");
        assert_eq!(there.participants.map(|one| one.ended), [Some(reason), None]);
    }
    Ok(())
}
