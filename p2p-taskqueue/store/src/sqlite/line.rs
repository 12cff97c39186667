use std::{cmp::Reverse, collections::BTreeMap};

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

use super::{
    fault::pass_over,
    row::{Checksum, Columns, RowError, insert_place, read_place},
    rows::SqliteRows,
};
use crate::{Fault, LineTable, Place, Seq, TaskRow, engine::Elapsed};

impl LineTable for SqliteRows {
    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        insert_place(&self.connection, lane, place)?;
        self.blocks.joined(place.seq);
        Ok(())
    }

    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        let left = self
            .connection
            .prepare_cached("DELETE FROM line WHERE lane=? AND priority=? AND ready_at=? AND id=?")?
            .execute((lane, place.priority.0, place.ready_at.as_micros(), place.id.as_bytes().as_slice()))?;
        if left > 0 {
            self.blocks.left(place.seq);
        }
        Ok(())
    }

    fn line(&mut self, lane: &str, behind: Option<&Place>, count_max: usize) -> Result<Vec<Place>, Fault> {
        places(&self.connection, lane, behind, count_max)
    }

    fn next_lane(&mut self, behind: Option<&str>) -> Result<Option<String>, Fault> {
        next_lane(&self.connection, behind)
    }
}

/// Returns whether a task stands at this place of this line.
pub(super) fn stands(connection: &Connection, lane: &str, place: &Place) -> Result<bool, RowError> {
    let mut statement = connection.prepare_cached(
        "SELECT priority,ready_at,id,seq,crc FROM line WHERE lane=? AND priority=? AND ready_at=? AND id=?",
    )?;
    let (priority, ready_at, id) = (place.priority.0, place.ready_at.as_micros(), place.id.as_bytes().as_slice());
    let mut rows = statement.query((lane, priority, ready_at, id))?;
    match rows.next()? {
        Some(row) => Ok(read_place(row, lane)? == *place),
        None => Ok(false),
    }
}

/// Returns the first places of a line, or the first places behind `behind`.
pub(super) fn places(
    connection: &Connection,
    lane: &str,
    behind: Option<&Place>,
    count_max: usize,
) -> Result<Vec<Place>, Fault> {
    let mut places = Vec::new();
    let Some(behind) = behind else {
        let first = connection.prepare_cached(
            "SELECT priority,ready_at,id,seq,crc FROM line WHERE lane=? ORDER BY priority DESC,ready_at,id",
        )?;
        take(first, (lane,), lane, count_max, &mut places)?;
        return Ok(places);
    };
    let (priority, ready_at, id) = (behind.priority.0, behind.ready_at.as_micros(), behind.id.as_bytes().as_slice());
    // Two ranges of the same tree are read: SQLite would search for one condition over both from the start of the line.
    let same = connection.prepare_cached(
        "SELECT priority,ready_at,id,seq,crc FROM line WHERE lane=? AND priority=? AND (ready_at,id)>(?,?) \
         ORDER BY ready_at,id",
    )?;
    take(same, (lane, priority, ready_at, id), lane, count_max, &mut places)?;
    if places.len() < count_max {
        let lower = connection.prepare_cached(
            "SELECT priority,ready_at,id,seq,crc FROM line WHERE lane=? AND priority<? \
             ORDER BY priority DESC,ready_at,id",
        )?;
        take(lower, (lane, priority), lane, count_max, &mut places)?;
    }
    Ok(places)
}

