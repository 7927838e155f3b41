//! Tokens that expire, and clients that renew them.

use super::*;

/// Ann, who is admitted with a token that expires at the second `at` by the host's clock, after so long.
fn ann(call: &mut Call, dialect: Dialect, expires: Option<(u64, u64)>) {
    let expires =
        expires.map(|(at, life)| (Timestamp::from_millis(at * 1000), Duration::from_secs(life)));
    let times = TokenTimes { issued_at: None, expires };
    call.connect(ANN);
    let (id, user, config) = (call.id(ANN), call.users[ANN].clone(), call.config.clone());
    let limits = Arc::new(UserLimits::new(call.now));
    let mut ann = Connection::new(id, user, dialect, config, limits, times, call.now);
    ann.on_admitted(1, Vec::new(), call.now);
    call.connections[ANN] = Some(ann);
    call.carry_out(ANN);
}

fn valid(at: u64, life: u64) -> Refresh {
    let expires = (Timestamp::from_millis(at * 1000), Duration::from_secs(life));
    Refresh::Valid(TokenTimes { issued_at: None, expires: Some(expires) })
}

impl Call {
    /// What Ann is told at the second `at`.
    fn told_at(&mut self, at: u64) -> Vec<String> {
        let now = self.at(at);
        // It is alive all the time.
        let heartbeat = Frame::Text(r#"{"type":"heartbeat"}"#.into());
        self.connections[ANN].as_mut().unwrap().on_frame(&heartbeat, now);
        self.carry_out(ANN);
        self.connections[ANN].as_mut().unwrap().on_deadline(now);
        self.carry_out(ANN);
        std::mem::take(&mut self.inbox[ANN])
    }

    /// What Ann is told of a new token at the second `at`, of which that is found.
    fn renew(&mut self, at: u64, refresh: Refresh) -> Vec<String> {
        let now = self.at(at);
        self.say_at(ANN, r#"{"type":"refresh","token":"x"}"#, now);
        self.connections[ANN].as_mut().unwrap().on_refresh(refresh, now);
        self.carry_out(ANN);
        std::mem::take(&mut self.inbox[ANN])
    }
}

fn expiring(in_ms: u64) -> [String; 1] {
    [format!(r#"{{"type":"token-expiring","inMs":{in_ms}}}"#)]
}

fn refreshed(expires_in_ms: u64) -> [String; 1] {
    [format!(r#"{{"type":"refreshed","expiresInMs":{expires_in_ms}}}"#)]
}

#[test]
fn a_client_is_told_at_four_fifths_of_its_tokens_life() {
    let mut call = Call::new();
    ann(&mut call, Dialect::V1, Some((1100, 100)));
    assert_eq!(call.told_at(79), [""; 0]);
    assert_eq!(call.told_at(80), expiring(20_000));
    assert_eq!(call.told_at(99), [""; 0]);
    assert_eq!(call.told_at(100), [""; 0]);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::TokenExpired));
}

#[test]
fn a_base_client_is_not_told() {
    let mut call = Call::new();
    ann(&mut call, Dialect::Base, Some((1100, 100)));
    assert_eq!(call.told_at(99), [""; 0]);
    call.say(ANN, r#"{"type":"refresh","token":"x"}"#);
    assert_eq!(call.read(ANN), ["error malformed"]);
}

#[test]
fn a_later_token_takes_the_place_of_the_earlier_one() {
    let mut call = Call::new();
    ann(&mut call, Dialect::V1, Some((1100, 100)));
    assert_eq!(call.renew(50, valid(1150, 100)), refreshed(100_000));
    assert_eq!(call.told_at(129), [""; 0]);
    assert_eq!(call.told_at(130), expiring(20_000));
    assert_eq!(call.renew(140, Refresh::Valid(TokenTimes::default())), [r#"{"type":"refreshed"}"#]);
    assert_eq!(call.told_at(100_000), [""; 0]);
    assert_eq!(call.closed[ANN], None);
    // No later one than that.
    assert!(call.renew(100_000, valid(200_000, 100))[0].contains("token-refused"));
}

#[test]
fn what_is_not_a_later_token_leaves_the_earlier_one() {
    let mut call = Call::new();
    ann(&mut call, Dialect::V1, Some((1100, 100)));
    for (refresh, code) in [
        (Refresh::Invalid, "token-refused"),
        (valid(1100, 60), "token-refused"),
        (valid(1099, 59), "token-refused"),
        (Refresh::Unavailable, "unavailable"),
    ] {
        let told = call.renew(40, refresh);
        assert!(told.len() == 1 && told[0].contains(code), "{told:?}");
    }
    assert_eq!(call.told_at(80), expiring(20_000));
    call.told_at(100);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::TokenExpired));
}

#[test]
fn one_token_is_judged_at_a_time() {
    let mut call = Call::new();
    ann(&mut call, Dialect::V1, Some((1100, 100)));
    call.say(ANN, r#"{"type":"refresh","token":"x"}"#);
    assert_eq!(call.read(ANN), [""; 0]);
    assert_eq!(call.renew(0, Refresh::Invalid).len(), 2);
    call.say(ANN, r#"{"type":"refresh","token":"x"}"#);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_token_for_longer_than_the_clock_can_tell_is_one_for_ever() {
    let mut call = Call::new();
    let life = u64::MAX / 1000;
    ann(&mut call, Dialect::V1, Some((life, life)));
    assert_eq!(call.connections[ANN].as_ref().unwrap().deadline(), call.at(10));
    assert_eq!(call.told_at(1_000_000), [""; 0]);
}

#[test]
fn a_token_that_was_issued_earlier_is_refused() {
    let mut call = Call::new();
    ann(&mut call, Dialect::V1, Some((1100, 100)));
    let issued = |second: u64, at: u64| {
        let expires = Some((Timestamp::from_millis(at * 1000), Duration::from_secs(100)));
        let issued_at = Some(Timestamp::from_millis(second * 1000));
        Refresh::Valid(TokenTimes { issued_at, expires })
    };
    assert_eq!(call.renew(1, issued(20, 1200)), refreshed(100_000));
    assert!(call.renew(2, issued(10, 1300))[0].contains("token-refused"));
    assert_eq!(call.renew(3, issued(20, 1300)), refreshed(100_000));
}
