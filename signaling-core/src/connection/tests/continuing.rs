//! Clients that number their signals and continue their negotiation on another connection.

use super::*;
use crate::{notice::LossReason, protocol::Sequence};

impl Call {
    fn negotiation(&self) -> NegotiationId {
        self.record.as_ref().unwrap().negotiation.into()
    }

    /// `who` sends its signal number `seq` of the current negotiation.
    fn number(&mut self, who: usize, seq: u64) {
        let negotiation = self.negotiation();
        self.number_in(who, negotiation, seq);
    }

    fn number_in(&mut self, who: usize, negotiation: NegotiationId, seq: u64) {
        let kind = if who == ANN { "offer" } else { "answer" };
        self.say(
            who,
            &format!(
                r#"{{"type":"{kind}","sessionId":"s","negotiation":"{negotiation}","seq":{seq},"sdp":"{seq}"}}"#
            ),
        );
    }

    /// A new connection of the client of `who`, which has received signals up to `seq` of the `negotiation`.
    fn continue_with(&mut self, who: usize, negotiation: NegotiationId, seq: u64) {
        self.connect(who);
        let session = SessionId::new("s").unwrap();
        let named = vec![Continue { session, negotiation, seq }];
        self.connections[who].as_mut().unwrap().continue_negotiations(named);
        self.write_attach(who, Some(negotiation));
    }

    fn continues(&mut self, who: usize, seq: u64) {
        let negotiation = self.negotiation();
        self.continue_with(who, negotiation, seq);
    }
}

#[test]
fn signals_are_numbered_by_their_sender() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.number(ANN, 2);
    let expected =
        r#"{"type":"offer","sessionId":"s","negotiation":"0000000000000007","seq":2,"sdp":"2"}"#;
    assert_eq!(call.inbox[BOB][1], expected);
    assert_eq!(call.read(BOB), ["offer 1", "offer 2"]);
    // One that comes twice does not arrive twice.
    call.number(ANN, 2);
    assert_eq!((call.read(BOB), call.read(ANN)), (vec![], vec![]));
}

#[test]
fn a_partner_gets_the_numbers_that_it_understands() {
    let mut call = Call::of_v1();
    call.dialects[BOB] = Dialect::Base;
    call.attach(BOB);
    call.inbox = Default::default();
    call.number(ANN, 1);
    assert_eq!(call.inbox[BOB], [r#"{"type":"offer","sessionId":"s","sdp":"1"}"#]);
    call.signal(BOB, "answer", "x");
    let negotiation = call.negotiation();
    let expected = format!(
        r#"{{"type":"answer","sessionId":"s","negotiation":"{negotiation}","seq":1,"sdp":"x"}}"#
    );
    assert_eq!(call.inbox[ANN], [expected]);
}

#[test]
fn who_opens_a_new_connection_first_is_not_missed() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.number(BOB, 1);
    call.inbox = Default::default();
    call.continues(ANN, 1);
    assert_eq!(call.read(ANN), ["continued true", "received 1"]);
    // Bob has sent something, and hears how far that came.
    assert_eq!(call.read(BOB), ["received 1"]);
    call.number(ANN, 2);
    call.number(BOB, 2);
    assert_eq!((call.read(ANN), call.read(BOB)), (vec!["answer 2".into()], vec!["offer 2".into()]));
}

#[test]
fn who_comes_back_goes_on_and_sends_again_what_is_missing() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    let hidden = call.connections[BOB].take();
    call.number(ANN, 2);
    call.connections[BOB] = hidden;
    call.detach(BOB);
    call.number(ANN, 3);
    assert_eq!(call.read(ANN), ["partner-disconnected lost", "error partner-absent"]);
    call.inbox[BOB].clear();
    call.continues(BOB, 1);
    assert_eq!(call.read(BOB), ["continued true", "received 0"]);
    assert_eq!(call.read(ANN), ["partner-reconnected", "received 1"]);
    call.number(ANN, 2);
    call.number(ANN, 3);
    assert_eq!(call.read(BOB), ["offer 2", "offer 3"]);
}

#[test]
fn both_come_back_in_either_order() {
    for first in [ANN, BOB] {
        let second = 1 - first;
        let mut call = Call::of_v1();
        call.number(ANN, 1);
        call.number(BOB, 1);
        call.detach(ANN);
        call.detach_for(BOB, PartnerReason::Lost);
        call.inbox = Default::default();
        call.continues(first, 1);
        assert_eq!(call.read(first), ["continued false"]);
        call.continues(second, 0);
        assert_eq!(call.read(second), ["continued true", "received 1"]);
        assert_eq!(call.read(first), ["partner-reconnected", "received 0"]);
    }
}

