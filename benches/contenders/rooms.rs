//! Two in a room, each of whom gets what the other one sends: what the bare WebSocket forwarders
//! share. Nothing is parsed and nothing is checked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// What may wait for one side.
const QUEUED: usize = 256;

/// To the other one, and from it.
pub(crate) type Side<M> = (Sender<M>, Receiver<M>);

/// Who waits for its partner.
pub(crate) struct Rooms<M>(Arc<Mutex<HashMap<String, Side<M>>>>);

impl<M> Clone for Rooms<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Rooms<M> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn join(&self, room: String) -> Side<M> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.remove(&room).unwrap_or_else(|| {
            let ((to_first, first), (to_second, second)) = (channel(QUEUED), channel(QUEUED));
            rooms.insert(room, (to_first, second));
            (to_second, first)
        })
    }
}
