use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, Row};
use taskqueue_api::{Json, TaskId};

use super::super::{find, line, row::LiveRow, timer};
use crate::{
    Due, Seq, TaskRow, Timer,
    engine::{Ended, Lane, Live, Phase},
};

/// A task that was read from a damaged store, with its state.
pub(super) type Salvaged = Result<(TaskRow, Stands), Lost>;

/// A task that is lost, because something of it cannot be read or its rows contradict each other.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) id: Option<TaskId>,
    pub(super) why: &'static str,
}

/// The state of a task.
pub(super) enum Stands {
    Fresh,
    Live(Live),
    /// The row of the state is lost, and other rows make this state likely.
    Likely(Live),
    Ended(Ended, Option<Json>),
}

/// The tasks of a damaged store.
pub(super) struct Salvage<'a> {
    connection: &'a Connection,
    /// Tasks for which any row notes an end. Even if the row with the end is lost, they must not run again.
    ended: HashSet<Seq>,
    /// Tasks that become claimable by a timer, with that timer.
    waiting: HashMap<Seq, Due>,
    /// Every task that any row names. The task's own rows may be lost.
    known: BTreeMap<Seq, TaskId>,
    /// The highest number of any task.
    last: Seq,
}

impl<'a> Salvage<'a> {
    pub(super) fn new(connection: &'a Connection, next_seq: Seq) -> Self {
        let mut ended = HashSet::new();
        for sql in ["SELECT seq FROM timer WHERE kind=2", "SELECT seq FROM finished"] {
            each(connection, sql, &mut |row| {
                ended.insert(row.get(0)?);
                Ok(())
            });
        }
        let mut waiting = HashMap::new();
        for timer in [Timer::Ready, Timer::Date] {
            let sql = format!("SELECT seq,at FROM timer WHERE kind={}", timer::kind(timer));
            each(connection, &sql, &mut |row| {
                waiting.insert(row.get(0)?, timer.at(row.get(1)?));
                Ok(())
            });
        }
        let mut known = BTreeMap::new();
        for sql in KNOWN {
            each(connection, sql, &mut |row| {
                known.insert(row.get(0)?, TaskId::from_bytes(row.get(1)?));
                Ok(())
            });
        }
        let highest = known.last_key_value().map_or(0, |(seq, _)| *seq);
        Self { connection, ended, waiting, known, last: next_seq.max(highest) }
    }

    /// Returns the highest number that a task can have.
    pub(super) const fn last(&self) -> Seq {
        self.last
    }

    /// Passes every task to `take`, the first accepted first.
    ///
    /// # Errors
    ///
    /// The error of `take`.
    pub(super) fn each<E>(&self, mut take: impl FnMut(Seq, Salvaged) -> Result<(), E>) -> Result<(), E> {
        let mut gone = self.known.clone();
        self.each_there(|seq, salvaged| {
            gone.remove(&seq);
            take(seq, salvaged)
        })?;
        gone.into_iter()
            .try_for_each(|(seq, id)| take(seq, Err(Lost { id: Some(id), why: "what was submitted is gone" })))
    }

    fn each_there<E>(&self, mut take: impl FnMut(Seq, Salvaged) -> Result<(), E>) -> Result<(), E> {
        let mut after = -1;
        while after < self.last {
            let in_order = |seqs: &Vec<Seq>| seqs.is_sorted() && seqs.first().is_none_or(|first| *first > after);
            let Some(seqs) = self.some(after).ok().filter(in_order) else {
                // A page on the way is damaged, so each number is looked up by itself.
                let until = after.saturating_add(PROBED).min(self.last);
                for seq in after + 1..=until {
                    if let Some(salvaged) = self.one(seq) {
                        take(seq, salvaged)?;
                    }
                }
                after = until;
                continue;
            };
            let Some(last) = seqs.last().copied() else { break };
            for seq in seqs {
                if let Some(salvaged) = self.one(seq) {
                    take(seq, salvaged)?;
                }
            }
            after = last;
        }
        Ok(())
    }

    fn some(&self, after: Seq) -> rusqlite::Result<Vec<Seq>> {
        self.connection
            .prepare_cached("SELECT seq FROM task WHERE seq>? ORDER BY seq LIMIT ?")?
            .query_map([after, PROBED], |row| row.get(0))?
            .collect()
    }

    fn one(&self, seq: Seq) -> Option<Salvaged> {
        match find::task(self.connection, seq) {
            Ok(Some(row)) => Some(match self.stands(&row) {
                Ok(stands) => Ok((row, stands)),
                Err(why) => Err(Lost { id: Some(row.spec.id), why }),
            }),
            Ok(None) => None,
            Err(_) => {
                let id = self.connection.query_row("SELECT id FROM task WHERE seq=?", [seq], |row| row.get(0));
                Some(Err(Lost { id: id.ok().map(TaskId::from_bytes), why: "what was submitted cannot be read" }))
            }
        }
    }

    fn stands(&self, row: &TaskRow) -> Result<Stands, &'static str> {
        let (seq, id) = (row.seq, row.spec.id);
        let ended = find::ended(self.connection, seq).map_err(|_| "it has ended, and how cannot be read")?;
        if let Some((of, ended, result)) = ended {
            return if of == id { Ok(Stands::Ended(ended, result)) } else { Err("its end is another task's") };
        }
        if self.ended.contains(&seq) {
            return Err("it has ended, and how cannot be read");
        }
        match find::live(self.connection, seq) {
            Ok(Some(LiveRow { id: of, live, .. })) if of == id => Ok(Stands::Live(live)),
            Ok(None) => Ok(self.without_rows(row)),
            Ok(Some(_)) | Err(_) => Err("how it stood cannot be read"),
        }
    }

    /// Returns the state of a task that has neither an ended row nor a live row: it is fresh, or the row is lost.
    fn without_rows(&self, row: &TaskRow) -> Stands {
        let (lane, place) = (Lane::of(&row.spec).to_text(), line::place_of(row, row.ready_at));
        if line::stands(self.connection, &lane, &place).is_ok_and(|stands| stands) {
            return Stands::Fresh;
        }
        let deadline = row.spec.deadline_s.map(|seconds| row.ready_at.after(seconds));
        let likely = Live { deadline, ..row.fresh() };
        Stands::Likely(match self.waiting.get(&row.seq) {
            Some(Due::Ready(at)) => Live { phase: Phase::Delayed, ready_at: *at, ..likely },
            Some(Due::Date(date)) => Live { phase: Phase::Scheduled, not_before: Some(*date), ..likely },
            _ if row.spec.after.is_empty() => likely,
            _ => Live { phase: Phase::Blocked, ..likely },
        })
    }
}

/// Passes the rows that a query finds to `take`, as far as they can be read. What lies behind the damage is noticed
/// when the tasks are read.
fn each(connection: &Connection, sql: &str, take: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<()>) {
    let found = connection.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A row with values of another type is damaged. That is noticed when its task is read.
            drop(take(row));
        }
        Ok(())
    });
    drop(found);
}

/// All queries that name tasks. The index on task ids is a tree of its own.
const KNOWN: &[&str] = &[
    "SELECT seq,id FROM finished",
    "SELECT max(key,~key),id FROM live",
    "SELECT seq,id FROM line",
    "SELECT seq,id FROM task INDEXED BY task_id",
    "SELECT seq,id FROM task NOT INDEXED",
];

/// The number of tasks that are read at once, and of numbers that are looked up one by one where that fails.
const PROBED: i64 = 512;
