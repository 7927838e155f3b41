use serde_json::{Value, json};

use crate::support::{Answer, KEYS, Server};

async fn post(server: &Server, path: &str, token: &str, body: Value) -> Answer {
    let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    server.request("POST", path, &headers, &body.to_string()).await
}

async fn register(server: &Server, name: &str) -> (String, String) {
    let answer = post(server, "/demo/token", "", json!({"name": name})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = |field: &str| answer.json()[field].as_str().unwrap().to_owned();
    (text("token"), text("userId"))
}

#[tokio::test]
async fn development_needs_no_setting_and_serves_the_page() {
    let server = Server::start_with(&["--dev"], &[]).await;
    for (path, kind, text) in [
        ("/", "text/html", "<!doctype html>"),
        ("/demo.js", "text/javascript", "signaling-client.js"),
        ("/demo.css", "text/css", "{"),
        ("/signaling-client.js", "text/javascript", "export"),
    ] {
        let answer = server.request("GET", path, "", "").await;
        assert_eq!(answer.status, 200, "{path}");
        for header in [
            &format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
        assert!(answer.body.contains(text), "{path}");
    }
    let address = server.address.clone();
    let (code, said) = server.stop().await;
    assert_eq!(code, 0);
    assert!(address.starts_with("127.0.0.1:"));
    assert!(said.contains("WARN") && said.contains("development"), "{said}");
    assert!(said.contains("HTTP API key of this run: "), "{said}");
}

/// A foreign page that gives its own name the address of this machine (DNS rebinding).
#[tokio::test]
async fn a_host_that_is_not_this_machine_is_refused_on_every_route() {
    let server = Server::start_with(&["--dev"], &[]).await;
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let routes = [
        ("GET", "/", ""),
        ("GET", "/demo.js", ""),
        ("GET", "/healthz", ""),
        ("GET", "/readyz", ""),
        ("GET", "/nothing", ""),
        ("POST", "/demo/token", ""),
        ("POST", "/demo/queue", ""),
        ("GET", "/api/counts", ""),
        ("GET", "/ws/signaling", upgrade),
    ];
    for (method, path, headers) in routes {
        for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example"] {
            let answer = server.request_to(host, method, path, headers, "").await;
            assert_eq!(answer.error(), (403, "forbidden-host".to_owned()), "{host} {path}");
        }
        let absolute = format!("http://evil.example{path}");
        let answer = server.request(method, &absolute, headers, "").await;
        assert_eq!(answer.error(), (403, "forbidden-host".to_owned()), "{absolute}");
    }
    for host in ["localhost", &format!("localhost:{port}"), "[::1]:1", "app.localhost"] {
        assert_eq!(server.request_to(host, "GET", "/", "", "").await.status, 200, "{host}");
    }
    // It is for development alone.
    let server = Server::start(&[]).await;
    let answer = server.request_to("app.example", "GET", "/healthz", "", "").await;
    assert_eq!(answer.status, 200);
}

/// Everybody may ask for a token of the demonstration: it is good for nothing else.
#[tokio::test]
async fn the_demonstration_does_not_sign_with_the_secret_that_was_given() {
    let (dev, production) = (Server::start_with(&["--dev"], &KEYS).await, Server::start(&[]).await);
    let (token, _) = register(&dev, "ann").await;
    dev.connect_with(&token).await;
    assert_eq!(production.try_connect(&token).await.closed().await, 4401);
    // Tokens of one's own do as well.
    dev.connect("bob").await;
}

#[tokio::test]
async fn without_it_there_is_no_demonstration() {
    let server = Server::start(&[]).await;
    for path in ["/", "/demo.js", "/demo/queue", "/demo/token"] {
        let answer = server.request("POST", path, "", "").await;
        assert_eq!(answer.error().0, 404, "{path}");
    }
    let (_, said) = server.stop().await;
    assert!(!said.contains("WARN") && !said.contains("API key"), "{said}");
}

#[tokio::test]
async fn two_visitors_are_matched_as_long_as_they_are_connected() {
    let server = Server::start_with(&["--dev"], &[]).await;
    let (ann, ann_id) = register(&server, " Ann ").await;
    let (bob, bob_id) = register(&server, "Ann").await;
    assert!(ann_id.starts_with("Ann-") && bob_id.starts_with("Ann-"));
    assert_ne!(ann_id, bob_id);

    // Nobody gets a partner who has closed the page.
    let enter = async |token: &str| post(&server, "/demo/queue", token, json!({})).await;
    let gone = register(&server, "gone").await.0;
    assert_eq!(enter(&gone).await.status, 202);

    let mut ann_client = server.connect_with(&ann).await;
    assert_eq!(enter(&ann).await.json(), json!({"status": "waiting"}));
    let mut bob_client = server.connect_with(&bob).await;
    let matched = enter(&bob).await;
    assert_eq!((matched.status, &matched.json()["partnerId"]), (201, &json!(ann_id)));
    assert_eq!(ann_client.next().await["partnerId"], bob_id.as_str());
    assert_eq!(bob_client.next().await["isInitiator"], false);

    let headers = format!("Authorization: Bearer {gone}\r\n");
    let left = server.request("DELETE", "/demo/queue", &headers, "").await;
    assert_eq!(left.status, 204, "also for who does not wait");
}

#[tokio::test]
async fn a_name_and_a_key_are_the_same_user_on_every_server() {
    let mut users = Vec::new();
    for _ in 0..2 {
        let server = Server::start_with(&["--dev"], &[]).await;
        for (name, key) in
            [("Ann", "0123456789abcdef"), ("Ann", "0123456789abcdeg"), ("Bob", "0123456789abcdef")]
        {
            let answer = post(&server, "/demo/token", "", json!({"name": name, "key": key})).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let user = answer.json()["userId"].as_str().unwrap().to_owned();
            assert!(user.starts_with(&format!("{name}-")) && user.len() == 12, "{user}");
            users.push(user);
        }
    }
    assert_eq!(users[..3], users[3..]);
    assert_ne!(users[0], users[1]);
    assert_ne!(users[0][4..], users[2][4..]);
}

#[tokio::test]
async fn names_and_tokens_are_checked() {
    let server = Server::start_with(&["--dev"], &[]).await;
    for name in ["", "  ", "a\u{7}b", &"x".repeat(41)] {
        let answer = post(&server, "/demo/token", "", json!({"name": name})).await;
        assert_eq!(answer.error(), (422, "invalid".to_owned()), "{name:?}");
    }
    for key in ["", "0123456789abcde", &"x".repeat(129)] {
        let answer = post(&server, "/demo/token", "", json!({"name": "a", "key": key})).await;
        assert_eq!(answer.error(), (422, "invalid".to_owned()), "{key:?}");
    }
    let answer = post(&server, "/demo/queue", "no-token", json!({})).await;
    assert_eq!(answer.error(), (401, "unauthorized".to_owned()));
    let answer = server.request("GET", "/demo/queue", "", "").await;
    assert_eq!(answer.error(), (405, "method-not-allowed".to_owned()));
    // What the page may do opens no session in the API's queue.
    let answer = post(&server, "/api/queue", "no-key", json!({"userId": "a"})).await;
    assert_eq!(answer.error().0, 401);
}
