//! What a client is told of ICE servers, and when.

use super::*;
use crate::protocol::Dialect;

const HOUR: u64 = 3600;

/// Ann's connection, for which ICE servers are asked.
fn connect(call: &mut Call, dialect: Dialect) {
    call.connect(ANN);
    let (id, user, config) = (call.id(ANN), call.users[ANN].clone(), call.config.clone());
    let limits = Arc::new(UserLimits::new(call.now));
    let mut ann =
        Connection::new(id, user, dialect, config, limits, TokenTimes::default(), call.now);
    assert_eq!(ann.expect_ice_servers(), dialect == Dialect::V1);
    call.connections[ANN] = Some(ann);
}

/// The store has Ann's connection, and attached it.
fn attach(call: &mut Call) {
    let (id, number) = (call.id(ANN), call.numbers);
    let next =
        call.record.as_ref().unwrap().attach(Role::Initiator, &id, number, None, number).unwrap();
    call.record = Some(Arc::new(next));
    let now = call.now;
    call.with_connection(ANN, |ann, record| {
        ann.on_admitted(number, vec![record], now);
    });
}

/// The servers called `name`, good for `life` seconds from the second `at`.
fn answer(call: &mut Call, name: &str, life: Option<u64>, at: u64) {
    let server = IceServer::turn([format!("turn:{name}")], "u", "c").unwrap();
    let life = life.map(Duration::from_secs);
    let at = call.at(at);
    call.connections[ANN].as_mut().unwrap().on_ice_servers(Some((Arc::new([server]), life)), at);
    call.carry_out(ANN);
}

fn fail(call: &mut Call, at: u64) {
    let at = call.at(at);
    call.connections[ANN].as_mut().unwrap().on_ice_servers(None, at);
    call.carry_out(ANN);
}

/// Time passes from one second to another, with heartbeats. The seconds in which somebody was to
/// ask.
fn live(call: &mut Call, from: u64, to: u64) -> Vec<u64> {
    let mut asks = Vec::new();
    for second in from..to {
        let (now, asked) = (call.at(second), call.asked);
        if second.is_multiple_of(10) {
            call.say_at(ANN, r#"{"type":"heartbeat"}"#, now);
        }
        let ann = call.connections[ANN].as_mut().unwrap();
        if ann.deadline() <= now {
            ann.on_deadline(now);
            assert!(ann.deadline() > now, "nothing was done at {second}");
            call.carry_out(ANN);
        }
        asks.extend((call.asked > asked).then_some(second));
    }
    assert_eq!(call.closed[ANN], None);
    asks
}

/// What Ann was told: each message by its type and, where it has them, its servers.
fn told(call: &mut Call) -> Vec<String> {
    let short = |text: String| {
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        let kind = message["type"].as_str().unwrap();
        match message["iceServers"][0]["urls"][0].as_str() {
            Some(url) => format!("{kind} {url}"),
            None => kind.to_owned(),
        }
    };
    std::mem::take(&mut call.inbox[ANN]).into_iter().map(short).collect()
}

#[test]
fn each_match_has_the_servers() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    answer(&mut call, "a", Some(HOUR), 0);
    assert_eq!(told(&mut call), [""; 0]);
    attach(&mut call);
    assert_eq!(told(&mut call), ["match-found turn:a"]);
    call.attach(BOB);
    call.detach(BOB);
    call.attach(BOB);
    assert_eq!(told(&mut call), ["partner-disconnected", "match-found turn:a"]);
    assert_eq!(call.read(BOB), ["match-found"; 2], "another client has its own");
}

#[test]
fn a_client_that_negotiated_nothing_gets_the_base_message() {
    let mut call = Call::new();
    connect(&mut call, Dialect::Base);
    answer(&mut call, "a", Some(HOUR), 0);
    attach(&mut call);
    let base =
        r#"{"type":"match-found","sessionId":"s","partnerId":"bob","isInitiator":true}"#.to_owned();
    assert_eq!(call.inbox[ANN], [base]);
    answer(&mut call, "b", Some(HOUR), 1);
    assert_eq!(call.inbox[ANN].len(), 1);
    assert_eq!(live(&mut call, 1, 2 * HOUR), [0; 0]);
}

