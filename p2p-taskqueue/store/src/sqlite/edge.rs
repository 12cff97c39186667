use rusqlite::{Connection, Row};

use super::{
    fault::pass_over,
    row::{Checksum, Columns, RowError},
    rows::SqliteRows,
};
use crate::{EdgeTable, Fault, Seq};

impl EdgeTable for SqliteRows {
    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        Ok(add(&self.connection, parent, child)?)
    }

    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM edge WHERE parent=? AND child=?")?.execute((parent, child))?;
        Ok(())
    }

    fn has_edge(&mut self, parent: Seq, child: Seq) -> Result<bool, Fault> {
        Ok(is_there(&self.connection, parent, child)?)
    }

    fn children(&mut self, parent: Seq, count_max: usize) -> Result<Vec<Seq>, Fault> {
        let sql = "SELECT parent,child,crc FROM edge WHERE parent=? ORDER BY child";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([parent])?;
        let mut children = Vec::new();
        while children.len() < count_max
            && let Some(row) = rows.next()?
        {
            match read(row) {
                Ok((_, child)) => children.push(child),
                Err(RowError::Damaged) => pass_over("edge", row.get(1).ok()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(children)
    }

    fn unsettled(&mut self) -> Result<Vec<Seq>, Fault> {
        let mut statement = self.connection.prepare_cached(
            "SELECT parent FROM (SELECT DISTINCT parent FROM edge) WHERE parent IN (SELECT seq FROM finished) \
             ORDER BY parent",
        )?;
        let unsettled = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(unsettled)
    }
}

pub(super) fn add(connection: &Connection, parent: Seq, child: Seq) -> rusqlite::Result<()> {
    connection.prepare_cached("REPLACE INTO edge VALUES(?,?,?)")?.execute((parent, child, edge_sum(parent, child)))?;
    Ok(())
}

/// Returns whether `child` waits for the end of `parent`.
pub(super) fn is_there(connection: &Connection, parent: Seq, child: Seq) -> Result<bool, RowError> {
    let mut statement = connection.prepare_cached("SELECT parent,child,crc FROM edge WHERE parent=? AND child=?")?;
    let mut rows = statement.query([parent, child])?;
    Ok(rows.next()?.map(read).transpose()?.is_some())
}

/// Reads a row of `edge`.
pub(super) fn read(row: &Row<'_>) -> Result<(Seq, Seq), RowError> {
    let mut columns = Columns::new(row);
    let (parent, child) = (columns.take()?, columns.take()?);
    columns.checked(edge_sum(parent, child))?;
    Ok((parent, child))
}

fn edge_sum(parent: Seq, child: Seq) -> u32 {
    Checksum::new().int(parent).int(child).finish()
}
