//! What every [`SessionStore`] must do.

mod heartbeats;
mod nodes;
mod records;
mod users;

use std::time::Duration;

use crate::{
    id::{ConnectionId, NodeId, SessionId, UserId},
    session::{Place, Role, SessionRecord},
    store::{
        Accepted, Connect, Connected, Counts, Heartbeat, Replace, SessionStore, StoreError, Written,
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
        ($($case:path),* $(,)?) => {$(
            if let Err(error) = $case(&make().await).await {
                panic!("{}: {error}: {:?}", stringify!($case), std::error::Error::source(&error));
            }
        )*};
    }
    run!(
        records::a_record_is_created_once,
        records::a_record_is_put_in_place_of_the_expected_one,
        records::a_record_is_replaced_at_its_revision_only,
        records::a_record_of_another_opening_is_neither_replaced_nor_deleted,
        records::a_record_is_deleted_at_its_revision_only,
        records::writes_done_twice_have_the_effect_of_one,
        records::of_racing_writes_one_wins,
        records::metadata_is_kept_as_it_was_first,
        records::why_somebody_is_away_is_kept_until_it_is_away_again,
        users::a_newer_connection_replaces_the_older,
        users::a_connection_replaces_only_what_it_may,
        users::a_connection_does_not_replace_one_that_was_accepted_later,
        users::a_time_that_is_still_to_come_keeps_nobody_out,
        users::of_racing_connections_that_replace_nothing_one_is_done,
        users::a_connection_in_the_way_is_gone_with_its_node,
        users::a_revoked_token_connects_nobody,
        users::epochs_rise_also_after_a_disconnect,
        users::an_old_connections_disconnect_changes_nothing,
        users::memberships_are_bounded_and_kept_once,
        heartbeats::heartbeats_move_forward_only,
        heartbeats::heartbeats_are_for_who_is_attached,
        heartbeats::heartbeats_do_not_bring_a_session_back,
        heartbeats::connections_that_believe_something_wrong_are_named,
        nodes::overdue_sessions_are_listed_with_the_longest_first,
        nodes::a_session_is_overdue_by_the_clock_of_the_store,
        nodes::a_lease_is_held_until_it_runs_out,
        nodes::what_living_nodes_have_is_added_up,
        nodes::a_lost_node_is_named_until_it_is_forgotten,
        nodes::a_node_without_a_lease_gets_one_from_another,
        nodes::attachments_to_a_node_are_listed,
        nodes::attachments_of_replaced_connections_are_listed_until_they_disconnect,
    );
}

/// Connects, whoever is there.
async fn connect(
    store: Store<'_>,
    user: &UserId,
    connection: &ConnectionId,
) -> Result<Connected, StoreError> {
    match store.connect(user, connection, Accepted::UNKNOWN, Replace::Older).await? {
        Connect::Done(connected) => Ok(connected),
        other => panic!("it was not done: {other:?}"),
    }
}

/// The store's time, which comes with a lease.
async fn store_time(store: Store<'_>) -> Result<Timestamp, StoreError> {
    let node = NodeId::generate(Some("store-suite")).expect("randomness");
    let lease = store.renew_lease(&node, Duration::from_secs(60), Counts::default(), &[]).await?;
    store.forget_node(&node).await?;
    Ok(lease.now)
}

/// The record with `role` on a connection of its own.
async fn attach(
    store: Store<'_>,
    names: &Names,
    record: &SessionRecord,
    role: Role,
    number: u64,
) -> Result<SessionRecord, StoreError> {
    let attached = names.attached(record, role, number);
    assert_eq!(store.put(&attached, Some(record)).await?, Written::Done);
    Ok(attached)
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

    fn opened(&self, opening: u64, abandon_after: Duration) -> SessionRecord {
        let [ann, bob] = self.users.clone();
        SessionRecord::open(self.session.clone(), opening, ann, bob, self.now.after(abandon_after))
            .expect("two users")
    }

    fn attached(&self, record: &SessionRecord, role: Role, number: u64) -> SessionRecord {
        record
            .attach(role, &self.connection(number), number, None, number)
            .expect("a newer connection")
    }

    async fn create(&self, store: Store<'_>) -> Result<SessionRecord, StoreError> {
        let record = self.record();
        assert_eq!(store.put(&record, None).await?, Written::Done);
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

async fn last_heartbeats(
    store: Store<'_>,
    names: &Names,
) -> Result<[Option<Timestamp>; 2], StoreError> {
    let record = store.load(&names.session).await?.expect("a record");
    Ok(record.participants.map(|participant| participant.last_heartbeat))
}
