use serde_json::json;

use crate::support::{API_KEY, JWT_SECRET, Server, run, token};

/// One line on all that is said, and exit code 2.
async fn refused(args: &[&str], env: &[(&str, &str)]) -> String {
    let (code, said) = run(args, env).await;
    assert_eq!(code, 2, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("signaling-server: "), "{said}");
    for secret in [JWT_SECRET, API_KEY, "hunter2"] {
        assert!(!said.contains(secret), "{said}");
    }
    said
}

#[tokio::test]
async fn without_its_keys_it_names_the_missing_setting() {
    assert!(refused(&[], &[]).await.contains("SIGNALING_JWT_SECRET"));
    let env = [("SIGNALING_JWT_SECRET", JWT_SECRET)];
    assert!(refused(&[], &env).await.contains("SIGNALING_API_KEY"));
    let env = [("SIGNALING_API_KEY", API_KEY)];
    assert!(refused(&[], &env).await.contains("SIGNALING_JWT_SECRET"));
}

#[tokio::test]
async fn a_bad_value_is_one_clear_line_without_secrets() {
    let keys = [("SIGNALING_JWT_SECRET", JWT_SECRET), ("SIGNALING_API_KEY", API_KEY)];
    for (args, name) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--listen"], "--listen"),
        (&["--dev", "--listen", "0.0.0.0:0"], "--listen"),
        (&["--drain-timeout", "soon"], "--drain-timeout"),
        (&["--heartbeat-timeout", "0"], "--heartbeat-timeout"),
        (&["--max-frame-bytes", "64KiB"], "--max-frame-bytes"),
        (&["--allowed-origin", "app.example"], "--allowed-origin"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--jwt-algorithm", "HS999"], "--jwt-algorithm"),
        (&["--jwks", "/hunter2"], "--jwks"),
        (&["--api-key-file", "/hunter2"], "SIGNALING_API_KEY"),
        (&["--jwt-secret=hunter2"], "--jwt-secret"),
        (&["--api-key", "hunter2"], "--api-key"),
        (&["--redis-url", "hunter2"], "--redis-url"),
        (&["--redis-url", "redis://ann:hunter2@host:port"], "--redis-url"),
        (&["--redis-url", "redis://ann:hunter2@host", "--node-id", "one node"], "--node-id"),
        (&["--redis-url", "redis://ann:hunter2@host", "--redis-prefix", "{app}"], "--redis-prefix"),
        (&["hunter2"], "flags"),
    ] {
        let said = refused(args, &keys).await;
        assert!(said.contains(name), "{args:?}: {said}");
    }
    for (variable, value) in [
        ("SIGNALING_LISTEN", "nowhere"),
        ("SIGNALING_MAX_SIGNALS_PER_SECOND", "lots"),
        ("SIGNALING_JWT_SECRET", "hunter2"),
        ("SIGNALING_API_KEY", "hunter2 hunter2"),
        ("SIGNALING_LOG_FORMAT", "xml"),
        ("SIGNALING_REDIS_URL", "http://ann:hunter2@host"),
        ("SIGNALING_REDIS_PREFIX", "app:"),
        ("SIGNALING_NODE_ID", "one/two"),
    ] {
        let env = [keys[0], keys[1], (variable, value)];
        refused(&[], &env).await;
    }
    let env = [keys[1], ("SIGNALING_JWT_SECRET_FILE", "hunter2")];
    assert!(refused(&[], &env).await.contains("--jwt-secret-file"));
}

