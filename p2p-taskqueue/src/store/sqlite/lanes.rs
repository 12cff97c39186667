use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Row};

use super::rows::{LiveRow, parse_lane};
use crate::{
    engine::{Claimant, Lane, Wall},
    task::TaskId,
};

/// A ready task's place: the order of clause T6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head {
    priority: Reverse<u8>,
    ready_at: Wall,
    id: TaskId,
    pub(super) seq: i64,
}

impl Head {
    pub(super) const fn new(priority: u8, ready_at: Wall, id: TaskId, seq: i64) -> Self {
        Self { priority: Reverse(priority), ready_at, id, seq }
    }

    fn read(row: &Row<'_>, at: usize) -> rusqlite::Result<Self> {
        let id = TaskId::from_bytes(row.get(at + 2)?);
        Ok(Self::new(row.get(at)?, Wall::from_micros(row.get(at + 1)?), id, row.get(at + 3)?))
    }
}

/// The first task of every line of ready tasks.
///
/// A claim costs a look at the heads of one or two sessions' lines and one index lookup for the successor: it does not grow
/// with the number of tasks, only with the number of distinct demands that a worker of that session cannot meet.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By the text of the lane.
    heads: HashMap<Arc<str>, (Head, Arc<Entry>)>,
    /// The same heads in order, by the session that they ask for: a claim looks at its own and at those of none.
    by_session: HashMap<Option<String>, BTreeMap<Head, Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<str>,
    lane: Lane,
}

impl Lanes {
    /// Reads the heads: one index lookup for each line.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut lanes = Self::default();
        let mut next = connection.prepare_cached(
            "SELECT lane, priority, ready_at, id, seq FROM live INDEXED BY live_ready WHERE phase = 0 AND lane > ?1 \
             ORDER BY lane, priority DESC, ready_at, id LIMIT 1",
        )?;
        let mut after = String::new();
        while let Some((key, head)) =
            next.query_row([&after], |row| Ok((row.get::<_, String>(0)?, Head::read(row, 1)?))).optional()?
        {
            lanes.set(&key, Some(head));
            after = key;
        }
        Ok(lanes)
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.heads.contains_key(key)
    }

    /// The first task that the worker may take.
    pub(super) fn first_for(&self, claimant: &Claimant) -> Option<(Head, Arc<str>)> {
        let of_none = self.by_session.get(&None);
        let own = claimant.session.as_ref().and_then(|_| self.by_session.get(&claimant.session));
        let first = |heads: &BTreeMap<Head, Arc<Entry>>| {
            let (head, entry) = heads.iter().find(|(_, entry)| entry.lane.admits(claimant))?;
            Some((*head, Arc::clone(&entry.key)))
        };
        [of_none, own].into_iter().flatten().filter_map(first).min_by_key(|(head, _)| *head)
    }

    /// A task joined its line.
    pub(super) fn joined(&mut self, row: &LiveRow) {
        let head = row.head();
        if self.heads.get(row.lane.as_str()).is_none_or(|(first, _)| head < *first) {
            self.set(&row.lane, Some(head));
        }
    }

    /// A task left its line; the index is already without it.
    pub(super) fn left(&mut self, connection: &Connection, key: &str, seq: i64) -> rusqlite::Result<()> {
        if self.heads.get(key).is_some_and(|(head, _)| head.seq == seq) {
            let mut first = connection.prepare_cached(
                "SELECT priority, ready_at, id, seq FROM live INDEXED BY live_ready WHERE phase = 0 AND lane = ?1 \
                 ORDER BY priority DESC, ready_at, id LIMIT 1",
            )?;
            let head = first.query_row([key], |row| Head::read(row, 0)).optional()?;
            self.set(key, head);
        }
        Ok(())
    }

    fn set(&mut self, key: &str, head: Option<Head>) {
        let entry = match self.heads.remove(key) {
            Some((old, entry)) => {
                self.forget(old, &entry);
                entry
            }
            None => match parse_lane(key) {
                Some(lane) => Arc::new(Entry { key: key.into(), lane }),
                // Its tasks cannot be given out by demands that cannot be read; `get` names them as damaged.
                None => return tracing::error!(lane = key, "a line of ready tasks has unreadable demands"),
            },
        };
        if let Some(head) = head {
            self.by_session.entry(entry.lane.session.clone()).or_default().insert(head, Arc::clone(&entry));
            self.heads.insert(Arc::clone(&entry.key), (head, entry));
        }
    }

    fn forget(&mut self, head: Head, entry: &Entry) {
        if let Some(heads) = self.by_session.get_mut(&entry.lane.session) {
            heads.remove(&head);
            if heads.is_empty() {
                self.by_session.remove(&entry.lane.session);
            }
        }
    }
}
