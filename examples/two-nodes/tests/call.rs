//! The example as it is run: it ends well, and shows what it promises.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

#[tokio::test]
async fn a_call_across_two_nodes_is_shown_from_match_to_hang_up() {
    let example = Command::new(env!("CARGO_BIN_EXE_two-nodes"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(30), example).await.expect("it ends").unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let mut lines = said.lines();
    for expected in [
        "redis-server on port ",
        "node one at ws://127.0.0.1:",
        "node two at ws://127.0.0.1:",
        "matched: session ",
        r#"ann hears {"type":"match-found","#,
        r#"bob hears {"type":"match-found","#,
        "ann says  ",
        r#"bob hears {"#,
        "bob says  ",
        r#"ann hears {"#,
        "ann says  ",
        r#"bob hears {"#,
        "bob says  ",
        r#"ann hears {"#,
        "ann's connection breaks",
        r#"bob hears {"type":"partner-disconnected","#,
        "done",
    ] {
        let line = lines.next().unwrap_or_default();
        assert!(line.starts_with(expected), "{expected} in\n{said}");
    }
    assert_eq!(lines.next(), None, "{said}");
    for shown in ["offer", "answer", "ice-candidate"] {
        let signal = format!(r#""type":"{shown}""#);
        assert!(said.matches(&signal).count() >= 2, "said and heard: {shown} in\n{said}");
    }
}

#[tokio::test]
async fn nobody_has_to_read_what_it_says() {
    let (_, gone) = std::io::pipe().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for stdout in [Stdio::from(gone), full.into()] {
        let mut example = Command::new(env!("CARGO_BIN_EXE_two-nodes"));
        let ended = example.stdin(Stdio::null()).stdout(stdout).kill_on_drop(true).status();
        assert!(timeout(Duration::from_secs(30), ended).await.expect("it ends").unwrap().success());
    }
}
