use std::sync::atomic::{AtomicUsize, Ordering};

use futures::task::{self, ArcWake};

use super::{merge::NEGOTIATIONS, *};
use crate::{
    id::{ConnectionId, NodeId, UserId},
    protocol::SignalKind,
    reason::PartnerReason,
    session::{Role, SessionRecord},
    time::Timestamp,
};

fn with(messages: usize, bytes: usize) -> Mailbox {
    let config =
        Config { max_queued_messages: messages, max_queued_bytes: bytes, ..Config::default() };
    Mailbox::new(&config)
}

fn mailbox() -> Mailbox {
    with(3, 10)
}

fn session() -> SessionId {
    SessionId::new("s").unwrap()
}

/// A signal of the first negotiation of the session with this `first_opening`.
fn signal_of(first_opening: u64, number: u64, text: impl Into<Text>) -> Mail {
    later_signal(first_opening, first_opening, number, text)
}

fn later_signal(first_opening: u64, negotiation: u64, number: u64, text: impl Into<Text>) -> Mail {
    Mail::Notice(Notice::Signal(RelayedSignal {
        session: session(),
        first_opening,
        negotiation,
        number,
        numbered: false,
        kind: SignalKind::IceCandidate,
        text: text.into(),
    }))
}

fn signal(first_opening: u64, number: u64) -> Mail {
    signal_of(first_opening, number, "x")
}

fn refused(negotiation: u64, numbers: Range<u64>, reported: bool) -> Refused {
    Refused { session: session(), negotiation, numbers, numbered: false, reported }
}

/// All that waits, each in short.
fn rest(mailbox: &Mailbox) -> Vec<String> {
    std::iter::from_fn(|| mailbox.pop()).map(short).collect()
}

