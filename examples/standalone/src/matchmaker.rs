//! Matches those who wait and opens their sessions, one request after the other: a task owns the
//! queue, so that no caller who goes away midway takes anybody with it.

use std::{slice, time::Duration};

use signaling_core::{
    Relay,
    id::{SessionId, UserId},
    relay::{NewSession, OpenError},
    store::StoreError,
};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    contain::contained,
    queue::{Pair, Partners, Queue, QueueError},
};

/// Requests that wait for their turn; more wait in their callers.
const WAITING_REQUESTS: usize = 64;
/// Within which a request is answered, its wait for a turn included: as long as one call to a store
/// may take.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// How often to look for pairs that somebody left behind: a store that was away, or a node that
/// died.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Asks the task; cheap to clone. The task ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Matchmaker {
    requests: mpsc::Sender<Request>,
    relay: Relay,
}

/// What has become of a user who entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits, or another request is matching it just now.
    Waiting,
    /// It has a partner, and a session with it.
    Matched {
        /// The session.
        session: SessionId,
        /// The other one.
        partner: UserId,
        /// Whether the user came first, and makes the offer.
        is_initiator: bool,
    },
}

/// Why a user is not matched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MatchError {
    /// The user does not wait when the queue is full. Where the queue does not answer it may wait
    /// or not; who did before still does.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The user does not wait when it is in too many sessions; else it waits, as everybody does
    /// who did before.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store did not answer; the user waits.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user must be connected, and is not. It does not wait, unless it did before.
    #[error("the user is not connected")]
    NotConnected,
    /// The server is ending.
    #[error("matching has ended")]
    Ended,
}

#[derive(Debug)]
struct Request {
    asks: Asks,
    /// When the one who asks gives up.
    by: Instant,
}

#[derive(Debug)]
enum Asks {
    Enter(UserId, Partners, Answer<Place>),
    Leave(UserId, Answer<bool>),
}

type Answer<T> = oneshot::Sender<Result<T, MatchError>>;

impl Matchmaker {
    /// Starts the task.
    pub(crate) fn start(relay: Relay, queue: impl Queue) -> Self {
        let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
        let queue = Box::new(queue);
        let matching = Matching { relay: relay.clone(), queue, opened: None, in_trouble: false };
        tokio::spawn(matching.run(requests));
        Self { requests: sender, relay }
    }

    /// Lets `user` wait for a partner, and matches it if there is one. With
    /// [`Partners::Connected`] it is taken for connected now, and looked at when it is matched later.
    pub(crate) async fn enter(
        &self,
        user: UserId,
        partners: Partners,
    ) -> Result<Place, MatchError> {
        let by = Instant::now() + ANSWER_TIME;
        self.ask(by, |answer| Asks::Enter(user, partners, answer)).await
    }

    /// The same with [`Partners::Connected`], for a user who must be connected now.
    pub(crate) async fn enter_connected(&self, user: UserId) -> Result<Place, MatchError> {
        let by = Instant::now() + ANSWER_TIME;
        if !within(by, async { Ok(self.relay.is_connected(&user).await?) }).await? {
            return Err(MatchError::NotConnected);
        }
        self.ask(by, |answer| Asks::Enter(user, Partners::Connected, answer)).await
    }

    /// Lets `user` wait no longer; false when it did not, or has a partner by now.
    pub(crate) async fn leave(&self, user: UserId) -> Result<bool, MatchError> {
        let by = Instant::now() + ANSWER_TIME;
        self.ask(by, |answer| Asks::Leave(user, answer)).await
    }

    /// Whether the task is there.
    pub(crate) fn is_running(&self) -> bool {
        !self.requests.is_closed()
    }

    async fn ask<T>(
        &self,
        by: Instant,
        asks: impl FnOnce(Answer<T>) -> Asks,
    ) -> Result<T, MatchError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let request = Request { asks: asks(answer), by };
            self.requests.send(request).await.map_err(|_| MatchError::Ended)?;
            answered.await.map_err(|_| MatchError::Ended)?
        };
        within(by, asked).await
    }
}