#[test]
fn late_servers_follow_for_each_session() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    fail(&mut call, 2);
    attach(&mut call);
    assert_eq!(told(&mut call), ["match-found"]);
    assert_eq!(live(&mut call, 2, 5), [3]);
    answer(&mut call, "a", Some(HOUR), 5);
    assert_eq!(
        call.inbox[ANN],
        [
            r#"{"type":"ice-servers","sessionId":"s","iceServers":[{"urls":["turn:a"],"username":"u","credential":"c"}]}"#
        ]
    );
}

#[test]
fn nobody_is_asked_while_an_answer_is_awaited() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    attach(&mut call);
    assert_eq!(live(&mut call, 1, HOUR), [0; 0]);
}

#[test]
fn after_each_failure_in_a_row_the_pause_is_twice_as_long() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    attach(&mut call);
    let mut second = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        fail(&mut call, second);
        assert_eq!(live(&mut call, second + 1, second + pause + 1), [second + pause]);
        second += pause;
    }
    answer(&mut call, "a", Some(HOUR), second);
    let renewal = second + HOUR / 4 * 3;
    assert_eq!(live(&mut call, second + 1, renewal + 1), [renewal]);
    fail(&mut call, renewal);
    assert_eq!(live(&mut call, renewal + 1, renewal + 2), [renewal + 1], "a row of its own");
}

#[test]
fn servers_are_renewed_at_three_quarters_of_their_life() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    answer(&mut call, "a", Some(HOUR), 0);
    attach(&mut call);
    assert_eq!(told(&mut call), ["match-found turn:a"]);
    assert_eq!(live(&mut call, 1, HOUR), [2700]);
    answer(&mut call, "b", Some(HOUR), 2700);
    assert_eq!(told(&mut call), ["ice-servers turn:b"]);
    call.attach(BOB);
    call.detach(BOB);
    call.attach(BOB);
    assert_eq!(told(&mut call), ["partner-disconnected", "match-found turn:b"]);
    assert_eq!(live(&mut call, HOUR, 2 * HOUR), [2 * 2700]);
}

#[test]
fn servers_for_ever_are_not_asked_for_again() {
    for life in [None, Some(u64::MAX)] {
        let mut call = Call::new();
        connect(&mut call, Dialect::V1);
        answer(&mut call, "a", life, 0);
        assert_eq!(live(&mut call, 1, 2 * HOUR), [0; 0]);
        attach(&mut call);
        assert_eq!(told(&mut call), ["match-found turn:a"]);
    }
}

#[test]
fn no_match_has_servers_that_expire_within_the_minute() {
    for (second, expected) in [(HOUR - 61, "match-found turn:a"), (HOUR - 60, "match-found")] {
        let mut call = Call::new();
        connect(&mut call, Dialect::V1);
        answer(&mut call, "a", Some(HOUR), 0);
        live(&mut call, 1, second + 1);
        attach(&mut call);
        assert_eq!(told(&mut call), [expected], "at {second}");
    }
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    answer(&mut call, "a", Some(60), 0);
    attach(&mut call);
    assert_eq!(told(&mut call), ["match-found"]);
}

#[test]
fn what_has_expired_counts_as_no_answer() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    attach(&mut call);
    answer(&mut call, "a", Some(0), 0);
    assert_eq!(told(&mut call), ["match-found"]);
    assert_eq!(live(&mut call, 1, 10), [1]);
}

#[test]
fn the_shortest_lives_are_not_renewed_more_often_than_once_a_second() {
    let mut call = Call::new();
    connect(&mut call, Dialect::V1);
    attach(&mut call);
    answer(&mut call, "a", Some(1), 0);
    assert_eq!(call.connections[ANN].as_ref().unwrap().deadline(), call.at(1));
    assert_eq!(live(&mut call, 1, 10), [1]);
    assert_eq!(told(&mut call), ["match-found", "ice-servers turn:a"]);
}
