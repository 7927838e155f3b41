//! Histories made by hand, each with one promise broken.

use super::*;
use crate::{
    history::{Probe, Who},
    plan::Fault,
};

const ANN: Who = Who::User(0);
const BOB: Who = Who::User(1);
/// Both are connected and matched by then, and talk.
const SETTLED: f64 = 1.0;
const SESSION: u32 = 0;

fn at(seconds: f64) -> At {
    Duration::from_secs_f64(seconds)
}

/// A pair that meets at once: Ann on n0, Bob on n1, base and v1.
struct History(Vec<Entry>);

impl History {
    fn of_a_call() -> Self {
        let mut history = Self(Vec::new());
        history.add(0.0, Who::Host, 0, What::Opening { session: SESSION, initiator: 0 });
        history.add(0.1, Who::Host, 0, What::Opened { session: SESSION });
        history.connect(0.2, ANN, 1, 0).connect(0.4, BOB, 1, 1);
        history.talk(SETTLED, [1, 1], 1)
    }

    fn add(&mut self, seconds: f64, who: Who, connection: u32, what: What) -> &mut Self {
        self.0.push(Entry { at: at(seconds), who, connection, what });
        self
    }

    fn connect(&mut self, seconds: f64, who: Who, connection: u32, node: usize) -> &mut Self {
        self.add(seconds, who, connection, What::Dialed { node });
        self.add(seconds + 0.01, who, connection, What::Open);
        self.matched(seconds + 0.02, who, connection)
    }

    fn matched(&mut self, seconds: f64, who: Who, connection: u32) -> &mut Self {
        let what = What::MatchFound { session: SESSION, initiator: who == ANN };
        self.add(seconds, who, connection, what)
    }

    fn gone(&mut self, seconds: f64, who: Who, connection: u32) -> &mut Self {
        let reason = (who == BOB).then(|| "lost".to_owned());
        self.add(seconds, who, connection, What::PartnerGone { session: SESSION, reason })
    }

    fn send(&mut self, seconds: f64, who: Who, connection: u32, number: u32) -> &mut Self {
        self.add(seconds, who, connection, What::Sent { session: SESSION, number })
    }

    fn got(
        &mut self,
        seconds: f64,
        who: Who,
        connection: u32,
        from: u32,
        number: u32,
    ) -> &mut Self {
        self.add(seconds, who, connection, What::Got { session: SESSION, from, number })
    }

    fn refused(&mut self, seconds: f64, who: Who, connection: u32, code: &str) -> &mut Self {
        let (session, code) = (Some(SESSION), code.to_owned());
        self.add(seconds, who, connection, What::Refused { session, code })
    }

    fn ended(&mut self, seconds: f64, who: Who, connection: u32, end: End) -> &mut Self {
        self.add(seconds, who, connection, What::Ended(end))
    }

    /// One signal each way.
    fn talk(mut self, seconds: f64, connections: [u32; 2], number: u32) -> Self {
        let [ann, bob] = connections;
        self.send(seconds, ANN, ann, number).got(seconds + 0.01, BOB, bob, ann, number);
        self.send(seconds, BOB, bob, number).got(seconds + 0.01, ANN, ann, bob, number);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self) -> &mut Self) -> Self {
        change(&mut self);
        self
    }

    /// The promises that are broken when the run ends after this time, with these troubles.
    fn broken_in(mut self, seconds: f64, troubles: &[Trouble]) -> Vec<&'static str> {
        self.0.sort_by_key(|entry| entry.at);
        let (end, healed) = (at(seconds), at(seconds));
        let world = World { troubles, slack: at(1.0), healed, end };
        let mut broken: Vec<_> = check(Pair { v1: [false, true] }, &self.0, &world)
            .breaches
            .into_iter()
            .map(|breach| breach.promise)
            .collect();
        broken.dedup();
        broken
    }

    fn broken(self, seconds: f64) -> Vec<&'static str> {
        self.broken_in(seconds, &[])
    }
}

fn trouble(kind: Kind, node: Option<usize>, from: f64, to: f64) -> Trouble {
    let (from, to) = (at(from), at(to));
    Trouble { fault: Fault { kind, node, lasts: to - from }, from, to }
}

