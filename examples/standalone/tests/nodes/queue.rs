use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{Nodes, enter, support::PATIENCE, waiting};

#[tokio::test]
async fn everybody_of_a_crowd_gets_one_partner_and_one_session() {
    const USERS: usize = 400;
    // Under way at the same time. A slow machine has to answer so many within 2 s, the server's limit.
    const CONCURRENT: usize = 16;
    let nodes = &Nodes::start().await;
    let answers = stream::iter(0..USERS).map(|n| async move {
        let answer = nodes.enter(n % 2, &format!("u{n}")).await;
        (format!("u{n}"), answer.status, answer.json())
    });
    let answers: Vec<_> = answers.buffer_unordered(CONCURRENT).collect().await;

    for (user, status, answer) in &answers {
        assert!([201, 202].contains(status), "{user}: {status} {answer}");
    }
    let partners = nodes.partners();
    assert_eq!(partners.len(), USERS);
    let matched: Vec<_> = answers.iter().filter(|(_, status, _)| *status == 201).collect();
    assert_eq!(matched.len(), USERS / 2, "the second one of each pair is told at once");
    let sessions: HashSet<_> = matched.iter().map(|(_, _, answer)| &answer["sessionId"]).collect();
    assert_eq!(sessions.len(), USERS / 2);
    for (user, status, answer) in &answers {
        let partner = &partners[user];
        assert_eq!(partner.len(), 1, "{user}: {partner:?}");
        assert_eq!(partners[&partner[0]], [user.as_str()]);
        match status {
            201 => {
                assert_eq!(answer["partnerId"], partner[0].as_str());
                assert_eq!(answer["isInitiator"], false);
            }
            _ => assert_eq!((*status, answer.clone()), waiting()),
        }
    }
    assert_eq!(nodes.waiting(), (0, 0));
}

#[tokio::test]
async fn first_come_is_first_served_across_nodes() {
    let nodes = Nodes::start().await;
    for n in 0..40 {
        // Every pair comes to other nodes: to both in turn, to one, to both the other way round.
        let on = [0, 1, 0, 0, 1, 0, 1, 1][n % 8];
        let answer = nodes.enter(on, &format!("u{n}")).await;
        match n % 2 {
            0 => assert_eq!((answer.status, answer.json()), waiting()),
            _ => assert_eq!(answer.json()["partnerId"], format!("u{}", n - 1).as_str()),
        }
    }
    // Who asks again, wherever, waits once.
    for node in [0, 1, 1, 0] {
        let answer = nodes.enter(node, "late").await;
        assert_eq!((answer.status, answer.json()), waiting());
    }
    assert_eq!(nodes.waiting(), (1, 0));
    let left = nodes.nodes[1].api("DELETE", "/api/queue/late", None).await;
    assert_eq!(left.status, 204);
    let left = nodes.nodes[0].api("DELETE", "/api/queue/late", None).await;
    assert_eq!(left.error(), (404, "not-found".to_owned()));
}

/// The node is stopped while it holds a pair, and then killed: nobody waits for that pair longer
/// than 5 s and a look around.
#[tokio::test]
async fn a_node_that_is_killed_takes_nobody_with_it() {
    const USERS: usize = 300;
    const CONCURRENT: usize = 48;
    let mut nodes = Nodes::start().await;
    let [one, two] = &nodes.nodes;
    let entering = stream::iter(0..USERS).map(|n| async move {
        let user = format!("u{n}");
        let answer = enter([one, two][n % 2], &user).await;
        (user, answer.map(|answer| (answer.status, answer.body)))
    });
    let entering = entering.buffer_unordered(CONCURRENT).collect::<Vec<_>>();
    let killing = async {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "the node holds no pair");
            two.signal("STOP").await;
            let held = nodes.redis.cli(&["hkeys", "matching:{api}:pairs"]);
            if held.contains("two.") {
                break;
            }
            two.signal("CONT").await;
            sleep(Duration::from_millis(3)).await;
        }
        let killed = Instant::now();
        two.signal("KILL").await;
        killed
    };
    let (answers, killed) = tokio::join!(entering, killing);
    // A node that is stopped for most of the time answers 503 in the end: that user has to ask again too.
    let is_answered = |answer: &Result<(u16, String), _>| match answer {
        Ok((201 | 202, _)) => true,
        Ok((503, _)) | Err(_) => false,
        Ok((status, body)) => panic!("{status} {body}"),
    };
    let lost: Vec<_> = answers.iter().filter(|(_, answer)| !is_answered(answer)).collect();
    assert!(lost.len() > 2, "too late: all were answered");

    while nodes.waiting().1 > 0 {
        assert!(killed.elapsed() < Duration::from_millis(6_500), "a pair is still held");
        sleep(Duration::from_millis(20)).await;
    }
    println!("the pair of the dead was opened after {:?}", killed.elapsed());
    assert!(nodes.waiting().0 <= 1);

    // Those who were not answered ask again, unless they are matched: that their sockets told them. One of them
    // may have waited until another one asked again.
    nodes.nodes.swap(0, 1);
    let mut matched: HashSet<_> = nodes.partners().into_keys().collect();
    for (user, _) in lost {
        if matched.contains(user) {
            continue;
        }
        let answer = nodes.enter(1, user).await;
        match answer.status {
            201 => matched.extend(answer.json()["partnerId"].as_str().map(str::to_owned)),
            202 => {}
            status => panic!("{status} {}", answer.body),
        }
    }
    let partners = nodes.partners();
    assert_eq!(partners.len(), USERS);
    for (user, partner) in &partners {
        assert_eq!(partner.len(), 1, "{user}: {partner:?}");
        assert_eq!(partners[&partner[0]], [user.as_str()]);
    }
    for (user, answer) in &answers {
        if let Ok((201, body)) = answer {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["partnerId"], partners[user][0].as_str());
        }
    }
    assert_eq!(nodes.waiting(), (0, 0));
}
