//! What can go wrong with the store, each sentence saying what to do about it.

use std::path::PathBuf;

/// Why the store could not do what was asked. After any of them nothing of the call has been written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("store.url is `{url}`; it must be `sqlite:PATH` or `sqlite::memory:`")]
    Url { url: String },
    #[error(
        "the database {} is in use by another larum (it holds {}): stop that one, or give this one its own store.url",
        path.display(), lock.display()
    )]
    InUse { path: PathBuf, lock: PathBuf },
    #[error("the database {} cannot be opened; its directory must exist and be writable: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    #[error(
        "the database has schema version {found} and this larum knows versions up to {known}: \
         run the newer larum, or choose another store.url"
    )]
    Newer { found: i64, known: i64 },
    #[error(
        "the store would need {columns} columns and holds at most {columns_max}: \
         name fewer features, or choose another store.url to leave those of earlier queries behind"
    )]
    Columns { columns: usize, columns_max: usize },
    #[error(
        "{topic}/{partition} is at offset {stored:?} in the store and not at {expected:?}: \
         another owner has committed, so give the partition up and recover it"
    )]
    Fenced { topic: String, partition: i32, expected: Option<i64>, stored: Option<i64> },
    #[error("the cursor `{cursor}` is not one that this store gave out: start again without a cursor")]
    Cursor { cursor: String },
    #[error(
        "the store holds something it cannot have written ({what}): restore the database, or choose another store.url"
    )]
    Corrupt { what: String },
    #[error("the database refused: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Box::new(error))
    }
}

impl StoreError {
    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}
