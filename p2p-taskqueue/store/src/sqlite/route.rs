use rusqlite::Connection;
use taskqueue_api::{PeerId, TaskId};

use super::{
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{Fault, RouteTable};

impl RouteTable for SqliteRows {
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault> {
        Ok(self.routes.put(&self.connection, task, owner, count_max)?)
    }
}

/// The number of routes, once they have been counted.
#[derive(Debug, Default)]
pub(super) struct Routes(Option<i64>);

impl Routes {
    /// Notes the owner of a task, and removes the oldest notes beyond `count_max`.
    pub(super) fn put(
        &mut self,
        connection: &Connection,
        task: TaskId,
        owner: PeerId,
        count_max: i64,
    ) -> rusqlite::Result<()> {
        let before = match self.0.take() {
            Some(count) => count,
            None => connection.query_row("SELECT count(*) FROM route", [], |row| row.get(0))?,
        };
        let id = task.as_bytes().as_slice();
        let replaced = connection.prepare_cached("DELETE FROM route WHERE id=?")?.execute([id])?;
        connection.prepare_cached("INSERT INTO route(id,owner,crc) VALUES(?,?,?)")?.execute((
            id,
            owner.to_bytes(),
            route_sum(task, owner),
        ))?;
        let count = if replaced == 0 { before + 1 } else { before };
        let over = (count - count_max).max(0);
        if over > 0 {
            connection
                .prepare_cached("DELETE FROM route WHERE seq IN (SELECT seq FROM route ORDER BY seq LIMIT ?)")?
                .execute([over])?;
        }
        self.0 = Some(count - over);
        Ok(())
    }

    /// Forgets the count, because it may differ after a transaction was rolled back.
    pub(super) const fn forget(&mut self) {
        self.0 = None;
    }
}

/// Finds the owner of a task.
pub(super) fn find(connection: &Connection, task: TaskId) -> Result<Option<PeerId>, RowError> {
    let mut statement = connection.prepare_cached("SELECT id,owner,crc FROM route WHERE id=?")?;
    let mut rows = statement.query([task.as_bytes().as_slice()])?;
    Ok(rows.next()?.map(|row| read(&mut Columns::new(row))).transpose()?.map(|(_, owner)| owner))
}

/// Reads the columns behind the sequence number.
pub(super) fn read(columns: &mut Columns<'_, '_>) -> Result<(TaskId, PeerId), RowError> {
    let (task, owner) = (columns.id()?, columns.take::<Vec<u8>>()?);
    let owner = PeerId::from_bytes(&owner).map_err(|_| RowError::Damaged)?;
    columns.checked(route_sum(task, owner))?;
    Ok((task, owner))
}

fn route_sum(task: TaskId, owner: PeerId) -> u32 {
    Checksum::new().bytes(Some(task.as_bytes())).bytes(Some(&owner.to_bytes())).finish()
}