#[test]
fn a_negotiation_that_is_not_current_begins_anew() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    let before = call.negotiation();
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected replaced", "match-found"]);
    call.number_in(ANN, before, 2);
    assert_eq!(
        (call.read(ANN), call.read(BOB)),
        (vec![], vec!["offer 1".into(), "match-found".into()])
    );
    call.continue_with(ANN, before, 0);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["partner-disconnected replaced", "match-found"]);
    // Numbers begin at 1 again.
    call.number(ANN, 1);
    assert_eq!(call.read(BOB), ["offer 1"]);
}

#[test]
fn a_partner_that_cannot_continue_begins_anew_with_who_could() {
    let mut call = Call::of_v1();
    call.dialects[BOB] = Dialect::Base;
    call.attach(BOB);
    call.number(ANN, 1);
    call.inbox = Default::default();
    call.continues(ANN, 0);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["partner-disconnected", "match-found"]);
}

#[test]
fn who_does_not_number_its_signals_is_served_as_a_base_client() {
    let mut call = Call::of_v1();
    call.signal(ANN, "offer", "o");
    let negotiation = call.negotiation();
    call.number_in(ANN, negotiation, 2);
    assert_eq!(call.read(ANN), ["error malformed"]);
    call.inbox = Default::default();
    // Neither of the two can continue: Ann does not know what was lost.
    call.continues(BOB, 1);
    assert_eq!(call.read(BOB), ["continued true", "match-found"]);
    assert_eq!(call.read(ANN), ["partner-disconnected replaced", "match-found"]);
    let mut call = Call::of_v1();
    call.signal(ANN, "offer", "o");
    call.inbox = Default::default();
    call.continues(ANN, 0);
    assert_eq!(call.read(BOB), ["partner-disconnected replaced", "match-found"]);
    assert_eq!(call.read(ANN), ["continued true", "match-found"]);
}

#[test]
fn what_is_kept_for_a_partner_that_never_came_is_sent_again() {
    let mut call = Call::new();
    call.dialects = [Dialect::V1; 2];
    call.attach(ANN);
    call.number(ANN, 1);
    call.number(ANN, 2);
    call.detach_for(ANN, PartnerReason::Lost);
    call.inbox = Default::default();
    call.continues(ANN, 0);
    assert_eq!(call.read(ANN), ["continued false"]);
    call.attach(BOB);
    assert_eq!(call.read(BOB), ["match-found", "received 0"]);
    assert_eq!(call.read(ANN), ["partner-reconnected", "received 0"]);
    call.number(ANN, 1);
    assert_eq!(call.read(BOB), ["offer 1"]);
}

#[test]
fn too_many_kept_signals_are_sent_again_when_the_partner_comes() {
    let mut call = Call::with(Config { max_kept_signals: 2, ..Config::default() });
    call.dialects = [Dialect::V1; 2];
    call.attach(ANN);
    for seq in 1..=3 {
        call.number(ANN, seq);
    }
    assert_eq!(call.read(ANN), ["match-found", "error partner-absent"]);
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["partner-reconnected", "received 0"]);
    assert_eq!(call.read(BOB), ["match-found", "received 0"]);
}

/// Ann's signals with these numbers get lost on their way to Bob.
fn lose(call: &mut Call, numbers: Range<u64>) {
    let bob = call.connections[BOB].take();
    numbers.for_each(|seq| call.number(ANN, seq));
    call.connections[BOB] = bob;
}

#[test]
fn what_is_behind_a_gap_waits_until_the_sender_has_filled_it() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    lose(&mut call, 2..3);
    call.number(ANN, 3);
    call.number(ANN, 4);
    assert_eq!(call.read(BOB), ["offer 1"]);
    assert_eq!(call.read(ANN), ["received 1"], "once for the gap");
    // The first of those that are sent again is lost, too.
    lose(&mut call, 2..3);
    call.number(ANN, 3);
    call.number(ANN, 4);
    assert_eq!(call.read(ANN), ["received 1"]);
    for seq in 2..=5 {
        call.number(ANN, seq);
    }
    assert_eq!(call.read(BOB), ["offer 2", "offer 3", "offer 4", "offer 5"]);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn what_could_not_be_handed_on_is_asked_for_again_a_second_later() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    lose(&mut call, 2..4);
    let (session, now) = (SessionId::new("s").unwrap(), call.now);
    for seq in [2, 3] {
        let ann = call.connections[ANN].as_mut().unwrap();
        ann.on_undelivered(&session, NEGOTIATION, seq..seq + 1, ErrorCode::Unavailable, now);
        call.carry_out(ANN);
    }
    // Until then, nothing behind it is handed on.
    call.number(ANN, 4);
    assert_eq!((call.read(ANN), call.read(BOB)), (vec![], vec!["offer 1".into()]));
    let due = now + Duration::from_secs(1);
    let ann = call.connections[ANN].as_mut().unwrap();
    assert_eq!(ann.deadline(), due);
    ann.on_deadline(due);
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["received 1"]);
    for seq in 2..=4 {
        call.number(ANN, seq);
    }
    assert_eq!(call.read(BOB), ["offer 2", "offer 3", "offer 4"]);
}

