//! The example as it is run: two users are matched by its input, and talk.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

use std::{process::Stdio, time::Duration};

use serde_json::json;
use signaling_core::testing::{client::Dial, token};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "raw-hyper-test-secret-0123456789abcdef";

#[tokio::test]
async fn two_users_who_are_typed_in_have_a_call() {
    let mut example = Command::new(env!("CARGO_BIN_EXE_raw-hyper"))
        .envs([("JWT_SECRET", SECRET), ("LISTEN", "127.0.0.1:0")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let (_, address) = line.split_once("http://").unwrap();
    let connect = |user: &str| {
        // Until the year 3000.
        let claims = json!({"sub": user, "exp": 32_503_680_000_u64});
        let token = token::sign(SECRET.as_bytes(), &claims);
        Dial::to(format!("ws://{address}/")).named(user).query_token(&token).connect()
    };
    let (mut ann, mut bob) = (connect("ann").await, connect("bob").await);

    let mut input = example.stdin.take().unwrap();
    input.write_all(b"ann bob\n").await.unwrap();
    let found: serde_json::Value = serde_json::from_str(&ann.next_text().await).unwrap();
    let session = found["sessionId"].as_str().unwrap();
    bob.expect_match(session, "ann", false).await;
    let offer = json!({"type": "offer", "sessionId": session, "sdp": "v=0 offer"});
    ann.send_json(offer.clone()).await;
    bob.expect(offer).await;
    let answer = json!({"type": "answer", "sessionId": session, "sdp": "v=0 answer"});
    bob.send_json(answer.clone()).await;
    ann.expect(answer).await;

    drop(input);
    let status = timeout(PATIENCE, example.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn nobody_has_to_read_what_it_says() {
    let (_, gone) = std::io::pipe().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for stdout in [Stdio::from(gone), full.into()] {
        let mut example = Command::new(env!("CARGO_BIN_EXE_raw-hyper"));
        example.envs([("JWT_SECRET", SECRET), ("LISTEN", "127.0.0.1:0")]);
        // It ends with its input.
        let ended = example.stdin(Stdio::null()).stdout(stdout).kill_on_drop(true).status();
        assert!(timeout(PATIENCE, ended).await.unwrap().unwrap().success());
    }
}
