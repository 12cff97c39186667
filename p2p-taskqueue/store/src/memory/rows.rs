use taskqueue_api::{Json, PeerId, TaskId, TaskStatus};

use super::{
    backend::Shared,
    cache, lines,
    tables::{Draft, Seen},
};
use crate::{
    CacheRow, CacheTable, Due, EdgeTable, Fault, KeyRow, KeyTable, LineTable, Meta, Place, RouteTable, Rows, Seq,
    TaskRow, TaskTable, Timer, TimerTable, TypeRow, TypeTable,
    engine::{Elapsed, Ended, Live},
};

/// The rows, for the one thread that changes them. Its changes are a draft until the commit.
#[derive(Debug)]
pub(super) struct MemoryRows {
    tables: Shared,
    draft: Draft,
    /// Whether a transaction is open.
    open: bool,
}

impl MemoryRows {
    pub(super) fn new(tables: Shared) -> Self {
        Self { tables, draft: Draft::default(), open: false }
    }

    /// Answers from the rows as the open transaction sees them.
    fn see<T>(&self, answer: impl FnOnce(&Seen<'_>) -> T) -> T {
        answer(&self.tables.read().seen(&self.draft))
    }

    /// Applies a change to a task, and then files the task under its new state.
    fn change(&mut self, seq: Seq, change: impl FnOnce(&mut Draft)) {
        let before = self.see(|seen| seen.status(seq));
        change(&mut self.draft);
        let after = self.see(|seen| seen.status(seq));
        if before == after {
            return;
        }
        before.map(|status| self.draft.states.insert((status.as_str(), seq), None));
        after.map(|status| self.draft.states.insert((status.as_str(), seq), Some(())));
    }
}

impl Rows for MemoryRows {
    fn begin(&mut self) -> Result<(), Fault> {
        if self.open {
            return Err(Fault::Failed("a transaction is open already".to_owned()));
        }
        self.open = true;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        if !self.open {
            return Err(Fault::Failed("no transaction is open".to_owned()));
        }
        self.open = false;
        let draft = std::mem::take(&mut self.draft);
        self.tables.write().apply(draft);
        Ok(())
    }

    fn rollback(&mut self) -> Result<(), Fault> {
        self.open = false;
        self.draft = Draft::default();
        Ok(())
    }

    fn tidy(&mut self, _closing: bool) -> Result<(), Fault> {
        Ok(())
    }

    fn meta(&mut self) -> Result<Meta, Fault> {
        Ok(self.see(|seen| seen.meta.get(&()).copied().unwrap_or_default()))
    }

    fn save_meta(&mut self, meta: &Meta) -> Result<(), Fault> {
        self.draft.meta.insert((), Some(*meta));
        Ok(())
    }
}

impl TaskTable for MemoryRows {
    fn seq_of(&mut self, id: TaskId) -> Result<Option<Seq>, Fault> {
        Ok(self.see(|seen| seen.ids.get(&id).copied()))
    }

    fn task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Fault> {
        Ok(self.see(|seen| seen.tasks.get(&seq).cloned()))
    }

    fn insert_task(&mut self, row: &TaskRow) -> Result<(), Fault> {
        let (seq, id) = (row.seq, row.spec.id);
        if self.see(|seen| seen.tasks.get(&seq).is_some() || seen.ids.get(&id).is_some()) {
            return Err(Fault::Failed(format!("task {id} is there already")));
        }
        self.draft.ids.insert(id, Some(seq));
        self.change(seq, |draft| {
            draft.tasks.insert(seq, Some(row.clone()));
        });
        Ok(())
    }

    fn remove_task(&mut self, seq: Seq, id: TaskId) -> Result<(), Fault> {
        self.draft.ids.insert(id, None);
        self.change(seq, |draft| {
            draft.tasks.insert(seq, None);
        });
        Ok(())
    }

    fn live(&mut self, seq: Seq) -> Result<Option<Live>, Fault> {
        Ok(self.see(|seen| seen.lives.get(&seq).cloned()))
    }

    fn put_live(&mut self, seq: Seq, _id: TaskId, live: &Live) -> Result<(), Fault> {
        self.change(seq, |draft| {
            draft.lives.insert(seq, Some(live.clone()));
        });
        Ok(())
    }

    fn remove_live(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.change(seq, |draft| {
            draft.lives.insert(seq, None);
        });
        Ok(())
    }

    fn running(&mut self) -> Result<Vec<(Seq, TaskId, Live)>, Fault> {
        Ok(self.see(|seen| {
            let running = lines::of_state(seen, TaskStatus::Running, Seq::MIN);
            running
                .filter_map(|seq| Some((seq, seen.tasks.get(&seq)?.spec.id, seen.lives.get(&seq)?.clone())))
                .collect()
        }))
    }

