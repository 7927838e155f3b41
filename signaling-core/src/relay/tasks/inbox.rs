//! What other nodes have for the connections of this one.

use std::sync::Arc;

use futures::StreamExt;

use super::super::{background::Task, mailbox::Mail, node::Node};
use crate::bus::{Content, Delivery, Envelope, Inbox};

/// Reads `inbox` to its end; none is opened first, since the one before has ended.
pub(super) async fn run(node: Arc<Node>, inbox: Option<Inbox>) {
    let mut inbox = match inbox {
        Some(inbox) => inbox,
        None => match node.bus.subscribe(&node.id).await {
            Ok(inbox) => {
                notices_lost(&node);
                inbox
            }
            Err(error) => return node.warn("inbox not opened; retrying", &error),
        },
    };
    node.background.works(Task::Inbox);
    while let Some(delivery) = inbox.next().await {
        match delivery {
            Delivery::Envelope(Envelope(Content::Notice { to, notice }))
                if *to.node() == node.id =>
            {
                node.deliver(&to, notice);
            }
            Delivery::Envelope(Envelope(Content::Notice { to, .. })) => {
                tracing::warn!(connection = %to, "a notice for another node came here");
            }
            Delivery::Envelope(Envelope(Content::NoticesLost)) | Delivery::Gap => {
                notices_lost(&node)
            }
        }
    }
}

fn notices_lost(node: &Arc<Node>) {
    tracing::warn!(node = %node.id, "notices were lost; looking sessions up");
    for handle in node.registry.all() {
        handle.mailbox.push(Mail::NoticesLost);
    }
}