#[test]
fn a_call_breaks_nothing() {
    assert_eq!(History::of_a_call().talk(50.0, [1, 1], 2).broken(60.0), Vec::<&str>::new());
}

/// Bob goes away and comes back, with all that belongs to it.
fn bob_moves(history: &mut History) -> &mut History {
    history.ended(10.0, BOB, 1, End::Reset).gone(10.1, ANN, 1).connect(11.0, BOB, 2, 2);
    history.matched(11.1, ANN, 1)
}

#[test]
fn a_partner_that_moves_breaks_nothing() {
    let moves = History::of_a_call().with(bob_moves).talk(12.0, [1, 2], 2);
    assert_eq!(moves.broken(60.0), Vec::<&str>::new());
}

#[test]
fn signals_are_in_order_once_and_between_partners() {
    let received = |change: fn(&mut History) -> &mut History| {
        let history = History::of_a_call().with(|history| {
            (2..5).fold(history, |history, number| history.send(2.0, ANN, 1, number))
        });
        history.with(change).broken(10.0)
    };
    assert_eq!(received(|h| h.got(3.0, BOB, 1, 1, 3).got(3.1, BOB, 1, 1, 2)), ["order"]);
    let twice = received(|h| h.got(3.0, BOB, 1, 1, 2).got(3.1, BOB, 1, 1, 2));
    assert_eq!(twice, ["order: never twice"]);
    let absent = History::of_a_call()
        .with(|h| h.ended(2.0, ANN, 1, End::Reset).gone(2.1, BOB, 1).got(2.2, BOB, 1, 1, 9));
    assert_eq!(absent.broken(10.0), ["signals of a partner"]);
}

#[test]
fn a_signal_that_is_lost_is_told() {
    let lost = || History::of_a_call().with(|h| h.send(5.0, ANN, 1, 2));
    assert_eq!(lost().broken(60.0), ["outcome"]);
    assert_eq!(lost().broken(30.0), Vec::<&str>::new(), "it may still arrive");
    let told = lost().with(|h| h.refused(7.0, ANN, 1, "unavailable"));
    assert_eq!(told.broken(60.0), Vec::<&str>::new());
    let too_late = lost().with(|h| h.refused(40.0, ANN, 1, "unavailable"));
    assert_eq!(too_late.broken(60.0), ["outcome"]);
    let gap = lost().with(|h| h.send(6.0, ANN, 1, 3).got(6.1, BOB, 1, 1, 3));
    assert_eq!(gap.broken(20.0), ["outcome"], "whoever receives the next one knows");
    let own_close = lost().with(|h| h.ended(6.0, ANN, 1, End::Closed).gone(6.1, BOB, 1));
    assert_eq!(own_close.broken(30.0), Vec::<&str>::new());
}

#[test]
fn an_end_is_told_in_time_and_once() {
    let ended = || History::of_a_call().with(|h| h.ended(10.0, BOB, 1, End::HalfOpen));
    assert_eq!(ended().broken(60.0), ["told within 30 s"]);
    assert_eq!(ended().broken(35.0), Vec::<&str>::new(), "there is time left");
    let told = ended().with(|h| h.gone(39.0, ANN, 1));
    assert_eq!(told.broken(60.0), Vec::<&str>::new());
    let late = ended().with(|h| h.gone(45.0, ANN, 1));
    assert_eq!(late.broken(60.0), ["told within 30 s"]);
    let twice = ended().with(|h| h.gone(20.0, ANN, 1).gone(21.0, ANN, 1));
    assert_eq!(twice.broken(60.0), ["told once"]);
    // The node of whoever is to be told cannot know.
    let cut = [trouble(Kind::Cut, Some(0), 12.0, 30.0)];
    let after = ended().with(|h| h.gone(55.0, ANN, 1));
    assert_eq!(after.broken_in(60.0, &cut), Vec::<&str>::new());
}

