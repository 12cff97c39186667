use rusqlite::Connection;

use super::{
    super::{edge, find, meta, reads, row::RowError, timer},
    Scrub, Stopped,
};
use crate::{
    Due, Seq,
    engine::{Live, Phase, Record, Standing},
};

impl Scrub<'_> {
    /// Checks each task: its rows, and whether it stands where they say. It checks a few at a time, so that the log can
    /// begin anew in between.
    pub(super) fn tasks(&mut self) -> Result<(), Stopped> {
        let last = meta::read(self.connection).map_or(0, |(_, meta)| meta.next_seq);
        let mut after = -1;
        loop {
            match self.some_tasks(after) {
                Ok(Some(seq)) if seq > after => {
                    after = seq;
                    continue;
                }
                Ok(None) => return Ok(()),
                // In a damaged tree, the rows may be out of order.
                Ok(Some(_)) => {
                    self.unreadable(&format!("the tasks from number {} on", after + 1), RowError::Damaged)?;
                }
                Err(error) => self.unreadable(&format!("the tasks from number {} on", after + 1), error)?,
            }
            after += CHUNK;
            if after > last {
                return Ok(());
            }
        }
    }

    /// Checks some tasks behind a number, and returns the number of the last one.
    fn some_tasks(&mut self, after: Seq) -> Result<Option<Seq>, RowError> {
        let connection = self.connection;
        let snapshot = connection.unchecked_transaction()?;
        let seqs: Vec<Seq> = snapshot
            .prepare_cached("SELECT seq FROM task WHERE seq>? ORDER BY seq LIMIT ?")?
            .query_map([after, CHUNK], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for seq in &seqs {
            self.report.tasks += 1;
            let found = match reads::record(&snapshot, *seq) {
                Ok(Some(record)) => agrees(&snapshot, *seq, &record),
                Ok(None) => Err(RowError::Damaged),
                Err(error) => Err(error),
            };
            match found {
                Ok(None) => {}
                Ok(Some(problem)) => self.problem(format!("{}: {problem}", reads::named(&snapshot, *seq))),
                Err(RowError::Damaged) => {
                    self.problem(format!("{}: damaged, or not where it should stand", reads::named(&snapshot, *seq)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(seqs.last().copied())
    }
}

/// Returns the first entry of a task that does not agree with the task's rows, as a message.
fn agrees(snapshot: &Connection, seq: Seq, record: &Record) -> Result<Option<&'static str>, RowError> {
    if find::seq_of(snapshot, record.spec.id)? != Some(seq) {
        return Ok(Some("its id leads elsewhere"));
    }
    match &record.standing {
        Standing::Ended(ended) => {
            let is_set = timer::is_set(snapshot, Due::Removal(ended.expires_at), seq)?;
            Ok((!is_set).then_some("nothing removes it in time"))
        }
        Standing::Live(live) => live_agrees(snapshot, seq, record, live),
    }
}

fn live_agrees(
    snapshot: &Connection,
    seq: Seq,
    record: &Record,
    live: &Live,
) -> Result<Option<&'static str>, RowError> {
    if let Some(deadline) = live.deadline
        && !timer::is_set(snapshot, Due::Deadline(deadline), seq)?
    {
        return Ok(Some("nothing minds its deadline"));
    }
    if let Some(due) = Due::claimable(live)
        && !timer::is_set(snapshot, due, seq)?
    {
        return Ok(Some("nothing readies it when its time comes"));
    }
    match live.phase {
        Phase::Blocked => {
            for parent in &record.spec.after {
                if let Some(parent) = find::seq_of(snapshot, *parent)?
                    && edge::is_there(snapshot, parent, seq)?
                {
                    return Ok(None);
                }
            }
            Ok(Some("it waits for nothing"))
        }
        Phase::Ready | Phase::Delayed | Phase::Scheduled | Phase::Running => Ok(None),
    }
}

/// The number of tasks that are checked in one transaction.
const CHUNK: i64 = 256;
