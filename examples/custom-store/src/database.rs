//! What of SQLite a store needs: a file, a transaction, rows.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Params, Row, TransactionBehavior};
use signaling_core::store::StoreError;
use tokio::{sync::Mutex, task};

/// One transaction.
pub(crate) use rusqlite::Transaction as Db;

/// Whatever went wrong: SQLite's errors, JSON's, an id's.
type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Read<T> = Result<T, Failure>;

#[derive(Debug)]
pub(crate) struct Database(Mutex<Connection>);

impl Database {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let file = Connection::open(path)?;
        // How long a call waits for another process: a store answers within seconds, or fails.
        file.busy_timeout(Duration::from_secs(2))?;
        file.pragma_update(None, "journal_mode", "WAL")?;
        file.execute_batch(include_str!("schema.sql"))?;
        Ok(Self(Mutex::new(file)))
    }

    /// One transaction. SQLite blocks, so the thread's other tasks move to another one meanwhile.
    pub(crate) fn call<T>(&self, work: impl FnOnce(&Db<'_>) -> Read<T>) -> Result<T, StoreError> {
        let call = || {
            let mut file = self.0.blocking_lock();
            let db = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&db)?;
            db.commit()?;
            Ok(result)
        };
        task::block_in_place(call).map_err(StoreError::Unavailable)
    }
}

/// All that `select` finds.
pub(crate) fn rows<T>(
    db: &Db<'_>,
    select: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    db.prepare(select)?.query_and_then(params, read)?.collect()
}

/// The text in the first column.
pub(crate) fn text<'a>(row: &'a Row<'_>) -> Read<&'a str> {
    Ok(row.get_ref(0)?.as_str()?)
}
