//! The store does what every store must, and keeps it.

use custom_store::SqliteStore;
use signaling_core::testing::store;

#[tokio::test(flavor = "multi_thread")]
async fn it_does_what_every_store_must() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sessions.sqlite");
    // Each case opens the file anew.
    store::suite(async || SqliteStore::open(&file).expect("a database")).await;
}
