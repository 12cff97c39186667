use rusqlite::{Connection, OptionalExtension, Row};

use super::row::{Checksum, Columns, RowError};
use crate::{CacheRow, engine::Elapsed};

/// Bytes of all values with their keys.
pub(super) fn bytes(connection: &Connection) -> Result<u64, RowError> {
    let bytes: i64 = connection
        .prepare_cached("SELECT coalesce(sum(bytes),0) FROM cache INDEXED BY cache_used")?
        .query_row([], |row| row.get(0))?;
    u64::try_from(bytes).map_err(|_| RowError::Damaged)
}

/// Bytes of one value with its key.
pub(super) fn size(connection: &Connection, key: &str) -> Result<Option<u64>, RowError> {
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

pub(super) fn touch(connection: &Connection, key: &str, used_at: Elapsed) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE cache SET used_at=? WHERE key=?")?.execute((used_at.as_micros(), key))?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, key: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM cache WHERE key=?")?.execute([key])?;
    Ok(())
}

/// The values that were not used for longest, with their bytes.
pub(super) fn least_used(connection: &Connection, count_max: usize) -> Result<Vec<(String, u64)>, RowError> {
    listed(
        connection,
        "SELECT key,bytes FROM cache INDEXED BY cache_used ORDER BY used_at LIMIT ?1",
        [limit(count_max)],
    )
}

/// Values whose time has ended, with their bytes.
pub(super) fn expired(connection: &Connection, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, RowError> {
    let sql = "SELECT key,bytes FROM cache WHERE expires_at<=?1 ORDER BY expires_at LIMIT ?2";
    listed(connection, sql, [by.as_micros(), limit(count_max)])
}

pub(super) fn first_expiry(connection: &Connection) -> rusqlite::Result<Option<Elapsed>> {
    let first: Option<i64> = connection
        .prepare_cached("SELECT min(expires_at) FROM cache WHERE expires_at IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    Ok(first.map(Elapsed::from_micros))
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

/// When it was last used is left out: it is noted at each use, without the value at hand, and decides only what goes
/// first when the cache is full.
fn cache_sum(key: &str, row: &CacheRow) -> u32 {
    Checksum::new().text(key).elapsed_if_any(row.expires_at).finish_with(Some(row.value.get()))
}
