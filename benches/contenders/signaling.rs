//! Ours, with every check on: tokens verified, sessions in memory or in a Redis, one route of an
//! application.
//!
//! `contender-signaling <port> axum|warp [<redis url>]`. Who connects to `/{room}-a` or `/{room}-b` is the user of
//! that name, and was matched with the other: the session `{room}` is opened when the first asks to connect.

use std::{env, error::Error};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    response::Response,
    routing::any,
};
use signaling_axum::Endpoint;
use signaling_core::{
    Config, Relay,
    id::{SessionId, UserId},
    jwt::{Algorithm, JwtAuthenticator, JwtKey},
    relay::{NewSession, Opened},
};
use signaling_redis::{Redis, Settings};
use tokio::{net::TcpSocket, runtime};
use warp::Filter;

#[path = "../load/secret.rs"]
mod secret;

fn main() -> Result<(), Box<dyn Error>> {
    // As an application with hundreds of busy pairs would: see "In production" of the endpoint.
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .global_queue_interval(4)
        .event_interval(31)
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let port = args.next().ok_or("a port")?.parse::<u16>()?;
    let (adapter, redis) = (args.next(), args.next());
    let key = JwtKey::secret(Algorithm::HS256, secret::SECRET);
    let authenticator = JwtAuthenticator::builder().key(key).build()?;
    let mut config = Config::default();
    config.max_signals_per_second = 0;
    config.max_signal_bytes_per_second = 0;
    config.max_connects_per_minute = 0;
    let mut relay = Relay::builder(authenticator).config(config);
    if let Some(url) = redis {
        let redis = Redis::connect(Settings::url(&url)?).await?;
        relay = relay.store(redis.store()).bus(redis.bus());
    }
    let relay = relay.start().await?;
    let socket = TcpSocket::new_v4()?;
    // Accepted sockets have it from here.
    socket.set_nodelay(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(4096)?;
    match adapter.as_deref() {
        Some("axum") => {
            let endpoint = Endpoint::from(relay.clone());
            let app = Router::new().route("/{user}", any(join));
            axum::serve(listener, app.with_state((relay, endpoint))).await?;
        }
        Some("warp") => {
            let matcher = relay.clone();
            let matched = warp::path!(String).then(move |user: String| {
                let relay = matcher.clone();
                async move { matched(&relay, &user).await }
            });
            let route = matched.untuple_one().and(signaling_warp::socket(relay));
            warp::serve(route).incoming(listener).run().await;
        }
        _ => return Err("axum or warp".into()),
    }
    Ok(())
}

/// What a matchmaker would do before its users connect.
async fn matched(relay: &Relay, user: &str) {
    let Some(room) = user.strip_suffix("-a") else { return };
    // Boxed, since it is not part of connecting.
    if let Err(error) = Box::pin(open(relay, room)).await {
        eprintln!("{error}");
    }
}

async fn open(relay: &Relay, room: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let user = |side: char| UserId::new(&format!("{room}-{side}"));
    let (_, opened) = relay
        .open(NewSession::between(&user('a')?, &user('b')?).id(&SessionId::new(room)?))
        .await?;
    match opened {
        Opened::New | Opened::Existing => Ok(()),
    }
}

async fn join(
    State((relay, endpoint)): State<(Relay, Endpoint)>,
    Path(user): Path<String>,
    request: Request,
) -> Response {
    matched(&relay, &user).await;
    let (head, _) = request.into_parts();
    endpoint.answer(head).await.map(Body::from)
}
