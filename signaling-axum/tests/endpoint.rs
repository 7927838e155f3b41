//! What is particular to this adapter: how it fits into an application.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    middleware::{self, Next},
    response::Response,
    routing::{any, get},
};
use signaling_axum::Endpoint;
use signaling_core::{
    Relay,
    testing::{client::Dial, guest::NameIsToken},
};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, http},
};

async fn relay() -> Relay {
    Relay::builder(NameIsToken).start().await.unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn is_served(address: SocketAddr, path: &str) {
    let client = Dial::to(format!("ws://{address}{path}")).query_token("ann");
    client.connect().await.expect_nothing().await;
}

/// The answer to an upgrade, whatever it is.
async fn upgrade(address: SocketAddr, path: &str) -> http::Response<Option<Vec<u8>>> {
    match connect_async(format!("ws://{address}{path}?token=ann")).await {
        Ok((_, response)) => response,
        Err(Error::Http(response)) => *response,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[tokio::test]
async fn the_router_has_the_endpoint_at_its_path() {
    let address = serve(signaling_axum::router(relay().await)).await;
    is_served(address, "/ws/signaling").await;
    assert_eq!(signaling_axum::PATH, "/ws/signaling");
}

#[tokio::test]
async fn it_fits_an_application_with_state_middleware_and_nested_routers() {
    #[derive(Clone)]
    struct App {
        name: &'static str,
    }
    async fn name(State(app): State<App>) -> &'static str {
        app.name
    }
    async fn mark(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        let marked = HeaderValue::from_static("yes");
        response.headers_mut().insert("x-marked", marked);
        response
    }

    let relay = relay().await;
    let inner: Router<App> = Router::new()
        .route("/name", get(name))
        .route("/rtc", signaling_axum::endpoint(relay.clone()))
        .merge(signaling_axum::router(relay.clone()))
        .layer(middleware::from_fn(mark));
    let app = Router::new()
        .nest("/v1", inner)
        .route("/own", signaling_axum::endpoint(Endpoint::new(relay)))
        .with_state(App { name: "host" });
    let address = serve(app).await;

    for path in ["/v1/rtc", "/v1/ws/signaling", "/own"] {
        is_served(address, path).await;
    }
    assert_eq!(upgrade(address, "/v1/rtc").await.headers()["x-marked"], "yes");
}

#[tokio::test]
async fn a_middleware_may_refuse_before_it() {
    async fn refuse(_: Request, _: Next) -> http::StatusCode {
        http::StatusCode::IM_A_TEAPOT
    }
    let refused = signaling_axum::router(relay().await).layer(middleware::from_fn(refuse));
    let app = Router::new().merge(refused).fallback(any(async || "the host's own"));
    let address = serve(app).await;
    assert_eq!(upgrade(address, "/ws/signaling").await.status(), 418);
    assert_eq!(upgrade(address, "/elsewhere").await.status(), 200);
}
