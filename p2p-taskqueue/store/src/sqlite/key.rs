use rusqlite::Connection;

use super::{
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{Fault, KeyRow, KeyTable, engine::Elapsed};

impl KeyTable for SqliteRows {
    fn key(&mut self, scope: &str, key: &str) -> Result<Option<KeyRow>, Fault> {
        Ok(find(&self.connection, scope, key)?)
    }

    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault> {
        Ok(put(&self.connection, scope, key, row)?)
    }

    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault> {
        let mut remove = self.connection.prepare_cached(
            "DELETE FROM idempotency WHERE (scope,key) IN \
             (SELECT scope,key FROM idempotency WHERE expires_at<=? ORDER BY expires_at LIMIT ?)",
        )?;
        Ok(remove.execute((by.as_micros(), i64::try_from(count_max).unwrap_or(i64::MAX)))?)
    }

    fn first_key_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        let mut first = self.connection.prepare_cached("SELECT min(expires_at) FROM idempotency")?;
        let first: Option<i64> = first.query_row([], |row| row.get(0))?;
        Ok(first.map(Elapsed::from_micros))
    }
}

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

fn key_sum(scope: &str, key: &str, row: &KeyRow) -> u32 {
    let mut sum = Checksum::new();
    sum.text(scope).text(key).bytes(Some(&row.content)).bytes(Some(row.id.as_bytes())).elapsed(row.expires_at);
    sum.finish()
}
