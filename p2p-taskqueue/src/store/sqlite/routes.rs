use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{
    SqliteStore,
    command::{Answer, Work, storage_error},
};
use crate::{PeerId, QueueError, TaskId, api::ErrorCode, carrier::RouteBook};

#[async_trait]
impl RouteBook for SqliteStore {
    async fn remember(&self, task: TaskId, owner: PeerId) -> Result<(), QueueError> {
        let remembered = |answer| matches!(answer, Answer::Remembered).then_some(());
        self.ask(Work::Remember(task, owner), remembered).await
    }

    async fn owner_of(&self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.read(move |connection| find(connection, task)).await
    }
}

/// Notes an owner and lets the oldest notes go.
pub(super) fn insert(connection: &Connection, task: TaskId, owner: PeerId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO route (id, owner) VALUES (?1, ?2)")?
        .execute((task.as_bytes().as_slice(), owner.to_bytes()))?;
    let newest = connection.last_insert_rowid();
    connection.prepare_cached("DELETE FROM route WHERE seq <= ?1")?.execute([newest - ROUTES_MAX])?;
    Ok(())
}

fn find(connection: &Connection, task: TaskId) -> Result<Option<PeerId>, QueueError> {
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT owner FROM route WHERE id = ?1")
        .and_then(|mut find| find.query_row([task.as_bytes().as_slice()], |row| row.get(0)).optional())
        .map_err(|error| storage_error(&error))?;
    let Some(bytes) = bytes else { return Ok(None) };
    PeerId::from_bytes(&bytes)
        .map(Some)
        .map_err(|_| QueueError::new(ErrorCode::StorageError, format!("task {task}: the note of its owner is damaged")))
}

/// Tasks of other peers whose owner is remembered, at about 150 bytes each; those submitted last are asked for.
const ROUTES_MAX: i64 = 100_000;
