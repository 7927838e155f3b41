//! The store does what every store must, and keeps it.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use custom_store::SqliteStore;
use signaling_core::testing::store;

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_store_must() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sessions.sqlite");
    // Each case opens the file anew.
    store::suite(async || SqliteStore::open(&file).expect("a database")).await;
}

#[test]
fn a_session_outlives_its_relay() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(env!("CARGO_BIN_EXE_custom-store"));
    let output = program.env("TMPDIR", folder.path()).output().expect("a program that runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let (first, second) = said.split_once('\n').expect("two lines or more");
    let session = first.split(' ').nth(1).expect("session <id> is open");
    assert!(first.contains("is open on"), "{said}");
    assert!(second.contains("has it from the file, waiting") && second.contains(session), "{said}");
}

#[test]
fn nobody_has_to_read_what_it_says() {
    let (_, gone) = std::io::pipe().expect("a pipe");
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    for stdout in [Stdio::from(gone), full.into()] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_custom-store"));
        let status = program.stdout(stdout).status().expect("a program that runs");
        assert!(status.success(), "{status}");
    }
}