    fn ended(&mut self, seq: Seq) -> Result<Option<(TaskId, Ended, Option<Json>)>, Fault> {
        Ok(self.see(|seen| seen.ends.get(&seq).cloned()))
    }

    fn insert_ended(&mut self, seq: Seq, id: TaskId, ended: &Ended, result: Option<&Json>) -> Result<(), Fault> {
        self.change(seq, |draft| {
            draft.ends.insert(seq, Some((id, ended.clone(), result.cloned())));
        });
        Ok(())
    }

    fn remove_ended(&mut self, seq: Seq, _id: TaskId) -> Result<(), Fault> {
        self.change(seq, |draft| {
            draft.ends.insert(seq, None);
        });
        Ok(())
    }
}

impl LineTable for MemoryRows {
    fn join_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        self.draft.lines.insert((lane.to_owned(), *place), Some(()));
        Ok(())
    }

    fn leave_line(&mut self, lane: &str, place: &Place) -> Result<(), Fault> {
        self.draft.lines.insert((lane.to_owned(), *place), None);
        Ok(())
    }

    fn line(&mut self, lane: &str, behind: Option<&Place>, count_max: usize) -> Result<Vec<Place>, Fault> {
        Ok(self.see(|seen| lines::line(seen, lane, behind, count_max)))
    }

    fn next_lane(&mut self, behind: Option<&str>) -> Result<Option<String>, Fault> {
        Ok(self.see(|seen| lines::next_lane(seen, behind)))
    }
}

impl TimerTable for MemoryRows {
    fn set_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        self.draft.timers.insert((due, seq), Some(()));
        Ok(())
    }

    fn clear_timer(&mut self, due: Due, seq: Seq) -> Result<(), Fault> {
        self.draft.timers.insert((due, seq), None);
        Ok(())
    }

    fn due(&mut self, by: Due, count_max: usize) -> Result<Vec<(Due, Seq)>, Fault> {
        let timer = by.timer();
        Ok(self.see(|seen| lines::timers(seen, timer).take_while(|(due, _)| *due <= by).take(count_max).collect()))
    }

    fn first_due(&mut self, timer: Timer) -> Result<Option<Due>, Fault> {
        Ok(self.see(|seen| lines::timers(seen, timer).next().map(|(due, _)| due)))
    }
}

impl EdgeTable for MemoryRows {
    fn add_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        self.draft.edges.insert((parent, child), Some(()));
        Ok(())
    }

    fn remove_edge(&mut self, parent: Seq, child: Seq) -> Result<(), Fault> {
        self.draft.edges.insert((parent, child), None);
        Ok(())
    }

    fn has_edge(&mut self, parent: Seq, child: Seq) -> Result<bool, Fault> {
        Ok(self.see(|seen| seen.edges.get(&(parent, child)).is_some()))
    }

    fn children(&mut self, parent: Seq, count_max: usize) -> Result<Vec<Seq>, Fault> {
        Ok(self.see(|seen| lines::children(seen, parent).take(count_max).collect()))
    }

    fn unsettled(&mut self) -> Result<Vec<Seq>, Fault> {
        Ok(self.see(lines::unsettled))
    }
}

impl KeyTable for MemoryRows {
    fn key(&mut self, scope: &str, key: &str) -> Result<Option<KeyRow>, Fault> {
        let key = (scope.to_owned(), key.to_owned());
        Ok(self.see(|seen| seen.keys.get(&key).cloned()))
    }

    fn put_key(&mut self, scope: &str, key: &str, row: &KeyRow) -> Result<(), Fault> {
        let (scope, key) = (scope.to_owned(), key.to_owned());
        if let Some(old) = self.key(&scope, &key)? {
            self.draft.key_ends.insert((old.expires_at, scope.clone(), key.clone()), None);
        }
        self.draft.key_ends.insert((row.expires_at, scope.clone(), key.clone()), Some(()));
        self.draft.keys.insert((scope, key), Some(row.clone()));
        Ok(())
    }

    fn remove_keys(&mut self, by: Elapsed, count_max: usize) -> Result<usize, Fault> {
        let over: Vec<_> = self.see(|seen| {
            let ends = seen.key_ends.all().map(|(end, ())| end);
            ends.take_while(|(at, ..)| *at <= by).take(count_max).cloned().collect()
        });
        let count = over.len();
        for (at, scope, key) in over {
            self.draft.key_ends.insert((at, scope.clone(), key.clone()), None);
            self.draft.keys.insert((scope, key), None);
        }
        Ok(count)
    }