/// What is not done by then is not answered at all.
async fn within<T>(
    by: Instant,
    work: impl Future<Output = Result<T, MatchError>>,
) -> Result<T, MatchError> {
    let late = || StoreError::unavailable("matching took too long").into();
    if Instant::now() >= by {
        return Err(late());
    }
    time::timeout_at(by, work).await.unwrap_or_else(|_| Err(late()))
}

struct Matching {
    relay: Relay,
    queue: Box<dyn Queue>,
    /// The session that was opened last: its pair may not be settled.
    opened: Option<SessionId>,
    /// Pairs that were left behind cannot be opened now.
    in_trouble: bool,
}

impl Matching {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut looks = time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = select! {
                // Whoever asks is answered first, and looks for what was left behind as well.
                biased;
                request = requests.recv() => match request {
                    Some(request) => contained(self.answer(request)).await,
                    None => break,
                },
                _ = looks.tick() => contained(self.look()).await,
            };
            // A panic ends the step that it is in, and neither the task nor the queue.
            if done.is_none() {
                tracing::error!("matching panicked; going on");
            }
        }
        tracing::debug!("matching ended");
    }

    /// Who does not wait for the answer any more has entered or left all the same.
    async fn answer(&mut self, Request { asks, by }: Request) {
        match asks {
            Asks::Enter(user, partners, answer) => {
                let _ = answer.send(within(by, self.enter(&user, partners, by)).await);
            }
            Asks::Leave(user, answer) => {
                let left = async { Ok(self.queue.leave(&user, by).await?) };
                let _ = answer.send(within(by, left).await);
            }
        }
    }

    /// Opens sessions for the pairs that were left behind.
    async fn look(&mut self) {
        let by = Instant::now() + ANSWER_TIME;
        let looked = async {
            while let Some(pair) = self.queue.next(by).await? {
                if self.open(&pair, None, by).await? {
                    self.queue.settle(&pair, by).await?;
                }
            }
            Ok(())
        };
        match within(by, looked).await {
            Ok(()) => self.in_trouble = false,
            Err(error) => {
                if !std::mem::replace(&mut self.in_trouble, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "pairs not opened; retrying with the next look at the queue"
                    );
                }
            }
        }
    }

    async fn enter(
        &mut self,
        user: &UserId,
        partners: Partners,
        by: Instant,
    ) -> Result<Place, MatchError> {
        let mut next = self.queue.enter(user, partners, by).await?;
        // Other pairs may have been left behind. After an error all keep their places.
        while let Some(pair) = next {
            if self.open(&pair, Some(user), by).await? {
                let settled = self.queue.settle(&pair, by).await;
                if let Some(place) = place(&pair, user) {
                    // The session is open; what is left of the pair goes when it is looked for.
                    return Ok(place);
                }
                settled?;
            }
            next = self.queue.next(by).await?;
        }
        Ok(Place::Waiting)
    }

    /// Opens the session of a pair, or dissolves the pair and says false.
    async fn open(
        &mut self,
        pair: &Pair,
        asking: Option<&UserId>,
        by: Instant,
    ) -> Result<bool, MatchError> {
        if self.opened.as_ref() == Some(&pair.session) {
            return Ok(true);
        }
        let absent = self.absent(pair, asking).await?;
        if !absent.is_empty() {
            self.queue.dissolve(pair, &absent, by).await?;
            return Ok(false);
        }
        let [first, second] = &pair.users;
        match self.relay.open(NewSession::between(first, second).id(&pair.session)).await {
            Ok(_) => {
                self.opened = Some(pair.session.clone());
                Ok(true)
            }
            Err(OpenError::TooManySessions(busy)) => {
                self.queue.dissolve(pair, slice::from_ref(&busy), by).await?;
                match asking {
                    Some(user) if *user == busy => Err(OpenError::TooManySessions(busy).into()),
                    _ => Ok(false),
                }
            }
            // Neither gets better by trying again, and the queue would give no other pair before.
            Err(OpenError::Conflict) => {
                self.queue.dissolve(pair, &[], by).await?;
                Ok(false)
            }
            Err(OpenError::SameUser(_)) => {
                self.queue.dissolve(pair, &pair.users, by).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Who of a pair cannot be matched. The one who asks is there.
    async fn absent(
        &self,
        pair: &Pair,
        asking: Option<&UserId>,
    ) -> Result<Vec<UserId>, StoreError> {
        let mut absent = Vec::new();
        if pair.partners == Partners::Connected {
            for user in pair.users.iter().filter(|user| Some(*user) != asking) {
                if !self.relay.is_connected(user).await? {
                    absent.push(user.clone());
                }
            }
        }
        Ok(absent)
    }
}

/// What a pair that has its session is for one of the two.
fn place(pair: &Pair, user: &UserId) -> Option<Place> {
    let [first, second] = &pair.users;
    let is_initiator = first == user;
    (is_initiator || second == user).then(|| Place::Matched {
        session: pair.session.clone(),
        partner: if is_initiator { second } else { first }.clone(),
        is_initiator,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use signaling_core::{
        Config,
        frame::CloseReason,
        memory::MemoryStore,
        store::SessionStore,
        testing::{
            fault::{Faults, Trouble},
            guest::Nobody,
        },
    };

    use super::*;
    use crate::queue::{Bounds, LocalQueue};

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn queue() -> LocalQueue {
        LocalQueue::new(Bounds { capacity: 10, patience: Duration::from_secs(60) })
    }

    fn pair(place: Place) -> (String, bool) {
        match place {
            Place::Matched { partner, is_initiator, .. } => {
                (partner.as_str().to_owned(), is_initiator)
            }
            Place::Waiting => panic!("not matched"),
        }
    }

    async fn matchmaker(config: Config, faults: &Faults) -> Matchmaker {
        let relay = Relay::builder(Nobody)
            .store(faults.store(Arc::new(MemoryStore::new())))
            .config(config)
            .start()
            .await
            .unwrap();
        Matchmaker::start(relay, queue())
    }

    #[tokio::test]
    async fn the_second_is_matched_with_the_first_who_makes_the_offer() {
        let matchmaker = matchmaker(Config::default(), &Faults::new(1)).await;
        assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
        let place = matchmaker.enter(user("b"), Partners::All).await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));
        assert_eq!(matchmaker.enter(user("c"), Partners::All).await.unwrap(), Place::Waiting);
        assert!(matchmaker.leave(user("c")).await.unwrap());
        assert!(!matchmaker.leave(user("c")).await.unwrap());
        assert_eq!(matchmaker.enter(user("d"), Partners::All).await.unwrap(), Place::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_is_away_all_keep_their_places() {
        let (faults, store) = (Faults::new(1), Arc::new(MemoryStore::new()));
        let relay = Relay::builder(Nobody).store(faults.store(store.clone()));
        let relay = relay.start().await.unwrap();
        let matchmaker = Matchmaker::start(relay, queue());
        assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
        faults.cut(true);
        for name in ["b", "c", "c"] {
            let asked = Instant::now();
            let error = matchmaker.enter(user(name), Partners::All).await.unwrap_err();
            assert!(matches!(error, MatchError::Open(_) | MatchError::Store(_)), "{error}");
            assert!(asked.elapsed() <= ANSWER_TIME + Duration::from_millis(1));
        }
        faults.cut(false);
        // Nobody has to ask again to have the two matched who came first.
        time::sleep(LOOK_INTERVAL + ANSWER_TIME).await;
        for name in ["a", "b"] {
            assert!(!matchmaker.leave(user(name)).await.unwrap(), "{name} still waits");
            let memberships = store.user(&user(name)).await.unwrap().memberships;
            assert_eq!(memberships.len(), 1, "{name}");
        }
        assert_eq!(matchmaker.enter(user("c"), Partners::All).await.unwrap(), Place::Waiting);
        let place = matchmaker.enter(user("d"), Partners::All).await.unwrap();
        assert_eq!(pair(place), ("c".to_owned(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_gets_one_session_however_often_the_store_fails() {
        for seed in 0..50 {
            let (faults, store) = (Faults::new(seed), Arc::new(MemoryStore::new()));
            let relay = Relay::builder(Nobody).store(faults.store(store.clone()));
            let relay = relay.start().await.unwrap();
            let matchmaker = Matchmaker::start(relay, queue());
            assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
            let mut trouble = Trouble::NONE;
            trouble.failures = 0.5;
            faults.set(trouble);
            let place = loop {
                if let Ok(place) = matchmaker.enter(user("b"), Partners::All).await {
                    break place;
                }
            };
            assert_eq!(pair(place), ("a".to_owned(), false));
            for name in ["a", "b"] {
                let memberships = store.user(&user(name)).await.unwrap().memberships;
                assert_eq!(memberships.len(), 1, "{name}, seed {seed}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_answered_in_time_however_slow_the_store_and_long_the_line() {
        let faults = Faults::new(1);
        let matchmaker = matchmaker(Config::default(), &faults).await;
        let mut trouble = Trouble::NONE;
        trouble.delay = Duration::from_secs(1_000);
        faults.set(trouble);
        let asked = Instant::now();
        let asks = (0..100).map(|n| matchmaker.enter(user(&format!("u{n}")), Partners::All));
        let answers = futures::future::join_all(asks).await;
        assert!(asked.elapsed() <= ANSWER_TIME + Duration::from_millis(1));
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    }

    /// A queue that does not answer when a pair is settled, and panics over the user `eve`.
    #[derive(Debug)]
    struct Faulty(LocalQueue);

    #[async_trait]
    impl Queue for Faulty {
        async fn enter(
            &mut self,
            user: &UserId,
            partners: Partners,
            by: Instant,
        ) -> Result<Option<Pair>, QueueError> {
            assert_ne!(user.as_str(), "eve", "an injected panic");
            self.0.enter(user, partners, by).await
        }

        async fn next(&mut self, by: Instant) -> Result<Option<Pair>, QueueError> {
            self.0.next(by).await
        }

        async fn settle(&mut self, _: &Pair, _: Instant) -> Result<(), QueueError> {
            Err(StoreError::unavailable("not now").into())
        }

        async fn dissolve(
            &mut self,
            pair: &Pair,
            gone: &[UserId],
            by: Instant,
        ) -> Result<(), QueueError> {
            self.0.dissolve(pair, gone, by).await
        }

        async fn leave(&mut self, user: &UserId, by: Instant) -> Result<bool, QueueError> {
            self.0.leave(user, by).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_that_cannot_be_settled_is_matched_and_its_session_opened_once() {
        let relay = Relay::builder(Nobody).start().await.unwrap();
        let matchmaker = Matchmaker::start(relay.clone(), Faulty(queue()));
        assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
        let Place::Matched { session, .. } =
            matchmaker.enter(user("b"), Partners::All).await.unwrap()
        else {
            panic!("not matched");
        };
        assert!(relay.close_session(&session, CloseReason::default()).await.unwrap());
        time::sleep(LOOK_INTERVAL * 3).await;
        assert_eq!(relay.session(&session).await.unwrap(), None, "it was opened again");
    }

    /// A queue whose first pair was not made by it.
    #[derive(Debug)]
    struct Planted(LocalQueue, Option<Pair>);

    #[async_trait]
    impl Queue for Planted {
        async fn enter(
            &mut self,
            user: &UserId,
            partners: Partners,
            by: Instant,
        ) -> Result<Option<Pair>, QueueError> {
            let next = self.0.enter(user, partners, by).await?;
            Ok(self.1.clone().or(next))
        }

        async fn next(&mut self, by: Instant) -> Result<Option<Pair>, QueueError> {
            match &self.1 {
                Some(pair) => Ok(Some(pair.clone())),
                None => self.0.next(by).await,
            }
        }

        async fn settle(&mut self, pair: &Pair, by: Instant) -> Result<(), QueueError> {
            self.1 = None;
            self.0.settle(pair, by).await
        }

        async fn dissolve(
            &mut self,
            pair: &Pair,
            gone: &[UserId],
            by: Instant,
        ) -> Result<(), QueueError> {
            self.1 = None;
            self.0.dissolve(pair, gone, by).await
        }

        async fn leave(&mut self, user: &UserId, by: Instant) -> Result<bool, QueueError> {
            self.0.leave(user, by).await
        }
    }

    #[tokio::test]
    async fn a_pair_that_can_never_be_opened_holds_up_nobody() {
        for users in [["x", "y"], ["x", "x"]] {
            let relay = Relay::builder(Nobody).start().await.unwrap();
            let taken = SessionId::new("taken").unwrap();
            let _ =
                relay.open(NewSession::between(&user("v"), &user("w")).id(&taken)).await.unwrap();
            let planted = Pair { session: taken, users: users.map(user), partners: Partners::All };
            let queue = Planted(queue(), Some(planted));
            let matchmaker = Matchmaker::start(relay, queue);
            assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
            let place = matchmaker.enter(user("b"), Partners::All).await.unwrap();
            assert_eq!(pair(place), ("a".to_owned(), false));
        }
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_takes_nobody_out_of_the_queue() {
        let relay = Relay::builder(Nobody).start().await.unwrap();
        let matchmaker = Matchmaker::start(relay, Faulty(queue()));
        let enter = async |name: &str| matchmaker.enter(user(name), Partners::All).await;
        assert_eq!(enter("a").await.unwrap(), Place::Waiting);
        assert!(matches!(enter("eve").await, Err(MatchError::Ended)));
        assert!(matchmaker.is_running());
        let place = enter("b").await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));
    }

    #[tokio::test]
    async fn who_is_in_too_many_sessions_holds_up_nobody() {
        let mut config = Config::default();
        config.max_sessions_per_user = 1;
        let matchmaker = matchmaker(config, &Faults::new(1)).await;
        let _ = matchmaker.enter(user("a"), Partners::All).await.unwrap();
        let place = matchmaker.enter(user("b"), Partners::All).await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));

        // It cannot be known before a partner is there.
        assert_eq!(matchmaker.enter(user("a"), Partners::All).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("c"), Partners::All).await.unwrap(), Place::Waiting);
        let error = matchmaker.enter(user("b"), Partners::All).await.unwrap_err();
        assert!(matches!(error, MatchError::Open(OpenError::TooManySessions(_))));
        let place = matchmaker.enter(user("d"), Partners::All).await.unwrap();
        assert_eq!(pair(place), ("c".to_owned(), false));
    }

    #[tokio::test]
    async fn where_it_matters_those_without_a_connection_are_forgotten() {
        let matchmaker = matchmaker(Config::default(), &Faults::new(1)).await;
        assert_eq!(matchmaker.enter(user("a"), Partners::Connected).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("b"), Partners::Connected).await.unwrap(), Place::Waiting);
        assert!(!matchmaker.leave(user("a")).await.unwrap());
        assert!(matchmaker.leave(user("b")).await.unwrap());
    }

    #[tokio::test]
    async fn one_of_a_pair_can_ask_that_both_are_connected() {
        let matchmaker = matchmaker(Config::default(), &Faults::new(1)).await;
        for (first, second) in
            [(Partners::Connected, Partners::All), (Partners::All, Partners::Connected)]
        {
            assert_eq!(matchmaker.enter(user("a"), first).await.unwrap(), Place::Waiting);
            assert_eq!(matchmaker.enter(user("b"), second).await.unwrap(), Place::Waiting);
            assert!(!matchmaker.leave(user("a")).await.unwrap(), "it lost its place");
            assert!(matchmaker.leave(user("b")).await.unwrap());
        }
        // The last request counts.
        for partners in [Partners::Connected, Partners::All] {
            let _ = matchmaker.enter(user("a"), partners).await.unwrap();
        }
        let place = matchmaker.enter(user("b"), Partners::All).await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));

        let refused = matchmaker.enter_connected(user("c")).await;
        assert!(matches!(refused, Err(MatchError::NotConnected)), "{refused:?}");
        assert!(!matchmaker.leave(user("c")).await.unwrap());
    }
}