#[tokio::test]
async fn help_and_version_are_no_failures_and_show_no_secret() {
    let env = [
        ("SIGNALING_JWT_SECRET", JWT_SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_JWT_SECRET_FILE", "hunter2"),
        ("SIGNALING_API_KEY_FILE", "hunter2"),
        ("SIGNALING_REDIS_URL", "redis://ann:hunter2@host"),
        ("SIGNALING_TURN_SECRET", "hunter2"),
        ("SIGNALING_TURN_SECRET_FILE", "hunter2"),
    ];
    for flag in ["--help", "-h", "--version"] {
        let (code, said) = run(&[flag], &env).await;
        assert_eq!(code, 0);
        for secret in [JWT_SECRET, API_KEY, "hunter2"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
    let (_, said) = run(&["--help"], &[]).await;
    for name in [
        "SIGNALING_JWT_SECRET",
        "SIGNALING_API_KEY",
        "--jwks",
        "SIGNALING_REDIS_URL",
        "--max-signals-per-second",
        "--turn-url",
        "SIGNALING_TURN_SECRET",
    ] {
        assert!(said.contains(name), "{name}");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let server = Server::start(&[]).await;
    let env = [("SIGNALING_JWT_SECRET", JWT_SECRET), ("SIGNALING_API_KEY", API_KEY)];
    let args = ["--log-level", "error", "--listen", &server.address];
    let (code, said) = run(&args, &env).await;
    assert_eq!((code, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains(&server.address), "{said}");
}

#[tokio::test]
async fn secrets_come_from_files_too() {
    let folder = std::env::temp_dir().join(format!("signaling-settings-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (jwt, api) = (folder.join("jwt"), folder.join("api"));
    std::fs::write(&jwt, format!("{JWT_SECRET}\n")).unwrap();
    std::fs::write(&api, format!("{API_KEY}\r\n")).unwrap();
    let (jwt, api) = (jwt.to_str().unwrap(), api.to_str().unwrap());
    let server =
        Server::start_with(&["--jwt-secret-file", jwt], &[("SIGNALING_API_KEY_FILE", api)]).await;
    std::fs::remove_dir_all(&folder).unwrap();
    server.connect("ann").await;
    assert_eq!(server.api("GET", "/api/sessions/none", None).await.status, 404);
}

#[tokio::test]
async fn flags_and_variables_reach_the_relay() {
    let env = [
        ("SIGNALING_JWT_SECRET", JWT_SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_MAX_SESSIONS_PER_USER", "1"),
        ("SIGNALING_ALLOWED_ORIGIN", "https://a.example,https://b.example"),
    ];
    let server = Server::start_with(&["--heartbeat-timeout", "300ms"], &env).await;
    let pair = |partner: &str| Some(json!({"initiatorId": "a", "partnerId": partner}));
    assert_eq!(server.api("POST", "/api/sessions", pair("b")).await.status, 201);
    let full = server.api("POST", "/api/sessions", pair("c")).await;
    assert_eq!(full.error(), (409, "too-many-sessions".to_owned()));

    assert_eq!(server.connect("ann").await.closed().await, 4408);

    let path = format!("/ws/signaling?token={}", token("ann"));
    let from = |origin: &str| format!("Origin: {origin}\r\n");
    let evil = server.request("GET", &path, &from("https://evil.example"), "").await;
    assert_eq!(evil.status, 403);
    let good = server.request("GET", &path, &from("https://b.example"), "").await;
    assert_eq!(good.status, 400, "no upgrade was asked for");
}

#[tokio::test]
async fn the_log_shows_no_token_no_key_and_no_description() {
    for format in ["text", "json"] {
        let server = Server::start(&["--log-level", "trace", "--log-format", format]).await;
        let (mut ann, mut bob) = (server.connect("ann").await, server.connect("bob").await);
        let pair = json!({"initiatorId": "ann", "partnerId": "bob", "sessionId": "s1"});
        assert_eq!(server.api("POST", "/api/sessions", Some(pair)).await.status, 201);
        assert_eq!(ann.next().await["type"], "match-found");
        assert_eq!(bob.next().await["type"], "match-found");
        ann.send(&json!({"type": "offer", "sessionId": "s1", "sdp": "v=0 private"})).await;
        assert_eq!(bob.next().await["sdp"], "v=0 private");
        let wrong = "Authorization: Bearer wrong-api-key\r\n";
        assert_eq!(server.request("GET", "/api/sessions/s1", wrong, "").await.status, 401);
        let path = "/ws/signaling?token=wrong-token";
        server.request("GET", path, "", "").await;

        let (code, said) = server.stop().await;
        assert_eq!(code, 0);
        assert!(said.contains("s1"), "a session is named: {said}");
        let signature = token("ann").rsplit('.').next().unwrap().to_owned();
        let hidden = [JWT_SECRET, API_KEY, "wrong-api-key", "wrong-token", "private", &signature];
        for hidden in hidden {
            assert!(!said.contains(hidden), "{hidden} in {said}");
        }
        if format == "json" {
            let log = said.lines().filter(|line| !line.contains("listening on"));
            for line in log {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(line["level"].is_string());
            }
        }
    }
}
