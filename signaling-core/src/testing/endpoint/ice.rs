//! ICE servers, for clients that negotiated more than the base messages.

use serde_json::json;

use super::{Setup, stage::Host};

pub(super) async fn who_negotiated_v1_is_told_of_ice_servers_and_nobody_else(host: &Host) {
    let urls = ["stun:stun.test:3478", "stuns:[::1]"].map(str::to_owned);
    let setup = Setup { stun_urls: urls.to_vec(), ..Setup::default() };
    let Some(stage) = host.start_if_possible(setup).await else {
        return;
    };
    let mut ann = stage.dial("ann").v1().connect().await;
    ann.expect_nothing().await;
    let mut bob = stage.client("bob").await;
    let session = stage.open_new("ann", "bob").await;
    let found = json!({
        "type": "match-found",
        "sessionId": session,
        "partnerId": "bob",
        "isInitiator": true,
        "iceServers": [{"urls": urls}],
    });
    ann.expect_found(found.clone()).await;
    bob.expect_match(&session, "ann", false).await;
    // Those who connect to their session as well.
    let mut again = stage.dial("ann").v1().connect().await;
    again.expect_found(found).await;
}

pub(super) async fn without_ice_servers_a_match_is_the_same_for_all(host: &Host) {
    let stage = host.start().await;
    let mut ann = stage.dial("ann").v1().connect().await;
    ann.expect_nothing().await;
    let session = stage.open_new("ann", "bob").await;
    ann.expect_match(&session, "bob", true).await;
}
