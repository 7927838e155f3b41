//! Opens a session, ends the relay, and finds the session again in another: `cargo run -p
//! custom-store`. See `lib.rs` for the store.

use std::{
    error::Error,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use custom_store::SqliteStore;
use signaling_core::{
    Relay,
    frame::CloseReason,
    id::UserId,
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sessions.sqlite");
    let (ann, bob) = (UserId::new("ann")?, UserId::new("bob")?);
    let first = relay(&file).await?;
    let session = first.open_session(&ann, &bob).await?;
    // Written by a thread of its own: a reader who has gone, or does not read, holds nothing up.
    let (mut out, _flushed_when_dropped) = tracing_appender::non_blocking(io::stdout());
    let line = format!("session {session} is open on {}\n", first.node_id());
    out.write_all(line.as_bytes())?;
    let _ = first.shutdown(Duration::from_secs(5)).await;
    drop(first);

    let second = relay(&file).await?;
    let record = second.session(&session).await?.ok_or("the store has lost it")?;
    let (node, status) = (second.node_id(), record.status().as_str());
    let text = format!("{node} has it from the file, {status}: {record:#?}\n");
    out.write_all(text.as_bytes())?;
    second.close_session(&session, CloseReason::default()).await?;
    let _ = second.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn relay(file: &Path) -> Result<Relay, Box<dyn Error>> {
    let store = SqliteStore::open(file)?;
    let key = JwtKey::secret(Algorithm::HS256, "a secret of at least thirty-two bytes");
    let builder = Relay::builder(JwtAuthenticator::builder().key(key).build()?);
    Ok(builder.store(Arc::new(store)).start().await?)
}
