//! Matches those who wait and opens their sessions, one request after the other: a task owns the
//! queue, so that no caller who goes away midway takes anybody with it.

use signaling_core::{
    Relay,
    id::{SessionId, UserId},
    relay::OpenError,
    store::StoreError,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::queue::{Full, Queue};

/// Requests that wait for their turn; more wait in their callers.
const WAITING_REQUESTS: usize = 64;

/// Asks the task; cheap to clone. The task ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Matchmaker(mpsc::Sender<Request>);

/// What has become of a user who entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It waits.
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
    /// As many wait as may; the user does not.
    #[error("the queue is full")]
    Full,
    /// The user does not wait when it is in too many sessions; else it waits, as everybody does
    /// who did before.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store did not answer; the user waits.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is ending.
    #[error("matching has ended")]
    Ended,
}

#[derive(Debug)]
enum Request {
    Enter(UserId, oneshot::Sender<Result<Place, MatchError>>),
    Leave(UserId, oneshot::Sender<bool>),
}

/// Whom a user may be matched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partners {
    /// Anybody who waits.
    All,
    /// Only those who have a connection; others are forgotten.
    Connected,
}

impl Matchmaker {
    /// Starts the task.
    pub(crate) fn start(relay: Relay, queue: Queue, partners: Partners) -> Self {
        let (sender, mut requests) = mpsc::channel(WAITING_REQUESTS);
        let mut matching = Matching { relay, queue, partners, unknown: None };
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                // Who does not wait for the answer any more has entered or left all the same.
                match request {
                    Request::Enter(user, answer) => {
                        let _ = answer.send(matching.enter(&user).await);
                    }
                    Request::Leave(user, answer) => {
                        let _ = answer.send(matching.queue.leave(&user, Instant::now()));
                    }
                }
            }
            tracing::debug!("matching ended");
        });
        Self(sender)
    }

    /// Lets `user` wait for a partner, and matches it if there is one.
    pub(crate) async fn enter(&self, user: UserId) -> Result<Place, MatchError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(Request::Enter(user, answer)).await;
        sent.map_err(|_| MatchError::Ended)?;
        answered.await.map_err(|_| MatchError::Ended)?
    }

    /// Lets `user` wait no longer; false when it did not.
    pub(crate) async fn leave(&self, user: UserId) -> Result<bool, MatchError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.send(Request::Leave(user, answer)).await;
        sent.map_err(|_| MatchError::Ended)?;
        answered.await.map_err(|_| MatchError::Ended)
    }
}

struct Matching {
    relay: Relay,
    queue: Queue,
    partners: Partners,
    /// The pair whose session may have been opened when the store failed: it is tried again under
    /// the same id.
    unknown: Option<([UserId; 2], SessionId)>,
}

impl Matching {
    async fn enter(&mut self, user: &UserId) -> Result<Place, MatchError> {
        let entered = self.queue.enter(user, Instant::now());
        entered.map_err(|Full| MatchError::Full)?;
        // More than one pair may wait after an outage. After an error all keep their places.
        while let Some(pair) = self.queue.first_pair() {
            if self.forgot_absent(&pair, user).await? {
                continue;
            }
            let [first, second] = &pair;
            let session = match self.unknown.take() {
                Some((same, session)) if same == pair => session,
                _ => SessionId::generate().map_err(OpenError::from)?,
            };
            match self.relay.open_session_as(&session, first, second).await {
                Ok(_) => {
                    for user in &pair {
                        self.queue.leave(user, Instant::now());
                    }
                    let is_initiator = first == user;
                    if is_initiator || second == user {
                        return Ok(Place::Matched {
                            session,
                            partner: if is_initiator { second } else { first }.clone(),
                            is_initiator,
                        });
                    }
                }
                Err(OpenError::TooManySessions(busy)) => {
                    self.queue.leave(&busy, Instant::now());
                    if busy == *user {
                        return Err(OpenError::TooManySessions(busy).into());
                    }
                }
                Err(error) => {
                    self.unknown = Some((pair, session));
                    return Err(error.into());
                }
            }
        }
        Ok(Place::Waiting)
    }

