use rusqlite::Connection;

use crate::task::TaskStatus;

/// The store's running numbers: written with every batch, so that opening it counts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Committed batches that changed something; tells after a failed commit whether it took effect.
    pub(super) batch: i64,
    /// The next task's place in the order of acceptance; never given twice, so cursors stay good.
    pub(super) next_seq: i64,
    counts: [i64; TaskStatus::ALL.len()],
}

impl Tally {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT batch, next_seq, queued, running, completed, failed, cancelled FROM meta WHERE only = 0";
        connection.prepare_cached(sql)?.query_row([], |row| {
            let counts = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
            Ok(Self { batch: row.get(0)?, next_seq: row.get(1)?, counts })
        })
    }

    pub(super) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let [queued, running, completed, failed, cancelled] = self.counts;
        connection
            .prepare_cached(
                "UPDATE meta SET batch = ?1, next_seq = ?2, queued = ?3, running = ?4, completed = ?5, failed = ?6, \
                 cancelled = ?7 WHERE only = 0",
            )?
            .execute((self.batch, self.next_seq, queued, running, completed, failed, cancelled))?;
        Ok(())
    }

    /// One more task with this status.
    pub(super) fn enter(&mut self, status: TaskStatus) {
        self.change(status, 1);
    }

    /// One task less with this status.
    pub(super) fn leave(&mut self, status: TaskStatus) {
        self.change(status, -1);
    }

    /// The counts by status.
    pub(super) fn counts(&self) -> impl Iterator<Item = (TaskStatus, u64)> {
        TaskStatus::ALL.into_iter().zip(self.counts).map(|(status, count)| (status, u64::try_from(count).unwrap_or(0)))
    }

    fn change(&mut self, status: TaskStatus, by: i64) {
        let counted = TaskStatus::ALL.iter().position(|known| *known == status).and_then(|at| self.counts.get_mut(at));
        if let Some(count) = counted {
            *count += by;
        }
    }
}

/// Raises the epoch and answers it; on stable storage when it returns, so that no fence is issued twice (clause T2).
pub(super) fn raise_epoch(connection: &Connection) -> rusqlite::Result<u64> {
    connection.execute("UPDATE meta SET epoch = epoch + 1 WHERE only = 0", [])?;
    let epoch: i64 = connection.query_row("SELECT epoch FROM meta WHERE only = 0", [], |row| row.get(0))?;
    Ok(u64::try_from(epoch).unwrap_or(0))
}
