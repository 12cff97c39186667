use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{CacheRow, CacheTable, Fault, engine::Elapsed};

impl CacheTable for SqliteRows {
    fn cache_bytes(&mut self) -> Result<u64, Fault> {
        Ok(bytes(&self.connection)?)
    }

    fn cache_size(&mut self, key: &str) -> Result<Option<u64>, Fault> {
        Ok(size(&self.connection, key)?)
    }

    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault> {
        Ok(put(&self.connection, key, row)?)
    }

    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault> {
        let mut touch = self.connection.prepare_cached("UPDATE cache SET used_at=? WHERE key=?")?;
        touch.execute((used_at.as_micros(), key))?;
        Ok(())
    }

    fn remove_cached(&mut self, key: &str) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM cache WHERE key=?")?.execute([key])?;
        Ok(())
    }

    fn cache_least_used(&mut self, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        let sql = "SELECT key,bytes FROM cache INDEXED BY cache_used ORDER BY used_at LIMIT ?1";
        Ok(listed(&self.connection, sql, [limit(count_max)])?)
    }

    fn cache_expired(&mut self, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        let sql = "SELECT key,bytes FROM cache WHERE expires_at<=?1 ORDER BY expires_at LIMIT ?2";
        Ok(listed(&self.connection, sql, [by.as_micros(), limit(count_max)])?)
    }

    fn first_cache_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        let sql = "SELECT min(expires_at) FROM cache WHERE expires_at IS NOT NULL";
        let first: Option<i64> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(first.map(Elapsed::from_micros))
    }
}

fn bytes(connection: &Connection) -> Result<u64, RowError> {
    let bytes: i64 = connection
        .prepare_cached("SELECT coalesce(sum(bytes),0) FROM cache INDEXED BY cache_used")?
        .query_row([], |row| row.get(0))?;
    u64::try_from(bytes).map_err(|_| RowError::Damaged)
}

fn size(connection: &Connection, key: &str) -> Result<Option<u64>, RowError> {
    let bytes: Option<i64> = connection
        .prepare_cached("SELECT bytes FROM cache WHERE key=?")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    bytes.map(u64::try_from).transpose().map_err(|_| RowError::Damaged)
}

pub(super) fn find(connection: &Connection, key: &str) -> Result<Option<CacheRow>, RowError> {
    let mut statement =
        connection.prepare_cached("SELECT key,bytes,expires_at,used_at,crc,value FROM cache WHERE key=?")?;
    let mut rows = statement.query([key])?;
    Ok(rows.next()?.map(read).transpose()?.map(|(_, row)| row))
}

/// Reads a row of `cache`.
pub(super) fn read(row: &Row<'_>) -> Result<(String, CacheRow), RowError> {
    let mut columns = Columns::new(row);
    let (key, _bytes): (String, i64) = (columns.take()?, columns.take()?);
    let (expires_at, used_at) = (columns.elapsed_if_any()?, columns.elapsed()?);
    let sum: i64 = columns.take()?;
    let row = CacheRow { value: columns.json()?, expires_at, used_at };
    if sum == i64::from(cache_sum(&key, &row)) { Ok((key, row)) } else { Err(RowError::Damaged) }
}

pub(super) fn put(connection: &Connection, key: &str, row: &CacheRow) -> rusqlite::Result<()> {
    let bytes = i64::try_from(key.len() + row.value.len_bytes()).unwrap_or(i64::MAX);
    connection.prepare_cached("REPLACE INTO cache VALUES(?,?,?,?,?,?)")?.execute((
        key,
        bytes,
        row.expires_at.map(Elapsed::as_micros),
        row.used_at.as_micros(),
        cache_sum(key, row),
        row.value.get(),
    ))?;
    Ok(())
}

fn listed(
    connection: &Connection,
    sql: &str,
    arguments: impl rusqlite::Params,
) -> Result<Vec<(String, u64)>, RowError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(arguments)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        let mut columns = Columns::new(row);
        values.push((columns.take()?, columns.unsigned()?));
    }
    Ok(values)
}

fn limit(count_max: usize) -> i64 {
    i64::try_from(count_max).unwrap_or(i64::MAX)
}

/// Returns the checksum of a cached value. It does not cover the last use: that is noted at each use without the value
/// at hand, and it only decides what is removed first when the cache is full.
fn cache_sum(key: &str, row: &CacheRow) -> u32 {
    Checksum::new().text(key).elapsed_if_any(row.expires_at).finish_with(Some(row.value.get()))
}
