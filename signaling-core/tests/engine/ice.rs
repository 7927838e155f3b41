//! ICE servers: a provider that answers, fails, and is late, and what clients are told meanwhile.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use signaling_core::{
    Relay,
    ice::{IceServer, IceServerProvider, IceServers, ProviderError},
    id::{SessionId, UserId},
    testing::{TokioClock, guest::Nobody},
    time::Timestamp,
};
use tokio::time::{self, Instant};

use crate::harness::{Guest, user};

const HOUR: Duration = Duration::from_secs(3600);

/// What the provider does when it is asked; when it was told nothing, it makes servers for an hour.
#[derive(Debug)]
enum Answer {
    Fail,
    Panic,
    Hang,
    After(Duration),
    For(Duration),
    Static,
}

/// Numbers its answers.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(String, Instant)>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    /// How long after `start` it was asked for `name`, each time.
    fn asked(&self, name: &str, start: Instant) -> Vec<f64> {
        let asked = self.asked.lock().unwrap();
        let of = asked.iter().filter(|(user, _)| user == name);
        of.map(|(_, at)| at.duration_since(start).as_secs_f64()).collect()
    }
}

#[async_trait]
impl IceServerProvider for Scripted {
    async fn ice_servers(
        &self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<IceServers, ProviderError> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((user.to_string(), Instant::now()));
            asked.iter().filter(|(name, _)| name == user.as_str()).count()
        };
        let answer = self.answers.lock().unwrap().pop_front();
        let server = IceServer::turn(["turn:a"], format!("{user} {number}"), "c").unwrap();
        let servers = IceServers::new([server]);
        match answer {
            None => Ok(servers.expiring(now.after(HOUR))),
            Some(Answer::For(life)) => Ok(servers.expiring(now.after(life))),
            Some(Answer::Static) => Ok(servers),
            Some(Answer::Fail) => Err(ProviderError::unavailable("not today")),
            Some(Answer::Panic) => panic!("this is in the test"),
            Some(Answer::Hang) => std::future::pending().await,
            Some(Answer::After(delay)) => {
                time::sleep(delay).await;
                Ok(servers.expiring(now.after(HOUR)))
            }
        }
    }
}

async fn relay(provider: &Arc<Scripted>) -> Relay {
    let clock = Arc::new(TokioClock::start());
    let relay = Relay::builder(Nobody).clock(clock).ice_servers(provider.clone());
    relay.start().await.unwrap()
}

async fn open(relay: &Relay) -> SessionId {
    relay.open_session(&user("ann"), &user("bob")).await.unwrap()
}

fn found(session: &SessionId, username: Option<&str>) -> Value {
    let mut found = json!({
        "type": "match-found",
        "sessionId": session.as_str(),
        "partnerId": "bob",
        "isInitiator": true,
    });
    if let Some(username) = username {
        found["iceServers"] = servers(username);
    }
    found
}

fn renewed(session: &SessionId, username: &str) -> Value {
    json!({
        "type": "ice-servers",
        "sessionId": session.as_str(),
        "iceServers": servers(username),
    })
}

fn servers(username: &str) -> Value {
    json!([{"urls": ["turn:a"], "username": username, "credential": "c"}])
}

