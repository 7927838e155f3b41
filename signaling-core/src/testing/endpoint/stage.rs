//! What cases are played on: endpoints that are started, clients, and calls between two of them.

use std::{
    future::Future,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use serde_json::json;
use tokio::time::{self, Instant};

use super::{AUDIENCE, Endpoint, ISSUER, Opening, SECRET, SessionState, Setup, Unsupported};
use crate::{
    config::Config,
    store::SessionStore,
    testing::{
        client::{Client, Dial, PATIENCE},
        token,
    },
    time::{Clock, SystemClock},
};

type Start =
    dyn Fn(Setup) -> BoxFuture<'static, Result<Box<dyn Endpoint>, Unsupported>> + Send + Sync;

/// Starts endpoints for one case.
pub(super) struct Host {
    start: Box<Start>,
    stages: Mutex<Vec<Stage>>,
    no_checkup: AtomicBool,
}

impl Host {
    pub(super) fn new<F, W>(start: F) -> Self
    where
        F: Fn(Setup) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Box<dyn Endpoint>, Unsupported>> + Send + 'static,
    {
        Self {
            start: Box::new(move |setup| Box::pin(start(setup))),
            stages: Mutex::default(),
            no_checkup: AtomicBool::new(false),
        }
    }

    /// An endpoint with all settings at their defaults.
    pub(super) async fn start(&self) -> Stage {
        self.start_with(|_| ()).await
    }

    /// An endpoint with some settings changed.
    pub(super) async fn start_with(&self, change: impl FnOnce(&mut Config)) -> Stage {
        let mut setup = Setup::default();
        change(&mut setup.config);
        match self.set_up(setup).await {
            Ok(stage) => stage,
            Err(Unsupported(reason)) => panic!("every endpoint has these settings: {reason}"),
        }
    }

    /// An endpoint on this store; none where it cannot have one.
    pub(super) async fn start_on(&self, store: Arc<dyn SessionStore>) -> Option<Stage> {
        self.start_if_possible(Setup { store: Some(store), ..Setup::default() }).await
    }

    /// An endpoint set up so; none where it cannot be.
    pub(super) async fn start_if_possible(&self, setup: Setup) -> Option<Stage> {
        match self.set_up(setup).await {
            Ok(stage) => Some(stage),
            Err(Unsupported(reason)) => {
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    async fn set_up(&self, setup: Setup) -> Result<Stage, Unsupported> {
        let endpoint: Arc<dyn Endpoint> = (self.start)(setup).await?.into();
        let stage = Stage { endpoint };
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.push(stage.clone());
        Ok(stage)
    }

    /// Nobody new can talk at the end: the endpoint is shut down, or full.
    pub(super) fn no_checkup(&self) {
        self.no_checkup.store(true, Ordering::Relaxed);
    }

    /// Whatever a case did, two others can talk afterwards, and the server is well.
    pub(super) async fn check_up(&self) {
        let stages = self.stages.lock().map(|stages| stages.clone());
        for stage in stages.unwrap_or_default() {
            if !self.no_checkup.load(Ordering::Relaxed) {
                stage.call_of("checkup-1", "checkup-2").await.talk().await;
            }
            let faults = stage.faults().await;
            assert!(faults.is_empty(), "the server had faults: {faults:?}");
        }
    }
}

/// A running endpoint.
#[derive(Clone)]
pub(super) struct Stage {
    endpoint: Arc<dyn Endpoint>,
}

impl Deref for Stage {
    type Target = dyn Endpoint;
    fn deref(&self) -> &Self::Target {
        &*self.endpoint
    }
}

/// A good token of `user`, for an hour.
pub(super) fn token(user: &str) -> String {
    token_until(user, 3600)
}

/// A token of `user` with `exp` this many seconds from now.
pub(super) fn token_until(user: &str, seconds: i64) -> String {
    let claims = json!({
        "sub": user, "iss": ISSUER, "aud": AUDIENCE, "exp": now() + seconds,
    });
    token::sign(SECRET.as_bytes(), &claims)
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> i64 {
    (SystemClock.now().as_millis() / 1000) as i64
}

impl Stage {
    /// A client to be, without a token.
    pub(super) fn bare(&self, user: &str) -> Dial {
        Dial::to(self.url()).named(user)
    }

    /// A client to be, with a good token.
    pub(super) fn dial(&self, user: &str) -> Dial {
        self.bare(user).query_token(&token(user))
    }

    /// A client whose handshake is done; the server may not have admitted it yet.
    pub(super) async fn connect(&self, user: &str) -> Client {
        self.dial(user).connect().await
    }

    /// A client that is admitted, and in no session.
    pub(super) async fn client(&self, user: &str) -> Client {
        let mut client = self.connect(user).await;
        client.expect_nothing().await;
        client
    }

    pub(super) async fn open_new(&self, initiator: &str, responder: &str) -> String {
        match self.open(None, initiator, responder).await {
            Opening::New(session) => session,
            other => panic!("expected a new session, got {other:?}"),
        }
    }

    /// The session once `condition` holds of it.
    pub(super) async fn session_when(
        &self,
        session: &str,
        what: &str,
        condition: impl Fn(&SessionState) -> bool,
    ) -> SessionState {
        let until = Instant::now() + PATIENCE;
        loop {
            let state = self.session(session).await;
            match state {
                Some(state) if condition(&state) => return state,
                state if Instant::now() > until => panic!("never {what}: {state:?}"),
                _ => time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Waits until the participant (0 or 1) is written as absent.
    pub(super) async fn until_absent(&self, session: &str, participant: usize) {
        self.session_when(session, "absent", |state| !state.participants[participant].connected)
            .await;
    }

    /// Waits until the session is over.
    pub(super) async fn until_over(&self, session: &str) {
        let until = Instant::now() + PATIENCE;
        while let Some(state) = self.session(session).await {
            assert!(Instant::now() < until, "never over: {state:?}");
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ann and Bob, connected and matched; Ann is the initiator.
    pub(super) async fn call(&self) -> Call {
        self.call_of("ann", "bob").await
    }

    pub(super) async fn call_of(&self, initiator: &str, responder: &str) -> Call {
        let mut ann = self.client(initiator).await;
        let mut bob = self.client(responder).await;
        let session = self.open_new(initiator, responder).await;
        ann.expect_match(&session, responder, true).await;
        bob.expect_match(&session, initiator, false).await;
        // What either says from now on finds the other.
        self.session_when(&session, "active", |state| {
            state.participants.iter().all(|one| one.connected)
        })
        .await;
        Call { session, ann, bob }
    }
}

/// Two clients in a session.
pub(super) struct Call {
    pub(super) session: String,
    /// The initiator.
    pub(super) ann: Client,
    /// The responder.
    pub(super) bob: Client,
}

impl Call {
    /// One negotiation: an offer, an answer, a candidate each way.
    pub(super) async fn talk(&mut self) {
        static NEGOTIATIONS: AtomicU32 = AtomicU32::new(0);
        let n = NEGOTIATIONS.fetch_add(1, Ordering::Relaxed);
        let session = &self.session;
        let texts = [
            offer(session, &format!("offer {n}")),
            candidate(session, &format!("candidate {n} of the initiator")),
        ];
        say(&mut self.ann, &mut self.bob, &texts).await;
        let texts = [
            answer(session, &format!("answer {n}")),
            candidate(session, &format!("candidate {n} of the responder")),
        ];
        say(&mut self.bob, &mut self.ann, &texts).await;
        self.expect_nothing().await;
    }

    pub(super) async fn expect_nothing(&mut self) {
        self.ann.expect_nothing().await;
        self.bob.expect_nothing().await;
    }
}

/// `from` sends these texts, and `to` gets exactly them.
pub(super) async fn say(from: &mut Client, to: &mut Client, texts: &[String]) {
    for text in texts {
        from.send(text).await;
    }
    for text in texts {
        to.expect_relayed(text).await;
    }
}

pub(super) fn offer(session: &str, sdp: &str) -> String {
    json!({"type": "offer", "sessionId": session, "sdp": sdp}).to_string()
}

pub(super) fn answer(session: &str, sdp: &str) -> String {
    json!({"type": "answer", "sessionId": session, "sdp": sdp}).to_string()
}

pub(super) fn candidate(session: &str, candidate: &str) -> String {
    let candidate = json!({"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0});
    json!({"type": "ice-candidate", "sessionId": session, "candidate": candidate}).to_string()
}

pub(super) fn leave(session: &str) -> String {
    json!({"type": "leave", "sessionId": session}).to_string()
}

pub(super) fn heartbeat() -> String {
    json!({"type": "heartbeat"}).to_string()
}
