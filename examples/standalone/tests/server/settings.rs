use std::{path::PathBuf, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::{API_KEY, JWT_SECRET, KEYS, PATIENCE, Server, command, run, token};

/// The variables that `--help` lists beside the flags.
async fn variables() -> Vec<String> {
    let (_, help) = run(&["--help"], &[]).await;
    let after = help.split("[env: ").skip(1);
    let names: Vec<_> =
        after.map(|rest| rest.split(['=', ']']).next().unwrap().to_owned()).collect();
    assert!(names.len() > 40, "{names:?}");
    names
}

/// A folder of this test alone, which is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("signaling-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// The path of a file with this text, which is there at once and as a whole.
    fn file(&self, name: &str, text: &str) -> String {
        let (path, new) = (self.0.join(name), self.0.join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn jwks_fixture() -> serde_json::Value {
    let text = include_str!("../../../../signaling-core/tests/keys/jwks.json");
    serde_json::from_str(text).unwrap()
}

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
    let keys = KEYS;
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
        ("SIGNALING_HEARTBEAT_TIMEOUT", "0"),
        ("SIGNALING_PING_INTERVAL", "1h"),
        ("SIGNALING_SILENCE_TIMEOUT", "1s"),
        ("SIGNALING_NODE_RENEWAL", "1m"),
        ("SIGNALING_QUEUE_CAPACITY", "1"),
        ("SIGNALING_QUEUE_PARTNERS", "none"),
        ("SIGNALING_JWT_SECRET", "hunter2"),
        ("SIGNALING_JWT_ALGORITHM", "HS999"),
        ("SIGNALING_API_KEY", "hunter2 hunter2"),
        ("SIGNALING_API_KEY", "hunter2"),
        ("SIGNALING_LOG_FORMAT", "xml"),
        ("RUST_LOG", "warning"),
        ("SIGNALING_ALLOWED_ORIGIN", "app.example"),
        ("SIGNALING_STUN_URL", "stun.example"),
        ("SIGNALING_TURN_URL", "turn:turn.example"),
        ("SIGNALING_TURN_SECRET", "hunter2"),
        ("SIGNALING_REDIS_URL", "http://ann:hunter2@host"),
        ("SIGNALING_REDIS_PREFIX", "app:"),
        ("SIGNALING_NODE_ID", "one/two"),
        ("SIGNALING_SECOND_CONNECTION", "ask"),
    ] {
        let env = [keys[0], keys[1], (variable, value)];
        let said = refused(&[], &env).await;
        assert!(said.contains(variable), "{variable}: {said}");
    }
    for variable in
        ["JWT_SECRET_FILE", "JWT_PUBLIC_KEY", "JWKS", "API_KEY_FILE", "TURN_SECRET_FILE"]
    {
        let variable = format!("SIGNALING_{variable}");
        let mut env = vec![(variable.as_str(), "/hunter2")];
        if variable.contains("TURN") {
            env.push(("SIGNALING_TURN_URL", "turn:a"));
        }
        env.extend(keys.into_iter().filter(|(name, _)| !variable.starts_with(&name[..12])));
        let said = refused(&[], &env).await;
        assert!(said.starts_with(&format!("signaling-server: {variable}: ")), "{said}");
        assert!(!said.contains("--"), "it names what was not set: {said}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_named() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let broken = OsStr::from_bytes(b"\xff");
    let mut by_variable = command(&[], &KEYS);
    by_variable.env("SIGNALING_JWT_ISSUER", broken);
    let mut by_flag = command(&["--jwt-issuer"], &KEYS);
    by_flag.arg(broken);
    for (mut command, name) in [(by_variable, "SIGNALING_JWT_ISSUER"), (by_flag, "--jwt-issuer")] {
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(said, format!("signaling-server: {name} is not valid UTF-8\n"));
    }
}

#[tokio::test]
async fn a_variable_that_is_empty_is_not_set() {
    let variables = variables().await;
    let secrets = ["SIGNALING_TURN_SECRET"];
    let names = variables.iter().map(String::as_str).chain(secrets);
    // The address is a flag, since the port is to be free.
    let empty = names.map(|name| (name, ""));
    let env: Vec<_> = empty.chain(KEYS).collect();
    let server = Server::start_with(&[], &env).await;
    server.connect("ann").await;
    assert_eq!(server.api("GET", "/api/counts", None).await.status, 200);
    let (code, said) = server.stop().await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("WARN"), "{said}");
    // Without its flag either.
    let env: Vec<_> = env.iter().copied().filter(|(name, _)| !name.contains("API_KEY")).collect();
    let empty_key = [&env[..], &[("SIGNALING_API_KEY", "")]].concat();
    assert!(refused(&[], &empty_key).await.contains("missing setting"));
}

#[tokio::test]
async fn a_variable_that_is_unknown_is_a_warning_with_the_nearest_name() {
    let unknown = [("SIGNALING_LISTENS", "hunter2"), ("SIGNALLING_JWT_ISSUER", "hunter2")];
    let server = Server::start_with(&[], &[&KEYS[..], &unknown].concat()).await;
    let (_, said) = server.stop().await;
    assert_eq!(said.matches("WARN").count(), 2, "{said}");
    for name in ["SIGNALING_LISTENS", "SIGNALING_LISTEN\n", "SIGNALLING_JWT_", "SIGNALING_JWT_"] {
        assert!(said.contains(name), "{name} in {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_name_to_listen_on_is_resolved() {
    for (listen, host) in
        [("localhost:0", "127.0.0.1:"), ("LOCALHOST:0", "127.0.0.1:"), ("[::1]:0", "[::1]:")]
    {
        let server = Server::start_on(listen, &KEYS).await;
        assert!(server.address.starts_with(host), "{listen}: {}", server.address);
        assert_eq!(server.request("GET", "/healthz", "", "").await.status, 200);
    }
    let said = refused(&["--listen", "no-such-name.invalid:80"], &KEYS).await;
    assert!(said.contains("--listen") && said.contains("cannot be resolved"), "{said}");
}

#[tokio::test]
async fn keys_of_a_jwk_set_that_cannot_be_used_are_a_warning() {
    let folder = Folder::new("jwks");
    let mut set = jwks_fixture();
    let keys = set["keys"].as_array_mut().unwrap();
    keys.insert(0, json!({"kty": "AKP", "kid": "from the future", "alg": "ML-DSA-44"}));
    keys.push(json!({"kty": "EC", "kid": "curved", "crv": "P-521", "x": "AA", "y": "AA"}));
    let jwks = folder.file("jwks", &set.to_string());
    let env = [("SIGNALING_API_KEY", API_KEY), ("SIGNALING_JWKS", &jwks)];
    let server = Server::start_with(&[], &env).await;
    let (code, said) = server.stop().await;
    assert_eq!(code, 0);
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 2, "{said}");
    assert!(warnings[0].contains("from the future") && warnings[0].contains("ML-DSA-44"), "{said}");
    assert!(warnings[1].contains("curved") && warnings[1].contains("curve"), "{said}");

    let none = folder.file("none", r#"{"keys":[{"kty":"AKP","kid":"from the future"}]}"#);
    let (code, said) = run(&["--jwks", &none], &KEYS[1..]).await;
    let last = said.lines().last().unwrap();
    assert_eq!(code, 2, "{said}");
    assert!(last.contains("--jwks: ") && last.contains("from the future"), "{said}");
}

#[tokio::test]
async fn line_breaks_at_the_end_are_no_part_of_a_secret() {
    let env = [
        ("SIGNALING_JWT_SECRET", &*format!("{JWT_SECRET}\n")),
        ("SIGNALING_API_KEY", &format!("{API_KEY}\r\n")),
    ];
    let server = Server::start_with(&[], &env).await;
    server.connect("ann").await;
    assert_eq!(server.api("GET", "/api/counts", None).await.status, 200);
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
    assert!(said.contains("1m30s"), "what TIME is: {said}");
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
    let folder = Folder::new("files");
    let jwt = folder.file("jwt", &format!("{JWT_SECRET}\n"));
    let api = folder.file("api", &format!("{API_KEY}\r\n"));
    let env = [("SIGNALING_API_KEY_FILE", &*api)];
    let server = Server::start_with(&["--jwt-secret-file", &jwt], &env).await;
    drop(folder);
    server.connect("ann").await;
    assert_eq!(server.api("GET", "/api/sessions/none", None).await.status, 404);
}

/// Sends SIGHUP, and waits until the log has this text `times` times.
async fn reload(server: &Server, text: &str, times: usize) {
    server.signal("HUP").await;
    let start = Instant::now();
    while server.said.lock().unwrap().matches(text).count() < times {
        assert!(start.elapsed() < PATIENCE, "{}", server.said.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const RELOADED: &str = "key file reloaded";
const NOT_RELOADED: &str = "key file not reloaded";

#[tokio::test]
async fn hangup_reloads_the_key_files() {
    let folder = Folder::new("reload");
    let jwt = folder.file("jwt", JWT_SECRET);
    let api = folder.file("api", "the-old-api-key-0123456789abcdef");
    let turn = folder.file("turn", "north");
    let args = ["--jwt-secret-file", &jwt, "--turn-url", "turn:a", "--turn-secret-file", &turn];
    let server = Server::start_with(&args, &[("SIGNALING_API_KEY_FILE", &api)]).await;
    let counts = async || server.api("GET", "/api/counts", None).await.status;
    let mut ann = server.connect("ann").await;
    assert_eq!(counts().await, 401);

    // What is not valid, or not there, changes nothing. The other files are reloaded all the same.
    folder.file("api", API_KEY);
    folder.file("jwt", "too short");
    std::fs::remove_file(&turn).unwrap();
    reload(&server, NOT_RELOADED, 2).await;
    reload(&server, RELOADED, 2).await;
    assert_eq!(counts().await, 200);
    server.connect("bob").await;

    folder.file("turn", "south");
    folder.file("jwt", &format!("{}\n", JWT_SECRET.replace("known", "other")));
    reload(&server, RELOADED, 5).await;
    let refused = server.try_connect(&token("cy")).await;
    assert_eq!(refused.closed().await, 4401);
    // Who is connected stays.
    ann.send(&json!({"type": "heartbeat", "id": 2})).await;
    assert_eq!(ann.next().await["id"], 2);
    folder.file("jwt", JWT_SECRET);
    reload(&server, RELOADED, 8).await;
    server.connect("cy").await;

    let (code, said) = server.stop().await;
    assert_eq!(code, 0, "{said}");
    let errors: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(errors.iter().any(|line| line.contains("--jwt-secret-file")), "{said}");
    assert!(errors.iter().any(|line| line.contains("--turn-secret-file")), "{said}");
    for hidden in ["too short", "old-api-key", "north", JWT_SECRET] {
        assert!(!said.contains(hidden), "{hidden} in {said}");
    }
}

#[tokio::test]
async fn hangup_reloads_public_keys_of_both_kinds() {
    let folder = Folder::new("public");
    let pem = include_str!("../../../../signaling-core/tests/keys/p256.public.pem");
    let set = jwks_fixture().to_string();
    for (flag, good, bad) in
        [("--jwt-public-key", pem, "no PEM"), ("--jwks", &set, r#"{"keys":[]}"#)]
    {
        let path = folder.file("key", good);
        let server = Server::start_with(&[flag, &path], &KEYS[1..]).await;
        folder.file("key", bad);
        reload(&server, NOT_RELOADED, 1).await;
        folder.file("key", good);
        reload(&server, RELOADED, 1).await;
        assert_eq!(server.stop().await.0, 0);
    }
}

#[tokio::test]
async fn hangup_without_key_files_ends_nothing() {
    let server = Server::start(&[]).await;
    let mut ann = server.connect("ann").await;
    reload(&server, "no key file to reload", 1).await;
    ann.send(&json!({"type": "heartbeat", "id": 2})).await;
    assert_eq!(ann.next().await["id"], 2);
    assert_eq!(server.stop().await.0, 0);
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