#[test]
fn nobody_is_declared_dead_without_a_cause() {
    let dead = || History::of_a_call().with(|h| h.gone(40.0, ANN, 1));
    let rematched = || dead().with(|h| h.matched(41.0, ANN, 1));
    assert_eq!(rematched().broken(60.0), ["no live user is given up"]);
    let outage = [trouble(Kind::FreezeRedis, None, 10.0, 30.0)];
    assert_eq!(rematched().broken_in(60.0, &outage), ["no live user is given up"]);
    let short = [trouble(Kind::Freeze, Some(1), 30.0, 35.0)];
    assert_eq!(rematched().broken_in(60.0, &short), ["no live user is given up"]);
    let long = [trouble(Kind::Freeze, Some(1), 20.0, 40.5)];
    assert_eq!(rematched().broken_in(60.0, &long), Vec::<&str>::new());
    assert!(dead().broken_in(90.0, &long).contains(&"match-found for both"));
}

#[test]
fn who_is_back_is_matched_and_so_is_its_partner() {
    let back = History::of_a_call()
        .with(|h| h.ended(10.0, BOB, 1, End::Reset).gone(10.1, ANN, 1).connect(11.0, BOB, 2, 2));
    assert_eq!(back.broken(60.0), ["match-found for both"]);
    let unmatched = History::of_a_call().with(|h| {
        h.ended(10.0, BOB, 1, End::Reset).gone(10.1, ANN, 1);
        h.add(11.0, BOB, 2, What::Dialed { node: 2 }).add(11.1, BOB, 2, What::Open)
    });
    assert_eq!(unmatched.broken(45.0), ["match-found for who is connected"]);
    let swapped = History::of_a_call().with(|h| {
        bob_moves(h);
        h.add(12.0, ANN, 1, What::MatchFound { session: SESSION, initiator: false })
    });
    assert_eq!(swapped.broken(30.0), ["roles"]);
}

#[test]
fn a_user_has_one_connection_and_it_is_the_newest() {
    let replaced = |change: fn(&mut History) -> &mut History| {
        let history = History::of_a_call()
            .with(|h| h.connect(10.0, BOB, 2, 2).gone(10.1, ANN, 1).matched(10.2, ANN, 1));
        history.with(change).broken(60.0)
    };
    assert_eq!(replaced(|h| h.ended(10.2, BOB, 1, End::Code(4409))), Vec::<&str>::new());
    assert_eq!(replaced(|h| h), ["one connection per user"]);
    let stale = replaced(|h| {
        h.ended(10.2, BOB, 1, End::Code(4409))
            .ended(50.0, BOB, 2, End::Code(4409))
            .gone(50.1, ANN, 1)
    });
    assert_eq!(stale, ["one connection per user"]);
}

#[test]
fn a_session_lasts_until_somebody_ends_it() {
    let lost = History::of_a_call().with(|h| h.refused(20.0, ANN, 1, "unknown-session"));
    assert_eq!(lost.broken(25.0), ["a session lasts"]);
    let left = || {
        History::of_a_call().with(|h| {
            h.add(20.0, ANN, 1, What::Left { session: SESSION });
            h.refused(21.0, ANN, 1, "unknown-session")
        })
    };
    assert_eq!(left().broken(60.0), ["told within 30 s"]);
    let told = || left().with(|h| h.gone(20.1, BOB, 1));
    assert_eq!(told().broken(60.0), Vec::<&str>::new());
    let back = told().with(|h| h.matched(55.0, BOB, 1));
    assert_eq!(back.broken(60.0), ["a session ends"]);
    let asked_again = told().with(|h| {
        h.add(0.05, Who::Host, 0, What::Unanswered { session: SESSION }).matched(55.0, BOB, 1)
    });
    assert_eq!(asked_again.broken(60.0), Vec::<&str>::new());
    let still_there = told().with(|h| h.add(55.0, BOB, 1, What::Beat { session: SESSION }));
    assert_eq!(still_there.broken(90.0), ["a session ends"]);
    // Two connections at a time are no absence.
    let mut replaced = History::of_a_call();
    replaced.connect(10.0, BOB, 2, 2).gone(10.1, ANN, 1).matched(10.2, ANN, 1);
    replaced.ended(10.3, BOB, 1, End::Code(4409)).add(
        130.0,
        ANN,
        1,
        What::Beat { session: SESSION },
    );
    assert_eq!(replaced.broken(200.0), Vec::<&str>::new());
    let abandoned = History::of_a_call().with(|h| {
        h.ended(10.0, BOB, 1, End::Reset).gone(10.1, ANN, 1);
        h.refused(71.0, ANN, 1, "unknown-session")
    });
    assert_eq!(abandoned.broken(80.0), Vec::<&str>::new());
    // The store was away when Bob would have been given up, and he is back before anybody could.
    let back_late = || {
        let history = History::of_a_call().with(|h| {
            h.ended(10.0, BOB, 1, End::Reset).gone(10.1, ANN, 1);
            h.connect(135.0, BOB, 2, 2).matched(135.1, ANN, 1).matched(150.0, ANN, 1)
        });
        history.talk(160.0, [1, 2], 2)
    };
    let outage = [trouble(Kind::FreezeRedis, None, 65.0, 110.0)];
    assert_eq!(back_late().broken_in(165.0, &outage), Vec::<&str>::new());
    assert!(back_late().broken(165.0).contains(&"a session ends"));
}