    fn first_key_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        Ok(self.see(|seen| seen.key_ends.all().next().map(|((at, ..), ())| *at)))
    }
}

impl TypeTable for MemoryRows {
    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, Fault> {
        Ok(self.see(|seen| seen.types.all().map(|(name, row)| (name.clone(), row.clone())).collect()))
    }

    fn put_type(&mut self, task_type: &str, row: &TypeRow) -> Result<(), Fault> {
        let row = (*row != TypeRow::default()).then(|| row.clone());
        self.draft.types.insert(task_type.to_owned(), row);
        Ok(())
    }

    fn key_limits(&mut self) -> Result<Vec<(String, u32)>, Fault> {
        Ok(self.see(|seen| seen.key_limits.all().map(|(key, max)| (key.clone(), *max)).collect()))
    }

    fn put_key_limit(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Fault> {
        self.draft.key_limits.insert(key.to_owned(), running_max);
        Ok(())
    }
}

impl RouteTable for MemoryRows {
    fn put_route(&mut self, task: TaskId, owner: PeerId, count_max: i64) -> Result<(), Fault> {
        let (old, number) = self.see(|seen| {
            let number = seen.route_number.get(&()).map_or(0, |number| number.saturating_add(1));
            (seen.routes.get(&task).map(|(number, _)| *number), number)
        });
        old.map(|old| self.draft.route_order.insert(old, None));
        self.draft.route_number.insert((), Some(number));
        self.draft.route_order.insert(number, Some(task));
        self.draft.routes.insert(task, Some((number, owner)));
        let oldest_kept = number.saturating_add(1).saturating_sub(count_max);
        let over: Vec<_> = self.see(|seen| {
            let noted = seen.route_order.all().map(|(number, task)| (*number, *task));
            noted.take_while(|(number, _)| *number < oldest_kept).collect()
        });
        for (number, task) in over {
            self.draft.route_order.insert(number, None);
            self.draft.routes.insert(task, None);
        }
        Ok(())
    }
}

impl CacheTable for MemoryRows {
    fn cache_bytes(&mut self) -> Result<u64, Fault> {
        Ok(self.see(cache::bytes))
    }

    fn cache_size(&mut self, key: &str) -> Result<Option<u64>, Fault> {
        Ok(self.see(|seen| seen.cache.get(key).map(|row| cache::size(key, row))))
    }

    fn put_cached(&mut self, key: &str, row: &CacheRow) -> Result<(), Fault> {
        self.remove_cached(key)?;
        let bytes = self.see(cache::bytes).saturating_add(cache::size(key, row));
        self.draft.cache_bytes.insert((), Some(bytes));
        self.draft.cache_uses.insert((row.used_at, key.to_owned()), Some(()));
        if let Some(at) = row.expires_at {
            self.draft.cache_ends.insert((at, key.to_owned()), Some(()));
        }
        self.draft.cache.insert(key.to_owned(), Some(row.clone()));
        Ok(())
    }

    fn touch_cached(&mut self, key: &str, used_at: Elapsed) -> Result<(), Fault> {
        if let Some(row) = self.see(|seen| seen.cache.get(key).cloned()) {
            self.draft.cache_uses.insert((row.used_at, key.to_owned()), None);
            self.draft.cache_uses.insert((used_at, key.to_owned()), Some(()));
            self.draft.cache.insert(key.to_owned(), Some(CacheRow { used_at, ..row }));
        }
        Ok(())
    }

    fn remove_cached(&mut self, key: &str) -> Result<(), Fault> {
        if let Some(row) = self.see(|seen| seen.cache.get(key).cloned()) {
            let bytes = self.see(cache::bytes).saturating_sub(cache::size(key, &row));
            self.draft.cache_bytes.insert((), Some(bytes));
            self.draft.cache_uses.insert((row.used_at, key.to_owned()), None);
            if let Some(at) = row.expires_at {
                self.draft.cache_ends.insert((at, key.to_owned()), None);
            }
            self.draft.cache.insert(key.to_owned(), None);
        }
        Ok(())
    }

    fn cache_least_used(&mut self, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        Ok(self.see(|seen| cache::first(seen, seen.cache_uses.all(), Elapsed::from_micros(i64::MAX), count_max)))
    }

    fn cache_expired(&mut self, by: Elapsed, count_max: usize) -> Result<Vec<(String, u64)>, Fault> {
        Ok(self.see(|seen| cache::first(seen, seen.cache_ends.all(), by, count_max)))
    }

    fn first_cache_expiry(&mut self) -> Result<Option<Elapsed>, Fault> {
        Ok(self.see(|seen| seen.cache_ends.all().next().map(|((at, _), ())| *at)))
    }
}