#[test]
fn a_signal_beyond_the_rate_is_asked_for_again() {
    let mut call = Call::with(Config { max_signals_per_second: 2, ..Config::default() });
    call.dialects = [Dialect::V1; 2];
    call.attach(ANN);
    call.attach(BOB);
    call.inbox = Default::default();
    let mut seq = 0;
    while call.read(ANN).is_empty() {
        seq += 1;
        call.number(ANN, seq);
    }
    call.number(ANN, seq + 1);
    call.inbox = Default::default();
    let due = call.now + Duration::from_secs(1);
    call.connections[ANN].as_mut().unwrap().on_deadline(due);
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), [format!("received {}", seq - 1)]);
}

#[test]
fn the_first_signal_beyond_the_rate_is_asked_for_again_also_before_the_partner_comes() {
    let mut call = Call::with(Config { max_signals_per_second: 1, ..Config::default() });
    call.dialects = [Dialect::V1; 2];
    call.attach(ANN);
    // What it says of other sessions counts as well.
    while !call.read(ANN).contains(&"error rate-limited".to_owned()) {
        call.say(ANN, r#"{"type":"offer","sessionId":"x","sdp":""}"#);
    }
    call.number(ANN, 1);
    assert_eq!(call.read(ANN), ["error rate-limited"]);
    call.connections[ANN].as_mut().unwrap().on_deadline(call.now + Duration::from_secs(1));
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["received 0"]);
}

#[test]
fn who_continues_and_does_not_number_its_signals_starts_over() {
    let mut call = Call::new();
    call.dialects = [Dialect::V1; 2];
    call.attach(ANN);
    call.attach(BOB);
    call.detach_for(ANN, PartnerReason::Lost);
    call.detach_for(BOB, PartnerReason::Lost);
    call.continues(BOB, 0);
    call.continues(ANN, 0);
    call.inbox = Default::default();
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
}

#[test]
fn a_signal_that_a_queue_refused_is_asked_for_when_it_is_its_turn() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    lose(&mut call, 2..4);
    let session = SessionId::new("s").unwrap();
    let bob = call.connections[BOB].as_mut().unwrap();
    assert!(!bob.report_refused(&session, NEGOTIATION, &(2..4), true));
    bob.on_refused(&session, NEGOTIATION, &(2..4), true, false);
    call.carry_out(BOB);
    assert_eq!(call.read(ANN), ["received 1"]);
    call.number(ANN, 4);
    assert_eq!(call.read(ANN), [""; 0], "it is told");
    for seq in 2..=4 {
        call.number(ANN, seq);
    }
    assert_eq!(call.read(BOB), ["offer 1", "offer 2", "offer 3", "offer 4"]);
}

#[test]
fn who_missed_notices_asks_how_far_its_own_signals_came() {
    let mut call = Call::of_v1();
    call.nodes = ["n", "m"];
    call.attach(BOB);
    call.number(ANN, 1);
    lose(&mut call, 2..3);
    call.inbox = Default::default();
    call.connections[ANN].as_mut().unwrap().on_notices_lost();
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["received 1"]);
    assert_eq!(call.read(BOB), ["received 0"]);
}

#[test]
fn a_client_is_told_once_how_far_its_signals_came_until_it_sends_again() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    let received = |answer| Notice::Received {
        session: SessionId::new("s").unwrap(),
        negotiation: NEGOTIATION,
        seq: 0,
        before: None,
        reason: LossReason::Lost,
        answer,
    };
    for _ in 0..3 {
        call.notice(ANN, received(false));
    }
    assert_eq!(call.read(ANN), ["received 0"]);
    call.number(ANN, 1);
    call.notice(ANN, received(false));
    assert_eq!(call.read(ANN), ["received 0"]);
}

#[test]
fn another_client_of_the_partner_in_the_same_negotiation_begins_a_new_one() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.inbox = Default::default();
    // As after a loss of the store that did not know that Bob took part.
    let mut record = SessionRecord::clone(call.record.as_ref().unwrap());
    record.participants[BOB].negotiation = None;
    record.revision += 1;
    call.record = Some(Arc::new(record));
    call.attach(BOB);
    assert_eq!(call.read(BOB), ["match-found", "match-found"]);
    assert_eq!(call.read(ANN), ["partner-disconnected replaced", "match-found"]);
}

