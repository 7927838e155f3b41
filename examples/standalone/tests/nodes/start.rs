use std::{net::TcpListener, time::Duration};

use signaling_redis::testing::{Server as Redis, TlsServer};
use tokio::time::Instant;

use crate::{
    node,
    support::{API_KEY, JWT_SECRET, Server, reserve_address, run},
};

/// The one line that is said, within 10 s.
async fn refused(url: &str) -> String {
    let env = [
        ("SIGNALING_JWT_SECRET", JWT_SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_REDIS_URL", url),
    ];
    let start = Instant::now();
    let (code, said) = run(&["--listen", "127.0.0.1:0"], &env).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.starts_with("signaling-server: cannot start without Redis: "), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("s3cret"), "{said}");
    said
}

#[tokio::test]
async fn a_redis_that_refuses_the_password_is_one_clear_line() {
    let redis = Redis::start_with(&["--requirepass", "s3cret"]);
    for who in ["", ":hunter2@", "ann:hunter2@"] {
        let said = refused(&format!("redis://{who}127.0.0.1:{}", redis.port())).await;
        assert!(said.contains("refuses the credentials"), "{said}");
        assert!(said.contains(&redis.port().to_string()), "{said}");
    }
}

#[tokio::test]
async fn a_redis_that_is_not_there_or_says_nothing_is_one_clear_line() {
    let (_reserved, nobody) = reserve_address();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let [nobody, mute_one] = [nobody, mute.local_addr().unwrap().to_string()]
        .map(|address| format!("redis://:hunter2@{address}"));
    let (nobody, mute_one) = tokio::join!(refused(&nobody), refused(&mute_one));
    assert!(nobody.contains("was not reached within 8 s"), "{nobody}");
    assert!(mute_one.contains("was not reached within 8 s"), "{mute_one}");
}

/// The operating system does not know the authority: a variable of rustls-native-certs names it.
#[tokio::test]
async fn redis_may_be_reached_over_tls() {
    let redis = TlsServer::start();
    let (url, authority) = (format!("rediss://127.0.0.1:{}", redis.port()), redis.authority());
    let env = [
        ("SIGNALING_JWT_SECRET", JWT_SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_REDIS_URL", &url),
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
    ];
    let server = Server::start_with(&[], &env).await;
    assert_eq!(crate::enter(&server, "ann").await.unwrap().status, 202);
    assert_eq!(redis.server().cli(&["zcard", "matching:{api}:waiting"]), "1");
    assert_eq!(server.stop().await.0, 0);
    let said = refused(&url).await;
    assert!(
        said.to_lowercase().contains("certificate") || said.contains("UnknownIssuer"),
        "{said}"
    );
}

#[tokio::test]
async fn a_user_who_may_do_what_the_readme_lists_is_enough() {
    let redis = Redis::start();
    let mut rules = include_str!("../../../../signaling-redis/acl.txt").to_owned();
    let readme = include_str!("../../README.md").lines();
    let queue = readme.filter(|line| line.starts_with("~matching:*"));
    rules.extend(queue);
    let rules = rules.replace('~', "~app:");
    let mut command = vec!["acl", "setuser", "ann", "on", ">hunter2"];
    command.extend(rules.split_whitespace());
    assert_eq!(redis.cli(&command), "OK");
    let url = format!("redis://ann:hunter2@127.0.0.1:{}", redis.port());
    let args = ["--redis-prefix", "app:", "--log-level", "trace"];
    let server = node(&url, &args).await;
    let (mut ann, mut bob) = (server.connect("ann").await, server.connect("bob").await);
    assert_eq!(crate::enter(&server, "ann").await.unwrap().status, 202);
    assert_eq!(crate::enter(&server, "bob").await.unwrap().status, 201);
    assert_eq!(ann.next().await["isInitiator"], true);
    let found = bob.next().await;
    let offer = serde_json::json!({"type": "leave", "sessionId": found["sessionId"]});
    ann.send(&offer).await;
    assert_eq!(bob.next().await["type"], "partner-disconnected");
    for key in redis.cli(&["keys", "*"]).lines() {
        assert!(key.starts_with("app:"), "{key}");
    }
    let denied = redis.cli(&["acl", "log"]);
    assert_eq!(denied, "", "commands that were denied");
    let (code, said) = server.stop().await;
    assert_eq!(code, 0);
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn without_redis_no_node_knows_of_another() {
    let (one, two) = (Server::start(&[]).await, Server::start(&[]).await);
    assert_eq!(crate::enter(&one, "ann").await.unwrap().status, 202);
    assert_eq!(crate::enter(&two, "bob").await.unwrap().status, 202);
}
