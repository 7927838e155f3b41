//! The seam between nodes: how one hands something to a connection of another.

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{
    id::{ConnectionId, NodeId},
    notice::Notice,
};

/// A publish that failed. What was published may have arrived all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// No such node listens.
    #[error("node {0} has no inbox")]
    NoInbox(NodeId),
    /// The node's inbox is full.
    #[error("the inbox of node {0} is full")]
    Full(NodeId),
    /// The bus could not be reached, or took too long.
    #[error("the bus is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bus answers, and takes nothing: it is out of memory, read-only, or forbids it. A node that meets
    /// this is not ready for a while.
    #[error("the bus refuses what is published")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BusError {
    /// The bus could not be reached.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

/// What nodes send each other. A bus carries it as it is, or as what serde makes of it; what it contains
/// concerns the engine alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Envelope(pub(crate) Content);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Content {
    Notice {
        to: ConnectionId,
        notice: Notice,
    },
    /// Earlier notices could not be published: the same as a [`Delivery::Gap`].
    NoticesLost,
}

impl Envelope {
    pub(crate) fn notice(to: &ConnectionId, notice: Notice) -> Self {
        Self(Content::Notice { to: to.clone(), notice })
    }
}

/// What comes out of a node's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Something for one of the node's connections.
    Envelope(Envelope),
    /// Here, something may be missing.
    Gap,
}

/// A node's inbox. It ends only when the node's subscription does.
pub type Inbox = BoxStream<'static, Delivery>;

/// Carries envelopes between nodes.
///
/// # Contract
///
/// - What one task publishes to one node, call after call, comes out of that node's inbox in that
///   order. It may come out twice.
/// - What was published with success comes out, or a [`Delivery::Gap`] in its place; nothing is
///   lost in silence.
/// - An inbox is bounded: when it is full, publishing fails, and waits for nobody.
/// - No call takes longer than a few seconds.
/// - Dropping a publish midway is a failure that nobody sees: all, some or none may arrive.
#[async_trait]
pub trait MessageBus: Send + Sync + fmt::Debug + 'static {
    /// Puts `envelopes` into the inbox of `node`, in order.
    ///
    /// # Errors
    ///
    /// When they did not all get there, as far as is known.
    async fn publish(&self, node: &NodeId, envelopes: &[Envelope]) -> Result<(), BusError>;

    /// Opens the inbox of `node`. What is published to it afterwards is in it.
    ///
    /// # Errors
    ///
    /// When the bus cannot be reached.
    async fn subscribe(&self, node: &NodeId) -> Result<Inbox, BusError>;
}