fn short(mail: Mail) -> String {
    match mail {
        Mail::Send(text) => text.as_str().to_owned(),
        Mail::Notice(Notice::Signal(signal)) => format!("signal {}", signal.number),
        Mail::Refused(refused) => format!("refused {:?}", refused.numbers),
        Mail::Notice(Notice::Changed(record)) => format!("record {}", record.revision),
        Mail::Notice(Notice::Detached { connection, .. }) => {
            format!("detached {}", connection.number())
        }
        Mail::Notice(Notice::Ended { reason, .. }) => format!("ended {}", reason.as_str()),
        Mail::Notice(Notice::Received { seq, before, .. }) => {
            format!("received {seq} {before:?}")
        }
        Mail::Undelivered { numbers, .. } => format!("undelivered {numbers:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn mail_comes_out_in_order() {
    let mailbox = mailbox();
    mailbox.push(Mail::Send("a".into()));
    mailbox.push(Mail::Send("b".into()));
    assert_eq!(rest(&mailbox), ["a", "b"]);
}

#[test]
fn one_message_too_many_closes() {
    let mailbox = mailbox();
    for _ in 0..3 {
        mailbox.push(Mail::Send("a".into()));
    }
    assert_eq!(mailbox.closing(), None);
    mailbox.push(Mail::Send("a".into()));
    assert_eq!(mailbox.closing(), Some(DisconnectReason::ReadsTooSlowly));
}

#[test]
fn one_byte_too_many_closes() {
    let mailbox = mailbox();
    mailbox.push(Mail::Send("0123456789".into()));
    assert_eq!(mailbox.closing(), None);
    mailbox.push(Mail::Send("x".into()));
    assert_eq!(mailbox.closing(), Some(DisconnectReason::ReadsTooSlowly));
}

#[test]
fn what_was_read_no_longer_counts() {
    let mailbox = mailbox();
    for number in 1..100 {
        mailbox.push(Mail::Send("01234".into()));
        mailbox.push(signal(1, number));
        assert_eq!(rest(&mailbox), ["01234".to_owned(), format!("signal {number}")]);
    }
    assert_eq!(mailbox.closing(), None);
}

#[test]
fn signals_take_no_room_from_what_the_client_asked_for() {
    let mailbox = with(10, 100);
    for opening in 1..100 {
        for number in 1..=10 {
            mailbox.push(signal(opening, number));
        }
    }
    for _ in 0..10 {
        mailbox.push(Mail::Send("0123456789".into()));
    }
    assert_eq!(mailbox.closing(), None);
}

#[test]
fn the_first_reason_counts() {
    let mailbox = mailbox();
    mailbox.close(DisconnectReason::Replaced);
    mailbox.close(DisconnectReason::ShuttingDown);
    assert_eq!(mailbox.closing(), Some(DisconnectReason::Replaced));
}

#[test]
fn signals_beyond_a_sessions_share_are_refused_in_their_place_and_close_nothing() {
    let mailbox = with(12, 1000);
    for number in 1..=100 {
        mailbox.push(signal(1, number));
    }
    // Another session finds room, and the first none in what that left.
    mailbox.push(signal(2, 1));
    mailbox.push(signal(1, 101));
    assert_eq!(mailbox.closing(), None);
    let first: Vec<_> = (0..3).filter_map(|_| mailbox.pop()).map(short).collect();
    assert_eq!(first, ["signal 1", "signal 2", "signal 3"]);
    mailbox.push(signal(1, 102));
    mailbox.push(Mail::Send("own".into()));
    let expected =
        ["signal 4", "signal 5", "signal 6", "refused 7..102", "signal 1", "signal 102", "own"];
    assert_eq!(rest(&mailbox), expected);
}

#[test]
fn a_flood_of_refused_signals_takes_no_room() {
    let mailbox = with(8, 100);
    for number in 1..=1000 {
        // Every other one is too large.
        let text = if number % 2 == 0 { "x".repeat(200) } else { "x".to_owned() };
        mailbox.push(signal_of(1, number, text));
    }
    assert_eq!(mailbox.queue().mails.len(), 8);
    assert_eq!(mailbox.queue().signals, Load { messages: 4, bytes: 4 });
    let expected = [
        "signal 1",
        "refused 2..3",
        "signal 3",
        "refused 4..5",
        "signal 5",
        "refused 6..7",
        "signal 7",
        "refused 8..1001",
    ];
    assert_eq!(rest(&mailbox), expected);
    assert_eq!(mailbox.queue().signals, Load::default());
}

#[test]
fn a_refusal_is_shown_until_its_sender_is_told() {
    let mailbox = with(2, 100);
    let shown = |told| {
        let mut all = Vec::new();
        mailbox.blocked(|refused| {
            all.push((refused.numbers.start, refused.numbers.end));
            told
        });
        all
    };
    mailbox.push(signal(1, 1));
    mailbox.push(signal(1, 2));
    assert_eq!(shown(false), [(2, 3)]);
    mailbox.push(signal(1, 3));
    assert_eq!(shown(true), [(2, 4)]);
    assert_eq!(shown(true), []);
    // Numbers that it has already are duplicates.
    mailbox.push(signal(1, 2));
    assert_eq!(shown(true), []);
    mailbox.push(signal(1, 4));
    assert_eq!(shown(true), [(2, 5)]);
    assert!(matches!(mailbox.pop(), Some(Mail::Notice(_))));
    match mailbox.pop() {
        Some(Mail::Refused(word)) => assert_eq!(word, refused(1, 2..5, true)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_of_few_negotiations_wait() {
    let mailbox = with(2, 100);
    mailbox.push(signal(1, 1));
    for negotiation in 1..100 {
        mailbox.push(later_signal(1, negotiation, 2, "x"));
    }
    // Late, and merged into what is said of the same negotiation.
    mailbox.push(later_signal(1, 99, 3, "x"));
    mailbox.push(later_signal(1, 98, 3, "x"));
    assert!(mailbox.pop().is_some());
    let waiting = std::iter::from_fn(|| mailbox.pop()).map(|mail| match mail {
        Mail::Refused(word) => word,
        other => panic!("{other:?}"),
    });
    let waiting: Vec<_> = waiting.collect();
    assert_eq!(waiting.len(), NEGOTIATIONS);
    let last = [refused(98, 2..4, false), refused(99, 2..4, false)];
    assert_eq!(waiting[NEGOTIATIONS - 2..], last);
}

#[test]
fn texts_that_wait_for_a_client_that_takes_nothing_are_copied() {
    let mailbox = with(100, 1000);
    let buffer = Text::from("a large read buffer".to_owned());
    let push = |number| mailbox.push(signal_of(1, number, buffer.clone()));
    let blocked = || mailbox.blocked(|refused| panic!("{refused:?}"));
    let shares = |mail| match mail {
        Mail::Notice(Notice::Signal(signal)) => signal.text.as_ptr() == buffer.as_ptr(),
        other => panic!("{other:?}"),
    };
    let shared = || std::iter::from_fn(|| mailbox.pop()).map(shares).collect::<Vec<_>>();
    // It is blocked by something else, and takes that before these come.
    blocked();
    push(1);
    push(2);
    assert_eq!(shared(), [true, true]);
    push(3);
    blocked();
    push(4);
    assert_eq!(mailbox.pop().map(shares), Some(false));
    push(5);
    assert_eq!(shared(), [false, false]);
    push(6);
    assert_eq!(shared(), [true]);
}

/// A session's record at a revision, in which these are attached.
fn record_of(opening: u64, revision: u64, attached: &[Role]) -> Arc<SessionRecord> {
    let [ann, bob] = ["ann", "bob"].map(|name| UserId::new(name).unwrap());
    let until = Timestamp::from_millis(60_000);
    let mut record = SessionRecord::open(session(), opening, ann, bob, until).unwrap();
    for role in attached {
        // The later the revision, the later the attachment.
        record.revision = revision;
        let connection = ConnectionId::new(NodeId::new("n").unwrap(), revision);
        record = record.attach(*role, &connection, revision, None, revision).unwrap();
    }
    record.revision = revision;
    Arc::new(record)
}

fn record(opening: u64, revision: u64) -> Arc<SessionRecord> {
    record_of(opening, revision, &[])
}

fn changed(opening: u64, revision: u64) -> Mail {
    Mail::Notice(Notice::Changed(record(opening, revision)))
}

/// Both are attached, the initiator with another attachment each time.
fn both(revision: u64) -> Mail {
    Mail::Notice(Notice::Changed(record_of(1, revision, &Role::BOTH)))
}

fn detached(number: u64) -> Mail {
    let (session, reason) = (session(), PartnerReason::Lost);
    let connection = ConnectionId::new(NodeId::new("n").unwrap(), number);
    Mail::Notice(Notice::Detached { session, connection, reason })
}

fn ended(reason: PartnerReason) -> Mail {
    Mail::Notice(Notice::Ended { session: session(), first_opening: 1, reason })
}

fn received(seq: u64, before: Option<u64>) -> Mail {
    let (session, negotiation, reason) = (session(), 1, crate::notice::LossReason::Lost);
    let answer = false;
    Mail::Notice(Notice::Received { session, negotiation, seq, before, reason, answer })
}

#[test]
fn a_newer_record_takes_the_place_of_an_older_one() {
    let mailbox = with(10, 100);
    mailbox.push(changed(1, 3));
    mailbox.push(signal(1, 1));
    mailbox.push(changed(1, 5));
    mailbox.push(changed(1, 4));
    // Of another opening, or behind what the store said, or behind an end, it is other news.
    mailbox.push(changed(2, 1));
    mailbox.push(Mail::Record { record: record(2, 2), looked_up: true });
    mailbox.push(changed(2, 3));
    mailbox.push(ended(PartnerReason::Left));
    mailbox.push(changed(1, 6));
    let all = rest(&mailbox);
    let words: Vec<_> = all.iter().filter(|word| !word.starts_with("Record")).collect();
    let expected = ["record 5", "signal 1", "record 1", "record 3", "ended left", "record 6"];
    assert_eq!(words, expected);
}

#[test]
fn a_partner_that_comes_and_goes_takes_no_more_room_each_time() {
    let mailbox = with(10, 100);
    for since in (1..2000).step_by(2) {
        mailbox.push(both(since));
        mailbox.push(later_signal(1, since, 1, "x"));
        mailbox.push(detached(since));
        mailbox.push(changed(1, since + 1));
    }
    assert_eq!(mailbox.closing(), None);
    let all = rest(&mailbox);
    assert_eq!(all[0], "record 1");
    assert_eq!(all.iter().filter(|word| word.starts_with("record")).collect::<Vec<_>>().len(), 2);
    assert!(all.contains(&"record 2000".to_owned()));
    assert_eq!(all.iter().filter(|word| word.starts_with("detached")).count(), 1);
    assert!(all.contains(&"detached 1999".to_owned()));
    assert!(all.len() <= 10 + NEGOTIATIONS, "{all:?}");
}

#[test]
fn that_a_partner_was_there_is_kept_until_the_client_is_told() {
    let mailbox = with(20, 100);
    let alone =
        |revision| Mail::Notice(Notice::Changed(record_of(1, revision, &[Role::Responder])));
    mailbox.push(changed(1, 1));
    mailbox.push(both(2));
    // It is gone: of that the client would not be told if it did not hear of the other.
    mailbox.push(changed(1, 3));
    assert_eq!(mailbox.queue().mails.len(), 2);
    for revision in (4..100).step_by(2) {
        mailbox.push(both(revision));
        mailbox.push(changed(1, revision + 1));
        // Late.
        mailbox.push(alone(revision));
    }
    assert_eq!(rest(&mailbox), ["record 2", "record 99"]);
}

#[test]
fn an_end_and_losses_are_told_once() {
    let mailbox = with(6, 100);
    for _ in 0..100 {
        mailbox.push(ended(PartnerReason::Left));
        mailbox.push(Mail::Doubt);
        mailbox.push(Mail::NoticesLost);
    }
    mailbox.push(received(4, Some(6)));
    mailbox.push(received(2, Some(5)));
    mailbox.push(received(3, Some(9)));
    assert_eq!(rest(&mailbox), ["ended left", "Doubt", "NoticesLost", "received 2 Some(9)"]);
    mailbox.push(received(4, Some(6)));
    mailbox.push(received(2, None));
    mailbox.push(received(3, Some(9)));
    assert_eq!(rest(&mailbox), ["received 2 None"]);
}

#[test]
fn signals_in_a_row_that_could_not_be_handed_on_are_told_together() {
    let mailbox = with(4, 100);
    let undelivered = |number, code| {
        let (session, numbers) = (session(), number..number + 1);
        Mail::Undelivered { session, negotiation: 1, numbers, code }
    };
    for number in 1..=1000 {
        mailbox.push(undelivered(number, ErrorCode::Unavailable));
    }
    mailbox.push(undelivered(1001, ErrorCode::RateLimited));
    mailbox.push(undelivered(1003, ErrorCode::RateLimited));
    assert_eq!(
        rest(&mailbox),
        ["undelivered 1..1001", "undelivered 1001..1002", "undelivered 1003..1004"]
    );
}

#[test]
fn only_an_idle_task_is_woken() {
    struct Wakes(AtomicUsize);

    impl ArcWake for Wakes {
        fn wake_by_ref(wakes: &Arc<Self>) {
            wakes.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (mailbox, wakes) = (mailbox(), Arc::new(Wakes(AtomicUsize::new(0))));
    let waker = task::waker(wakes.clone());
    let woken = || wakes.0.swap(0, Ordering::Relaxed);
    let register = || mailbox.register(&Context::from_waker(&waker));
    register();
    mailbox.push(signal(1, 0));
    assert_eq!(woken(), 1);

    register();
    assert_eq!(mailbox.begin_turn(), None);
    mailbox.push(signal(1, 1));
    assert!(!mailbox.end_turn(), "there is news");
    assert_eq!(mailbox.begin_turn(), None);
    assert!(mailbox.end_turn());
    assert_eq!(woken(), 0);

    mailbox.close(DisconnectReason::Replaced);
    assert_eq!(woken(), 1);
    assert_eq!(mailbox.begin_turn(), Some(DisconnectReason::Replaced));
    mailbox.close(DisconnectReason::Lost);
    assert!(!mailbox.end_turn());
}
