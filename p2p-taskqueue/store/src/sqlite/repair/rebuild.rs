use std::collections::BTreeMap;

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use taskqueue_api::{TaskId, TaskStatus};

use super::{
    super::{
        cache, edge, find, key, line,
        line::Blocks,
        meta, route,
        route::Routes,
        row::{Columns, RowError, insert_ended, insert_place, insert_task, put_live},
        schema, timer, types,
    },
    RepairReport,
    salvage::{Lost, Salvage, Salvaged, Stands},
};
use crate::{
    Due, LOST_PARENT, Meta, Seq, TaskRow, TypeRow,
    engine::{EPOCH_RANDOM_BITS, Lane, Live, Phase},
    failed_parent,
};

/// Writes everything that can be read of the old store into a new, empty one.
pub(super) fn rebuild(
    old: &Connection,
    new: &Connection,
    numbers: Meta,
    report: &mut RepairReport,
) -> rusqlite::Result<()> {
    // Nobody relies on the new file before it is complete, and a journal that is left behind would spoil the next
    // attempt.
    new.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    new.pragma_update(None, "synchronous", "OFF")?;
    let transaction = Transaction::new_unchecked(new, TransactionBehavior::Immediate)?;
    transaction.execute_batch(schema::TABLES)?;
    let salvage = Salvage::new(old, numbers.next_seq);
    let mut rebuild =
        Rebuild { new: &transaction, blocks: Blocks::default(), types: BTreeMap::new(), epoch: numbers.epoch, report };
    salvage.each(|seq, salvaged| rebuild.take(seq, salvaged))?;
    rebuild.blocks.save(&transaction)?;
    rebuild.settings(old)?;
    rebuild.others(old)?;
    let epoch = rebuild.epoch.saturating_add(EPOCHS_LEAP);
    let next_seq = salvage.last().saturating_add(LEAP.cast_signed());
    meta::insert(&transaction, &Meta { epoch, next_seq, batch: numbers.batch + 1, ..numbers })?;
    schema::mark(&transaction, schema::SCHEMA_VERSION)?;
    transaction.commit()
}

struct Rebuild<'a> {
    new: &'a Connection,
    blocks: Blocks,
    types: BTreeMap<String, TypeRow>,
    /// The highest epoch that was seen.
    epoch: u64,
    report: &'a mut RepairReport,
}

