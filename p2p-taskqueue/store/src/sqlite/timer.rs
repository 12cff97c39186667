use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    fault::pass_over,
    row::{Checksum, Columns, RowError},
};
use crate::{Due, Fault, Seq, Timer};

pub(super) fn set(connection: &Connection, due: Due, seq: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("REPLACE INTO timer VALUES(?,?,?,?)")?.execute((
        kind(due.timer()),
        due.as_micros(),
        seq,
        timer_sum(due, seq),
    ))?;
    Ok(())
}

pub(super) fn clear(connection: &Connection, due: Due, seq: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM timer WHERE kind=? AND at=? AND seq=?")?.execute((
        kind(due.timer()),
        due.as_micros(),
        seq,
    ))?;
    Ok(())
}

/// Whether it is set.
pub(super) fn is_set(connection: &Connection, due: Due, seq: Seq) -> rusqlite::Result<bool> {
    let sum: Option<i64> = connection
        .prepare_cached("SELECT crc FROM timer WHERE kind=? AND at=? AND seq=?")?
        .query_row((kind(due.timer()), due.as_micros(), seq), |row| row.get(0))
        .optional()?;
    Ok(sum == Some(i64::from(timer_sum(due, seq))))
}

/// The first timers of a kind that end at `by` or before.
pub(super) fn due(connection: &Connection, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault> {
    let mut statement =
        connection.prepare_cached("SELECT at,seq,crc FROM timer WHERE kind=? AND at<=? ORDER BY at,seq")?;
    let mut rows = statement.query((kind(by.timer()), by.as_micros()))?;
    let mut due = Vec::new();
    while due.len() < count_max
        && let Some(row) = rows.next()?
    {
        due.extend(usable(by.timer(), row)?);
    }
    Ok(due)
}

/// When the first timer of a kind ends.
pub(super) fn first_due(connection: &Connection, timer: Timer) -> Result<Option<Due>, Fault> {
    let mut statement = connection.prepare_cached("SELECT at,seq,crc FROM timer WHERE kind=? ORDER BY at,seq")?;
    let mut rows = statement.query([kind(timer)])?;
    while let Some(row) = rows.next()? {
        if let Some((due, _)) = usable(timer, row)? {
            return Ok(Some(due));
        }
    }
    Ok(None)
}

fn usable(timer: Timer, row: &Row<'_>) -> Result<Option<(Due, Seq)>, Fault> {
    match read(timer, row) {
        Ok(found) => Ok(Some(found)),
        Err(RowError::Damaged) => {
            pass_over("timer", row.get(1).ok());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the time, the task and the checksum of a timer of this kind.
pub(super) fn read(timer: Timer, row: &Row<'_>) -> Result<(Due, Seq), RowError> {
    let mut columns = Columns::new(row);
    let (due, seq) = (timer.at(columns.take()?), columns.take()?);
    columns.checked(timer_sum(due, seq))?;
    Ok((due, seq))
}

fn timer_sum(due: Due, seq: Seq) -> u32 {
    Checksum::new().int(kind(due.timer())).int(due.as_micros()).int(seq).finish()
}

/// The kind of this number.
pub(super) fn of_kind(number: i64) -> Option<Timer> {
    Timer::ALL.into_iter().find(|timer| kind(*timer) == number)
}

pub(super) const fn kind(timer: Timer) -> i64 {
    match timer {
        Timer::Ready => 0,
        Timer::Deadline => 1,
        Timer::Removal => 2,
        Timer::Date => 3,
    }
}
