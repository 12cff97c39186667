use rusqlite::Connection;

use super::row::{Checksum, Columns, RowError};
use crate::store::{Meta, Seq};

/// A random name of the store, by which its companions know it.
pub(super) type StoreName = [u8; 16];

/// Names the store and starts its numbers.
pub(super) fn insert_first(connection: &Connection) -> rusqlite::Result<()> {
    insert(connection, &Meta { epoch: 0, batch: 0, next_seq: FIRST_SEQ })
}

/// Names the store and sets its numbers.
pub(super) fn insert(connection: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    let name: StoreName = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    connection.execute(
        "INSERT INTO meta VALUES (0, ?1, ?2, ?3, ?4, ?5)",
        (name, number(meta.epoch), number(meta.batch), meta.next_seq, sum(name, meta)),
    )?;
    Ok(())
}

pub(super) fn read(connection: &Connection) -> Result<(StoreName, Meta), RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM meta WHERE only=0")?;
    let mut rows = statement.query([])?;
    let row = rows.next()?.ok_or(RowError::Damaged)?;
    let mut columns = Columns::new(row);
    let _only: i64 = columns.take()?;
    let name = columns.take()?;
    let meta = Meta { epoch: columns.unsigned()?, batch: columns.unsigned()?, next_seq: columns.take()? };
    columns.checked(sum(name, &meta))?;
    Ok((name, meta))
}

pub(super) fn write(connection: &Connection, name: StoreName, meta: &Meta) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE meta SET epoch=?,batch=?,next_seq=?,crc=? WHERE only=0")?.execute((
        number(meta.epoch),
        number(meta.batch),
        meta.next_seq,
        sum(name, meta),
    ))?;
    Ok(())
}

fn sum(name: StoreName, meta: &Meta) -> u32 {
    Checksum::new().bytes(Some(&name)).unsigned(meta.epoch).unsigned(meta.batch).int(meta.next_seq).finish()
}

/// They grow by one: they do not pass `i64::MAX` in the life of a store.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Sequence numbers start at one, so that none is zero or negative, which is where `live` keeps other rows.
const FIRST_SEQ: Seq = 1;
