//! What the store in memory does for each change of a session.

use std::time::Duration;

use divan::Bencher;
use futures::FutureExt;
use signaling_core::{
    memory::MemoryStore,
    session::SessionRecord,
    store::{SessionStore, Written},
    time::Timestamp,
};

use crate::texts;

/// A record in the place of the one before, among so many sessions.
#[divan::bench(args = [1, 1000, 100_000])]
fn conditional_write(bencher: Bencher<'_, '_>, sessions: usize) {
    let store = MemoryStore::new();
    let until = Timestamp::default().after(Duration::from_secs(60));
    let record = |number| {
        let users = [texts::user(2 * number), texts::user(2 * number + 1)];
        let [initiator, responder] = users;
        SessionRecord::open(texts::session(number), 7, initiator, responder, until)
    };
    let mut record = (0..sessions)
        .map(|number| record(number).expect("two users"))
        .inspect(|record| {
            let created = store.put(record, None).now_or_never();
            assert!(matches!(created, Some(Ok(Written::Done))));
        })
        .last()
        .expect("a session");
    bencher.bench_local(|| {
        let before = record.clone();
        record.revision += 1;
        let written = store.put(&record, Some(&before)).now_or_never();
        assert!(matches!(written, Some(Ok(Written::Done))));
    });
}
