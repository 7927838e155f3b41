//! A relay and its users: tokens verified, sessions in memory, every check on.

use std::time::Duration;

use serde_json::json;
use signaling_core::{
    Config, Relay,
    auth::Credentials,
    frame::{Frame, Text},
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    reason::DisconnectReason,
    relay::NewSession,
    testing::token,
};
use tokio::task::JoinHandle;

use crate::{
    line::{Client, line},
    texts,
};

/// What tokens are signed with.
const SECRET: &[u8] = b"of no use to anybody but the benchmarks";
/// When tokens expire: the end of the year 2100.
const EXPIRES: u64 = 4_133_980_799;
/// What nobody is to come to.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Stage {
    relay: Relay,
}

/// A user's token, made once.
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) credentials: Credentials,
}

/// Someone who is connected.
pub(crate) struct Caller {
    pub(crate) client: Client,
    served: JoinHandle<DisconnectReason>,
}

pub(crate) fn authenticator() -> JwtAuthenticator {
    let key = JwtKey::secret(Algorithm::HS256, SECRET);
    JwtAuthenticator::builder().key(key).build().expect("one key")
}

impl User {
    pub(crate) fn new(number: usize) -> Self {
        let id = texts::user(number);
        let claims = json!({ "sub": id.as_str(), "exp": EXPIRES });
        Self { credentials: Credentials::bearer(token::sign(SECRET, &claims)), id }
    }

    /// Two users for each of so many sessions.
    pub(crate) fn pairs(count: usize) -> Vec<[Self; 2]> {
        (0..count).map(|pair| [Self::new(2 * pair), Self::new(2 * pair + 1)]).collect()
    }
}

impl Stage {
    /// A relay that pings nobody, gives nobody up and limits no rate, so that nothing happens but
    /// what is measured.
    pub(crate) async fn start() -> Self {
        let mut config = Config::default();
        config.max_signals_per_second = 0;
        config.max_signal_bytes_per_second = 0;
        config.max_connects_per_minute = 0;
        config.heartbeat_timeout = NEVER;
        config.ping_interval = NEVER / 2;
        config.silence_timeout = NEVER;
        let relay = Relay::builder(authenticator()).config(config).start().await;
        Self { relay: relay.expect("a relay in memory starts") }
    }

    /// Matches two users, and connects both.
    pub(crate) async fn connect(&self, session: &SessionId, users: [&User; 2]) -> [Caller; 2] {
        let [initiator, responder] = users;
        let opened =
            self.relay.open(NewSession::between(&initiator.id, &responder.id).id(session)).await;
        let _ = opened.expect("a session opens");
        let callers = [self.admit(initiator).await, self.admit(responder).await];
        for caller in &callers {
            caller.client.expect("match-found").await;
        }
        callers
    }

    /// Matches two users, connects both, has the first leave, and closes both.
    pub(crate) async fn call(&self, session: &SessionId, users: [&User; 2]) {
        let [ann, bob] = self.connect(session, users).await;
        ann.say(&texts::leave(session).into());
        bob.client.expect("partner-disconnected").await;
        ann.close().await;
        bob.close().await;
    }

    async fn admit(&self, user: &User) -> Caller {
        let identity = self.relay.authenticate(&user.credentials).await.expect("a good token");
        let (transport, client) = line();
        let relay = self.relay.clone();
        let served = tokio::spawn(async move { relay.serve(transport, identity).await });
        Caller { client, served }
    }
}

impl Caller {
    pub(crate) fn say(&self, text: &Text) {
        self.client.say(Frame::Text(text.clone()));
    }

    /// Sends `count` candidates with the words `text` at once, and waits until `to` has them.
    pub(crate) async fn send(&self, to: &Self, text: &Text, count: usize) {
        for _ in 0..count {
            self.say(text);
        }
        for _ in 0..count {
            to.client.expect("ice-candidate").await;
        }
    }

    /// Closes in order, and waits for the relay to be done with it.
    pub(crate) async fn close(self) {
        self.client.say(Frame::Close(None));
        assert_eq!(self.served.await.expect("served to the end"), DisconnectReason::Left);
    }
}
