use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, Row};
use taskqueue_api::{Json, TaskId};

use super::super::{find, line, row::LiveRow, timer};
use crate::{
    Due, Seq, TaskRow, Timer,
    engine::{Ended, Lane, Live, Phase},
};

/// A task as a damaged store has it, and how it stands.
pub(super) type Salvaged = Result<(TaskRow, Stands), Lost>;

/// Something of a task cannot be read, or its rows contradict each other.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) id: Option<TaskId>,
    pub(super) why: &'static str,
}

/// How a task stands.
pub(super) enum Stands {
    Fresh,
    Live(Live),
    /// The row that said so is gone; this is what other rows make likely.
    Likely(Live),
    Ended(Ended, Option<Json>),
}

/// The tasks of a damaged store.
pub(super) struct Salvage<'a> {
    connection: &'a Connection,
    /// Tasks whose end something notes; if the row of it is gone, they still must not run again.
    ended: HashSet<Seq>,
    /// Tasks that were to become claimable by themselves, and when.
    waiting: HashMap<Seq, Due>,
    /// Every task that anything knows of: their own rows may be gone.
    known: BTreeMap<Seq, TaskId>,
    /// No task has a higher number.
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

    /// The highest number that a task can have.
    pub(super) const fn last(&self) -> Seq {
        self.last
    }

    /// Hands every task out, the first accepted first.
    ///
    /// # Errors
    ///
    /// What `take` answers.
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
            let seqs = self.some(after);
            let Ok(seqs) = seqs else {
                // Some page on the way is damaged: ask for each number by itself.
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

    /// How a task stands that has neither row: it is fresh, or the row is gone.
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

/// Hands out the rows that a query finds, as far as it comes: what is behind the damage shows when the tasks are read.
fn each(connection: &Connection, sql: &str, take: &mut dyn FnMut(&Row<'_>) -> rusqlite::Result<()>) {
    let found = connection.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // A row with values of another type is damaged, and is found to be when its task is read.
            drop(take(row));
        }
        Ok(())
    });
    drop(found);
}

/// Whatever knows of tasks; the index on their ids is a tree of its own.
const KNOWN: &[&str] = &[
    "SELECT seq,id FROM finished",
    "SELECT max(key,~key),id FROM live",
    "SELECT seq,id FROM line",
    "SELECT seq,id FROM task INDEXED BY task_id",
    "SELECT seq,id FROM task NOT INDEXED",
];

/// Tasks asked for at once, and numbers asked for by themselves where that fails.
const PROBED: i64 = 512;
