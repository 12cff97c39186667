use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    fault::pass_over,
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{Due, Fault, Seq, Timer, TimerTable};

impl TimerTable for SqliteRows {
    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        Ok(set(&self.connection, due, seq)?)
    }

    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        let mut clear = self.connection.prepare_cached("DELETE FROM timer WHERE kind=? AND at=? AND seq=?")?;
        clear.execute((kind(due.timer()), due.as_micros(), seq))?;
        Ok(())
    }

    fn due(&mut self, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault> {
        due(&self.connection, by, count_max)
    }

    fn first_due(&mut self, timer: Timer) -> Result<Option<Due>, Fault> {
        let sql = "SELECT at,seq,crc FROM timer WHERE kind=? ORDER BY at,seq";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([kind(timer)])?;
        while let Some(row) = rows.next()? {
            if let Some((due, _)) = usable(timer, row)? {
                return Ok(Some(due));
            }
        }
        Ok(None)
    }
}

pub(super) fn set(connection: &Connection, due: Due, seq: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("REPLACE INTO timer VALUES(?,?,?,?)")?.execute((
        kind(due.timer()),
        due.as_micros(),
        seq,
        timer_sum(due, seq),
    ))?;
    Ok(())
}

/// Returns whether the timer is set.
pub(super) fn is_set(connection: &Connection, due: Due, seq: Seq) -> rusqlite::Result<bool> {
    let sum: Option<i64> = connection
        .prepare_cached("SELECT crc FROM timer WHERE kind=? AND at=? AND seq=?")?
        .query_row((kind(due.timer()), due.as_micros(), seq), |row| row.get(0))
        .optional()?;
    Ok(sum == Some(i64::from(timer_sum(due, seq))))
}

/// Returns the first timers of a kind that end at `by` or before.
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

/// Reads a row of `timer` of this kind: the time, the task and the checksum.
pub(super) fn read(timer: Timer, row: &Row<'_>) -> Result<(Due, Seq), RowError> {
    let mut columns = Columns::new(row);
    let (due, seq) = (timer.at(columns.take()?), columns.take()?);
    columns.checked(timer_sum(due, seq))?;
    Ok((due, seq))
}

fn timer_sum(due: Due, seq: Seq) -> u32 {
    Checksum::new().int(kind(due.timer())).int(due.as_micros()).int(seq).finish()
}

/// Returns the kind with this number.
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
