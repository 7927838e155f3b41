mod continuing;
mod ice;
mod token;

use std::{num::NonZeroU64, time::Duration};

use super::*;
use crate::{
    id::NodeId,
    notice::RelayedSignal,
    protocol::{Dialect, SignalKind},
    session::{Presence, Role, Status},
    time::Timestamp,
};

fn epoch(connection: &Connection) -> u64 {
    match connection.life {
        Life::Admitted { epoch } => epoch,
        Life::Connecting | Life::Closed => panic!("it is not admitted"),
    }
}

/// Two participants, their pure connections, and a store that always answers at once.
struct Call {
    now: Instant,
    wall: u64,
    record: Option<Arc<SessionRecord>>,
    users: [UserId; 2],
    connections: [Option<Connection>; 2],
    /// What each client was sent, oldest first.
    inbox: [Vec<String>; 2],
    closed: [Option<DisconnectReason>; 2],
    /// How often somebody was to ask for ICE servers.
    asked: u32,
    numbers: u64,
    nodes: [&'static str; 2],
    dialects: [Dialect; 2],
    config: Arc<Config>,
}

const ANN: usize = 0;
const BOB: usize = 1;
/// The first of the session, and its opening.
const NEGOTIATION: u64 = 7;

impl Call {
    fn new() -> Self {
        Self::with(Config::default())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
    fn with(config: Config) -> Self {
        let users = ["ann", "bob"].map(|name| UserId::new(name).unwrap());
        let [ann, bob] = users.clone();
        let until = Timestamp::from_millis(60_000);
        let id = SessionId::new("s").unwrap();
        let record = SessionRecord::open(id, NEGOTIATION, ann, bob, until).unwrap();
        Self {
            now: Instant::now(),
            wall: 0,
            record: Some(Arc::new(record)),
            users,
            connections: [None, None],
            inbox: Default::default(),
            closed: [None, None],
            asked: 0,
            numbers: 0,
            nodes: ["n", "n"],
            dialects: [Dialect::Base; 2],
            config: Arc::new(config),
        }
    }

    /// Both are attached, and the first match was read.
    fn established() -> Self {
        let mut call = Self::new();
        call.attach(ANN);
        call.attach(BOB);
        call.inbox = Default::default();
        call
    }

    fn at(&self, seconds: u64) -> Instant {
        self.now + Duration::from_secs(seconds)
    }

    fn id(&self, who: usize) -> ConnectionId {
        self.connections[who].as_ref().unwrap().id.clone()
    }

    fn connect(&mut self, who: usize) {
        self.numbers += 1;
        let id = ConnectionId::new(NodeId::new(self.nodes[who]).unwrap(), self.numbers);
        let (user, config) = (self.users[who].clone(), self.config.clone());
        let limits = Arc::new(UserLimits::new(self.now));
        let dialect = self.dialects[who];
        let mut connection =
            Connection::new(id, user, dialect, config, limits, TokenTimes::default(), self.now);
        connection.on_admitted(self.numbers, Vec::new(), self.now);
        while connection.next_effect().is_some() {}
        self.connections[who] = Some(connection);
        self.closed[who] = None;
    }

    /// A new connection, attached.
    fn attach(&mut self, who: usize) {
        self.connect(who);
        let record = self.record.clone().unwrap();
        let next = record.attach(Role::BOTH[who], &self.id(who), self.numbers, None, self.numbers);
        let next = next.unwrap().with_client(Role::BOTH[who], self.client_number(who));
        self.record = Some(Arc::new(next));
        self.take_up(who);
    }

    fn client_number(&self, who: usize) -> Option<NonZeroU64> {
        NonZeroU64::new(self.numbers).filter(|_| self.dialects[who] == Dialect::V1)
    }

    /// `who` learns what it wrote, and tells its partner.
    fn take_up(&mut self, who: usize) {
        let now = self.now;
        self.with_connection(who, |connection, record| connection.on_attached(record, false, now));
    }

    /// The connection breaks, and its partner hears it from the record.
    fn detach(&mut self, who: usize) {
        self.detach_for(who, PartnerReason::Lost);
        self.announce(1 - who);
    }

    /// The connection ends, and the record says so.
    fn detach_for(&mut self, who: usize, reason: PartnerReason) {
        let id = self.id(who);
        self.connections[who] = None;
        let record = self.record.clone().unwrap();
        let abandon_after = self.config.abandon_after;
        let now = Timestamp::from_millis(self.wall);
        self.record = Some(Arc::new(record.detach(&id, reason, now, abandon_after).unwrap()));
    }

    /// `who` gets the record as it is.
    fn announce(&mut self, who: usize) {
        let now = self.now;
        self.with_connection(who, |connection, record| {
            connection.on_notice(Notice::Changed(record), now);
        });
    }

    fn end(&mut self, reason: PartnerReason) {
        let record = self.record.take().unwrap();
        for who in [ANN, BOB] {
            let (session, first_opening) = (record.id.clone(), record.first_opening);
            self.notice(who, Notice::Ended { session, first_opening, reason });
        }
    }

    fn notice(&mut self, who: usize, notice: Notice) {
        if let Some(connection) = &mut self.connections[who] {
            connection.on_notice(notice, self.now);
        }
        self.carry_out(who);
    }

    fn with_connection(
        &mut self,
        who: usize,
        input: impl FnOnce(&mut Connection, Arc<SessionRecord>),
    ) {
        let record = self.record.clone().unwrap();
        if let Some(connection) = &mut self.connections[who] {
            input(connection, record);
        }
        self.carry_out(who);
    }

    fn say(&mut self, who: usize, text: &str) {
        let now = self.now;
        self.say_at(who, text, now);
    }

    fn say_at(&mut self, who: usize, text: &str, now: Instant) {
        let frame = Frame::Text(text.into());
        self.connections[who].as_mut().unwrap().on_frame(&frame, now);
        self.carry_out(who);
    }

    fn signal(&mut self, who: usize, kind: &str, payload: &str) {
        let field = if kind == "ice-candidate" { "candidate" } else { "sdp" };
        let text = format!(r#"{{"type":"{kind}","sessionId":"s","{field}":"{payload}"}}"#);
        self.say(who, &text);
    }

    fn carry_out(&mut self, who: usize) {
        // They arrive when all effects are carried out.
        let mut notices = Vec::new();
        while let Some(effect) = self.connections[who].as_mut().and_then(Connection::next_effect) {
            match effect {
                Effect::Send(text) => self.inbox[who].push(text.as_str().to_owned()),
                Effect::MatchFound(record, role) => {
                    let found = self.connections[who].as_ref().unwrap().match_found(&record, role);
                    self.inbox[who].push(found.as_str().to_owned());
                }
                Effect::AskForIceServers => self.asked += 1,
                Effect::Notify { to, notice } => notices.push((to, notice)),
                Effect::Attach { continuing, .. } => self.write_attach(who, continuing),
                Effect::Renew(_) => self.write_attach(who, None),
                Effect::Leave(_) => self.end(PartnerReason::Left),
                Effect::EndAgain(_) => self.record = None,
                Effect::Close(reason) => self.closed[who] = Some(reason),
                Effect::LookUp
                | Effect::ReplaceOlder
                | Effect::SetAlarm
                | Effect::Refresh(_)
                | Effect::Ping
                | Effect::Heartbeat => {}
            }
        }
        for (to, notice) in notices {
            let of = |c: &Option<Connection>| c.as_ref().is_some_and(|c| c.id == to);
            if let Some(to) = self.connections.iter().position(of) {
                self.notice(to, notice);
            }
        }
    }

    fn write_attach(&mut self, who: usize, continuing: Option<NegotiationId>) {
        let (id, role) = (self.id(who), Role::BOTH[who]);
        let epoch = epoch(self.connections[who].as_ref().unwrap());
        let record = self.record.clone().unwrap();
        let continuing =
            continuing.filter(|_| record.may_continue(role)).map(NegotiationId::number);
        let next = record.attach(role, &id, epoch, continuing, 1000 + record.revision).unwrap();
        let next = next.with_client(role, self.client_number(who));
        self.record = Some(Arc::new(next));
        self.take_up(who);
    }

    /// What `who` was sent since this was last asked, each message by its type and, where it has
    /// one, its payload, code, reason or number.
    fn read(&mut self, who: usize) -> Vec<String> {
        let short = |text: String| {
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            let field = |name: &str| message[name].as_str().map(str::to_owned);
            let detail = field("sdp").or(field("candidate")).or(field("code")).or(field("reason"));
            let kind = field("type").unwrap();
            let detail = match &*kind {
                "continued" => Some(message["partnerConnected"].to_string()),
                "received" => Some(message["seq"].to_string()),
                _ => detail,
            };
            detail.map_or(kind.clone(), |detail| format!("{kind} {detail}"))
        };
        std::mem::take(&mut self.inbox[who]).into_iter().map(short).collect()
    }
}

#[test]
fn a_call_is_set_up() {
    let mut call = Call::new();
    call.attach(ANN);
    call.attach(BOB);
    assert_eq!(call.record.as_ref().unwrap().status(), Status::Active);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
    call.signal(ANN, "offer", "o");
    call.signal(ANN, "ice-candidate", "a");
    call.signal(BOB, "answer", "r");
    assert_eq!(call.read(BOB), ["offer o", "ice-candidate a"]);
    assert_eq!(call.read(ANN), ["answer r"]);
}

#[test]
fn signals_for_a_partner_that_has_not_come_yet_follow_its_match_found() {
    let mut call = Call::new();
    call.attach(ANN);
    call.signal(ANN, "offer", "o");
    call.signal(ANN, "ice-candidate", "a");
    call.attach(BOB);
    call.signal(ANN, "ice-candidate", "b");
    assert_eq!(call.read(BOB), ["match-found", "offer o", "ice-candidate a", "ice-candidate b"]);
    assert_eq!(call.read(ANN), ["match-found"]);
}

#[test]
fn too_many_kept_signals_tell_the_sender_and_start_over() {
    let mut call = Call::with(Config { max_kept_signals: 2, ..Config::default() });
    call.attach(ANN);
    for payload in ["a", "b", "c", "d"] {
        call.signal(ANN, "ice-candidate", payload);
    }
    let absent = "error partner-absent";
    assert_eq!(call.read(ANN), ["match-found", absent, absent]);
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
}

#[test]
fn too_many_kept_bytes_tell_the_sender() {
    let mut call = Call::with(Config { max_kept_bytes: 150, ..Config::default() });
    call.attach(ANN);
    call.signal(ANN, "offer", &"o".repeat(200));
    call.signal(ANN, "offer", &"o".repeat(50));
    call.signal(ANN, "offer", &"o".repeat(50));
    assert_eq!(call.read(ANN), ["match-found", "error too-large", "error partner-absent"]);
}

#[test]
fn a_lost_partner_is_told_once_and_its_return_starts_over() {
    let mut call = Call::established();
    call.signal(ANN, "offer", "o");
    call.detach(BOB);
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected"]);
    call.signal(ANN, "ice-candidate", "a");
    assert_eq!(call.read(ANN), ["error partner-absent"]);
    call.inbox[BOB].clear();
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
    call.signal(BOB, "offer", "o");
    assert_eq!(call.read(BOB), ["error not-initiator"]);
}

#[test]
fn a_record_that_comes_late_or_twice_changes_nothing() {
    let mut call = Call::established();
    let old = call.record.clone().unwrap();
    call.detach(BOB);
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
    call.notice(ANN, Notice::Changed(old));
    call.announce(ANN);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_partner_that_changed_connections_unseen_is_a_lost_one_and_a_new_one() {
    let mut call = Call::established();
    let hidden = call.connections[ANN].take();
    call.detach(BOB);
    call.attach(BOB);
    call.connections[ANN] = hidden;
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
}

#[test]
fn a_local_partners_end_is_told_before_it_is_written_and_not_again_after() {
    let mut call = Call::established();
    let now = call.now;
    call.connections[BOB].as_mut().unwrap().on_frame(&Frame::Close(None), now);
    call.carry_out(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected"]);
    call.detach(BOB);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn leaving_ends_the_session_and_tells_the_partner_only() {
    let mut call = Call::established();
    call.say(ANN, r#"{"type":"leave","sessionId":"s"}"#);
    assert_eq!(call.read(ANN), [""; 0]);
    assert_eq!(call.read(BOB), ["partner-disconnected"]);
    call.signal(BOB, "ice-candidate", "a");
    assert_eq!(call.read(BOB), ["error unknown-session"]);
}

#[test]
fn a_leave_that_could_not_be_written_can_be_said_again() {
    let mut call = Call::established();
    let record = call.record.clone();
    let leave = Frame::Text(r#"{"type":"leave","sessionId":"s"}"#.into());
    let now = call.now;
    for _ in 0..2 {
        let ann = call.connections[ANN].as_mut().unwrap();
        ann.on_frame(&leave, now);
        assert!(matches!(ann.next_effect(), Some(Effect::Leave(_))));
        ann.on_leave_failed(&record.as_ref().unwrap().id);
        call.carry_out(ANN);
        assert_eq!(call.read(ANN), ["error unavailable"]);
    }
}

#[test]
fn news_of_an_ended_session_do_not_bring_it_back() {
    let mut call = Call::established();
    let mut late = call.record.clone().unwrap().as_ref().clone();
    late.revision += 5;
    call.end(PartnerReason::Ended);
    assert_eq!(call.read(ANN), ["partner-disconnected"]);
    call.notice(ANN, Notice::Opened(Arc::new(late.clone())));
    call.notice(ANN, Notice::Changed(Arc::new(late)));
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_session_opened_by_the_host_under_the_id_of_another_is_a_new_one() {
    let mut call = Call::established();
    let mut other = call.record.clone().unwrap().as_ref().clone();
    (other.opening, other.first_opening) = (8, 8);
    call.record = Some(Arc::new(other));
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
}

#[test]
fn the_first_offer_is_the_initiators() {
    let mut call = Call::established();
    call.signal(BOB, "offer", "x");
    assert_eq!(call.read(BOB), ["error not-initiator"]);
    call.signal(ANN, "offer", "o");
    call.signal(BOB, "offer", "y");
    assert_eq!(call.read(BOB), ["offer o"]);
    assert_eq!(call.read(ANN), ["offer y"]);
}

#[test]
fn signals_of_another_negotiation_are_void() {
    let mut call = Call::established();
    let record = call.record.clone().unwrap();
    let text = |payload: &str| -> Text {
        format!(r#"{{"type":"offer","sessionId":"s","sdp":"{payload}"}}"#).into()
    };
    let signal = |negotiation, number, payload| {
        Notice::Signal(RelayedSignal {
            session: record.id.clone(),
            first_opening: record.first_opening,
            negotiation,
            number,
            numbered: false,
            kind: SignalKind::Offer,
            text: text(payload),
        })
    };
    call.notice(BOB, signal(record.negotiation + 1, 1, "x"));
    call.notice(BOB, signal(record.negotiation, 1, "1"));
    call.notice(BOB, signal(record.negotiation, 1, "1"));
    assert_eq!(call.read(BOB), ["offer 1"]);
}

#[test]
fn a_sender_is_told_of_a_signal_that_got_lost_on_the_way() {
    let mut call = Call::established();
    call.signal(ANN, "offer", "1");
    let bob = call.connections[BOB].take();
    call.signal(ANN, "ice-candidate", "2");
    call.connections[BOB] = bob;
    assert_eq!(call.read(ANN), [""; 0]);
    call.signal(ANN, "ice-candidate", "3");
    assert_eq!(call.read(ANN), ["error unavailable"]);
    assert_eq!(call.read(BOB), ["offer 1", "ice-candidate 3"]);
    call.signal(ANN, "ice-candidate", "4");
    assert_eq!(call.read(ANN), [""; 0]);
}

/// Ann says number 2 and, where it is two that get nowhere, number 3, and hears of the last.
fn one_or_two_undelivered(count: u64) -> Call {
    let mut call = Call::established();
    call.signal(ANN, "offer", "1");
    let bob = call.connections[BOB].take();
    for number in 2..2 + count {
        call.signal(ANN, "ice-candidate", &number.to_string());
    }
    let session = call.record.as_ref().unwrap().id.clone();
    call.connections[ANN].as_mut().unwrap().on_undelivered(
        &session,
        NEGOTIATION,
        1 + count..2 + count,
        ErrorCode::Unavailable,
        call.now,
    );
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["error unavailable"]);
    call.connections[BOB] = bob;
    call
}

#[test]
fn a_sender_is_told_once_of_a_signal_that_its_own_node_could_not_hand_on() {
    let mut call = one_or_two_undelivered(1);
    call.signal(ANN, "ice-candidate", "3");
    assert_eq!(call.read(BOB), ["offer 1", "ice-candidate 3"]);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_signal_that_got_lost_beside_one_that_could_not_be_handed_on_is_told() {
    let mut call = one_or_two_undelivered(2);
    call.signal(ANN, "ice-candidate", "4");
    assert_eq!(call.read(BOB), ["offer 1", "ice-candidate 4"]);
    assert_eq!(call.read(ANN), ["error unavailable"]);
}

impl Call {
    /// Ann says `word`, which Bob's queue has no room for.
    fn refused(&mut self, number: u64, word: &str) -> (SessionId, u64, Range<u64>) {
        let bob = self.connections[BOB].take();
        self.signal(ANN, "ice-candidate", word);
        self.connections[BOB] = bob;
        (self.record.as_ref().unwrap().id.clone(), NEGOTIATION, number..number + 1)
    }

    fn report_refused(
        &mut self,
        (session, negotiation, numbers): &(SessionId, u64, Range<u64>),
    ) -> bool {
        let bob = self.connections[BOB].as_mut().unwrap();
        let reported = bob.report_refused(session, *negotiation, numbers, false);
        self.carry_out(BOB);
        reported
    }

    fn skip_refused(
        &mut self,
        (session, negotiation, numbers): &(SessionId, u64, Range<u64>),
        reported: bool,
    ) {
        let bob = self.connections[BOB].as_mut().unwrap();
        bob.on_refused(session, *negotiation, numbers, false, reported);
        self.carry_out(BOB);
    }
}

#[test]
fn a_sender_is_told_once_of_a_signal_that_was_refused_also_of_the_last() {
    for ahead in [false, true] {
        let mut call = Call::established();
        call.signal(ANN, "offer", "1");
        let refused = call.refused(2, "2");
        assert_eq!(call.read(ANN), [""; 0]);
        if ahead {
            assert!(call.report_refused(&refused));
            assert_eq!(call.read(ANN), ["error rate-limited"]);
        }
        call.skip_refused(&refused, ahead);
        let told = if ahead { vec![] } else { vec!["error rate-limited"] };
        assert_eq!(call.read(ANN), told);
        // It is no gap: its number counts as received.
        call.signal(ANN, "ice-candidate", "3");
        assert_eq!(call.read(BOB), ["offer 1", "ice-candidate 3"]);
        assert_eq!(call.read(ANN), [""; 0]);
        // A duplicate changes nothing.
        call.skip_refused(&refused, false);
        call.signal(ANN, "ice-candidate", "4");
        assert_eq!(call.read(BOB), ["ice-candidate 4"]);
        assert_eq!(call.read(ANN), [""; 0]);
    }
}

#[test]
fn a_gap_in_front_of_a_refusal_is_a_loss() {
    let mut call = Call::established();
    call.signal(ANN, "offer", "1");
    call.refused(2, "2");
    let refused = call.refused(3, "3");
    call.skip_refused(&refused, true);
    assert_eq!(call.read(ANN), ["error unavailable"]);
}

#[test]
fn a_refusal_of_another_negotiation_is_void() {
    let mut call = Call::established();
    let (session, negotiation, numbers) = call.refused(1, "1");
    let older = (session, negotiation - 1, numbers);
    assert!(!call.report_refused(&older));
    call.skip_refused(&older, false);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_client_that_takes_nothing_while_something_waits_is_closed_after_ten_seconds() {
    let mut call = Call::established();
    let (start, ten) = (call.now, call.at(10));
    let ann = call.connections[ANN].as_mut().unwrap();
    ann.ping_due = start + Duration::from_secs(60);
    ann.on_write_blocked(start);
    assert_eq!(ann.deadline(), ten);
    // It is blocked still; the time runs from the first moment.
    ann.on_write_blocked(start + Duration::from_secs(4));
    assert_eq!(ann.deadline(), ten);
    ann.on_write_progress();
    assert_eq!(ann.deadline(), start + Duration::from_secs(25));
    ann.on_write_blocked(start + Duration::from_secs(9));
    ann.on_deadline(ten);
    assert!(ann.next_effect().is_none());
    ann.on_deadline(start + Duration::from_secs(19));
    call.carry_out(ANN);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::ReadsTooSlowly));
}

#[test]
fn when_notices_may_be_lost_signals_and_news_of_their_loss_may_be_too() {
    for (nodes, told) in [(["n", "m"], 1), (["n", "n"], 0)] {
        let mut call = Call::new();
        call.nodes = nodes;
        call.attach(ANN);
        call.attach(BOB);
        call.signal(ANN, "offer", "1");
        let bob = call.connections[BOB].take();
        call.signal(ANN, "ice-candidate", "2");
        call.connections[BOB] = bob;
        call.inbox = Default::default();
        for _ in 0..2 {
            call.connections[ANN].as_mut().unwrap().on_notices_lost();
            call.carry_out(ANN);
        }
        assert_eq!(call.read(ANN), vec!["error unavailable"; told]);
        // The other way round, the partner's connection learns how far its signals have come.
        call.connections[BOB].as_mut().unwrap().on_notices_lost();
        call.carry_out(BOB);
        assert_eq!(call.read(BOB), [""; 0]);
        assert_eq!(call.read(ANN), [""; 0]);
    }
}

#[test]
fn who_was_taken_for_dead_attaches_again_and_starts_over() {
    let mut call = Call::established();
    let ann = call.connections[ANN].take();
    let record = call.record.clone().unwrap();
    let id = ann.as_ref().unwrap().id.clone();
    let (lost, abandon_after) = (PartnerReason::Lost, Duration::from_secs(60));
    let written_off = record.detach(&id, lost, Timestamp::default(), abandon_after).unwrap();
    call.record = Some(Arc::new(written_off));
    call.announce(BOB);
    assert_eq!(call.read(BOB), ["partner-disconnected"]);
    call.connections[ANN] = ann;
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
}

#[test]
fn an_older_connection_gives_way_to_the_one_in_the_record() {
    let mut call = Call::established();
    let old = call.connections[ANN].take();
    call.attach(ANN);
    call.connections[ANN] = old;
    call.announce(ANN);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::Replaced));
}

#[test]
fn the_client_is_given_up_at_exactly_thirty_seconds_without_heartbeat() {
    let mut call = Call::established();
    let second = Duration::from_secs(1);
    let ann = call.connections[ANN].as_mut().unwrap();
    for n in 0..30 {
        ann.on_frame(&Frame::Pong(bytes::Bytes::new()), call.now + second * n);
        ann.on_deadline(call.now + second * n);
        while let Some(effect) = ann.next_effect() {
            assert!(matches!(effect, Effect::Ping));
        }
    }
    let due = call.now + second * 30;
    assert_eq!(ann.heartbeat_due, due);
    ann.on_deadline(due - Duration::from_nanos(1));
    assert!(ann.next_effect().is_none());
    assert_eq!(ann.deadline(), due.min(ann.ping_due));
    ann.on_deadline(due);
    call.carry_out(ANN);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::HeartbeatTimeout));
}

#[test]
fn a_vanished_client_is_noticed_within_25_seconds_whatever_the_phase_of_its_heartbeat() {
    for last_heartbeat in (0..=10_000).step_by(100).map(Duration::from_millis) {
        let mut call = Call::established();
        let start = call.now;
        call.say_at(ANN, r#"{"type":"heartbeat"}"#, start + last_heartbeat);
        let vanished = start + Duration::from_secs(10);
        call.connections[ANN]
            .as_mut()
            .unwrap()
            .on_frame(&Frame::Pong(bytes::Bytes::new()), vanished);
        // From here on, only deadlines.
        while call.closed[ANN].is_none() {
            let ann = call.connections[ANN].as_mut().unwrap();
            let due = ann.deadline();
            ann.on_deadline(due);
            call.carry_out(ANN);
            if call.closed[ANN].is_some() {
                let no_heartbeat = start + last_heartbeat + Duration::from_secs(30);
                let silent = vanished + Duration::from_secs(25);
                assert_eq!(due, silent.min(no_heartbeat), "{last_heartbeat:?}");
                assert!(due - vanished < Duration::from_secs(30));
            }
        }
    }
}

#[test]
fn inputs_never_move_the_deadline_earlier() {
    let mut call = Call::established();
    let mut last = call.connections[ANN].as_ref().unwrap().deadline();
    for n in 0..9 {
        let now = call.at(n);
        call.say_at(ANN, r#"{"type":"heartbeat"}"#, now);
        let deadline = call.connections[ANN].as_ref().unwrap().deadline();
        assert!(deadline >= last);
        last = deadline;
    }
}

#[test]
fn a_token_that_expires_closes_the_connection() {
    let mut call = Call::new();
    call.connect(ANN);
    let (id, user) = (call.id(ANN), call.users[ANN].clone());
    let (config, limits) = (call.config.clone(), Arc::new(UserLimits::new(call.now)));
    let expires = Some((Timestamp::default(), Duration::from_secs(7)));
    let life = TokenTimes { expires, ..TokenTimes::default() };
    let mut ann = Connection::new(id, user, Dialect::Base, config, limits, life, call.now);
    assert_eq!(ann.deadline(), call.at(7));
    ann.on_deadline(call.at(7));
    assert!(matches!(ann.next_effect(), Some(Effect::Close(DisconnectReason::TokenExpired))));
}

#[test]
fn a_token_for_ever_never_expires() {
    let mut call = Call::new();
    call.connect(ANN);
    let (id, user) = (call.id(ANN), call.users[ANN].clone());
    let (config, limits) = (call.config.clone(), Arc::new(UserLimits::new(call.now)));
    let expires = Some((Timestamp::default(), Duration::MAX));
    let life = TokenTimes { expires, ..TokenTimes::default() };
    let ann = Connection::new(id, user, Dialect::Base, config, limits, life, call.now);
    assert_eq!(ann.deadline(), call.at(10));
}

#[test]
fn a_heartbeat_that_names_a_foreign_session_still_counts() {
    let mut call = Call::established();
    let now = call.at(29);
    call.say_at(ANN, r#"{"type":"heartbeat","sessionId":"other","id":5}"#, now);
    assert_eq!(call.read(ANN), ["heartbeat-ack", "error unknown-session"]);
    assert_eq!(call.connections[ANN].as_ref().unwrap().heartbeat_due, call.at(59));
}

#[test]
fn sixteen_malformed_messages_in_a_row_close() {
    let mut call = Call::established();
    for _ in 0..15 {
        call.say(ANN, "x");
    }
    call.say(ANN, r#"{"type":"heartbeat"}"#);
    for _ in 0..15 {
        call.say(ANN, "x");
    }
    assert_eq!(call.closed[ANN], None);
    call.say(ANN, "x");
    assert_eq!(call.closed[ANN], Some(DisconnectReason::Malformed));
    assert_eq!(call.read(ANN), ["error malformed"; 31]);
}

#[test]
fn a_flood_of_signals_is_refused_and_then_closed() {
    let mut call = Call::established();
    for _ in 0..400 {
        call.signal(ANN, "ice-candidate", "a");
    }
    assert_eq!(call.read(BOB).len(), 200);
    assert_eq!(call.read(ANN), ["error rate-limited"; 200]);
    assert_eq!(call.closed[ANN], None);
    call.signal(ANN, "ice-candidate", "a");
    assert_eq!(call.closed[ANN], Some(DisconnectReason::RateLimited));
}

#[test]
fn a_flood_of_pings_and_pongs_is_closed() {
    let mut call = Call::established();
    let now = call.now;
    let frames = [Frame::Ping(bytes::Bytes::new()), Frame::Pong(bytes::Bytes::new())];
    for frame in frames.iter().cycle().take(400) {
        call.connections[ANN].as_mut().unwrap().on_frame(frame, now);
        call.carry_out(ANN);
    }
    assert_eq!(call.closed[ANN], None);
    call.connections[ANN].as_mut().unwrap().on_frame(&frames[0], now);
    call.carry_out(ANN);
    assert_eq!(call.closed[ANN], Some(DisconnectReason::RateLimited));
}

#[test]
fn frames_larger_than_accepted_close() {
    let mut call = Call::established();
    call.say(ANN, &" ".repeat(64 * 1024));
    assert_eq!(call.read(ANN), ["error malformed"]);
    call.say(ANN, &" ".repeat(64 * 1024 + 1));
    assert_eq!(call.closed[ANN], Some(DisconnectReason::FrameTooLarge));
}

#[test]
fn signals_in_a_foreign_session_disclose_nothing() {
    let mut call = Call::established();
    for session in ["other", "S"] {
        call.say(ANN, &format!(r#"{{"type":"offer","sessionId":"{session}","sdp":""}}"#));
        call.say(ANN, &format!(r#"{{"type":"leave","sessionId":"{session}"}}"#));
    }
    assert_eq!(call.read(ANN), ["error unknown-session"; 4]);
    assert!(call.record.is_some());
}

impl Call {
    /// Both are attached and understand everything, and the first match was read.
    fn of_v1() -> Self {
        let mut call = Self::new();
        call.dialects = [Dialect::V1; 2];
        call.attach(ANN);
        call.attach(BOB);
        call.inbox = Default::default();
        call
    }
}

#[test]
fn why_the_partner_is_gone_is_told_to_who_asked_for_more() {
    for reason in PartnerReason::ALL {
        for dialects in [[Dialect::Base; 2], [Dialect::V1; 2]] {
            let mut call = Call::new();
            call.dialects = dialects;
            call.attach(ANN);
            call.attach(BOB);
            call.inbox = Default::default();
            call.detach_for(BOB, reason);
            call.announce(ANN);
            let told = match dialects[ANN] {
                Dialect::Base => "partner-disconnected".to_owned(),
                Dialect::V1 => format!("partner-disconnected {}", reason.as_str()),
            };
            assert_eq!(call.read(ANN), [told]);
        }
    }
}

#[test]
fn a_loss_that_an_older_version_wrote_is_one() {
    let mut call = Call::of_v1();
    call.detach_for(BOB, PartnerReason::Left);
    let mut record = call.record.take().unwrap().as_ref().clone();
    record.participants[BOB].ended = None;
    call.record = Some(Arc::new(record));
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected lost"]);
}

#[test]
fn a_partner_whose_newer_connection_took_over_was_replaced() {
    let mut call = Call::of_v1();
    // The old connection is gone without a word.
    call.connections[BOB] = None;
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected replaced", "match-found"]);
}

#[test]
fn a_partner_that_came_back_unseen_was_lost_for_the_reason_in_the_record() {
    let mut call = Call::of_v1();
    let hidden = call.connections[ANN].take();
    call.detach_for(BOB, PartnerReason::Timeout);
    call.attach(BOB);
    call.connections[ANN] = hidden;
    call.announce(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected timeout", "match-found"]);
}

#[test]
fn an_end_is_told_for_the_first_reason_and_once() {
    let mut call = Call::new();
    call.dialects = [Dialect::V1, Dialect::Base];
    call.attach(ANN);
    call.attach(BOB);
    call.inbox = Default::default();
    let now = call.now;
    call.connections[BOB].as_mut().unwrap().on_frame(&Frame::Close(None), now);
    call.carry_out(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected left"]);
    call.detach_for(BOB, PartnerReason::Lost);
    call.announce(ANN);
    call.end(PartnerReason::Timeout);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn who_hangs_up_has_left_however_its_connection_ends() {
    let mut call = Call::of_v1();
    let (now, leave) = (call.now, r#"{"type":"leave","sessionId":"s"}"#);
    let bob = call.connections[BOB].as_mut().unwrap();
    bob.on_frame(&Frame::Text(leave.into()), now);
    assert!(matches!(bob.next_effect(), Some(Effect::Leave(_))));
    bob.on_close(DisconnectReason::Lost);
    call.carry_out(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected left"]);
}

#[test]
fn how_a_session_ended_is_told_to_who_was_told_of_no_absence() {
    for reason in [PartnerReason::Left, PartnerReason::Timeout, PartnerReason::Ended] {
        let mut call = Call::of_v1();
        call.end(reason);
        for who in [ANN, BOB] {
            assert_eq!(call.read(who), [format!("partner-disconnected {}", reason.as_str())]);
        }
        let mut waiting = Call::new();
        waiting.dialects = [Dialect::V1; 2];
        waiting.attach(ANN);
        waiting.end(reason);
        let told = format!("partner-disconnected {}", reason.as_str());
        assert_eq!(waiting.read(ANN), ["match-found".to_owned(), told]);
    }
}

impl Call {
    /// The store has lost the session, and `who` opens it again and attaches.
    fn reopen(&mut self, who: usize) {
        let record = self.record.clone().unwrap();
        let until = Timestamp::from_millis(60_000);
        self.record = Some(Arc::new(record.reopen(record.opening + 1, until)));
        self.attach_again(who);
    }

    /// `who` attaches to a session that was opened again, and continues its negotiation.
    fn attach_again(&mut self, who: usize) {
        let record = self.record.clone().unwrap();
        let connection = self.connections[who].as_ref().unwrap();
        let negotiation = connection.seats[0].record().participants[who].negotiation;
        let (role, epoch) = (Role::BOTH[who], epoch(connection));
        let next = record.attach(role, &connection.id, epoch, negotiation, record.opening * 10);
        self.record = Some(Arc::new(next.unwrap()));
        self.take_up(who);
    }
}

#[test]
fn nobody_notices_that_the_store_lost_a_session_of_two_who_are_there() {
    let mut call = Call::established();
    call.signal(ANN, "offer", "1");
    call.reopen(ANN);
    // Between these two, nothing is lost.
    call.signal(ANN, "ice-candidate", "2");
    call.signal(BOB, "answer", "1");
    call.attach_again(BOB);
    assert_eq!(call.connections[ANN].as_ref().unwrap().deadline(), call.at(10));
    call.signal(BOB, "ice-candidate", "2");
    assert_eq!(call.read(ANN), ["answer 1", "ice-candidate 2"]);
    assert_eq!(call.read(BOB), ["offer 1", "ice-candidate 2"]);
}

/// Bob does not attach again for two thirds of the lease of a node, and counts as gone.
fn partner_that_does_not_attach_again() -> Call {
    let config = Config { ping_interval: Duration::from_secs(60), ..Config::default() };
    let lease = config.node_lease * 2 / 3;
    let mut call = Call::with(config);
    call.attach(ANN);
    call.attach(BOB);
    call.inbox = Default::default();
    call.reopen(ANN);
    let due = call.now + lease;
    let ann = call.connections[ANN].as_mut().unwrap();
    assert_eq!(ann.deadline(), due);
    ann.on_deadline(due - Duration::from_nanos(1));
    assert!(ann.next_effect().is_none());
    ann.on_deadline(due);
    call.carry_out(ANN);
    assert_eq!(call.read(ANN), ["partner-disconnected"]);
    call.signal(ANN, "ice-candidate", "x");
    assert_eq!(call.read(ANN), ["error partner-absent"]);
    call
}

#[test]
fn a_partner_that_does_not_attach_again_after_a_loss_is_gone() {
    let mut call = partner_that_does_not_attach_again();
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
}

#[test]
fn a_partner_that_attaches_again_too_late_starts_over() {
    let mut call = partner_that_does_not_attach_again();
    call.attach_again(BOB);
    assert_eq!(call.read(ANN), ["match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
}

#[test]
fn a_partner_that_comes_back_to_a_session_that_was_opened_again_starts_over() {
    let mut call = Call::established();
    call.reopen(ANN);
    call.attach(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
    assert_eq!(call.read(BOB), ["match-found"]);
}

#[test]
fn a_partner_whose_connection_ends_before_it_attached_again_is_gone_at_once() {
    let mut call = Call::established();
    let (session, connection) = (call.record.as_ref().unwrap().id.clone(), call.id(BOB));
    call.reopen(ANN);
    call.notice(ANN, Notice::Detached { session, connection, reason: PartnerReason::Left });
    assert_eq!(call.read(ANN), ["partner-disconnected"]);
}

/// It was opened again twice after the same opening, and the store lost the first of these.
#[test]
fn late_news_of_an_opening_that_was_lost_changes_nothing() {
    let mut call = Call::established();
    let mut lost = call.record.as_ref().unwrap().reopen(99, Timestamp::from_millis(60_000));
    for who in [ANN, BOB] {
        let epoch = epoch(call.connections[who].as_ref().unwrap());
        lost = lost.attach(Role::BOTH[who], &call.id(who), epoch, None, 990).unwrap();
    }
    call.reopen(ANN);
    call.attach_again(BOB);
    for who in [ANN, BOB] {
        call.notice(who, Notice::Changed(Arc::new(lost.clone())));
        call.notice(who, Notice::Opened(Arc::new(lost.clone())));
        assert_eq!(call.read(who), [] as [&str; 0]);
    }
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
}

/// A store that went back does not know that Bob's old client took part in the negotiation.
#[test]
fn a_new_client_in_the_negotiation_of_an_old_one_has_both_start_over() {
    let mut call = Call::new();
    call.attach(ANN);
    let before = call.record.clone();
    call.attach(BOB);
    call.signal(ANN, "offer", "1");
    call.signal(BOB, "answer", "1");
    call.inbox = Default::default();
    let revision = call.record.as_ref().unwrap().revision;
    call.record = before;
    call.connect(BOB);
    let record = call.record.clone().unwrap();
    let joined = record.attach(Role::Responder, &call.id(BOB), call.numbers, None, 9).unwrap();
    assert_eq!(joined.negotiation, NEGOTIATION);
    call.record = Some(Arc::new(SessionRecord { revision: revision + 1, ..joined }));
    call.take_up(BOB);
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
    assert_eq!(call.read(BOB), ["match-found", "match-found"]);
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
}

#[test]
fn a_session_that_the_host_opens_before_the_end_of_the_last_one_is_heard_of_is_attached_to() {
    let mut call = Call::established();
    let mut other = call.record.clone().unwrap().as_ref().clone();
    (other.opening, other.first_opening, other.revision) = (8, 8, 0);
    for participant in &mut other.participants {
        participant.presence = Presence::Absent { until: Timestamp::from_millis(60_000) };
        (participant.negotiation, participant.epoch) = (None, 0);
    }
    other.negotiation = 8;
    call.record = Some(Arc::new(other));
    let now = call.now;
    call.with_connection(ANN, |ann, record| ann.on_notice(Notice::Opened(record), now));
    assert_eq!(call.read(ANN), ["partner-disconnected", "match-found"]);
}

/// A partner whose node died is not waited for again at each loss.
#[test]
fn losses_one_after_the_other_put_the_deadline_of_a_partner_off_once() {
    let config = Config { ping_interval: Duration::from_secs(60), ..Config::default() };
    let mut call = Call::with(config);
    call.attach(ANN);
    call.attach(BOB);
    call.reopen(ANN);
    let due = call.connections[ANN].as_ref().unwrap().deadline();
    call.now += Duration::from_secs(4);
    call.reopen(ANN);
    assert_eq!(call.connections[ANN].as_ref().unwrap().deadline(), due);
}

#[test]
fn late_news_of_an_earlier_opening_changes_nothing() {
    let mut call = Call::established();
    let mut late = call.record.as_ref().unwrap().as_ref().clone();
    late.revision += 5;
    late.negotiation += 1;
    call.reopen(ANN);
    call.attach_again(BOB);
    call.notice(ANN, Notice::Changed(Arc::new(late)));
    call.signal(ANN, "offer", "o");
    assert_eq!(call.read(BOB), ["offer o"]);
    assert_eq!(call.read(ANN), [""; 0]);
}

#[test]
fn a_session_that_ended_and_was_opened_again_is_ended_again() {
    let mut call = Call::established();
    let now = call.now;
    let record = call.record.as_ref().unwrap().as_ref().clone();
    let again = Arc::new(record.reopen(8, Timestamp::default()));
    let (session, first_opening) = (record.id.clone(), record.first_opening);
    let reason = PartnerReason::Left;
    let ann = call.connections[ANN].as_mut().unwrap();
    ann.on_notice(Notice::Ended { session: session.clone(), first_opening, reason }, now);
    assert!(matches!(ann.next_effect(), Some(Effect::Send(_))));
    // By one that has not heard of the end yet.
    ann.on_notice(Notice::Opened(again.clone()), now);
    assert!(matches!(ann.next_effect(), Some(Effect::EndAgain(_))));
    // Bob has opened it again, and learns of the end then.
    call.record = Some(again);
    call.attach_again(BOB);
    call.notice(BOB, Notice::Ended { session, first_opening, reason });
    assert_eq!(call.record, None);
    assert_eq!(call.read(BOB), ["partner-disconnected"]);
}