#[tokio::test(start_paused = true)]
async fn who_understands_is_matched_with_servers_of_its_own() {
    let provider = Scripted::new([]);
    let relay = relay(&provider).await;
    let (mut ann, mut bob) = (Guest::connect_v1(&relay, "ann"), Guest::connect(&relay, "bob"));
    let session = open(&relay).await;
    assert_eq!(ann.found().await.0, found(&session, Some("ann 1")));
    bob.expect_match(&session, "ann", false).await;
    assert_eq!(provider.asked("bob", Instant::now()).len(), 0, "nobody would tell Bob");
    // The same after a return of the partner, and at a return of its own.
    drop(bob);
    ann.expect("partner-disconnected lost").await;
    let mut bob = Guest::connect(&relay, "bob");
    bob.expect_match(&session, "ann", false).await;
    assert_eq!(ann.found().await.0, found(&session, Some("ann 1")));
    let mut ann = Guest::connect_v1(&relay, "ann");
    assert_eq!(ann.found().await.0, found(&session, Some("ann 2")));
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_the_messages_are_as_ever() {
    let relay = Relay::builder(Nobody).start().await.unwrap();
    let mut ann = Guest::connect_v1(&relay, "ann");
    let session = open(&relay).await;
    assert_eq!(ann.found().await.0, found(&session, None));
    ann.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_matched_before_it_connects_has_the_servers_at_once() {
    let provider = Scripted::new([Answer::After(Duration::from_millis(1900))]);
    let relay = relay(&provider).await;
    let session = open(&relay).await;
    let start = Instant::now();
    let mut ann = Guest::connect_v1(&relay, "ann");
    assert_eq!(ann.found().await.0, found(&session, Some("ann 1")));
    assert_eq!(start.elapsed(), Duration::from_millis(1900));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_late_holds_a_match_up_for_two_seconds_and_no_longer() {
    let provider = Scripted::new([Answer::Hang, Answer::Hang]);
    let relay = relay(&provider).await;
    let session = open(&relay).await;
    let start = Instant::now();
    let mut ann = Guest::connect_v1(&relay, "ann");
    assert_eq!(ann.found().await.0, found(&session, None));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(ann.message().await, renewed(&session, "ann 3"));
    // A second after the first was given up, two after the second.
    assert_eq!(provider.asked("ann", start), [0.0, 3.0, 7.0]);
    assert_eq!(start.elapsed(), Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_or_panics_holds_nothing_up() {
    let provider = Scripted::new([Answer::Fail, Answer::Panic, Answer::Fail]);
    let relay = relay(&provider).await;
    let session = open(&relay).await;
    let start = Instant::now();
    let mut ann = Guest::connect_v1(&relay, "ann");
    assert_eq!(ann.found().await.0, found(&session, None));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(ann.message().await, renewed(&session, "ann 4"));
    assert_eq!(provider.asked("ann", start), [0.0, 1.0, 3.0, 7.0]);
}

#[tokio::test(start_paused = true)]
async fn while_a_provider_hangs_everything_else_goes_on() {
    let provider = Scripted::new([Answer::Fail, Answer::Hang]);
    let relay = relay(&provider).await;
    let mut ann = Guest::connect_v1(&relay, "ann");
    let session = open(&relay).await;
    assert_eq!(ann.found().await.0, found(&session, None));
    time::sleep(Duration::from_millis(1500)).await;
    let start = Instant::now();
    assert_eq!(provider.asked("ann", start).len(), 2, "it hangs now");
    let mut bob = Guest::connect(&relay, "bob");
    bob.expect_match(&session, "ann", false).await;
    ann.signal(&session, "offer", "o").await;
    bob.expect("offer o").await;
    ann.send(format!(r#"{{"type":"leave","sessionId":"{session}"}}"#)).await;
    bob.expect("partner-disconnected").await;
    assert_eq!(relay.session(&session).await.unwrap(), None);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn servers_are_renewed_at_three_quarters_of_their_life_to_the_millisecond() {
    let life = Duration::from_secs(100);
    let provider = Scripted::new([Answer::For(life), Answer::For(2 * life), Answer::Static]);
    let relay = relay(&provider).await;
    let start = Instant::now();
    let _partners = ["bob", "eve"].map(|name| Guest::connect(&relay, name));
    let mut ann = Guest::connect_v1(&relay, "ann");
    ann.settled().await;
    let first = open(&relay).await;
    assert_eq!(ann.found().await.0, found(&first, Some("ann 1")));
    assert_eq!(ann.message().await, renewed(&first, "ann 2"));
    assert_eq!(start.elapsed(), Duration::from_secs(75));
    // To every session.
    let second = relay.open_session(&user("ann"), &user("eve")).await.unwrap();
    assert_eq!(ann.message().await["sessionId"], second.as_str());
    let mut told = [ann.message().await, ann.message().await];
    told.sort_by_key(|message| message["sessionId"] != first.as_str());
    assert_eq!(told, [renewed(&first, "ann 3"), renewed(&second, "ann 3")]);
    // The last are for ever.
    time::sleep(3 * HOUR).await;
    assert_eq!(provider.asked("ann", start), [0.0, 75.0, 75.0 + 150.0]);
    ann.settled().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_match_long_enough_gets_servers_that_are_good() {
    let provider = Scripted::new([Answer::For(HOUR), Answer::For(HOUR), Answer::Fail]);
    let relay = relay(&provider).await;
    let mut ann = Guest::connect_v1(&relay, "ann");
    ann.settled().await;
    time::sleep(HOUR).await;
    let session = open(&relay).await;
    assert_eq!(ann.found().await.0, found(&session, Some("ann 2")));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_a_connection_that_is_gone() {
    let provider = Scripted::new([]);
    let relay = relay(&provider).await;
    let start = Instant::now();
    let mut ann = Guest::connect_v1(&relay, "ann");
    ann.settled().await;
    drop(ann);
    time::sleep(2 * HOUR).await;
    assert_eq!(provider.asked("ann", start), [0.0]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_does_not_hold_up_the_end() {
    let provider = Scripted::new([Answer::Fail, Answer::Hang]);
    let relay = relay(&provider).await;
    let mut ann = Guest::connect_v1(&relay, "ann");
    ann.settled().await;
    time::sleep(Duration::from_millis(1500)).await;
    let start = Instant::now();
    let ended = relay.shutdown(Duration::from_secs(10)).await;
    assert_eq!(ended, signaling_core::relay::Shutdown::Complete);
    assert_eq!(start.elapsed(), Duration::ZERO);
}
