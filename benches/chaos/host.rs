//! The matching service of one pair: opens its next session whenever the last one has ended.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::json;
use tokio::{sync::mpsc, time};

use crate::{
    client::{name, session_id},
    deployment::Deployment,
    history::{Journal, What, Who},
};

/// Between attempts to open a session.
const RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Host {
    pub(crate) pair: usize,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) journal: Journal,
    pub(crate) rng: Rng,
    /// Sessions of which a client learned that they have ended.
    pub(crate) over: mpsc::Receiver<u32>,
}

impl Host {
    pub(crate) async fn live(mut self) {
        for session in 0.. {
            if self.open(session).await {
                while self.over.recv().await.is_some_and(|over| over != session) {}
            }
        }
    }

    /// Asks node after node until one says that the session is open; the id makes it one session.
    /// False when a client learned first that it has ended already: asking again would open another.
    async fn open(&mut self, session: u32) -> bool {
        let initiator = self.rng.usize(0..2);
        let [first, second] = [initiator, 1 - initiator].map(|side| name(self.pair, side));
        let id = session_id(self.pair, session);
        let body = json!({"initiatorId": first, "partnerId": second, "sessionId": id}).to_string();
        self.note(What::Opening { session, initiator });
        loop {
            let opened = self.deployment.api(&mut self.rng, "POST", "/api/sessions", &body).await;
            match opened {
                Ok((200 | 201, _)) => {
                    self.note(What::Opened { session });
                    return true;
                }
                Ok((503 | 408, _)) | Err(_) => self.note(What::Unanswered { session }),
                Ok((status, body)) => {
                    self.note(What::Odd(format!("POST /api/sessions: {status} {body}")));
                }
            }
            time::sleep(RETRY).await;
            while let Ok(over) = self.over.try_recv() {
                if over == session {
                    return false;
                }
            }
        }
    }

    fn note(&self, what: What) {
        self.journal.note(Who::Host, 0, what);
    }
}
