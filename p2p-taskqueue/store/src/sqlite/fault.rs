use std::path::Path;

use rusqlite::ErrorCode;
use taskqueue_api::{ErrorCode as Code, QueueError, TaskId};

use super::row::RowError;
use crate::{Fault, Seq, StoreError, is_full};

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(_) if is_full(&error) => Self::Full(error.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(error.to_string()),
            Some(_) => Self::Failed(error.to_string()),
            // This store never writes a value of another type or out of its range.
            None => Self::Damaged,
        }
    }
}

/// Returns the error that a caller who opens the file gets for an error of SQLite.
pub(super) fn opening(path: &Path, source: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, source },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        _ => StoreError::Sqlite { path, source },
    }
}

/// Returns the error that a caller who opens the file gets for a row that cannot be used.
pub(super) fn opening_row(path: &Path, what: &'static str, error: RowError) -> StoreError {
    match error {
        RowError::Damaged => StoreError::DamagedRow { path: path.to_owned(), what },
        RowError::Sqlite(error) => opening(path, error),
    }
}

/// Returns the error that a reader gets for an error of SQLite.
pub(super) fn reading(error: &rusqlite::Error) -> QueueError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            let message = "another program holds the store's file; close it";
            QueueError::new(Code::StorageError, message).with_retry_after_s(BUSY_RETRY_AFTER_S)
        }
        _ => QueueError::new(Code::StorageError, format!("the store could not be read: {error}")),
    }
}

/// Returns the error that a reader gets for a row that cannot be used.
pub(super) fn reading_row(what: &str, error: &RowError) -> QueueError {
    match error {
        RowError::Damaged => damaged(what),
        RowError::Sqlite(error) => reading(error),
    }
}

/// Returns the error for content that is not the content that was written. Trying again does not help.
pub(super) fn damaged(what: &str) -> QueueError {
    let message =
        format!("{what} is damaged in the store: restore a backup, or stop the node and run `taskmesh repair`");
    QueueError::new(Code::StorageError, message).not_retryable()
}

/// Returns the name of a task in messages.
pub(super) fn task_named(id: TaskId) -> String {
    format!("task {id}")
}

/// Logs a damaged index entry, which is passed over so that it holds nobody up. The entry only helps to find a task;
/// the task's own rows have the truth. A scrub or a repair finds that the task lacks the entry.
pub(super) fn pass_over(table: &'static str, seq: Option<Seq>) {
    tracing::error!(
        table,
        seq,
        "an index entry of the store is damaged; run `taskmesh repair` when the node is stopped"
    );
}

/// Time for a person to close the other program, in seconds.
const BUSY_RETRY_AFTER_S: f64 = 5.0;