#[test]
fn connections_and_errors_have_their_reasons() {
    for (end, kind) in [
        (End::Lost, Kind::Kill),
        (End::Silent, Kind::Freeze),
        (End::Code(1001), Kind::Terminate),
        (End::Code(4503), Kind::Terminate),
    ] {
        let ended = || History::of_a_call().with(|h| h.ended(20.0, ANN, 1, end).gone(20.1, BOB, 1));
        assert_eq!(ended().broken(25.0), ["a connection lasts"], "{end:?}");
        let cause = [trouble(kind, Some(0), 19.5, 24.0)];
        assert_eq!(ended().broken_in(25.0, &cause), Vec::<&str>::new(), "{end:?}");
    }
    for code in ["rate-limited", "malformed", "not-initiator"] {
        let refused = History::of_a_call().with(|h| h.refused(2.0, ANN, 1, code));
        assert_eq!(refused.broken(10.0), ["errors"]);
    }
    let unreasoned = What::PartnerGone { session: SESSION, reason: None };
    let base = History::of_a_call()
        .with(|h| h.ended(2.0, ANN, 1, End::Reset).add(2.1, BOB, 1, unreasoned));
    assert_eq!(base.broken(10.0), ["a message of the protocol"]);
}

#[test]
fn in_the_end_both_hear_each_other() {
    let mut history = History::of_a_call();
    history.0.sort_by_key(|entry| entry.at);
    let world = World { troubles: &[], slack: at(1.0), healed: at(10.0), end: at(61.0) };
    let pair = Pair { v1: [false, true] };
    let breaches = check(pair, &history.0, &world).breaches;
    assert_eq!(breaches.len(), 2, "{breaches:?}");
    assert!(breaches.iter().all(|breach| breach.promise == "recovery"));
    let talking = history.talk(57.0, [1, 1], 2);
    assert_eq!(check(pair, &talking.0, &world).breaches, []);
}

#[test]
fn readiness_follows_the_store() {
    let probe = |seconds: f64, ready: bool| Probe {
        node: 0,
        asked: at(seconds),
        answered: at(seconds + 0.01),
        ready,
    };
    let troubles =
        [trouble(Kind::FreezeRedis, None, 10.0, 20.0), trouble(Kind::Kill, Some(0), 40.0, 45.0)];
    let world = World { troubles: &troubles, slack: at(1.0), healed: at(60.0), end: at(60.0) };
    let good =
        [(5.0, true), (12.0, true), (14.0, false), (22.0, false), (24.0, true), (46.0, false)];
    assert_eq!(readiness(&good.map(|(at, ready)| probe(at, ready)), &world), []);
    for bad in [(5.0, false), (14.0, true), (19.0, true), (24.0, false), (49.0, false)] {
        let breaches = readiness(&[probe(bad.0, bad.1), probe(bad.0 + 0.1, bad.1)], &world);
        assert_eq!(breaches.len(), 1, "{bad:?}");
    }
}
