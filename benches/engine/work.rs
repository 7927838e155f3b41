//! What is counted. Each does its thing `count` times, after what it needs once.

use std::{fmt, hint::black_box, iter::zip, process::id, sync::Arc, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use signaling_core::{
    Config,
    auth::{Authenticator, Credentials},
    frame::Text,
    jwt::JwtAuthenticator,
    memory::MemoryStore,
    protocol::{ClientMessage, Dialect, ServerMessage},
    session::SessionRecord,
    store::{SessionStore, Written},
    time::{Clock, Timestamp},
};
use tokio::time;

use crate::{
    Done, process,
    stage::{Caller, Stage, User, authenticator},
    texts, virtual_time,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Reading a candidate of 300 bytes.
    Parse,
    /// Reading an offer of 6 KB.
    ParseOffer,
    /// Writing a match-found.
    Write,
    /// A conditional write of the store in memory, among 1,000 sessions.
    StoreWrite,
    /// Verifying a token, HS256.
    Token,
    /// The same, ES256.
    TokenEs256,
    /// A candidate from one client to the other, one at a time.
    Relay,
    /// The same, 16 at once.
    RelayBurst,
    /// A heartbeat of one of 800 connections, its answer, and its part in the batch for the store.
    Heartbeat,
    /// A session opened; both users verified, connected and told of their match; one leaves, the
    /// other is told, both close.
    Call,
}

/// Candidates at once.
const BURST: usize = 16;
/// Pairs that send heartbeats, or call in turn.
const PAIRS: usize = 400;
/// Sessions in the store that is written to.
const SESSIONS: usize = 1000;
/// Runs whose median is the time.
const RUNS: usize = 5;

/// RFC 7515, A.3.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES256_KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Work {
    /// How often it is done at least: often enough for chance, and whole rounds of all its users.
    pub(crate) const fn count(self) -> usize {
        match self {
            Self::Parse | Self::Write | Self::Relay | Self::RelayBurst | Self::Heartbeat => 9600,
            Self::ParseOffer | Self::StoreWrite | Self::Token | Self::Call => 1000,
            Self::TokenEs256 => 100,
        }
    }

    /// Does it, on one thread and a clock that moves when there is nothing left to do.
    pub(crate) fn run(self, count: usize) -> Done<()> {
        let session = texts::session(0);
        virtual_time()?.block_on(async {
            match self {
                Self::Parse => parse(&texts::candidate(&session), count),
                Self::ParseOffer => parse(&texts::description("offer", &session), count),
                Self::Write => write(count),
                Self::StoreWrite => store_write(count).await,
                Self::Token => verify(&authenticator(), &User::new(0).credentials, count).await,
                Self::TokenEs256 => verify_es256(count).await,
                Self::Relay => relay(count, 1).await,
                Self::RelayBurst => relay(count, BURST).await,
                Self::Heartbeat => heartbeats(count).await,
                Self::Call => calls(count).await,
            }
        });
        Ok(())
    }

    /// The CPU time of each: the difference of two runs, one of which does it twice as often.
    pub(crate) fn time(self) -> Done<Duration> {
        let time = |count| -> Done<f64> {
            let before = process::cpu(id())?;
            self.run(count)?;
            Ok(process::cpu(id())? - before)
        };
        let count = 10 * self.count();
        let each = |_| Ok((time(2 * count)? - time(count)?) / count as f64);
        let mut each = (0..RUNS).map(each).collect::<Done<Vec<_>>>()?;
        each.sort_by(f64::total_cmp);
        Ok(Duration::from_secs_f64(each[RUNS / 2].max(0.0)))
    }
}

fn parse(text: &str, count: usize) {
    for _ in 0..count {
        let message = ClientMessage::parse(black_box(text), Dialect::Base);
        black_box(message.expect("a message"));
    }
}

fn write(count: usize) {
    let (session_id, partner_id) = (texts::session(0), texts::user(1));
    let message = ServerMessage::MatchFound {
        session_id: &session_id,
        partner_id: &partner_id,
        is_initiator: true,
        negotiation: None,
        ice_servers: None,
    };
    for _ in 0..count {
        black_box(black_box(&message).to_text());
    }
}

/// A record in the place of the one before.
async fn store_write(count: usize) {
    let store = MemoryStore::new();
    let until = Timestamp::default().after(Duration::from_secs(60));
    let mut records = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        let [initiator, responder] = [texts::user(2 * number), texts::user(2 * number + 1)];
        let record = SessionRecord::open(texts::session(number), 7, initiator, responder, until);
        let record = record.expect("two users");
        assert!(matches!(store.put(&record, None).await, Ok(Written::Done)));
        records.push(record);
    }
    for number in 0..count {
        let record = &mut records[number % SESSIONS];
        let before = record.clone();
        record.revision += 1;
        assert!(matches!(store.put(record, Some(&before)).await, Ok(Written::Done)));
    }
}

async fn verify(authenticator: &JwtAuthenticator, credentials: &Credentials, count: usize) {
    for _ in 0..count {
        let identity = authenticator.authenticate(black_box(credentials)).await;
        black_box(identity.expect("a good token"));
    }
}

/// Before the token of the RFC expired.
#[derive(Debug)]
struct Then;

impl Clock for Then {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_300_000_000_000)
    }
}

async fn verify_es256(count: usize) {
    let builder = JwtAuthenticator::builder().jwks(ES256_KEY).user_claim("iss");
    let authenticator = builder.clock(Arc::new(Then)).build().expect("a key");
    verify(&authenticator, &Credentials::bearer(ES256), count).await;
}

/// `count` candidates go back and forth, so many at once.
async fn relay(count: usize, at_once: usize) {
    let stage = Stage::start().await;
    let [ann, bob] = connect(&stage, 0).await;
    let text = Text::from(texts::candidate(&texts::session(0)));
    for _ in 0..count / (2 * at_once) {
        ann.send(&bob, &text, at_once).await;
        bob.send(&ann, &text, at_once).await;
    }
}

async fn heartbeats(count: usize) {
    let batch = Config::default().heartbeat_batch;
    let stage = Stage::start().await;
    let mut callers = Vec::with_capacity(2 * PAIRS);
    for number in 0..PAIRS {
        let beat = Text::from(texts::heartbeat(&texts::session(number)));
        for caller in connect(&stage, number).await {
            callers.push((caller, beat.clone()));
        }
    }
    for _ in 0..count / callers.len() {
        for (caller, beat) in &callers {
            caller.say(beat);
        }
        for (caller, _) in &callers {
            caller.client.expect("heartbeat-ack").await;
        }
        time::sleep(batch).await;
    }
}

async fn calls(count: usize) {
    let stage = Stage::start().await;
    let users = User::pairs(PAIRS);
    for (number, [ann, bob]) in zip(0..count, users.iter().cycle()) {
        stage.call(&texts::session(number), [ann, bob]).await;
    }
}

async fn connect(stage: &Stage, pair: usize) -> [Caller; 2] {
    let [ann, bob] = [User::new(2 * pair), User::new(2 * pair + 1)];
    stage.connect(&texts::session(pair), [&ann, &bob]).await
}
