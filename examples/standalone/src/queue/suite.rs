//! What every queue must do. In real time, since the time of one of them is a server's.

use std::time::Duration;

use signaling_core::id::UserId;
use tokio::time::{Instant, sleep};

use super::{Bounds, Pair, Partners, Queue, QueueError};

/// One test for each case, with a queue that `$start` makes of its bounds, and what must live on
/// beside it.
macro_rules! queue_tests {
    ($start:expr) => {
        $crate::queue::suite::queue_tests!($start;
            the_first_two_are_a_pair_in_the_order_they_came,
            a_user_who_enters_twice_waits_once_and_keeps_its_place,
            a_pair_is_the_same_until_it_is_settled,
            who_is_in_a_pair_does_not_wait,
            who_remains_of_a_pair_is_back_in_its_place,
            who_does_not_ask_again_is_forgotten,
            the_queue_is_bounded,
            any_name_will_do,
            a_pair_knows_whether_one_of_it_asks_for_connected_partners,
        );
    };
    ($start:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let bounds = $crate::queue::suite::BOUNDS;
                let (queue, _guard) = ($start)(bounds).await;
                $crate::queue::suite::$case(queue).await;
            }
        )*
    };
}
pub(crate) use queue_tests;

/// Of the queues that are tested. Impatient, so that a test can wait for it.
pub(crate) const BOUNDS: Bounds = Bounds { capacity: 4, patience: Duration::from_secs(2) };

pub(crate) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Enters, and names the pair that is to be opened.
pub(crate) async fn enter(queue: &mut impl Queue, name: &str) -> Option<[String; 2]> {
    queue.enter(&user(name), Partners::All, soon()).await.unwrap().map(|pair| names(&pair))
}

pub(crate) fn names(pair: &Pair) -> [String; 2] {
    pair.users.each_ref().map(|user| user.as_str().to_owned())
}

pub(crate) fn named(first: &str, second: &str) -> Option<[String; 2]> {
    Some([first.to_owned(), second.to_owned()])
}

async fn next(queue: &mut impl Queue) -> Option<Pair> {
    queue.next(soon()).await.unwrap()
}

async fn settle_next(queue: &mut impl Queue) {
    let pair = next(queue).await.unwrap();
    queue.settle(&pair, soon()).await.unwrap();
}

pub(crate) async fn the_first_two_are_a_pair_in_the_order_they_came(mut queue: impl Queue) {
    assert_eq!(next(&mut queue).await, None);
    assert_eq!(enter(&mut queue, "b").await, None);
    assert_eq!(enter(&mut queue, "a").await, named("b", "a"));
    // They are still to be opened when the next ones come.
    assert_eq!(enter(&mut queue, "d").await, named("b", "a"));
    assert_eq!(enter(&mut queue, "c").await, named("b", "a"));
    settle_next(&mut queue).await;
    assert_eq!(next(&mut queue).await.map(|pair| names(&pair)), named("d", "c"));
    settle_next(&mut queue).await;
    assert_eq!(next(&mut queue).await, None);
}

pub(crate) async fn a_user_who_enters_twice_waits_once_and_keeps_its_place(mut queue: impl Queue) {
    assert_eq!(enter(&mut queue, "a").await, None);
    assert_eq!(enter(&mut queue, "a").await, None);
    assert_eq!(enter(&mut queue, "b").await, named("a", "b"));
    for name in ["a", "b"] {
        assert_eq!(enter(&mut queue, name).await, named("a", "b"), "while they are opened");
    }
    for name in ["c", "d", "c"] {
        assert_eq!(enter(&mut queue, name).await, named("a", "b"));
    }
    settle_next(&mut queue).await;
    assert_eq!(next(&mut queue).await.map(|pair| names(&pair)), named("c", "d"));
    settle_next(&mut queue).await;
    assert_eq!(enter(&mut queue, "a").await, None, "who had a partner may have another");
}

pub(crate) async fn a_pair_is_the_same_until_it_is_settled(mut queue: impl Queue) {
    enter(&mut queue, "a").await;
    let pair = queue.enter(&user("b"), Partners::All, soon()).await.unwrap().unwrap();
    assert_eq!(next(&mut queue).await, Some(pair.clone()));
    assert_eq!(next(&mut queue).await, Some(pair.clone()), "the session's id too");
    for _ in 0..2 {
        queue.settle(&pair, soon()).await.unwrap();
        assert_eq!(next(&mut queue).await, None);
    }
    queue.dissolve(&pair, &[], soon()).await.unwrap();
    assert_eq!(next(&mut queue).await, None, "settled is settled");
}

pub(crate) async fn who_is_in_a_pair_does_not_wait(mut queue: impl Queue) {
    enter(&mut queue, "a").await;
    assert!(queue.leave(&user("a"), soon()).await.unwrap());
    assert!(!queue.leave(&user("a"), soon()).await.unwrap());
    enter(&mut queue, "b").await;
    assert_eq!(enter(&mut queue, "c").await, named("b", "c"));
    assert!(!queue.leave(&user("b"), soon()).await.unwrap());
    assert_eq!(next(&mut queue).await.map(|pair| names(&pair)), named("b", "c"));
}

