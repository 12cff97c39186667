use rusqlite::{Connection, Row, Rows};

use super::{
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{Fault, TypeRow, TypeTable};

impl TypeTable for SqliteRows {
    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, Fault> {
        Ok(all(&self.connection)?)
    }

    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault> {
        Ok(put(&self.connection, task_type, row)?)
    }

    fn key_limits(&mut self) -> Result<Vec<(String, u32)>, Fault> {
        Ok(key_limits(&self.connection)?)
    }

    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault> {
        Ok(put_key_limit(&self.connection, key, running_max)?)
    }
}

/// Returns the counts and settings of all types, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<(String, TypeRow)>, RowError> {
    take(connection.prepare_cached("SELECT * FROM type ORDER BY name")?.query([])?)
}

/// Returns the counts and settings of the first types, or of the first types behind `behind`.
pub(super) fn some(
    connection: &Connection,
    behind: Option<&str>,
    count_max: usize,
) -> Result<Vec<(String, TypeRow)>, RowError> {
    let count_max = count_max.cast_signed();
    match behind {
        None => take(connection.prepare_cached("SELECT * FROM type ORDER BY name LIMIT ?")?.query([count_max])?),
        Some(name) => {
            let mut behind = connection.prepare_cached("SELECT * FROM type WHERE name>? ORDER BY name LIMIT ?")?;
            take(behind.query((name, count_max))?)
        }
    }
}

fn take(mut rows: Rows<'_>) -> Result<Vec<(String, TypeRow)>, RowError> {
    let mut types = Vec::new();
    while let Some(row) = rows.next()? {
        types.push(read(row)?);
    }
    Ok(types)
}

/// Reads a row of `type`.
pub(super) fn read(row: &Row<'_>) -> Result<(String, TypeRow), RowError> {
    let mut columns = Columns::new(row);
    let name: String = columns.take()?;
    let mut counts = [0; _];
    for count in &mut counts {
        *count = columns.bits()?;
    }
    let row = TypeRow { counts, paused: columns.take()?, draining: columns.take()?, running_max: columns.take()? };
    columns.checked(type_sum(&name, &row))?;
    Ok((name, row))
}

pub(super) fn put(connection: &Connection, name: &str, row: &TypeRow) -> rusqlite::Result<()> {
    if *row == TypeRow::default() {
        connection.prepare_cached("DELETE FROM type WHERE name=?")?.execute([name])?;
        return Ok(());
    }
    let [queued, running, completed, failed, cancelled] = row.counts.map(u64::cast_signed);
    connection.prepare_cached("REPLACE INTO type VALUES(?,?,?,?,?,?,?,?,?,?)")?.execute((
        name,
        queued,
        running,
        completed,
        failed,
        cancelled,
        row.paused,
        row.draining,
        row.running_max,
        type_sum(name, row),
    ))?;
    Ok(())
}

/// Returns the limits of concurrency keys, by key.
pub(super) fn key_limits(connection: &Connection) -> Result<Vec<(String, u32)>, RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM key_limit ORDER BY key")?;
    let mut rows = statement.query([])?;
    let mut limits = Vec::new();
    while let Some(row) = rows.next()? {
        limits.push(read_key_limit(row)?);
    }
    Ok(limits)
}

/// Reads a row of `key_limit`.
pub(super) fn read_key_limit(row: &Row<'_>) -> Result<(String, u32), RowError> {
    let mut columns = Columns::new(row);
    let (key, running_max): (String, u32) = (columns.take()?, columns.take()?);
    columns.checked(key_limit_sum(&key, running_max))?;
    Ok((key, running_max))
}

pub(super) fn put_key_limit(connection: &Connection, key: &str, running_max: Option<u32>) -> rusqlite::Result<()> {
    match running_max {
        Some(running_max) => connection.prepare_cached("REPLACE INTO key_limit VALUES(?,?,?)")?.execute((
            key,
            running_max,
            key_limit_sum(key, running_max),
        ))?,
        None => connection.prepare_cached("DELETE FROM key_limit WHERE key=?")?.execute([key])?,
    };
    Ok(())
}

fn type_sum(name: &str, row: &TypeRow) -> u32 {
    let mut sum = Checksum::new();
    sum.text(name).int(row.paused).int(row.draining).int(row.running_max.map_or(-1, i64::from));
    row.counts.iter().for_each(|count| _ = sum.unsigned(*count));
    sum.finish()
}

fn key_limit_sum(key: &str, running_max: u32) -> u32 {
    Checksum::new().text(key).int(running_max).finish()
}
