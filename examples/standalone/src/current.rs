//! A value that may be replaced while the server runs.

use std::sync::Arc;

use tokio::sync::watch;

/// A value of which every clone sees the latest version.
#[derive(Debug)]
pub(crate) struct Current<T>(watch::Sender<Arc<T>>);

impl<T> Current<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(watch::Sender::new(Arc::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    pub(crate) fn replace(&self, value: T) {
        self.0.send_replace(Arc::new(value));
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
