//! Who is let in: second connections of a user, and what the host's own code says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future;

use super::{Opening, Setup, stage::Host};
use crate::{
    frame::{CloseCode, CloseReason},
    id::ConnectionId,
    relay::{Arbiter, Hooks, Newcomer, SecondConnection, Stays},
    session::SessionRecord,
    testing::client::Incoming,
};

fn refusing() -> Setup {
    Setup { second_connection: SecondConnection::Refuse, ..Setup::default() }
}

pub(super) async fn where_second_connections_are_refused_the_first_stays(host: &Host) {
    let Some(stage) = host.start_if_possible(refusing()).await else {
        return;
    };
    let mut call = stage.call().await;
    for _ in 0..3 {
        let mut second = stage.connect("ann").await;
        second.expect_close(CloseCode::AlreadyConnected).await;
        call.talk().await;
    }
    call.ann.close().await;
    call.bob.expect_partner_disconnected(&call.session).await;
    // What is written of an end may still be on its way.
    let mut back = loop {
        let mut back = stage.connect("ann").await;
        match back.next_incoming().await {
            Incoming::Text(_) => break back,
            Incoming::Close(Some((4409, _))) => {}
            other => panic!("expected a match or 4409, got {other:?}"),
        }
    };
    call.bob.expect_match(&call.session, "ann", false).await;
    back.expect_nothing().await;
}

pub(super) async fn of_connections_at_the_same_time_one_is_admitted(host: &Host) {
    let Some(stage) = host.start_if_possible(refusing()).await else {
        return;
    };
    let clients = future::join_all((0..8).map(|_| stage.connect("ann"))).await;
    let mut admitted = Vec::new();
    for mut client in clients {
        client.send_if_possible(r#"{"type":"heartbeat","id":1}"#).await;
        match client.next_incoming().await {
            Incoming::Text(_) => admitted.push(client),
            Incoming::Close(Some((4409, reason))) if reason == "already connected" => {}
            other => panic!("expected an ack or 4409, got {other:?}"),
        }
    }
    assert_eq!(admitted.len(), 1, "{admitted:?}");
    admitted[0].expect_nothing().await;
}

/// Lets the newcomer stay while the name of its user ends in a 1.
#[derive(Debug)]
struct ByName;

#[async_trait]
impl Arbiter for ByName {
    async fn decide(&self, newcomer: &Newcomer, _: &ConnectionId) -> Stays {
        match newcomer.user().as_str().ends_with('1') {
            true => Stays::Newcomer,
            false => Stays::Present,
        }
    }
}

pub(super) async fn the_host_decides_which_connection_stays(host: &Host) {
    let second_connection = SecondConnection::Ask(Arc::new(ByName));
    let setup = Setup { second_connection, ..Setup::default() };
    let Some(stage) = host.start_if_possible(setup).await else {
        return;
    };
    for (user, stays) in [("ann-1", CloseCode::Replaced), ("ann-2", CloseCode::AlreadyConnected)] {
        let mut first = stage.client(user).await;
        let mut second = stage.connect(user).await;
        if stays == CloseCode::Replaced {
            first.expect_close(stays).await;
            second.expect_nothing().await;
        } else {
            second.expect_close(stays).await;
            first.expect_nothing().await;
        }
    }
}

/// Refuses whom their names say.
#[derive(Debug)]
struct Doorkeeper;

#[async_trait]
impl Hooks for Doorkeeper {
    async fn before_connection(&self, newcomer: &Newcomer) -> Result<(), CloseReason> {
        match newcomer.user().as_str() {
            "banned" => Err(reason("banned until Monday \u{2014} write to us")),
            "unexplained" => Err(CloseReason::default()),
            "unanswered" => future::pending().await,
            _ => Ok(()),
        }
    }

    async fn before_session(&self, session: &SessionRecord) -> Result<(), CloseReason> {
        match session.participants.iter().any(|one| one.user.as_str() == "shy") {
            true => Err(reason("not this one")),
            false => Ok(()),
        }
    }
}

fn reason(text: &str) -> CloseReason {
    CloseReason::new(text).unwrap_or_else(|error| panic!("{text:?} is no reason: {error}"))
}

fn kept() -> Setup {
    let mut setup = Setup { hooks: Some(Arc::new(Doorkeeper)), ..Setup::default() };
    setup.config.hook_timeout = Duration::from_secs(1);
    setup
}

pub(super) async fn who_the_host_refuses_is_closed_with_1008_and_its_reason(host: &Host) {
    let Some(stage) = host.start_if_possible(kept()).await else {
        return;
    };
    let mut banned = stage.connect("banned").await;
    let said = "banned until Monday \u{2014} write to us";
    banned.expect_close_for(CloseCode::Refused, said).await;
    stage.connect("unexplained").await.expect_close(CloseCode::Refused).await;
    stage.call().await.talk().await;
}

pub(super) async fn a_hook_that_does_not_answer_closes_with_4503(host: &Host) {
    let Some(stage) = host.start_if_possible(kept()).await else {
        return;
    };
    let mut waits = stage.connect("unanswered").await;
    // Nobody else waits meanwhile.
    stage.call().await.talk().await;
    waits.expect_close(CloseCode::Unavailable).await;
}

pub(super) async fn a_session_that_the_host_refuses_is_not_opened(host: &Host) {
    let Some(stage) = host.start_if_possible(kept()).await else {
        return;
    };
    let mut shy = stage.client("shy").await;
    assert_eq!(stage.open(Some("s"), "shy", "bob").await, Opening::Refused);
    assert_eq!(stage.session("s").await, None);
    shy.expect_nothing().await;
}
