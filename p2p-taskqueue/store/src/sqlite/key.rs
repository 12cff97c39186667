use rusqlite::Connection;

use super::row::{Checksum, Columns, RowError};
use crate::{KeyRow, engine::Elapsed};

/// Finds an idempotency key.
pub(super) fn find(connection: &Connection, scope: &str, key: &str) -> Result<Option<KeyRow>, RowError> {
    let mut statement =
        connection.prepare_cached("SELECT content,id,expires_at,crc FROM idempotency WHERE scope=? AND key=?")?;
    let mut rows = statement.query((scope, key))?;
    rows.next()?.map(|row| read(scope, key, &mut Columns::new(row))).transpose()
}

/// Reads the columns behind the key.
pub(super) fn read(scope: &str, key: &str, columns: &mut Columns<'_, '_>) -> Result<KeyRow, RowError> {
    let row = KeyRow { content: columns.take()?, id: columns.id()?, expires_at: columns.elapsed()? };
    columns.checked(key_sum(scope, key, &row))?;
    Ok(row)
}

pub(super) fn put(connection: &Connection, scope: &str, key: &str, row: &KeyRow) -> rusqlite::Result<()> {
    connection.prepare_cached("REPLACE INTO idempotency VALUES(?,?,?,?,?,?)")?.execute((
        scope,
        key,
        row.content.as_slice(),
        row.id.as_bytes().as_slice(),
        row.expires_at.as_micros(),
        key_sum(scope, key, row),
    ))?;
    Ok(())
}

/// Removes keys whose time has ended; answers how many.
pub(super) fn remove(connection: &Connection, by: Elapsed, count_max: usize) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM idempotency WHERE (scope,key) IN \
             (SELECT scope,key FROM idempotency WHERE expires_at<=? ORDER BY expires_at LIMIT ?)",
        )?
        .execute((by.as_micros(), i64::try_from(count_max).unwrap_or(i64::MAX)))
}

pub(super) fn first_expiry(connection: &Connection) -> rusqlite::Result<Option<Elapsed>> {
    let first: Option<i64> =
        connection.prepare_cached("SELECT min(expires_at) FROM idempotency")?.query_row([], |row| row.get(0))?;
    Ok(first.map(Elapsed::from_micros))
}

fn key_sum(scope: &str, key: &str, row: &KeyRow) -> u32 {
    let mut sum = Checksum::new();
    sum.text(scope).text(key).bytes(Some(&row.content)).bytes(Some(row.id.as_bytes())).elapsed(row.expires_at);
    sum.finish()
}
