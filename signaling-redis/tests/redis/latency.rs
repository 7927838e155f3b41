//! How many round trips to Redis something takes, told by a latency against which all else is short.

use std::time::Duration;

use serde_json::json;
use signaling_core::{
    frame::CloseReason,
    id::SessionId,
    relay::{NewSession, Opened},
    testing::guest::Guest,
};
use signaling_redis::testing::Server;
use tokio::time;

use crate::{
    harness::{Node, now, until, user},
    proxy::Proxy,
};

/// Of each answer.
const LATENCY: Duration = Duration::from_millis(600);

/// How many round trips `call` takes, one after the other.
async fn round_trips<T>(call: impl Future<Output = T>) -> (u32, T) {
    let started = now();
    let done = call.await;
    let trips = started.elapsed().as_millis() / LATENCY.as_millis();
    (u32::try_from(trips).unwrap(), done)
}

/// Node a is far from Redis, node b is not. Their scripts are known.
async fn far_and_near() -> (Server, Proxy, Node, Node) {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let (a, b) = (Node::start(&proxy.url()).await, Node::start(&server.url()).await);
    let mut eve = a.connect("eve");
    let session = b.relay.open_session(&user("eve"), &user("fay")).await.unwrap();
    eve.expect_match(&session, "fay", true).await;
    assert!(b.relay.close_session(&session, CloseReason::default()).await.unwrap());
    eve.expect("partner-disconnected").await;
    proxy.delay(LATENCY);
    (server, proxy, a, b)
}

async fn connected(node: &Node, name: &str) -> Guest {
    let mut guest = node.connect(name);
    guest.settled().await;
    guest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_is_open_after_two_round_trips_wherever_its_users_are() {
    let (_server, _proxy, a, b) = &far_and_near().await;
    for (n, places) in [[None, None], [Some(a), None], [Some(a), Some(b)], [Some(b), Some(b)]]
        .into_iter()
        .enumerate()
    {
        let names = [format!("ann-{n}"), format!("bob-{n}")];
        let mut guests = Vec::new();
        for (name, place) in names.iter().zip(places) {
            if let Some(node) = place {
                guests.push(connected(node, name).await);
            }
        }
        let [ann, bob] = names.each_ref().map(|name| user(name));
        let (trips, opened) = round_trips(a.relay.open_session(&ann, &bob)).await;
        assert_eq!(trips, 2, "case {n}");
        let session = opened.unwrap();
        for guest in &mut guests {
            let found = guest.message().await;
            assert_eq!(
                (&found["type"], &found["sessionId"]),
                (&json!("match-found"), &json!(session))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_under_an_id_of_the_hosts_own_is_open_after_two_round_trips() {
    let (_server, _proxy, a, _b) = &far_and_near().await;
    let mut ann = connected(a, "ann").await;
    let (session, initiator, responder) =
        (SessionId::new("ours").unwrap(), user("ann"), user("bob"));
    for expected in [Opened::New, Opened::Existing] {
        let open = a.relay.open(NewSession::between(&initiator, &responder).id(&session));
        let (trips, opened) = round_trips(open).await;
        assert_eq!(opened.unwrap().1, expected);
        assert_eq!(trips, 2);
    }
    ann.expect_match(&session, "bob", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_is_admitted_after_one_round_trip_and_matched_after_two_more() {
    let (_server, _proxy, a, b) = &far_and_near().await;
    let (trips, _cat) = round_trips(connected(a, "cat")).await;
    assert_eq!(trips, 1);
    // However many sessions it is in.
    for n in 0..8 {
        let session = b.relay.open_session(&user("ann"), &user(&format!("bob-{n}"))).await;
        session.unwrap();
    }
    let mut ann = a.connect("ann");
    let matched = async {
        for _ in 0..8 {
            assert_eq!(ann.message().await["type"], "match-found");
        }
    };
    let (trips, ()) = round_trips(matched).await;
    assert_eq!(trips, 3);
    drop(ann);
    let gone = async || {
        let left = b.relay.sessions_of(&user("ann")).await.unwrap();
        left.len() == 8 && left.iter().all(|record| record.participants[0].connection().is_none())
    };
    // The ends of all are written together, too.
    let (trips, _) = round_trips(until("ann is detached", gone)).await;
    assert!(trips <= 2, "{trips}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_is_ready_where_redis_answers_late() {
    let (_server, proxy, a, _b) = &far_and_near().await;
    proxy.delay(Duration::from_millis(1_200));
    for _ in 0..50 {
        time::sleep(Duration::from_millis(100)).await;
        assert!(a.relay.is_ready());
    }
}
