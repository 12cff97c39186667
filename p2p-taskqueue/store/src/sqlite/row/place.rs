use std::cmp::Reverse;

use rusqlite::{Connection, Row};

use super::{Checksum, Columns, RowError};
use crate::Place;

/// Reads a row of `line` whose lane is known.
pub(crate) fn read_place(row: &Row<'_>, lane: &str) -> Result<Place, RowError> {
    let mut columns = Columns::new(row);
    let (priority, ready_at, id, seq) = (columns.take()?, columns.elapsed()?, columns.id()?, columns.take()?);
    let place = Place { priority: Reverse(priority), ready_at, id, seq };
    columns.checked(place_sum(lane, &place))?;
    Ok(place)
}

/// Writes a row of `line`.
pub(crate) fn insert_place(connection: &Connection, lane: &str, place: &Place) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("REPLACE INTO line VALUES(?,?,?,?,?,?)")?;
    statement.raw_bind_parameter(1, lane)?;
    statement.raw_bind_parameter(2, place.priority.0)?;
    statement.raw_bind_parameter(3, place.ready_at.as_micros())?;
    statement.raw_bind_parameter(4, place.id.as_bytes().as_slice())?;
    statement.raw_bind_parameter(5, place.seq)?;
    statement.raw_bind_parameter(6, place_sum(lane, place))?;
    statement.raw_execute()?;
    Ok(())
}

fn place_sum(lane: &str, place: &Place) -> u32 {
    let mut sum = Checksum::new();
    sum.text(lane).int(place.priority.0).elapsed(place.ready_at).bytes(Some(place.id.as_bytes())).int(place.seq);
    sum.finish()
}
