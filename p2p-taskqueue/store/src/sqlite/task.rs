use taskqueue_api::{Json, TaskId};

use super::{
    find,
    row::{RowError, insert_ended, insert_task, live_key, put_live, read_live},
    rows::SqliteRows,
};
use crate::{
    Fault, Seq, TaskRow, TaskTable,
    engine::{Ended, Live, Phase},
};

impl TaskTable for SqliteRows {
    fn seq_of(&mut self, id: TaskId) -> Result<Option<Seq>, Fault> {
        Ok(find::seq_of(&self.connection, id)?)
    }

    fn task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Fault> {
        Ok(find::task(&self.connection, seq)?)
    }

    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault> {
        Ok(insert_task(&self.connection, row)?)
    }

    fn remove_task(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM task WHERE seq=?")?.execute([seq])?;
        Ok(())
    }

    fn live(&mut self, seq: Seq) -> Result<Option<Live>, Fault> {
        self.found = None;
        let row = find::live(&self.connection, seq)?;
        self.found = Some((seq, row.as_ref().map(|row| live_key(seq, row.live.phase))));
        Ok(row.map(|row| row.live))
    }

    fn put_live(&mut self, seq: Seq, id: TaskId, live: &Live) -> Result<(), Fault> {
        let key = live_key(seq, live.phase);
        match self.found.take() {
            Some((found, at)) if found == seq => {
                if let Some(old) = at.filter(|old| *old != key) {
                    self.remove_live_at(old)?;
                }
            }
            _ => _ = self.remove_live_at(!key)?,
        }
        Ok(put_live(&self.connection, seq, id, live)?)
    }

    fn remove_live(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.found = None;
        if !self.remove_live_at(live_key(seq, Phase::Running))? {
            self.remove_live_at(live_key(seq, Phase::Ready))?;
        }
        Ok(())
    }

    fn running(&mut self) -> Result<Vec<(Seq, TaskId, Live)>, Fault> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM live WHERE key>=0 ORDER BY key")?;
        let mut rows = statement.query([])?;
        let mut running = Vec::new();
        while let Some(row) = rows.next()? {
            match read_live(row) {
                Ok(row) => running.push((row.seq, row.id, row.live)),
                Err(RowError::Damaged) => {
                    let seq: Option<Seq> = row.get(0).ok();
                    tracing::error!(seq, "the record of a running task is damaged");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(running)
    }

    fn ended(&mut self, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, Fault> {
        Ok(find::ended(&self.connection, seq)?)
    }

    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        Ok(insert_ended(&self.connection, seq, id, ended, result)?)
    }

    fn remove_ended(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.connection.prepare_cached("DELETE FROM finished WHERE seq=?")?.execute([seq])?;
        Ok(())
    }
}

impl SqliteRows {
    fn remove_live_at(&self, key: i64) -> rusqlite::Result<bool> {
        Ok(self.connection.prepare_cached("DELETE FROM live WHERE key=?")?.execute([key])? > 0)
    }
}
