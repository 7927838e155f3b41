use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{API_KEY, Server, token};

fn error(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn pair(initiator: &str, partner: &str, session: Option<&str>) -> Option<Value> {
    let mut body = json!({"initiatorId": initiator, "partnerId": partner});
    if let Some(session) = session {
        body["sessionId"] = json!(session);
    }
    Some(body)
}

#[tokio::test]
async fn the_api_key_is_needed() {
    let server = Server::start(&[]).await;
    for headers in [
        "",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer wrong\r\n",
        &format!("Authorization: Bearer {API_KEY}2\r\n"),
        &format!("Authorization: Basic {API_KEY}\r\n"),
        &format!("X-Api-Key: {API_KEY}\r\n"),
    ] {
        for (method, path) in
            [("POST", "/api/sessions"), ("GET", "/api/sessions/s"), ("GET", "/api/no")]
        {
            let answer = server.request(method, path, headers, "{}").await;
            assert_eq!(answer.error(), error(401, "unauthorized"), "{headers}");
            assert!(answer.head.contains("www-authenticate: bearer"));
        }
    }
}

#[tokio::test]
async fn users_and_counts_are_shown() {
    let server = Server::start(&["--node-renewal", "100ms", "--sweep-interval", "50ms"]).await;
    let user = async |name: &str| server.api("GET", &format!("/api/users/{name}"), None).await;
    let shown = |connected: bool, sessions: &[&str]| json!({"userId": "ann", "connected": connected, "sessions": sessions});
    assert_eq!(user("ann").await.json(), shown(false, &[]));
    assert_eq!(user("a%00b").await.error(), error(404, "not-found"));
    server.api("POST", "/api/sessions", pair("ann", "bob", Some("s"))).await;
    assert_eq!(user("ann").await.json(), shown(false, &["s"]));
    let mut ann = server.connect("ann").await;
    ann.next().await;
    assert_eq!(user("ann").await.json(), shown(true, &["s"]));
    // This node says so from time to time, and what it has itself at once.
    let one = json!({"connections": 1, "sessions": 1});
    let counts = loop {
        let counts = server.api("GET", "/api/counts", None).await;
        assert_eq!(counts.status, 200);
        assert_eq!(counts.json()["node"], one);
        if counts.json()["all"] != json!({"connections": 0, "sessions": 0}) {
            break counts.json();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(counts, json!({"all": one, "node": one}));
}

#[tokio::test]
async fn a_session_is_opened_shown_and_closed() {
    let server = Server::start(&[]).await;
    let opened = server.api("POST", "/api/sessions", pair("ann", "bob", None)).await;
    assert_eq!(opened.status, 201);
    let id = opened.json()["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(opened.json(), json!({"sessionId": id}));
    let path = format!("/api/sessions/{id}");

    let shown = server.api("GET", &path, None).await;
    assert_eq!(shown.status, 200);
    let absent = |user: &str| json!({"userId": user, "connected": false, "lastHeartbeat": null});
    assert_eq!(
        shown.json(),
        json!({"sessionId": id, "status": "waiting", "participants": [absent("ann"), absent("bob")]})
    );

    let (mut ann, mut bob) = (server.connect("ann").await, server.connect("bob").await);
    assert_eq!(
        ann.next().await,
        json!({"type": "match-found", "sessionId": id, "partnerId": "bob", "isInitiator": true})
    );
    bob.next().await;
    // Heartbeats are gathered before they are stored, and too many at once are refused.
    let shown = loop {
        let shown = server.api("GET", &path, None).await.json();
        if shown["participants"][0]["lastHeartbeat"].is_u64() {
            break shown;
        }
        ann.send(&json!({"type": "heartbeat", "id": 2})).await;
        assert_eq!(ann.next().await["type"], "heartbeat-ack");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["participants"][1]["connected"], true);

    assert_eq!(server.api("DELETE", &path, None).await.status, 204);
    assert_eq!(ann.next().await, json!({"type": "partner-disconnected", "sessionId": id}));
    for method in ["GET", "DELETE"] {
        let gone = server.api(method, &path, None).await;
        assert_eq!(gone.error(), error(404, "not-found"));
    }
}

#[tokio::test]
async fn opening_is_idempotent_on_an_id_of_ones_own() {
    let server = Server::start(&[]).await;
    let open = async |body| server.api("POST", "/api/sessions", body).await;
    let first = open(pair("ann", "bob", Some("lesson:1"))).await;
    assert_eq!((first.status, first.json()), (201, json!({"sessionId": "lesson:1"})));
    let again = open(pair("ann", "bob", Some("lesson:1"))).await;
    assert_eq!((again.status, again.json()), (200, json!({"sessionId": "lesson:1"})));
    for (initiator, partner) in [("ann", "cy"), ("bob", "ann")] {
        let other = open(pair(initiator, partner, Some("lesson:1"))).await;
        assert_eq!(other.error(), error(409, "conflict"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_in_json() {
    let server = Server::start(&[]).await;
    let json_type = "Content-Type: application/json\r\n";
    let key = format!("Authorization: Bearer {API_KEY}\r\n");
    let large = format!(r#"{{"initiatorId":"{}"}}"#, "x".repeat(20_000));
    for (headers, body, status, code) in [
        (json_type, r#"{"initiatorId":"a","partnerId":"a"}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a","partnerId":""}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a","partnerId":"b\n"}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a","partnerId":7}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a"}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a","partnerId":"b","sessionId":"a b"}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"a","partnerId":"b","session":"s"}"#, 422, "invalid"),
        (json_type, r#"{"initiatorId":"#, 400, "malformed"),
        (json_type, "", 400, "malformed"),
        (json_type, &large, 413, "too-large"),
        ("", r#"{"initiatorId":"a","partnerId":"b"}"#, 415, "unsupported-media-type"),
    ] {
        let headers = format!("{key}{headers}");
        let answer = server.request("POST", "/api/sessions", &headers, body).await;
        assert_eq!(answer.error(), error(status, code), "{body}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_json() {
    let server = Server::start(&[]).await;
    for path in
        ["/api", "/api/", "/api/no", "/api/sessions/", "/api/sessions/a/b", "/", "/demo/token"]
    {
        let answer = server.api("GET", path, None).await;
        assert_eq!(answer.error(), error(404, "not-found"), "{path}");
    }
    for (method, path) in [
        ("PUT", "/api/sessions"),
        ("POST", "/api/sessions/s"),
        ("GET", "/api/queue/u"),
        ("GET", "/api/users/u/connection"),
        ("POST", "/healthz"),
    ] {
        let answer = server.api(method, path, None).await;
        assert_eq!(answer.error(), error(405, "method-not-allowed"), "{method} {path}");
        assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
    }
    for path in ["/api/sessions/a%20b", "/api/sessions/%ff"] {
        let answer = server.api("GET", path, None).await;
        assert!([400, 404].contains(&answer.error().0), "{path}");
    }
}

#[tokio::test]
async fn the_queue_matches_first_come_first_served() {
    let server = Server::start(&[]).await;
    let enter = async |user: &str| {
        let answer = server.api("POST", "/api/queue", Some(json!({"userId": user}))).await;
        (answer.status, answer.json())
    };
    let waiting = (202, json!({"status": "waiting"}));
    assert_eq!(enter("ann").await, waiting);
    assert_eq!(enter("ann").await, waiting, "twice the same user waits once");
    let (status, matched) = enter("böb").await;
    assert_eq!((status, &matched["status"]), (201, &json!("matched")));
    assert_eq!((&matched["partnerId"], &matched["isInitiator"]), (&json!("ann"), &json!(false)));
    let path = format!("/api/sessions/{}", matched["sessionId"].as_str().unwrap());
    let session = server.api("GET", &path, None).await.json();
    assert_eq!(session["participants"][0]["userId"], "ann");

    assert_eq!(enter("c y/1").await, waiting);
    let path = "/api/queue/c%20y%2F1";
    assert_eq!(server.api("DELETE", path, None).await.status, 204);
    let gone = server.api("DELETE", path, None).await;
    assert_eq!(gone.error(), error(404, "not-found"));
    assert_eq!(enter("dan").await, waiting);

    let wrong = server.api("POST", "/api/queue", Some(json!({"userId": ""}))).await;
    assert_eq!(wrong.error(), error(422, "invalid"));
}

#[tokio::test]
async fn being_connected_can_be_a_condition_of_the_queue() {
    let wanted = Server::start(&[]).await;
    let set = Server::start(&["--queue-partners", "connected"]).await;
    for (server, connected) in [(&wanted, Some(true)), (&set, None), (&set, Some(false))] {
        let enter = async |user: &str| {
            let mut body = json!({"userId": user});
            if let Some(connected) = connected {
                body["connected"] = json!(connected);
            }
            server.api("POST", "/api/queue", Some(body)).await
        };
        let refused = enter("ann").await;
        assert_eq!(refused.error(), error(409, "not-connected"));
        let leave = server.api("DELETE", "/api/queue/ann", None).await;
        assert_eq!(leave.error(), error(404, "not-found"));

        let ann = server.connect("ann").await;
        assert_eq!(enter("ann").await.status, 202);
        ann.close().await;
        loop {
            let user = server.api("GET", "/api/users/ann", None).await.json();
            if user["connected"] == false {
                break;
            }
        }
        let mut bob = server.connect("bob").await;
        assert_eq!(enter("bob").await.status, 202, "nobody is there for him");
        let leave = server.api("DELETE", "/api/queue/ann", None).await;
        assert_eq!(leave.error(), error(404, "not-found"), "she lost her place");

        let mut ann = server.connect("ann").await;
        let matched = enter("ann").await;
        assert_eq!((matched.status, &matched.json()["partnerId"]), (201, &json!("bob")));
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.next().await["type"], "match-found");
        }
        let path = format!("/api/sessions/{}", matched.json()["sessionId"].as_str().unwrap());
        assert_eq!(server.api("DELETE", &path, None).await.status, 204);
        for client in [ann, bob] {
            client.close().await;
        }
        for user in ["ann", "bob"] {
            let path = format!("/api/users/{user}");
            while server.api("GET", &path, None).await.json()["connected"] == true {}
        }
    }
    let wrong = json!({"userId": "ann", "connected": "yes"});
    let wrong = wanted.api("POST", "/api/queue", Some(wrong)).await;
    assert_eq!(wrong.error(), error(422, "invalid"));
}

#[tokio::test]
async fn a_user_is_disconnected() {
    let server = Server::start(&[]).await;
    let path = "/api/users/ann/connection";
    let none = server.api("DELETE", path, None).await;
    assert_eq!(none.error(), error(404, "not-found"));
    let ann = server.connect("ann").await;
    assert_eq!(server.api("DELETE", path, None).await.status, 204);
    assert_eq!(ann.closed_with().await, (1000, "closed normally".to_owned()));

    let ann = server.connect("ann").await;
    for wrong in ["x".repeat(124), "a%0Ab".to_owned()] {
        let answer = server.api("DELETE", &format!("{path}?reason={wrong}"), None).await;
        assert_eq!(answer.error(), error(422, "invalid"), "{wrong}");
    }
    let with_reason = format!("{path}?reason=see%20you+tomorrow%20%C3%A9");
    assert_eq!(server.api("DELETE", &with_reason, None).await.status, 204);
    assert_eq!(ann.closed_with().await, (1000, "see you tomorrow é".to_owned()));
}

#[tokio::test]
async fn a_users_tokens_are_revoked() {
    let server = Server::start(&[]).await;
    let path = "/api/users/ann/revocation";
    let ann = server.connect("ann").await;
    for wrong in [json!("now"), json!(1_763_841_600_000_000_u64), json!(1_763_841_600)] {
        let wrong = server.api("POST", path, Some(json!({"issuedBefore": wrong}))).await;
        assert_eq!(wrong.error(), error(422, "invalid"));
    }
    // Without a body, all that were issued until now.
    assert_eq!(server.api("POST", path, None).await.status, 204);
    assert_eq!(ann.closed_with().await, (4403, "token revoked".to_owned()));
    let body = Some(json!({}));
    assert_eq!(server.api("POST", path, body).await.status, 204);
    let again = server.try_connect(&token("ann")).await;
    assert_eq!(again.closed_with().await, (4403, "token revoked".to_owned()));
    server.connect("bob").await.close().await;
}

#[tokio::test]
async fn metadata_is_shown_as_it_was_first() {
    let server = Server::start(&[]).await;
    let open = async |metadata: &str| {
        let mut body = pair("ann", "bob", Some("s")).unwrap();
        body["metadata"] = metadata.into();
        server.api("POST", "/api/sessions", Some(body)).await
    };
    assert_eq!(open(&"x".repeat(4097)).await.error(), error(422, "invalid"));
    assert_eq!(open(r#"{"lesson":7}"#).await.status, 201);
    assert_eq!(open("other").await.status, 200);
    let shown = server.api("GET", "/api/sessions/s", None).await.json();
    assert_eq!(shown["metadata"], r#"{"lesson":7}"#);
}

#[tokio::test]
async fn health_needs_no_key_and_nothing_is_cached() {
    let server = Server::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        let answer = server.request("GET", path, "", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert!(answer.head.contains("cache-control: no-store"));
        assert!(answer.head.contains("x-content-type-options: nosniff"));
    }
}
