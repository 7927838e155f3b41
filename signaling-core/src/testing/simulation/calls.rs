//! A deployment whose clients are [`Caller`]s: what happens to them, and what must hold once the trouble is
//! over.

use std::collections::BTreeMap;

use super::{
    Summary, World,
    caller::{Caller, Order},
    check_attached, user,
};
use crate::{
    id::{NodeId, UserId},
    session::{Role, SessionRecord, Status},
};

impl World {
    pub(super) fn start_callers(&mut self) {
        for number in 0..self.plan.users {
            let seed = self.random.u64(..);
            self.callers.push(Caller::start(user(number), self.addresses.clone(), seed));
        }
    }

    pub(super) async fn step_of_callers(&mut self) {
        let order = match self.random.u8(0..100) {
            0..15 => return self.open().await,
            15..45 => Order::Talk,
            45..60 => Order::Move,
            60..66 => Order::Close,
            66..74 => Order::Drop,
            74..81 => Order::Abandon,
            81..83 => Order::StayAway,
            83..86 => Order::Forget,
            86..88 => Order::Leave,
            88..93 => return self.cut_or_mend(),
            93..95 => return self.end_session().await,
            _ => return self.kill().await,
        };
        // A move of both partners at once, now and then.
        for _ in 0..self.random.usize(1..3) {
            if let Some(caller) = self.random.choice(&self.callers) {
                caller.order(order);
            }
        }
    }

    pub(super) fn talk(&self) {
        self.callers.iter().for_each(|caller| caller.order(Order::Talk));
    }

    /// Every signal of a current negotiation has arrived, once and in order, and both take part in it.
    pub(super) async fn check_callers(&self) -> Summary {
        self.callers.iter().for_each(Caller::check);
        let of = |user: &UserId| self.callers.iter().find(|caller| caller.user == *user);
        let live: BTreeMap<UserId, NodeId> = self
            .callers
            .iter()
            .filter_map(|caller| Some((caller.user.clone(), caller.node()?)))
            .collect();
        let mut summary = Summary { sessions: self.sessions.len(), ..Summary::default() };
        for session in &self.sessions {
            let Some(record) = self.store.load(session).await.expect("no faults here") else {
                continue;
            };
            check_attached(&record, &live);
            if record.status() == Status::Active {
                let [one, other] =
                    Role::BOTH.map(|role| of(&record.participant(role).user).expect("a user"));
                check_talk(&record, one, other);
                check_talk(&record, other, one);
            }
        }
        for counts in self.callers.iter().map(Caller::counts) {
            summary.connections += counts.connections;
            summary.sent += counts.sent;
            summary.delivered += counts.received;
            summary.losses += counts.losses;
            summary.continued += counts.continued;
        }
        summary
    }
}

/// All that `from` has sent in the current negotiation has reached `to`.
fn check_talk(record: &SessionRecord, from: &Caller, to: &Caller) {
    let talks = [from, to].map(|caller| caller.talk(&record.id));
    let arrived = match &talks {
        [Some(sent), Some(received)] => {
            sent.negotiation.number() == record.negotiation
                && sent.negotiation == received.negotiation
                && sent.sent == received.received
        }
        _ => false,
    };
    assert!(
        arrived,
        "{} sent {:?} in {}, {} received {:?}: {:#?} {:#?}",
        from.user,
        talks[0],
        record.id,
        to.user,
        talks[1],
        from.log(),
        to.log()
    );
}
