//! Opens a session, ends the relay, and finds the session again in another: `cargo run -p
//! custom-store`. See `lib.rs` for the store.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

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
    println!("session {session} is open on {}", first.node_id());
    let _ = first.shutdown(Duration::from_secs(5)).await;
    drop(first);

    let second = relay(&file).await?;
    let record = second.session(&session).await?.ok_or("the store has lost it")?;
    println!(
        "{} has it from the file, {}: {record:#?}",
        second.node_id(),
        record.status().as_str()
    );
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