pub(crate) async fn who_remains_of_a_pair_is_back_in_its_place(mut queue: impl Queue) {
    enter(&mut queue, "a").await;
    enter(&mut queue, "b").await;
    assert_eq!(enter(&mut queue, "c").await, named("a", "b"));
    let first = next(&mut queue).await.unwrap();
    queue.dissolve(&first, &[user("a")], soon()).await.unwrap();
    let second = next(&mut queue).await.unwrap();
    assert_eq!(Some(names(&second)), named("b", "c"));
    assert_ne!(first.session, second.session);
    queue.dissolve(&first, &[user("b"), user("c")], soon()).await.unwrap();
    assert_eq!(next(&mut queue).await, Some(second.clone()), "once more changes nothing");

    queue.dissolve(&second, &[], soon()).await.unwrap();
    assert!(queue.leave(&user("b"), soon()).await.unwrap());
    assert_eq!(enter(&mut queue, "a").await, named("c", "a"));
    let third = next(&mut queue).await.unwrap();
    queue.dissolve(&third, &third.users, soon()).await.unwrap();
    for name in ["a", "b", "c"] {
        assert!(!queue.leave(&user(name), soon()).await.unwrap(), "{name}");
    }
}

pub(crate) async fn who_does_not_ask_again_is_forgotten(mut queue: impl Queue) {
    enter(&mut queue, "a").await;
    sleep(BOUNDS.patience / 2).await;
    assert_eq!(enter(&mut queue, "a").await, None);
    sleep(BOUNDS.patience * 3 / 4).await;
    assert_eq!(enter(&mut queue, "b").await, named("a", "b"), "its patience was renewed");
    let pair = next(&mut queue).await.unwrap();
    queue.dissolve(&pair, &[], soon()).await.unwrap();
    sleep(BOUNDS.patience * 3 / 4).await;
    // The one who came first has lost patience, the other one has not.
    assert_eq!(enter(&mut queue, "c").await, named("b", "c"));
    settle_next(&mut queue).await;
    enter(&mut queue, "d").await;
    sleep(BOUNDS.patience + Duration::from_millis(50)).await;
    assert!(!queue.leave(&user("d"), soon()).await.unwrap());
}

pub(crate) async fn the_queue_is_bounded(mut queue: impl Queue) {
    for name in ["a", "b", "c", "d"] {
        enter(&mut queue, name).await;
    }
    let full = queue.enter(&user("e"), Partners::All, soon()).await;
    assert!(matches!(full, Err(QueueError::Full)), "those of a pair count: {full:?}");
    assert_eq!(enter(&mut queue, "d").await, named("a", "b"), "who waits already may ask again");
    settle_next(&mut queue).await;
    assert_eq!(enter(&mut queue, "e").await, named("c", "d"));
    settle_next(&mut queue).await;
    assert!(queue.leave(&user("e"), soon()).await.unwrap());
}

pub(crate) async fn a_pair_knows_whether_one_of_it_asks_for_connected_partners(
    mut queue: impl Queue,
) {
    use Partners::{All, Connected};
    for (first, second, pair_asks) in [
        (&[All][..], All, All),
        (&[Connected], All, Connected),
        (&[All], Connected, Connected),
        (&[Connected, All], All, All),
        (&[All, Connected], All, Connected),
    ] {
        for partners in first {
            let alone = queue.enter(&user("a"), *partners, soon()).await.unwrap();
            assert_eq!(alone, None);
        }
        let pair = queue.enter(&user("b"), second, soon()).await.unwrap().unwrap();
        assert_eq!(pair.partners, pair_asks, "{first:?} {second:?}");
        assert_eq!(next(&mut queue).await, Some(pair.clone()));
        // Who remains of a pair still asks for the same.
        queue.dissolve(&pair, &[user("b")], soon()).await.unwrap();
        let pair = queue.enter(&user("c"), All, soon()).await.unwrap().unwrap();
        assert_eq!(pair.partners, first[first.len() - 1], "{first:?} {second:?}");
        queue.settle(&pair, soon()).await.unwrap();
        // Who is forgotten does not.
        assert_eq!(queue.enter(&user("a"), Connected, soon()).await.unwrap(), None);
        assert!(queue.leave(&user("a"), soon()).await.unwrap());
    }
}

pub(crate) async fn any_name_will_do(mut queue: impl Queue) {
    let long = "é".repeat(128);
    for (first, second) in [("\"\\/{}[]", "名前 with spaces"), ("1e5", "100000"), ("-0", &long)] {
        assert_eq!(enter(&mut queue, first).await, None);
        assert_eq!(enter(&mut queue, second).await, named(first, second));
        let pair = next(&mut queue).await.unwrap();
        queue.dissolve(&pair, &[], soon()).await.unwrap();
        assert_eq!(next(&mut queue).await.map(|pair| names(&pair)), named(first, second));
        settle_next(&mut queue).await;
    }
}
