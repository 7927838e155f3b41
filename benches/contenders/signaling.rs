//! Ours, with every check on: one route of an axum application, tokens verified, sessions in memory.
//!
//! `contender-signaling <port>`. Who connects as `{room}-a` or `{room}-b` was matched with the other:
//! the session `{room}` is opened when the first asks to connect.

use std::{env, error::Error};

use axum::{
    extract::{Query, Request, State},
    middleware::{self, Next},
    response::Response,
    serve::ListenerExt,
};
use serde::Deserialize;
use signaling_core::{
    Config, Relay,
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
};
use tokio::net::TcpListener;

#[path = "../load/secret.rs"]
mod secret;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).ok_or("a port")?.parse::<u16>()?;
    let key = JwtKey::secret(Algorithm::HS256, secret::SECRET);
    let authenticator = JwtAuthenticator::builder().key(key).build()?;
    let mut config = Config::default();
    config.max_signals_per_second = u32::MAX;
    config.signal_burst = u32::MAX;
    let relay = Relay::builder(authenticator).config(config).start().await?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let app =
        signaling_axum::router(relay.clone()).layer(middleware::from_fn_with_state(relay, matched));
    axum::serve(listener, app).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Place {
    room: String,
    side: String,
}

/// What a matchmaker would do before its users connect.
async fn matched(
    State(relay): State<Relay>,
    Query(Place { room, side }): Query<Place>,
    request: Request,
    next: Next,
) -> Response {
    let users = ["a", "b"].map(|side| UserId::new(&format!("{room}-{side}")));
    if let (Ok(session), [Ok(first), Ok(second)]) = (SessionId::new(&room), users)
        && side == "a"
        && let Err(error) = relay.open_session_as(&session, &first, &second).await
    {
        eprintln!("{error}");
    }
    next.run(request).await
}
