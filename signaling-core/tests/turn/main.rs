//! Our credentials, brought to a real TURN server: coturn, on loopback.
#![expect(clippy::unwrap_used, reason = "these are tests")]

mod client;
mod coturn;

use std::time::Duration;

use client::{Allocation, allocate};
use coturn::Coturn;
use signaling_core::{
    ice::{IceServer, IceServerProvider, TurnServers},
    id::UserId,
    time::{Clock, SystemClock, Timestamp},
};
use tokio::time;

const SECRET: &str = "shared by relay and coturn";

/// The server that `user` is told of at `now`.
async fn told(coturn: &Coturn, secret: &str, user: &str, now: Timestamp) -> IceServer {
    let turn = TurnServers::new([coturn.url()], secret).unwrap();
    let turn = turn.life(TurnServers::MIN_LIFE).unwrap();
    let told = turn.ice_servers(&UserId::new(user).unwrap(), now).await.unwrap();
    told.servers[0].clone()
}

#[tokio::test]
async fn coturn_takes_credentials_of_its_own_secret_only() {
    let coturn = Coturn::start(SECRET);
    let now = SystemClock.now();
    let good = told(&coturn, SECRET, "ann", now).await;
    assert_eq!(allocate(coturn.address(), &good), Allocation::Made);
    let strange = told(&coturn, "of another coturn", "ann", now).await;
    assert_eq!(allocate(coturn.address(), &strange), Allocation::Refused(401));
    let (username, credential) = (good.username().unwrap(), good.credential().unwrap());
    for username in [username.replace("ann", "bob"), format!("9{username}")] {
        let forged = IceServer::turn([coturn.url()], username, credential).unwrap();
        assert_eq!(allocate(coturn.address(), &forged), Allocation::Refused(401));
    }
}

#[tokio::test]
async fn coturn_takes_credentials_until_they_expire() {
    let coturn = Coturn::start(SECRET);
    // Made as long ago that they have three seconds left.
    let left = Duration::from_secs(3);
    let ago = TurnServers::MIN_LIFE - left;
    let made_at = SystemClock.now().as_millis() - ago.as_millis() as u64;
    let made_at = Timestamp::from_millis(made_at);
    let server = told(&coturn, SECRET, "ann", made_at).await;
    assert_eq!(allocate(coturn.address(), &server), Allocation::Made);
    let expiry: u64 = server.username().unwrap().split_once(':').unwrap().0.parse().unwrap();
    // They hold through the second that they name, and coturn's time(2) is a tick behind.
    let over = Timestamp::from_millis((expiry + 1) * 1000 + 200);
    time::sleep(over.since(SystemClock.now())).await;
    assert_eq!(allocate(coturn.address(), &server), Allocation::Refused(401));
}

#[tokio::test]
async fn coturn_takes_every_user() {
    let coturn = Coturn::start(SECRET);
    let longest = "é".repeat(UserId::MAX_BYTES / 2);
    for user in [
        "1:2:3",
        ":",
        "a b",
        "o'brien",
        "\"",
        "\\",
        "~",
        "a+b/c=@d|e",
        "Zoë",
        "日本",
        "%00",
        &longest,
    ] {
        let server = told(&coturn, SECRET, user, SystemClock.now()).await;
        assert_eq!(allocate(coturn.address(), &server), Allocation::Made, "{user}");
    }
}