    async fn forgot_absent(
        &mut self,
        pair: &[UserId; 2],
        user: &UserId,
    ) -> Result<bool, StoreError> {
        let mut forgot = false;
        if self.partners == Partners::Connected {
            for waiting in pair.iter().filter(|waiting| *waiting != user) {
                if !self.relay.is_connected(waiting).await? {
                    forgot |= self.queue.leave(waiting, Instant::now());
                }
            }
        }
        Ok(forgot)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use signaling_core::{
        Config,
        auth::{AuthError, Authenticator, Credentials, Identity},
        memory::MemoryStore,
        store::SessionStore,
        testing::fault::{Faults, Trouble},
    };

    use super::*;

    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl Authenticator for Nobody {
        async fn authenticate(&self, _: &Credentials) -> Result<Identity, AuthError> {
            Err(AuthError::Missing)
        }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn queue() -> Queue {
        Queue::new(10, Duration::from_secs(60))
    }

    fn pair(place: Place) -> (String, bool) {
        match place {
            Place::Matched { partner, is_initiator, .. } => {
                (partner.as_str().to_owned(), is_initiator)
            }
            Place::Waiting => panic!("not matched"),
        }
    }

    async fn matchmaker(config: Config, faults: &Faults, partners: Partners) -> Matchmaker {
        let relay = Relay::builder(Nobody)
            .store(faults.store(Arc::new(MemoryStore::new())))
            .config(config)
            .start()
            .await
            .unwrap();
        Matchmaker::start(relay, queue(), partners)
    }

    #[tokio::test]
    async fn the_second_is_matched_with_the_first_who_makes_the_offer() {
        let matchmaker = matchmaker(Config::default(), &Faults::new(1), Partners::All).await;
        assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
        let place = matchmaker.enter(user("b")).await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));
        assert_eq!(matchmaker.enter(user("c")).await.unwrap(), Place::Waiting);
        assert!(matchmaker.leave(user("c")).await.unwrap());
        assert!(!matchmaker.leave(user("c")).await.unwrap());
        assert_eq!(matchmaker.enter(user("d")).await.unwrap(), Place::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_is_away_all_keep_their_places() {
        let faults = Faults::new(1);
        let matchmaker = matchmaker(Config::default(), &faults, Partners::All).await;
        assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
        faults.cut(true);
        for name in ["b", "c"] {
            let error = matchmaker.enter(user(name)).await.unwrap_err();
            assert!(matches!(error, MatchError::Open(OpenError::Store(_))), "{error}");
        }
        faults.cut(false);
        // The two who came first are matched on the way.
        let place = matchmaker.enter(user("d")).await.unwrap();
        assert_eq!(pair(place), ("c".to_owned(), false));
        for name in ["a", "b", "c", "d"] {
            assert!(!matchmaker.leave(user(name)).await.unwrap(), "{name} still waits");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_gets_one_session_however_often_the_store_fails() {
        for seed in 0..50 {
            let (faults, store) = (Faults::new(seed), Arc::new(MemoryStore::new()));
            let relay = Relay::builder(Nobody).store(faults.store(store.clone()));
            let relay = relay.start().await.unwrap();
            let matchmaker = Matchmaker::start(relay, queue(), Partners::All);
            assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
            let mut trouble = Trouble::NONE;
            trouble.failures = 0.5;
            faults.set(trouble);
            let place = loop {
                if let Ok(place) = matchmaker.enter(user("b")).await {
                    break place;
                }
            };
            assert_eq!(pair(place), ("a".to_owned(), false));
            for name in ["a", "b"] {
                let enrolments = store.user(&user(name)).await.unwrap().enrolments;
                assert_eq!(enrolments.len(), 1, "{name}, seed {seed}");
            }
        }
    }

    #[tokio::test]
    async fn who_is_in_too_many_sessions_holds_up_nobody() {
        let mut config = Config::default();
        config.max_sessions_per_user = 1;
        let matchmaker = matchmaker(config, &Faults::new(1), Partners::All).await;
        let _ = matchmaker.enter(user("a")).await.unwrap();
        let place = matchmaker.enter(user("b")).await.unwrap();
        assert_eq!(pair(place), ("a".to_owned(), false));

        // It cannot be known before a partner is there.
        assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("c")).await.unwrap(), Place::Waiting);
        let error = matchmaker.enter(user("b")).await.unwrap_err();
        assert!(matches!(error, MatchError::Open(OpenError::TooManySessions(_))));
        let place = matchmaker.enter(user("d")).await.unwrap();
        assert_eq!(pair(place), ("c".to_owned(), false));
    }

    #[tokio::test]
    async fn where_it_matters_those_without_a_connection_are_forgotten() {
        let matchmaker = matchmaker(Config::default(), &Faults::new(1), Partners::Connected).await;
        assert_eq!(matchmaker.enter(user("a")).await.unwrap(), Place::Waiting);
        assert_eq!(matchmaker.enter(user("b")).await.unwrap(), Place::Waiting);
        assert!(!matchmaker.leave(user("a")).await.unwrap());
        assert!(matchmaker.leave(user("b")).await.unwrap());
    }
}