impl Rebuild<'_> {
    fn take(&mut self, seq: Seq, salvaged: Salvaged) -> rusqlite::Result<()> {
        match salvaged {
            Ok((row, stands)) => self.task(&row, stands),
            Err(Lost { id, why }) => {
                let task = id.map_or_else(|| format!("number {seq}"), |id| id.to_string());
                self.report.lose(format!("task {task}: {why}"));
                Ok(())
            }
        }
    }

    fn task(&mut self, row: &TaskRow, stands: Stands) -> rusqlite::Result<()> {
        let (seq, id) = (row.seq, row.spec.id);
        if find::seq_of(self.new, id).is_ok_and(|seq| seq.is_some()) {
            self.report.lose(format!("task {id}: it is there twice; the later one is left out"));
            return Ok(());
        }
        insert_task(self.new, row)?;
        self.report.tasks += 1;
        match stands {
            Stands::Ended(ended, result) => {
                insert_ended(self.new, seq, id, &ended, result.as_ref())?;
                timer::set(self.new, Due::Removal(ended.expires_at), seq)?;
                self.seen(ended.fence.map(|fence| fence.epoch));
                self.count(row, ended.status);
            }
            Stands::Live(live) => {
                self.seen(live.fence.map(|fence| fence.epoch));
                self.live(row, live)?;
            }
            Stands::Likely(live) => {
                self.report.remark(format!("task {id}: how it stood is lost; it is queued"));
                self.live(row, live)?;
            }
            Stands::Fresh => {
                self.join(row, &row.fresh())?;
                self.count(row, TaskStatus::Queued);
            }
        }
        Ok(())
    }

    fn live(&mut self, row: &TaskRow, live: Live) -> rusqlite::Result<()> {
        let live = if live.phase == Phase::Blocked { self.blocked(row, live)? } else { live };
        put_live(self.new, row.seq, row.spec.id, &live)?;
        if let Some(deadline) = live.deadline {
            timer::set(self.new, Due::Deadline(deadline), row.seq)?;
        }
        if live.phase == Phase::Ready {
            self.join(row, &live)?;
        }
        if let Some(due) = Due::claimable(&live) {
            timer::set(self.new, due, row.seq)?;
        }
        self.count(row, live.status());
        Ok(())
    }

    /// Makes the task wait for all its parents that exist, even for those that have ended: it is told of their ends
    /// when the store is opened. Without any parent, the task is ready.
    fn blocked(&self, row: &TaskRow, live: Live) -> rusqlite::Result<Live> {
        let mut waiting = 0;
        let mut after: Vec<TaskId> = row.spec.after.clone();
        after.sort_unstable();
        after.dedup();
        for parent in after {
            // A parent is older than its children, so it has been written before if it can be read.
            if let Ok(Some(parent)) = find::seq_of(self.new, parent) {
                edge::add(self.new, parent, row.seq)?;
                waiting += 1;
            }
        }
        let phase = if waiting == 0 { Phase::Ready } else { Phase::Blocked };
        Ok(Live { waiting, phase, ..live })
    }

    fn join(&mut self, row: &TaskRow, live: &Live) -> rusqlite::Result<()> {
        insert_place(self.new, &Lane::of(&row.spec).to_text(), &line::place_of(row, live.ready_at))?;
        self.blocks.joined(row.seq);
        Ok(())
    }

    fn seen(&mut self, epoch: Option<u64>) {
        self.epoch = epoch.map_or(self.epoch, |epoch| epoch.max(self.epoch));
    }

    fn count(&mut self, row: &TaskRow, status: TaskStatus) {
        let counts = &mut self.types.entry(row.spec.task_type.clone()).or_default().counts;
        for (counted, count) in TaskStatus::ALL.into_iter().zip(counts) {
            *count += u64::from(counted == status);
        }
    }

    /// Takes over the settings of types, and writes the counts.
    fn settings(&mut self, old: &Connection) -> rusqlite::Result<()> {
        let settings = self.read("settings of task types", old, "SELECT * FROM type", types::read);
        for (name, row) in settings {
            let counts = self.types.get(&name).map_or_else(Default::default, |known| known.counts);
            self.types.insert(name, TypeRow { counts, ..row });
        }
        self.types.iter().try_for_each(|(name, row)| types::put(self.new, name, row))
    }

    /// Takes over the tables that do not depend on tasks, and the edges.
    fn others(&mut self, old: &Connection) -> rusqlite::Result<()> {
        for (key, running_max) in
            self.read("limits of concurrency keys", old, "SELECT * FROM key_limit", types::read_key_limit)
        {
            types::put_key_limit(self.new, &key, Some(running_max))?;
        }
        let keys =
            self.read("idempotency keys", old, "SELECT scope,key,content,id,expires_at,crc FROM idempotency", |row| {
                let mut columns = Columns::new(row);
                let (scope, key): (String, String) = (columns.take()?, columns.take()?);
                let row = key::read(&scope, &key, &mut columns)?;
                Ok((scope, key, row))
            });
        for (scope, key, row) in keys {
            key::put(self.new, &scope, &key, &row)?;
        }
        let edges = self.read("notes of who comes after whom", old, "SELECT parent,child,crc FROM edge", edge::read);
        for (parent, child) in edges {
            self.comes_after(parent, child)?;
        }
        let mut routes = Routes::default();
        let notes = self.read("notes of who keeps a task", old, "SELECT id,owner,crc FROM route ORDER BY seq", |row| {
            route::read(&mut Columns::new(row))
        });
        for (task, owner) in notes {
            routes.put(self.new, task, owner, i64::MAX)?;
        }
        for (key, row) in
            self.read("cached values", old, "SELECT key,bytes,expires_at,used_at,crc,value FROM cache", cache::read)
        {
            cache::put(self.new, &key, &row)?;
        }
        Ok(())
    }

    /// Takes over an edge, which a task needs when it is retried.
    fn comes_after(&self, parent: Seq, child: Seq) -> rusqlite::Result<()> {
        let mut known = self.new.prepare_cached("SELECT 1 FROM task WHERE seq=?")?;
        let mut is_there = |seq: Seq| known.exists([seq]);
        if !is_there(child)? {
            return Ok(());
        }
        let is_of_failed = parent < 0 && parent != LOST_PARENT;
        let task = if is_of_failed { failed_parent(parent) } else { parent };
        match parent == LOST_PARENT || is_there(task)? {
            true => edge::add(self.new, parent, child),
            // The parent had failed, and is lost now.
            false if is_of_failed => edge::add(self.new, LOST_PARENT, child),
            false => Ok(()),
        }
    }

    /// Reads as much of a table as can be read.
    fn read<T>(
        &mut self,
        what: &str,
        old: &Connection,
        sql: &str,
        read: fn(&Row<'_>) -> Result<T, RowError>,
    ) -> Vec<T> {
        let (mut found, mut damaged) = (Vec::new(), 0_u64);
        let ended = old.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match read(row) {
                    Ok(row) => found.push(row),
                    Err(_) => damaged += 1,
                }
            }
            Ok(())
        });
        if let Err(error) = ended {
            self.report.remark(format!("{what}: some could not be read and are lost: {error}"));
        } else if damaged > 0 {
            self.report.remark(format!("{what}: {damaged} damaged ones are lost"));
        }
        found
    }
}

/// Sequence numbers to skip, because they may have been given out and are no longer known: more than the tasks that a
/// store accepts in the commits that a log can lose.
const LEAP: u64 = 1 << 20;

/// Epochs to skip for the same reason. Epochs count the openings of the store above their random bits.
const EPOCHS_LEAP: u64 = 1024 << EPOCH_RANDOM_BITS;
