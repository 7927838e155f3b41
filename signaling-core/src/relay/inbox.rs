//! What other nodes have for the connections of this one.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time;

use super::{Node, mailbox::Mail};
use crate::bus::{Delivery, Envelope, Inbox};

/// Between attempts to open the inbox again.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(node: Arc<Node>, mut inbox: Inbox) {
    loop {
        while let Some(delivery) = inbox.next().await {
            match delivery {
                Delivery::Envelope(Envelope::Notice { to, notice }) if *to.node() == node.id => {
                    node.hand(&to, notice);
                }
                Delivery::Envelope(Envelope::Notice { to, .. }) => {
                    tracing::warn!(connection = %to, "a notice for another node came here");
                }
                Delivery::Envelope(Envelope::NoticesLost) | Delivery::Gap => notices_lost(&node),
            }
        }
        tracing::error!(node = %node.id, "the inbox ended");
        inbox = loop {
            time::sleep(RETRY).await;
            match node.bus.subscribe(&node.id).await {
                Ok(inbox) => break inbox,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no inbox");
                }
            }
        };
        notices_lost(&node);
    }
}

fn notices_lost(node: &Arc<Node>) {
    tracing::warn!(node = %node.id, "notices were lost; looking sessions up");
    for local in node.locals.all() {
        local.mailbox.push(Mail::NoticesLost);
    }
    node.look_for_the_gone();
}
