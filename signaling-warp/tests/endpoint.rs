//! What is particular to this adapter: how it combines with other filters.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

use std::{convert::Infallible, net::SocketAddr};

use signaling_core::{
    Relay,
    testing::{client::Dial, guest::NameIsToken},
};
use signaling_warp::{Endpoint, OnInvalidToken};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, http},
};
use warp::{Filter, Rejection, Reply};

async fn relay() -> Relay {
    Relay::builder(NameIsToken).start().await.unwrap()
}

async fn serve<F>(routes: F) -> SocketAddr
where
    F: Filter<Extract: Reply, Error = Infallible> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(routes).incoming(listener).run());
    address
}

/// As hosts do: whatever was rejected gets the host's own answer.
async fn own_answer(rejection: Rejection) -> Result<impl Reply, Infallible> {
    let status = if rejection.is_not_found() { 404 } else { 418 };
    let status = warp::http::StatusCode::from_u16(status).unwrap();
    Ok(warp::reply::with_status("the host's own answer", status))
}

async fn is_served(address: SocketAddr, path: &str) {
    let client = Dial::to(format!("ws://{address}{path}")).query_token("ann");
    client.connect().await.expect_nothing().await;
}

/// The answer to an upgrade, whatever it is.
async fn upgrade(address: SocketAddr, target: &str) -> http::Response<Option<Vec<u8>>> {
    match connect_async(format!("ws://{address}{target}")).await {
        Ok((_, response)) => response,
        Err(Error::Http(response)) => *response,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn the_filter_has_the_endpoint_at_its_path() {
    let address = serve(signaling_warp::endpoint(relay().await).recover(own_answer)).await;
    assert_eq!(signaling_warp::PATH, "/ws/signaling");
    is_served(address, signaling_warp::PATH).await;
    for elsewhere in ["/", "/ws", "/ws/signaling/more", "/signaling"] {
        assert_eq!(upgrade(address, elsewhere).await.status(), 404, "{elsewhere}");
    }
}

#[tokio::test]
async fn it_combines_with_filters_before_behind_and_around_it() {
    let relay = relay().await;
    let home = warp::path::end().map(|| "home");
    let room = warp::path!("rooms" / "rtc").and(signaling_warp::socket(relay.clone()));
    let nested = warp::path("v1").and(signaling_warp::endpoint(relay.clone()));
    let marked = warp::path("own")
        .and(signaling_warp::socket(Endpoint::new(relay)))
        .map(|response| warp::reply::with_header(response, "x-marked", "yes"));
    let late = warp::path!("rooms" / "list").map(|| "rooms");
    let routes = home.or(room).or(nested).or(marked).or(late).recover(own_answer);
    let address = serve(routes).await;

    for path in ["/rooms/rtc", "/v1/ws/signaling", "/own"] {
        is_served(address, path).await;
    }
    assert_eq!(upgrade(address, "/own?token=ann").await.headers()["x-marked"], "yes");
    for (path, status) in [("/", 200), ("/rooms/list", 200), ("/rooms", 404), ("/own/x", 404)] {
        assert_eq!(upgrade(address, path).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn what_it_refuses_is_no_rejection() {
    let endpoint = Endpoint::new(relay().await)
        .on_invalid_token(OnInvalidToken::HttpStatus)
        .allowed_origins(["https://app.example"]);
    let behind = warp::any().map(|| "the filter behind it").boxed();
    let address =
        serve(signaling_warp::endpoint(endpoint).or(behind.clone()).recover(own_answer)).await;
    assert_eq!(upgrade(address, "/ws/signaling").await.status(), 401);
    assert_eq!(upgrade(address, "/ws/signaling?token=").await.status(), 401);
    assert_eq!(upgrade(address, "/elsewhere").await.status(), 200);

    let plain = warp::test::request().path("/ws/signaling?token=ann");
    let routes = signaling_warp::endpoint(relay().await).or(behind).recover(own_answer);
    assert_eq!(plain.reply(&routes).await.status(), 400);
    let post = warp::test::request().method("POST").path("/ws/signaling");
    assert_eq!(post.reply(&routes).await.status(), 405);
}