fn take(
    mut statement: CachedStatement<'_>,
    from: impl rusqlite::Params,
    lane: &str,
    count_max: usize,
    places: &mut Vec<Place>,
) -> Result<(), Fault> {
    let mut rows = statement.query(from)?;
    while places.len() < count_max
        && let Some(row) = rows.next()?
    {
        match read_place(row, lane) {
            Ok(place) => places.push(place),
            Err(RowError::Damaged) => pass_over("line", None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns the first lane that has a line, or the next one behind `behind`.
pub(super) fn next_lane(connection: &Connection, behind: Option<&str>) -> Result<Option<String>, Fault> {
    let mut found = match behind {
        None => connection
            .prepare_cached("SELECT CAST(lane AS BLOB) FROM line ORDER BY lane LIMIT 1")?
            .query_row([], |row| row.get::<_, Vec<u8>>(0))
            .optional()?,
        Some(behind) => lane_behind(connection, behind.as_bytes())?,
    };
    loop {
        match found.map(String::from_utf8) {
            None => return Ok(None),
            Some(Ok(lane)) => return Ok(Some(lane)),
            Some(Err(error)) => {
                pass_over("line", None);
                found = lane_behind(connection, error.as_bytes())?;
            }
        }
    }
}

fn lane_behind(connection: &Connection, lane: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT CAST(lane AS BLOB) FROM line WHERE lane>CAST(? AS TEXT) ORDER BY lane LIMIT 1")?
        .query_row([lane], |row| row.get(0))
        .optional()
}

/// Returns the time since when the oldest ready task has been ready. The tree has one run of rows for each line and
/// priority, and the first row of a run is its oldest. So this steps from run to run, up to [`RUNS_MAX`] of them, which
/// is exact for any usual number of lines.
pub(super) fn oldest_ready(connection: &Connection) -> rusqlite::Result<Option<Elapsed>> {
    let mut lower = connection.prepare_cached(
        "SELECT lane,priority,ready_at FROM line WHERE lane=? AND priority<? ORDER BY priority DESC,ready_at LIMIT 1",
    )?;
    let mut next = connection.prepare_cached(
        "SELECT lane,priority,ready_at FROM line WHERE lane>? ORDER BY lane,priority DESC,ready_at LIMIT 1",
    )?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?));
    let (mut at, mut oldest): ((String, i64), Option<i64>) = ((String::new(), 0), None);
    for _ in 0..RUNS_MAX {
        let run = match lower.query_row((&at.0, at.1), read).optional()? {
            Some(run) => run,
            None => match next.query_row([&at.0], read).optional()? {
                Some(run) => run,
                None => break,
            },
        };
        let (lane, priority, ready_at) = run;
        oldest = Some(oldest.map_or(ready_at, |oldest| oldest.min(ready_at)));
        at = (lane, priority);
    }
    Ok(oldest.map(Elapsed::from_micros))
}

/// The changes of `block` in the open transaction. They are written once, before the commit.
#[derive(Debug, Default)]
pub(super) struct Blocks(BTreeMap<i64, i64>);

impl Blocks {
    pub(super) fn joined(&mut self, seq: Seq) {
        *self.0.entry(block_of(seq)).or_default() += 1;
    }

    pub(super) fn left(&mut self, seq: Seq) {
        *self.0.entry(block_of(seq)).or_default() -= 1;
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Writes the changes.
    pub(super) fn save(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        while let Some((number, change)) = self.0.pop_first() {
            if change == 0 {
                continue;
            }
            let ready = match read_block(connection, number) {
                Ok(ready) => ready.saturating_add(change),
                Err(RowError::Damaged) => MANY,
                Err(RowError::Sqlite(error)) => return Err(error),
            };
            if ready == 0 {
                connection.prepare_cached("DELETE FROM block WHERE number=?")?.execute([number])?;
            } else {
                connection.prepare_cached("REPLACE INTO block VALUES(?,?,?)")?.execute((
                    number,
                    ready,
                    block_sum(number, ready),
                ))?;
            }
        }
        Ok(())
    }
}

fn read_block(connection: &Connection, number: i64) -> Result<i64, RowError> {
    let mut statement = connection.prepare_cached("SELECT number,ready,crc FROM block WHERE number=?")?;
    let mut rows = statement.query([number])?;
    Ok(rows.next()?.map(read_count).transpose()?.map_or(0, |(_, ready)| ready))
}

/// Reads a row of `block`.
pub(super) fn read_count(row: &Row<'_>) -> Result<(i64, i64), RowError> {
    let mut columns = Columns::new(row);
    let (number, ready) = (columns.take()?, columns.take()?);
    columns.checked(block_sum(number, ready))?;
    Ok((number, ready))
}

/// Returns the sequence numbers of the first block at `from` or behind it that has a ready task; with `forward` false,
/// at `from` or before it.
pub(super) fn next_block(connection: &Connection, from: Seq, forward: bool) -> Result<Option<(Seq, Seq)>, RowError> {
    let mut statement = connection.prepare_cached(if forward {
        "SELECT number,ready,crc FROM block WHERE number>=? ORDER BY number LIMIT 1"
    } else {
        "SELECT number,ready,crc FROM block WHERE number<=? ORDER BY number DESC LIMIT 1"
    })?;
    let mut rows = statement.query([block_of(from)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (number, _) = read_count(row)?;
    let first = number.saturating_mul(BLOCK);
    Ok(Some((first, first.saturating_add(BLOCK - 1))))
}

fn block_sum(number: i64, ready: i64) -> u32 {
    Checksum::new().int(number).int(ready).finish()
}

pub(super) const fn block_of(seq: Seq) -> i64 {
    seq.div_euclid(BLOCK)
}

/// Returns the place of a task in its line, whether or not it stands there.
pub(super) const fn place_of(row: &TaskRow, ready_at: Elapsed) -> Place {
    Place { priority: Reverse(row.spec.priority), ready_at, id: row.spec.id, seq: row.seq }
}

/// The number of sequence numbers in one block. Examining them costs less than a millisecond, and a million tasks have
/// a thousand blocks.
pub(super) const BLOCK: i64 = 1_024;

/// Stands for an unknown count: it never falls to zero.
const MANY: i64 = 1 << 40;

/// The most runs of lines that are looked at for the oldest task.
const RUNS_MAX: usize = 1_000;
