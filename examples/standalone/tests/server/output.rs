//! Nobody reads what the server writes, or nobody can: it serves all the same.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::{KEYS, PATIENCE, Server, Unread, command, reserve_address};

/// The last lines of a process are waited for no longer, and a slow machine.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// What standard output and standard error are.
fn streams() -> impl Iterator<Item = (Option<Unread>, Option<Unread>)> {
    let kinds = [Unread::Full, Unread::Gone, Unread::Stuck];
    kinds
        .into_iter()
        .flat_map(|kind| [(None, Some(kind)), (Some(kind), None), (Some(kind), Some(kind))])
}

#[tokio::test]
async fn it_serves_and_ends_well_whatever_becomes_of_its_output() {
    let cases = streams().map(|(stdout, stderr)| async move {
        let case = format!("stdout {stdout:?}, stderr {stderr:?}");
        let (_reserved, listen) = reserve_address();
        let args = ["--listen", &listen, "--log-level", "debug", "--log-format", "json"];
        let mut command = command(&args, &KEYS);
        let (stdout, _keep_stdout) = Unread::stdio(stdout);
        let (stderr, _keep_stderr) = Unread::stdio(stderr);
        command.stdout(stdout).stderr(stderr);
        let server = Server::start_silent(command, &listen).await;

        let (ann, bob) = (server.connect("ann").await, server.connect("bob").await);
        for _ in 0..100 {
            assert_eq!(server.api("GET", "/api/counts", None).await.status, 200, "{case}");
        }
        let pair = json!({"initiatorId": "ann", "partnerId": "bob"});
        assert_eq!(server.api("POST", "/api/sessions", Some(pair)).await.status, 201, "{case}");
        assert_eq!(server.request("GET", "/readyz", "", "").await.status, 200, "{case}");

        let start = Instant::now();
        server.signal("TERM").await;
        let codes = futures::join!(ann.closed(), bob.closed());
        assert_eq!(codes, (1001, 1001), "{case}");
        let (code, _) = server.ended().await;
        assert_eq!(code, 0, "{case}");
        assert!(start.elapsed() < ENDS_WITHIN, "{case}: {:?}", start.elapsed());
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn a_process_that_only_says_something_ends_with_its_own_code() {
    let wrong: &[&str] = &["--listen", "nowhere"];
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let in_use: &[&str] = &["--listen", &address];
    let runs = [(&["--help"][..], 0), (&["--version"][..], 0), (wrong, 2), (in_use, 1)];
    let cases = streams().flat_map(|streams| runs.map(|(args, code)| (streams, args, code)));
    let cases = cases.map(|((stdout, stderr), args, code)| async move {
        let case = format!("{args:?}, stdout {stdout:?}, stderr {stderr:?}");
        let mut command = command(args, &KEYS);
        let (stdout, _keep_stdout) = Unread::stdio(stdout);
        let (stderr, _keep_stderr) = Unread::stdio(stderr);
        let start = Instant::now();
        let ended = timeout(PATIENCE, command.stdout(stdout).stderr(stderr).status()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{case} does not end")).unwrap();
        assert_eq!(ended.code(), Some(code), "{case}");
        assert!(start.elapsed() < ENDS_WITHIN * 2, "{case}: {:?}", start.elapsed());
    });
    futures::future::join_all(cases).await;
}

/// The key of a run is for people, and no part of the log.
#[tokio::test]
async fn in_development_too() {
    let cases = [Unread::Full, Unread::Gone, Unread::Stuck].map(|kind| async move {
        let (_reserved, listen) = reserve_address();
        let mut command = command(&["--dev", "--listen", &listen], &[]);
        let (stdout, _keep_stdout) = Unread::stdio(Some(kind));
        let (stderr, _keep_stderr) = Unread::stdio(Some(kind));
        command.stdout(stdout).stderr(stderr);
        let server = Server::start_silent(command, &listen).await;
        assert_eq!(server.request("GET", "/", "", "").await.status, 200, "{kind:?}");
        assert_eq!(server.stop().await.0, 0, "{kind:?}");
    });
    futures::future::join_all(cases).await;
}
