use rusqlite::Connection;

use super::row::{Checksum, Columns, RowError};
use crate::{Clocks, Meta, Seq};

/// A random name of the store. Its companion files carry it.
pub(super) type StoreName = [u8; 16];

/// Names the store and starts its running numbers.
pub(super) fn insert_first(connection: &Connection) -> rusqlite::Result<()> {
    insert(connection, &Meta { next_seq: FIRST_SEQ, ..Meta::default() })
}

/// Names the store and sets its running numbers.
pub(super) fn insert(connection: &Connection, meta: &Meta) -> rusqlite::Result<()> {
    let name: StoreName = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    connection
        .execute("INSERT INTO meta (only, store, epoch, batch, next_seq, crc) VALUES (0, ?1, 0, 0, 0, 0)", [name])?;
    write(connection, name, meta)
}

pub(super) fn read(connection: &Connection) -> Result<(StoreName, Meta), RowError> {
    let mut statement = connection.prepare_cached("SELECT * FROM meta WHERE only=0")?;
    let mut rows = statement.query([])?;
    let row = rows.next()?.ok_or(RowError::Damaged)?;
    let mut columns = Columns::new(row);
    let _only: i64 = columns.take()?;
    let name = columns.take()?;
    let (epoch, batch, next_seq) = (columns.bits()?, columns.bits()?, columns.take()?);
    let stored = columns.sum()?;
    let clocks = match (columns.elapsed_if_any()?, columns.wall_if_any()?, columns.take()?, columns.take()?) {
        (Some(elapsed), Some(wall), Some(uptime), boot) => Some(Clocks { elapsed, wall, uptime, boot }),
        _ => None,
    };
    let meta = Meta { epoch, batch, next_seq, clocks };
    if stored == i64::from(sum(name, &meta)) { Ok((name, meta)) } else { Err(RowError::Damaged) }
}

pub(super) fn write(connection: &Connection, name: StoreName, meta: &Meta) -> rusqlite::Result<()> {
    let clocks = meta.clocks;
    connection
        .prepare_cached(
            "UPDATE meta SET epoch=?,batch=?,next_seq=?,crc=?,elapsed=?,wall=?,uptime=?,boot=? WHERE only=0",
        )?
        .execute((
            meta.epoch.cast_signed(),
            meta.batch.cast_signed(),
            meta.next_seq,
            sum(name, meta),
            clocks.map(|clocks| clocks.elapsed.as_micros()),
            clocks.map(|clocks| clocks.wall.as_micros()),
            clocks.map(|clocks| clocks.uptime),
            clocks.and_then(|clocks| clocks.boot),
        ))?;
    Ok(())
}

fn sum(name: StoreName, meta: &Meta) -> u32 {
    let mut sum = Checksum::new();
    sum.bytes(Some(&name)).unsigned(meta.epoch).unsigned(meta.batch).int(meta.next_seq);
    // A store that was just created has no clocks.
    if let Some(Clocks { elapsed, wall, uptime, boot }) = meta.clocks {
        sum.elapsed(elapsed).wall(wall).int(uptime).bytes(boot.as_ref().map(<[u8; 16]>::as_slice));
    }
    sum.finish()
}

/// The first sequence number. No number is zero or negative, because `live` keeps the rows of tasks that do not run
/// under negative keys.
const FIRST_SEQ: Seq = 1;
