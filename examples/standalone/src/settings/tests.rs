use std::path::PathBuf;

use serde_json::json;
use signaling_core::{
    auth::{Authenticator, Credentials},
    id::UserId,
    time::{Clock, SystemClock, Timestamp},
};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const API_KEY: &str = "fedcba9876543210fedcba9876543210";

fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let args = ["signaling-server"].iter().chain(args).map(OsString::from);
    let given = Given::read(args)?;
    LogSettings::of(&given)?;
    Settings::of(&given, |name| {
        let found = env.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(value))
    })
}

fn with_keys(args: &[&str]) -> Result<Settings, SettingsError> {
    let env = [("SIGNALING_JWT_SECRET", SECRET), ("SIGNALING_API_KEY", API_KEY)];
    read(args, &env)
}

fn problem(result: Result<Settings, SettingsError>) -> String {
    let problem = result.expect_err("settings that do not do").to_string();
    assert!(!problem.contains('\n'), "{problem}");
    problem
}

fn key_file(name: &str) -> String {
    let keys = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../signaling-core/tests/keys");
    keys.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_node_among_others_gives_load_balancers_time() {
    let delay = |args: &[&str]| with_keys(args).unwrap().drain_delay;
    assert_eq!(delay(&[]), Duration::ZERO);
    assert_eq!(delay(&["--drain-delay", "7s"]), Duration::from_secs(7));
    let redis = ["--redis-url", "redis://127.0.0.1"];
    assert_eq!(delay(&redis), Duration::from_secs(5));
    assert_eq!(delay(&[redis[0], redis[1], "--dev"]), Duration::ZERO);
    assert_eq!(delay(&[redis[0], redis[1], "--drain-delay", "0"]), Duration::ZERO);
}

#[test]
fn both_keys_are_needed_and_the_missing_one_is_named() {
    let problem_of = |env: &[(&str, &str)]| problem(read(&[], env));
    assert!(problem_of(&[]).contains("SIGNALING_JWT_SECRET"));
    assert!(problem_of(&[("SIGNALING_JWT_SECRET", "")]).contains("SIGNALING_JWT_SECRET"));
    assert!(problem_of(&[("SIGNALING_JWT_SECRET", SECRET)]).contains("SIGNALING_API_KEY"));
    assert!(with_keys(&[]).is_ok());
}

#[test]
fn an_algorithm_beside_a_jwk_set_is_refused_instead_of_ignored() {
    let env = [("SIGNALING_API_KEY", API_KEY)];
    let jwks = key_file("jwks.json");
    assert!(read(&["--jwks", &jwks], &env).is_ok());
    let problem = problem(read(&["--jwks", &jwks, "--jwt-algorithm", "ES256"], &env));
    assert!(problem.starts_with("--jwt-algorithm: "), "{problem}");
}

#[test]
fn development_makes_what_is_missing() {
    let made = read(&["--dev"], &[]).unwrap();
    assert!(made.app.demo.is_some() && made.made_api_key.is_some());
    let given = with_keys(&["--dev"]).unwrap();
    assert!(given.app.demo.is_some() && given.made_api_key.is_none());
    let production = with_keys(&[]).unwrap();
    assert!(production.app.demo.is_none() && production.made_api_key.is_none());
}

/// Whether the server accepts a token.
async fn accepts(settings: &Settings, token: &str) -> bool {
    settings.authenticator.authenticate(&Credentials::bearer(token)).await.is_ok()
}

#[tokio::test]
async fn development_signs_nothing_with_a_key_that_was_given() {
    let ann = UserId::new("ann").unwrap();
    let pem = key_file("rsa.public.pem");
    let demo_token = |settings: &Settings| {
        settings.app.demo.as_ref().unwrap().token(&ann, SystemClock.now()).unwrap()
    };
    let production = with_keys(&[]).unwrap();
    for dev in [with_keys(&["--dev"]), read(&["--dev", "--jwt-public-key", &pem], &[])] {
        let dev = dev.unwrap();
        let token = demo_token(&dev);
        assert!(accepts(&dev, &token).await);
        assert!(!accepts(&production, &token).await);
        assert!(!accepts(&with_keys(&["--dev"]).unwrap(), &token).await, "another run");
    }
    let claims = json!({"sub": "ann", "exp": 32_503_680_000_u64});
    let token = signaling_core::testing::token::sign(SECRET.as_bytes(), &claims);
    assert!(accepts(&production, &token).await);
    assert!(accepts(&with_keys(&["--dev"]).unwrap(), &token).await);
    assert!(!accepts(&read(&["--dev"], &[]).unwrap(), &token).await);
    let checked = ["--dev", "--jwt-audience", "a", "--jwt-issuer", "i", "--jwt-user-claim", "u"];
    let checked = read(&checked, &[]).unwrap();
    assert!(accepts(&checked, &demo_token(&checked)).await);
    assert!(!accepts(&checked, &token).await);
}

#[test]
fn development_stays_on_loopback() {
    for address in ["0.0.0.0:8080", "192.0.2.1:80", "[::]:8080"] {
        let problem = problem(read(&["--dev", "--listen", address], &[]));
        assert!(problem.contains("--listen") && problem.contains("loopback"), "{problem}");
    }
    for address in ["127.0.0.1:0", "127.0.0.9:1", "[::1]:8080"] {
        assert!(read(&["--dev", "--listen", address], &[]).is_ok(), "{address}");
    }
    assert!(with_keys(&["--listen", "0.0.0.0:8080"]).is_ok());
}

#[test]
fn what_is_wrong_is_named() {
    for (args, name) in [
        (&["--listen", "here"][..], "--listen"),
        (&["--max-queued-bytes", "0"], "--max-queued-bytes"),
        (&["--max-queued-bytes", "many"], "--max-queued-bytes"),
        (&["--ping-interval", "1h"], "--ping-interval"),
        (&["--abandon-after", "soon"], "--abandon-after"),
        (&["--log-format", "xml"], "--log-format"),
        (&["--log-level", "a=b=c"], "--log-level: "),
        (&["--log-level", "warning"], "--log-level: "),
        (&["--allowed-origin", "https://a.example/path"], "--allowed-origin"),
        (&["--jwt-algorithm", "none"], "--jwt-algorithm"),
        (&["--jwt-issuer", ""], "--jwt-issuer: the issuer may not be empty"),
        (&["--jwt-audience", ""], "--jwt-audience: the audience may not be empty"),
        (&["--jwt-user-claim", ""], "--jwt-user-claim: the user claim may not be empty"),
        (&["--node-renewal", "14s"], "--node-renewal: the default of --node-lease must"),
        (&["--silence-timeout", "5s"], "--silence-timeout: the default of --ping-interval must"),
        (
            &["--ping-interval", "5s", "--silence-timeout", "5s"],
            "--ping-interval: must be shorter than --silence-timeout, or",
        ),
        (
            &["--ping-interval", "5m"],
            "--ping-interval: must be shorter than the default of --silence-timeout, or",
        ),
        (&["--queue-capacity", "1"], "--queue-capacity"),
        (&["--http-idle-timeout", "0"], "--http-idle-timeout"),
        (&["--http-write-timeout", "0s"], "--http-write-timeout"),
        (&["--queue-partners", "some"], "--queue-partners"),
        (&["--event-capacity", "18446744073709551615"], "--event-capacity"),
        (&["--redis-url", "http://host"], "--redis-url"),
        (&["--redis-prefix", "app:"], "--redis-prefix"),
        (&["--redis-url", "redis://host", "--redis-prefix", "{app}"], "--redis-prefix"),
        (&["--redis-url", "redis://host", "--redis-prefix", "a\n"], "--redis-prefix"),
        (&["--second-connection", "ask"], "--second-connection"),
        (&["--node-id", ""], "--node-id"),
        (&["--node-id", "one node"], "--node-id"),
        (&["--node-id", &"n".repeat(NodeId::MAX_NAME_BYTES + 1)], "--node-id"),
        (&["--stun-url", "stun.example"], "--stun-url"),
        (&["--stun-url", "turn:turn.example"], "--stun-url"),
        (&["--turn-url", "turn:turn.example"], "SIGNALING_TURN_SECRET"),
        (&["--no-such"], "--no-such"),
    ] {
        let problem = problem(with_keys(args));
        assert!(problem.contains(name), "{args:?}: {problem}");
    }
}

#[test]
fn a_key_that_does_not_do_is_named_and_not_shown() {
    for (env, name) in [
        (("SIGNALING_JWT_SECRET", "hunter2"), "SIGNALING_JWT_SECRET"),
        (("SIGNALING_API_KEY", "hunter2 with spaces, and long enough"), "SIGNALING_API_KEY"),
        (("SIGNALING_API_KEY", "hunter2"), "SIGNALING_API_KEY"),
        (("SIGNALING_API_KEY", &format!("hunter2{}\n", "x".repeat(24))), "SIGNALING_API_KEY"),
    ] {
        let secret = ("SIGNALING_JWT_SECRET", SECRET);
        let problem = problem(read(&[], &[env, secret]));
        assert!(problem.contains(name) && !problem.contains("hunter2"), "{problem}");
    }
    let secret = [("SIGNALING_JWT_SECRET", SECRET)];
    for (flag, env) in [
        ("--jwt-secret-file", &[][..]),
        ("--jwt-public-key", &[]),
        ("--jwks", &[]),
        ("--api-key-file", &secret),
        ("--turn-secret-file", &secret),
        ("--redis-url", &secret),
    ] {
        let problem = problem(read(&[flag, "hunter2"], env));
        assert!(!problem.contains("SIGNALING_"), "{problem}");
        assert!(problem.contains(flag) && !problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn there_is_one_source_for_each_key() {
    let pem = key_file("rsa.public.pem");
    for (args, names) in [
        (&["--jwt-public-key", &pem][..], "SIGNALING_JWT_SECRET and --jwt-public-key"),
        (
            &["--jwt-secret-file", &pem, "--jwks", &pem],
            "SIGNALING_JWT_SECRET and --jwt-secret-file and --jwks",
        ),
        (&["--api-key-file", &pem], "SIGNALING_API_KEY and --api-key-file"),
    ] {
        let problem = problem(with_keys(args));
        assert_eq!(problem, format!("only one of {names} can be given"));
    }
}

#[test]
fn the_type_of_a_public_key_says_its_algorithm() {
    let read = |args: &[&str]| read(args, &[("SIGNALING_API_KEY", API_KEY)]);
    for name in ["rsa.public.pem", "p256.public.pem", "p384.public.pem", "ed25519.public.pem"] {
        assert!(read(&["--jwt-public-key", &key_file(name)]).is_ok(), "{name}");
    }
    let rsa = key_file("rsa.public.pem");
    assert!(read(&["--jwt-public-key", &rsa, "--jwt-algorithm", "PS512"]).is_ok());
    let problem = problem(read(&["--jwt-public-key", &rsa, "--jwt-algorithm", "ES256"]));
    assert!(problem.starts_with("--jwt-public-key: "), "{problem}");
}

#[test]
fn debug_shows_no_secret() {
    let env = [
        ("SIGNALING_JWT_SECRET", SECRET),
        ("SIGNALING_API_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("SIGNALING_TURN_SECRET", "hunter2"),
    ];
    let args = ["--dev", "--redis-url", "redis://ann:hunter2@host", "--turn-url", "turn:a"];
    let flags = ["x"].iter().chain(&args).map(OsString::from);
    let shown = format!("{:?} {:?}", read(&args, &env).unwrap(), Given::read(flags).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_second_connection_replaces_the_first_unless_it_is_refused() {
    for (args, refuses) in [
        (&[][..], false),
        (&["--second-connection", "replace"], false),
        (&["--second-connection", "refuse"], true),
    ] {
        let policy = with_keys(args).unwrap().second_connection;
        assert_eq!(matches!(policy, SecondConnection::Refuse), refuses, "{args:?}");
        assert_eq!(matches!(policy, SecondConnection::Replace), !refuses, "{args:?}");
    }
}

#[test]
fn a_node_is_alone_unless_it_is_told_of_redis() {
    let alone = with_keys(&[]).unwrap();
    assert!(alone.redis.is_none() && alone.node_name.is_none());
    assert!(with_keys(&["--redis-url", "", "--redis-prefix", ""]).unwrap().redis.is_none());
    let args = ["--redis-url", "redis://host/1", "--redis-prefix", "app:", "--node-id", "eu-1.a_B"];
    let shared = with_keys(&args).unwrap();
    assert!(format!("{:?}", shared.redis.unwrap()).contains("app:"));
    assert_eq!(shared.node_name.as_deref(), Some("eu-1.a_B"));
    let longest = "n".repeat(NodeId::MAX_NAME_BYTES);
    assert!(with_keys(&["--node-id", &longest]).is_ok());
}

#[test]
fn the_redis_urls_of_the_pages_are_accepted() {
    for page in [include_str!("../../README.md"), include_str!("../../../../docs/operate.md")] {
        let urls = page.lines().filter_map(|line| line.strip_prefix("SIGNALING_REDIS_URL="));
        let urls: Vec<_> = urls.collect();
        assert!(urls.iter().any(|url| url.starts_with("rediss://")), "{urls:?}");
        for url in urls {
            assert!(with_keys(&["--redis-url", url]).unwrap().redis.is_some(), "{url}");
        }
    }
}

fn with_turn(args: &[&str], secret: &str) -> Result<Settings, SettingsError> {
    let env = [
        ("SIGNALING_JWT_SECRET", SECRET),
        ("SIGNALING_API_KEY", API_KEY),
        ("SIGNALING_TURN_SECRET", secret),
    ];
    read(args, &env)
}

/// What a user is told of at the start of 1970, as clients get it.
async fn told(settings: Settings) -> serde_json::Value {
    let ann = UserId::new("ann").unwrap();
    let told = settings.ice_servers.unwrap().ice_servers(&ann, Timestamp::default()).await;
    serde_json::to_value(&told.unwrap().servers).unwrap()
}

#[tokio::test]
async fn stun_needs_no_secret_and_turn_makes_credentials_by_one() {
    assert!(with_keys(&[]).unwrap().ice_servers.is_none());
    assert!(with_keys(&["--stun-url", "", "--turn-url", ""]).unwrap().ice_servers.is_none());
    let stun = ["--stun-url", "stun:a,stun:b", "--stun-url", "stun:c"];
    let stun_told = json!({"urls": ["stun:a", "stun:b", "stun:c"]});
    assert_eq!(told(with_keys(&stun).unwrap()).await, json!([stun_told]));
    let turn = [&stun[..], &["--turn-url", "turn:d", "--turn-url", "turns:d"]].concat();
    let mut both = told(with_turn(&turn, "north").unwrap()).await;
    assert!(both[1]["credential"].take().as_str().is_some_and(|credential| !credential.is_empty()));
    let turn_told =
        json!({"urls": ["turn:d", "turns:d"], "username": "43200:ann", "credential": null});
    assert_eq!(both, json!([stun_told, turn_told]));
    let short = [&turn[..], &["--turn-ttl", "1h"]].concat();
    assert_eq!(told(with_turn(&short, "north").unwrap()).await[1]["username"], "3600:ann");
}

#[test]
fn what_is_wrong_with_turn_is_named_and_no_secret_is_shown() {
    for (args, name) in [
        (&["--turn-url", "turn.example"][..], "--turn-url: "),
        (&["--turn-url", "turn:ann:hunter2@turn.example"], "--turn-url: "),
        (&["--turn-url", "turn:a", "--turn-ttl", "10s"], "--turn-ttl: "),
        (&["--turn-url", "turn:a", "--turn-secret-file", "x"], "only one of"),
        (&[], "SIGNALING_TURN_SECRET: there is no --turn-url"),
    ] {
        let problem = problem(with_turn(args, "hunter2"));
        assert!(problem.contains(name) && !problem.contains("hunter2"), "{args:?}: {problem}");
    }
}

#[tokio::test]
async fn the_secret_of_turn_may_be_in_a_file() {
    let path = std::env::temp_dir().join(format!("turn-secret-{}", std::process::id()));
    std::fs::write(&path, "north\n").unwrap();
    let args = ["--turn-url", "turn:a", "--turn-secret-file", path.to_str().unwrap()];
    let from_file = with_keys(&args);
    std::fs::write(&path, "\n").unwrap();
    let empty = with_keys(&args);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(told(from_file.unwrap()).await, told(with_turn(&args[..2], "north").unwrap()).await);
    assert!(problem(empty).starts_with("--turn-secret-file: the secret is empty"));
}
