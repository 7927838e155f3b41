//! Many at the same time.

use futures::future::join_all;
use tokio::time::{self, Duration, Instant};

use super::stage::{Call, Host, Stage, answer, candidate, offer};

/// Both sides say `signals` candidates at the same time, and each gets exactly the other's.
async fn both_at_once(call: &mut Call, signals: usize) {
    let Call { session, ann, bob } = call;
    let s = session.as_str();
    let of = |who: &str, n: usize| candidate(s, &format!("{n} of {who} in {s}"));
    for n in 0..signals {
        futures::join!(ann.send(of("ann", n)), bob.send(of("bob", n)));
    }
    let to_ann = async {
        for n in 0..signals {
            ann.expect_text(&of("bob", n)).await;
        }
    };
    let to_bob = async {
        for n in 0..signals {
            bob.expect_text(&of("ann", n)).await;
        }
    };
    futures::join!(to_ann, to_bob);
    call.expect_nothing().await;
}

pub(super) async fn two_clients_signal_at_the_same_time(host: &Host) {
    let mut call = host.start().await.call().await;
    call.talk().await;
    both_at_once(&mut call, 150).await;
}

async fn pair(stage: &Stage, n: usize) {
    let (first, second) = (format!("first {n}"), format!("second {n}"));
    // Half of the pairs connect before they are matched, and half after.
    let mut call = if n.is_multiple_of(2) {
        stage.call_of(&first, &second).await
    } else {
        let session = stage.open_new(&first, &second).await;
        let (mut ann, mut bob) = futures::join!(stage.connect(&first), stage.connect(&second));
        ann.expect_match(&session, &second, true).await;
        bob.expect_match(&session, &first, false).await;
        Call { session, ann, bob }
    };
    let s = call.session.clone();
    call.ann.send(offer(&s, &first)).await;
    call.bob.expect_text(&offer(&s, &first)).await;
    call.bob.send(answer(&s, &second)).await;
    call.ann.expect_text(&answer(&s, &second)).await;
    both_at_once(&mut call, 20).await;
    call.ann.close().await;
    call.bob.expect_partner_disconnected(&s).await;
    call.bob.expect_nothing().await;
}

pub(super) async fn a_hundred_pairs_do_not_mix(host: &Host) {
    let stage = host.start().await;
    join_all((0..100).map(|n| pair(&stage, n))).await;
}

pub(super) async fn one_flood_does_not_hold_up_others(host: &Host) {
    let stage = host
        .start_with(|c| (c.max_signals_per_second, c.max_signal_bytes_per_second) = (0, 0))
        .await;
    let mut loud = stage.call_of("loud 1", "loud 2").await;
    let mut quiet = stage.call_of("quiet 1", "quiet 2").await;
    let s = loud.session.clone();
    let until = Instant::now() + Duration::from_secs(1);
    let sender = async {
        let text = offer(&s, &"x".repeat(1000));
        let mut sent = 0;
        while Instant::now() < until {
            // As much as the reader is sure to take.
            for _ in 0..100 {
                loud.ann.send(&text).await;
            }
            for _ in 0..100 {
                loud.bob.expect_text(&text).await;
            }
            sent += 100;
        }
        sent
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        while Instant::now() < until {
            let began = Instant::now();
            quiet.talk().await;
            slowest = slowest.max(began.elapsed());
            time::sleep(Duration::from_millis(5)).await;
        }
        slowest
    };
    let (sent, slowest) = futures::join!(sender, others);
    assert!(sent >= 100);
    assert!(slowest < Duration::from_secs(1), "held up for {slowest:?}");
}
