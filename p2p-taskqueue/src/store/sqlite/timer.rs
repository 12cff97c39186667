use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    fault::pass_over,
    row::{Checksum, Columns, RowError},
};
use crate::{
    engine::Wall,
    store::{Fault, Seq, Timer},
};

pub(super) fn set(connection: &Connection, timer: Timer, at: Wall, seq: Seq) -> rusqlite::Result<()> {
    let sum = timer_sum(kind(timer), at, seq);
    connection.prepare_cached("REPLACE INTO timer VALUES(?,?,?,?)")?.execute((
        kind(timer),
        at.as_micros(),
        seq,
        sum,
    ))?;
    Ok(())
}

pub(super) fn clear(connection: &Connection, timer: Timer, at: Wall, seq: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM timer WHERE kind=? AND at=? AND seq=?")?.execute((
        kind(timer),
        at.as_micros(),
        seq,
    ))?;
    Ok(())
}

/// Whether it is set.
pub(super) fn is_set(connection: &Connection, timer: Timer, at: Wall, seq: Seq) -> rusqlite::Result<bool> {
    let sum: Option<i64> = connection
        .prepare_cached("SELECT crc FROM timer WHERE kind=? AND at=? AND seq=?")?
        .query_row((kind(timer), at.as_micros(), seq), |row| row.get(0))
        .optional()?;
    Ok(sum == Some(i64::from(timer_sum(kind(timer), at, seq))))
}

/// The first timers that end at `by` or before.
pub(super) fn due(
    connection: &Connection,
    timer: Timer,
    by: Wall,
    count_max: usize,
) -> Result<Vec<(Wall, Seq)>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT at,seq,crc FROM timer WHERE kind=? AND at<=? ORDER BY at,seq")?;
    let mut rows = statement.query((kind(timer), by.as_micros()))?;
    let mut due = Vec::new();
    while due.len() < count_max
        && let Some(row) = rows.next()?
    {
        due.extend(usable(timer, row)?);
    }
    Ok(due)
}

/// When the first timer ends.
pub(super) fn first_due(connection: &Connection, timer: Timer) -> Result<Option<Wall>, Fault> {
    let mut statement = connection.prepare_cached("SELECT at,seq,crc FROM timer WHERE kind=? ORDER BY at,seq")?;
    let mut rows = statement.query([kind(timer)])?;
    while let Some(row) = rows.next()? {
        if let Some((at, _)) = usable(timer, row)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn usable(timer: Timer, row: &Row<'_>) -> Result<Option<(Wall, Seq)>, Fault> {
    match read(kind(timer), row) {
        Ok(found) => Ok(Some(found)),
        Err(RowError::Damaged) => {
            pass_over("timer", row.get(1).ok());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the time, the task and the checksum of a timer of this kind.
pub(super) fn read(kind: i64, row: &Row<'_>) -> Result<(Wall, Seq), RowError> {
    let mut columns = Columns::new(row);
    let (at, seq) = (columns.wall()?, columns.take()?);
    columns.checked(timer_sum(kind, at, seq))?;
    Ok((at, seq))
}

fn timer_sum(kind: i64, at: Wall, seq: Seq) -> u32 {
    Checksum::new().int(kind).wall(at).int(seq).finish()
}

pub(super) const fn kind(timer: Timer) -> i64 {
    match timer {
        Timer::Ready => 0,
        Timer::Deadline => 1,
        Timer::Removal => 2,
    }
}
