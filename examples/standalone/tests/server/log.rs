//! What an operator finds in the log.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use crate::support::{
    API_KEY, JWT_SECRET, KEYS, PATIENCE, Server, command, reserve_address, token,
};

async fn start(args: &[&str]) -> Server {
    Server::start(&[&["--log-format", "json"], args].concat()).await
}

/// The fields of all lines with this message so far.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    lines.map(|line| line["fields"].clone()).filter(|fields| fields["message"] == message).collect()
}

/// The same, when there are so many.
async fn until(server: &Server, message: &str, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let said = server.said.lock().unwrap().clone();
        let lines = lines(&said, message);
        if lines.len() >= count {
            return lines;
        }
        assert!(start.elapsed() < PATIENCE, "{message} in {said}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_end_of_a_session_is_one_line() {
    let server = start(&["--abandon-after", "1s"]).await;
    let (mut ann, bob) = (server.connect("ann").await, server.connect("bob").await);
    let open = async |id: &str, other: &str| {
        let pair = json!({"initiatorId": "ann", "partnerId": other, "sessionId": id});
        assert_eq!(server.api("POST", "/api/sessions", Some(pair)).await.status, 201);
    };
    open("left", "bob").await;
    assert_eq!(ann.next().await["type"], "match-found");
    sleep(Duration::from_millis(50)).await;
    ann.send(&json!({"type": "leave", "sessionId": "left"})).await;
    let ended = &until(&server, "session ended", 1).await[0];
    for (field, value) in [
        ("session", "left"),
        ("initiator", "ann"),
        ("responder", "bob"),
        ("reason", "left"),
        ("user", "ann"),
    ] {
        assert_eq!(ended[field], value, "{ended}");
    }
    let lasted = ended["duration_ms"].as_u64().unwrap();
    assert!((50..20_000).contains(&lasted), "{ended}");

    open("closed", "bob").await;
    assert_eq!(server.api("DELETE", "/api/sessions/closed", None).await.status, 204);
    let ended = &until(&server, "session ended", 2).await[1];
    assert_eq!((&ended["session"], &ended["reason"]), (&json!("closed"), &json!("by-host")));
    open("abandoned", "cat").await;
    let ended = &until(&server, "session ended", 3).await[2];
    assert_eq!((&ended["reason"], &ended["user"]), (&json!("abandoned"), &json!("cat")));
    drop(bob);
    let (_, said) = server.stop().await;
    assert_eq!(lines(&said, "session ended").len(), 3);
    assert_eq!(lines(&said, "listening").len(), 1, "{said}");
}

#[tokio::test]
async fn why_a_token_was_refused_is_said_without_it_and_not_too_often() {
    let server = start(&[]).await;
    let (good, other) = (token("ann"), token("bob"));
    let ((head, _), (_, signature)) =
        (good.rsplit_once('.').unwrap(), other.rsplit_once('.').unwrap());
    let forged = format!("{head}.{signature}");
    for _ in 0..40 {
        let url = format!("ws://{}/ws/signaling?token={forged}", server.address);
        drop(connect_async(url).await.unwrap());
    }
    drop(connect_async(format!("ws://{}/ws/signaling", server.address)).await.unwrap());
    let refused = until(&server, "credentials refused", 6).await;
    let (_, said) = server.stop().await;
    for (reason, count) in [("wrong-signature", 5), ("missing", 1)] {
        let of = refused.iter().filter(|line| line["reason"] == reason);
        assert_eq!(of.count(), count, "{said}");
    }
    assert_eq!(refused[0]["error"], "the signature is wrong");
    assert!(refused[0]["suppressed"].is_u64());
    for secret in [&*forged, signature, head, JWT_SECRET, API_KEY] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Neither one that is accepted nor one that is refused, also where everything is logged.
#[tokio::test]
async fn the_token_of_a_refresh_is_in_no_log() {
    let server = Server::start_with(&[], &[&KEYS[..], &[("RUST_LOG", "trace")]].concat()).await;
    let url = format!("ws://{}/ws/signaling?token={}", server.address, token("ann"));
    let mut request = url.into_client_request().unwrap();
    let v1 = HeaderValue::from_static("signaling.v1");
    request.headers_mut().insert("sec-websocket-protocol", v1);
    let mut socket = connect_async(request).await.unwrap().0;
    let (ann, bob) = (token("ann"), token("bob"));
    let forged = ann.rsplit_once('.').map(|(head, _)| format!("{head}.AAAA")).unwrap();
    let sent = [&*bob, &forged, "no-token-at-all"];
    for token in sent {
        let refresh = json!({"type": "refresh", "token": token}).to_string();
        socket.send(Message::text(refresh)).await.unwrap();
        let answer = loop {
            let next = timeout(PATIENCE, socket.next()).await.expect("an answer");
            if let Message::Text(text) = next.unwrap().unwrap() {
                break text;
            }
        };
        assert!(answer.contains("token-refused"), "{answer}");
    }
    let (_, said) = server.stop().await;
    assert!(said.contains("new token refused"), "{said}");
    for secret in sent {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_one_line() {
    let server = start(&["--second-connection", "refuse"]).await;
    let ann = server.connect("ann").await;
    let url = format!("ws://{}/ws/signaling?token={}", server.address, token("ann"));
    for _ in 0..15 {
        drop(connect_async(&url).await.unwrap());
    }
    let refused = &until(&server, "connection refused", 5).await;
    assert_eq!(refused[0]["user"], "ann");
    assert_eq!(refused[0]["reason"], "already-connected");
    assert!(refused[0]["connection"].is_string() && refused[0]["suppressed"] == 0);
    drop(ann);
    let (_, said) = server.stop().await;
    let refused = lines(&said, "connection refused");
    let refused = refused.iter().filter(|line| line["reason"] == "already-connected");
    assert_eq!(refused.count(), 5, "{said}");
}

#[tokio::test]
async fn each_request_of_the_api_is_one_line_with_its_id() {
    let server = start(&[]).await;
    let key = format!("Authorization: Bearer {API_KEY}\r\n");
    let asked = async |method: &str, path: &str, id: &str, key: &str| {
        let headers = format!("{key}{id}");
        let answer = server.request(method, path, &headers, "").await;
        let (_, rest) = answer.head.split_once("x-request-id: ").expect("an id");
        (answer.status, rest.lines().next().unwrap().to_owned())
    };
    let mut expected = Vec::new();
    for (method, path, id, key, status) in [
        ("GET", "/api/counts", "X-Request-ID: from-the-balancer\r\n", &*key, 200),
        ("GET", "/api/counts?api_key=hidden-in-a-query", "x-request-id: a b\r\n", &key, 200),
        ("GET", "/api/counts", "", "Authorization: Bearer wrong-and-hidden\r\n", 401),
        ("GET", "/api/nothing", "", &key, 404),
        ("POST", "/api/counts", "", &key, 405),
    ] {
        let (answered, id) = asked(method, path, id, key).await;
        assert_eq!(answered, status);
        expected.push((id, method, path.split('?').next().unwrap(), status));
    }
    assert_eq!(expected[0].0, "from-the-balancer");
    assert_ne!(expected[1].0, "a b");
    let (status, _) = asked("GET", "/healthz", "", "").await;
    assert_eq!(status, 200);
    let logged = until(&server, "API request", expected.len()).await;
    for ((id, method, path, status), line) in expected.iter().zip(&logged) {
        let (id, method, path) = (json!(id), json!(method), json!(path));
        assert_eq!((&line["request"], &line["method"], &line["path"]), (&id, &method, &path));
        assert_eq!(line["status"], *status, "{line}");
        assert!(line["duration_ms"].is_u64(), "{line}");
    }
    let (_, said) = server.stop().await;
    assert!(!said.contains(API_KEY) && !said.contains("hidden"), "{said}");
}

/// The log is read from late, when more was to be written than waits for that.
#[tokio::test]
async fn lines_for_which_there_was_no_room_are_counted() {
    const REQUESTS: usize = 9_500;
    let (_reserved, listen) = reserve_address();
    let mut command = command(&["--listen", &listen, "--log-format", "json"], &KEYS);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(std::process::Stdio::null()).stderr(writer);
    let server = Server::start_silent(command, &listen).await;
    let (mut answers, mut asks) = TcpStream::connect(&listen).await.unwrap().into_split();
    let head =
        format!("GET /api/counts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n");
    let ask = format!("{head}\r\n").repeat(REQUESTS - 1) + &head + "Connection: close\r\n\r\n";
    let asking = tokio::spawn(async move { asks.write_all(ask.as_bytes()).await.map(|()| asks) });
    let mut answered = Vec::new();
    // So many requests take a busy machine longer than one.
    timeout(4 * PATIENCE, answers.read_to_end(&mut answered)).await.unwrap().unwrap();
    drop(asking.await.unwrap().unwrap());
    let answered = String::from_utf8(answered).unwrap();
    assert_eq!(answered.matches("HTTP/1.1 200").count(), REQUESTS);

    let log = tokio::task::spawn_blocking(move || std::io::read_to_string(reader).unwrap());
    // The report needs a line that can be written, and room for itself.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(server.api("GET", "/api/nothing", None).await.status, 404);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.stop().await.0, 0);
    let log = timeout(PATIENCE, log).await.unwrap().unwrap();
    let written = lines(&log, "API request").into_iter();
    let written = written.filter(|line| line["path"] == "/api/counts").count() as u64;
    let message = "log lines could not be written; lost is their number since the start";
    let lost = lines(&log, message).iter().filter_map(|line| line["lost"].as_u64()).max();
    // Reports, and requests after those, may be among the lost ones.
    let all = written + lost.expect("a number");
    assert!((REQUESTS as u64..REQUESTS as u64 + 40).contains(&all), "{written} of {all}");
}
