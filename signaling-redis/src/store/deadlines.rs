//! When sessions are to be looked at: a list of the deadlines by which participants have to attach again.
//!
//! A time is listed before a record has it and stays until it is past; then the record tells whether
//! it still counts. So the list never lacks a time that counts, without a write to both at once, which
//! Redis Cluster could not do. Only opening a session and detaching from it set such a time.

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use fred::{
    bytes::Bytes,
    clients::{Client, WithOptions},
    interfaces::SortedSetsInterface,
};
use futures::{StreamExt, TryStreamExt, stream};
use signaling_core::{
    id::SessionId,
    session::{Presence, SessionRecord},
    store::StoreError,
    time::Timestamp,
};
use tokio::time::Instant;

use super::{CONCURRENT, RedisStore, corrupt, failed, millis};
use crate::read::Read;

/// The most times in one page: a script can list some thousands in one command.
const PAGE: usize = 1024;
/// How long one call looks at page after page of times that count no more.
const LOOK_FOR: Duration = Duration::from_secs(1);
/// How long a time that one node got is kept from the others: longer than the node needs to end as many
/// sessions as it asks for at once.
const PUT_OFF: Duration = Duration::from_secs(10);

fn member(until: Timestamp, session: &SessionId) -> String {
    format!("{}:{session}", until.as_millis())
}

fn session_in(member: &str) -> Option<SessionId> {
    SessionId::new(member.split_once(':')?.1).ok()
}

fn untils(record: &SessionRecord) -> impl Iterator<Item = Timestamp> {
    record.participants.iter().filter_map(|participant| match participant.presence {
        Presence::Absent { until } => Some(until),
        Presence::Attached(_) => None,
    })
}

/// Whether `record` has a time that the one before it has not.
pub(super) fn are_new(record: &SessionRecord, before: &SessionRecord) -> bool {
    untils(record).any(|until| untils(before).all(|listed| listed != until))
}

/// The times of one page that do not count any more, and the records that are overdue.
type Page = (Vec<String>, Vec<SessionRecord>);

impl RedisStore {
    pub(super) async fn list_deadlines(&self, record: &SessionRecord) -> Result<(), StoreError> {
        let mut args = vec![self.retention()];
        for until in untils(record) {
            let score = until.as_millis().to_string();
            args.extend([score.into(), member(until, &record.id).into()]);
        }
        if args.len() > 1 {
            let (script, list) = (&self.shared.scripts.add_deadlines, self.shared.keys.deadlines());
            self.run(script, vec![list], args).await?;
        }
        Ok(())
    }

    pub(super) async fn overdue_sessions(
        &self,
        limit: usize,
    ) -> Result<Vec<SessionRecord>, StoreError> {
        let (mut overdue, mut seen) = (Vec::new(), BTreeSet::new());
        let started = Instant::now();
        while overdue.len() < limit && started.elapsed() < LOOK_FOR {
            let most = (limit - overdue.len()).min(PAGE);
            let (now, members) = self.claim(most).await?;
            let listed = members.len();
            let read = Read::members(members, |member| {
                session_in(member).map(|session| (member.to_owned(), session))
            });
            let members = self.readable(&self.shared.keys.deadlines(), read).await;
            let (void, records) = self.judge(now, members).await?;
            self.unlist(void).await?;
            overdue.extend(records.into_iter().filter(|record| seen.insert(record.id.clone())));
            if listed < most {
                break;
            }
        }
        Ok(overdue)
    }

    /// Up to `most` times that have passed, and the server's time.
    async fn claim(&self, most: usize) -> Result<(Timestamp, Vec<Bytes>), StoreError> {
        let script = &self.shared.scripts.claim_deadlines;
        let args = vec![most.to_string().into(), millis(PUT_OFF), self.retention()];
        let claimed = self.run(script, vec![self.shared.keys.deadlines()], args).await?;
        let (now, members): (u64, Vec<Bytes>) = claimed.convert().map_err(corrupt)?;
        Ok((Timestamp::from_millis(now), members))
    }

    async fn judge(
        &self,
        now: Timestamp,
        members: Vec<(String, SessionId)>,
    ) -> Result<Page, StoreError> {
        let judged = stream::iter(members).map(|(member, session)| async move {
            let record = self.load_readable(&session).await?;
            // One that is overdue is about to go, and so are all its times.
            let due = record.filter(|r| r.deadline().is_some_and(|deadline| deadline <= now));
            Ok::<_, StoreError>(due.map_or(ControlFlow::Break(member), ControlFlow::Continue))
        });
        let judged: Vec<_> = judged.buffered(CONCURRENT).try_collect().await?;
        let (mut void, mut overdue) = (Vec::new(), Vec::new());
        for one in judged {
            match one {
                ControlFlow::Break(member) => void.push(member),
                ControlFlow::Continue(record) => overdue.push(record),
            }
        }
        overdue.sort_by_key(SessionRecord::deadline);
        Ok((void, overdue))
    }

    async fn unlist(&self, members: Vec<String>) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        let list = &self.shared.keys.deadlines();
        let remove = |client: WithOptions<Client>| {
            let members = members.clone();
            async move { client.zrem::<u64, _, _>(list, members).await }
        };
        self.shared.link.call(remove).await.map_err(failed)?;
        Ok(())
    }
}
