//! Opening a SQLite database: the lock that keeps a second larum out, and connections for writing and reading.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::ids::Ids;
use super::reader::Reader;
use super::{Layout, Limits, StoreError, Writer, schema};

/// Idle readers kept open.
const READERS_IDLE_MAX: usize = 8;

/// How long a connection waits for another one of this process; commits are far shorter.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// A handle on an open store, cheap to clone and free to share between threads.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    place: Place,
    pub(super) limits: Limits,
    pub(super) ids: Arc<Ids>,
    readers: Mutex<Vec<Reader>>,
    /// Held as long as any handle lives; the system releases it when the process ends, however it ends.
    _lock: Option<File>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    /// A database in memory that the connections of this process share under a name of its own.
    Memory(String),
}

impl Store {
    /// Opens or creates the database at `url`, `sqlite:PATH` or `sqlite::memory:`, for rows of this layout. The writer is
    /// the only one: a second process, or a second call for the same path, is refused with [`StoreError::InUse`].
    ///
    /// # Errors
    /// A wrong url, a database that is in use, cannot be opened or comes from a newer larum, or too many columns.
    pub fn open(url: &str, layout: Layout<'_>, limits: Limits) -> Result<(Self, Writer), StoreError> {
        static MEMORIES: AtomicU64 = AtomicU64::new(0);
        let path = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| StoreError::Url { url: url.to_owned() })?;
        let (place, lock) = if path == ":memory:" {
            (Place::Memory(format!("file:/larum-{}?vfs=memdb", MEMORIES.fetch_add(1, Ordering::Relaxed))), None)
        } else {
            let path = absolute(Path::new(path))?;
            let lock = lock(&path)?;
            (Place::File(path), Some(lock))
        };
        let conn = place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", -65_536)?; // 64 MiB: the indexes of a segment are built without spilling
        conn.pragma_update(None, "wal_autocheckpoint", 4_000)?; // fewer, larger checkpoints than by default: 16 MiB
        conn.pragma_update(None, "journal_size_limit", 67_108_864)?;
        let shared = Arc::new(Shared { place, limits, ids: Arc::default(), readers: Mutex::default(), _lock: lock });
        let transaction = super::writer::begin(&conn)?;
        schema::prepare(&transaction)?;
        transaction.commit()?;
        let writer = Writer::new(conn, Arc::clone(&shared), layout)?;
        Ok((Self { shared }, writer))
    }

    /// A read connection of its own, for a thread that reads much.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        let conn = self.shared.place.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(Reader::new(conn, Arc::clone(&self.shared.ids), self.shared.limits))
    }

    /// Lends an idle reader, or a new one.
    ///
    /// # Errors
    /// What `read` returns, or when the database cannot be opened.
    pub fn read<T>(&self, read: impl FnOnce(&mut Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.shared.readers.lock().expect("no holder of the lock can panic").pop();
        let mut reader = idle.map_or_else(|| self.reader(), Ok)?;
        let answer = read(&mut reader);
        let mut readers = self.shared.readers.lock().expect("no holder of the lock can panic");
        if readers.len() < READERS_IDLE_MAX {
            readers.push(reader);
        }
        answer
    }
}

impl Place {
    fn connect(&self, flags: OpenFlags) -> Result<Connection, StoreError> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let opened = match self {
            Self::File(path) => Connection::open_with_flags(path, flags),
            Self::Memory(name) => Connection::open_with_flags(name, flags),
        };
        let conn = opened.map_err(|error| StoreError::Open { path: self.path(), reason: error.to_string() })?;
        conn.busy_timeout(BUSY_MAX)?;
        conn.set_prepared_statement_cache_capacity(512);
        Ok(conn)
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(name) => PathBuf::from(name),
        }
    }
}

/// The path without links, so that two names of one database have one lock.
fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    let failed = |reason: String| StoreError::Open { path: path.to_owned(), reason };
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let name = path.file_name().ok_or_else(|| failed("it names no file".to_owned()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().map_err(|error| failed(format!("{}: {error}", parent.display())))?;
    Ok(parent.join(name))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let failed = |error: std::io::Error| StoreError::Open { path: path.to_owned(), reason: error.to_string() };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned(), lock }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