#[test]
fn where_a_connection_is_replaced_its_partner_learns_it_from_the_record() {
    let mut call = Call::of_v1();
    call.notice(BOB, Notice::Replaced);
    assert_eq!(call.closed[BOB], Some(DisconnectReason::Replaced));
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn an_older_connection_is_told_once_the_newer_one_is_attached() {
    let mut call = Call::of_v1();
    call.connect(BOB);
    let record = call.record.clone().unwrap();
    let next = record.attach(Role::Responder, &call.id(BOB), call.numbers, None, 9).unwrap();
    let (now, numbers) = (call.now, call.numbers);
    let bob = call.connections[BOB].as_mut().unwrap();
    bob.on_admitted(numbers, vec![Arc::new(next)], now);
    let effects: Vec<_> = std::iter::from_fn(|| bob.next_effect()).collect();
    assert!(matches!(effects.first(), Some(Effect::Notify { notice: Notice::Changed(_), .. })));
    assert!(matches!(effects.last(), Some(Effect::ReplaceOlder)));
}

#[test]
fn a_session_to_go_on_in_may_be_missing_for_a_while_after_a_loss() {
    let mut call = Call::new();
    call.dialects = [Dialect::V1; 2];
    call.connect(ANN);
    let session = SessionId::new("s").unwrap();
    let named = vec![Continue { session, negotiation: NEGOTIATION.into(), seq: 0 }];
    call.connections[ANN].as_mut().unwrap().continue_negotiations(named);
    let now = call.now;
    call.connections[ANN].as_mut().unwrap().on_admitted(1, Vec::new(), now);
    call.carry_out(ANN);
    call.say(ANN, r#"{"type":"heartbeat","sessionId":"s"}"#);
    call.say(ANN, r#"{"type":"heartbeat","sessionId":"t"}"#);
    assert_eq!(call.read(ANN), ["error unknown-session"]);
    let later = call.at(5);
    call.say_at(ANN, r#"{"type":"heartbeat","sessionId":"s"}"#, later);
    assert_eq!(call.read(ANN), ["error unknown-session"]);
}

#[test]
fn a_client_that_sends_nothing_is_told_after_each_continuation_how_far_its_signals_came() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.number(BOB, 1);
    call.inbox = Default::default();
    for _ in 0..2 {
        call.detach(ANN);
        assert_eq!(call.read(BOB), ["partner-disconnected lost"]);
        call.continues(ANN, 1);
        assert_eq!(call.read(BOB), ["partner-reconnected", "received 1"]);
        assert_eq!(call.read(ANN), ["continued true", "received 1"]);
    }
    for _ in 0..2 {
        call.continues(ANN, 1);
        assert_eq!(call.read(BOB), ["received 1"]);
        assert_eq!(call.read(ANN), ["continued true", "received 1"]);
    }
}

#[test]
fn what_is_due_to_be_sent_again_is_asked_for_also_if_that_was_told_before() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.continues(BOB, 1);
    assert_eq!(call.read(ANN), ["received 1"]);
    let (session, now) = (SessionId::new("s").unwrap(), call.now);
    let ann = call.connections[ANN].as_mut().unwrap();
    let seat = &mut ann.seats[0];
    seat.refused(Sequence { negotiation: NEGOTIATION.into(), seq: 2 }, now);
    assert_eq!(*seat.session(), session);
    ann.on_deadline(now + Duration::from_secs(1));
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["received 1"]);
}

#[test]
fn a_partner_that_moved_unheard_is_found_by_a_look_up_and_both_are_told() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.number(BOB, 1);
    call.inbox = Default::default();
    // Neither the record nor what follows it reaches Bob.
    let bob = call.connections[BOB].take();
    call.continues(ANN, 1);
    assert_eq!(call.read(ANN), ["continued true"]);
    call.connections[BOB] = bob;
    let (record, now) = (call.record.clone().unwrap(), call.now);
    call.connections[BOB].as_mut().unwrap().on_attached(record, true, now);
    call.carry_out(BOB);
    assert_eq!(call.read(ANN), ["received 1"]);
    assert_eq!(call.read(BOB), ["received 1"]);
}

#[test]
fn the_partner_of_a_client_that_can_continue_learns_of_its_end_from_the_record() {
    let mut call = Call::of_v1();
    call.number(ANN, 1);
    call.inbox = Default::default();
    let now = call.now;
    call.connections[ANN].as_mut().unwrap().on_frame(&Frame::Close(None), now);
    call.carry_out(ANN);
    assert_eq!(call.read(BOB), [""; 0]);
    // One that leaves does not come back.
    let mut call = Call::of_v1();
    let ann = call.connections[ANN].as_mut().unwrap();
    ann.seats[0].leave();
    ann.on_frame(&Frame::Close(None), now);
    call.carry_out(ANN);
    assert_eq!(call.read(BOB), ["partner-disconnected left"]);
}
