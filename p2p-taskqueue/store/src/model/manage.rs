//! The operations on the whole queue, and the cache.

use std::collections::BTreeMap;

use taskqueue_api::{
    CacheDelete, CacheGet, CacheHas, CacheSet, Free, Get, Json, Limit, List, Order, Pause, Purge, QueueError, Resume,
    Retry, Selection, Stats, StatsQuery, TaskId, TaskStatus, TypeStats,
};

use super::{
    step::{Chosen, Kind, Sieve, Who},
    task::{State, micros},
    world::{Violation, World, broken, hold, json},
};

impl World {
    pub(super) fn get(&mut self, task_id: TaskId) -> Result<TaskId, Violation> {
        match (self.queue.find(task_id), self.ask(Who::Owner, Get { task_id })) {
            (Some(at), Ok(got)) => self.compare(at, &got.task)?,
            (None, Err(error)) if error.code == taskqueue_api::ErrorCode::NotFound => {}
            (at, answer) => return broken("get", format!("{at:?} was answered {answer:?}")),
        }
        Ok(task_id)
    }

    pub(super) fn list(&self, sieve: &Sieve, limit: u32, order: Order) -> Result<(), Violation> {
        let Sieve { status, .. } = *sieve;
        let (task_types, session, label) = filters(sieve);
        let query = List { status, task_types, session, label, limit, cursor: None, order };
        let passes = |task: &&super::task::Task| {
            !task.gone
                && status.is_none_or(|status| task.status() == status)
                && super::queue::passes(&task.submit, &query.task_types, query.session.as_ref(), query.label.as_ref())
        };
        let mut expected: Vec<_> = self.queue.tasks.iter().filter(passes).map(|task| task.id).collect();
        if order == Order::Newest {
            expected.reverse();
        }
        let (mut listed, mut cursor) = (Vec::new(), None);
        // In a short list, only the last page may be empty.
        for _ in 0..=expected.len() {
            let page = match self.ask(Who::Owner, List { cursor, ..query.clone() }) {
                Ok(page) => page,
                Err(error) => return broken("list", format!("{query:?} was refused: {error}")),
            };
            hold!("list", page.tasks.len() <= limit as usize, "{} records for {limit}", page.tasks.len());
            for task in page.tasks {
                if let Some(at) = self.queue.find(task.task_id) {
                    self.compare_reason(at, &task)?;
                }
                listed.push(task.task_id);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        hold!("list", listed == expected && cursor.is_none(), "{query:?}: {listed:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn retry(&mut self, chosen: &Chosen) -> Result<(), Violation> {
        let selection = self.selection(chosen);
        let answer = self.ask(Who::Owner, Retry { selection: selection.clone() });
        let answer = answer.map(|retried| (retried.retried, retried.skipped, retried.more));
        self.changed("retry", &selection, &answer, |queue, id| queue.retry(id))
    }

    pub(super) fn purge(&mut self, chosen: &Chosen) -> Result<(), Violation> {
        let selection = self.selection(chosen);
        let answer = self.ask(Who::Owner, Purge { selection: selection.clone() });
        let answer = answer.map(|purged| (purged.purged, purged.skipped, purged.more));
        self.changed("purge", &selection, &answer, |queue, id| queue.purge(id))
    }

    fn changed(
        &mut self,
        clause: &'static str,
        selection: &Selection,
        answer: &Result<(u64, u64, bool), QueueError>,
        change: impl Fn(&mut super::queue::Queue, TaskId) -> bool,
    ) -> Result<(), Violation> {
        let (ids, more) = match selection.status {
            Some(_) => self.queue.select(selection),
            None => (selection.task_ids.clone(), false),
        };
        let (mut done, mut skipped) = (0, 0);
        for id in ids {
            if change(&mut self.queue, id) { done += 1 } else { skipped += 1 }
        }
        let is_as_expected = answer.as_ref().is_ok_and(|answer| *answer == (done, skipped, more));
        hold!(clause, is_as_expected, "{selection:?}: {answer:?} instead of {:?}", (done, skipped, more));
        Ok(())
    }

    fn selection(&self, chosen: &Chosen) -> Selection {
        match chosen {
            Chosen::Named(picks) => Selection::ids(picks.iter().map(|pick| self.pick(*pick)).collect()),
            Chosen::Sifted(sieve, limit, older_than_s) => {
                let (task_types, session, label) = filters(sieve);
                let (limit, older_than_s) = (*limit, *older_than_s);
                let status = sieve.status.unwrap_or(TaskStatus::Failed);
                Selection { task_types, session, label, older_than_s, limit, ..Selection::ended(status) }
            }
        }
    }

    pub(super) fn free(&mut self, who: Who) -> Result<(), Violation> {
        let machine = self.peer(who);
        let answer = self.ask(Who::Owner, Free { machine }).map(|freed| freed.freed);
        let expected = self.queue.free(machine);
        hold!("free", answer.as_ref() == Ok(&expected), "{answer:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn pause(&mut self, kinds: &[Kind], drain: bool) -> Result<(), Violation> {
        let answer = self.ask(Who::Owner, Pause { task_types: owned(kinds), drain });
        for name in if kinds.is_empty() { &[""] } else { kinds } {
            let setting = self.queue.settings.entry((*name).to_owned()).or_default();
            *(if drain { &mut setting.draining } else { &mut setting.paused }) = true;
        }
        self.counted("pause", kinds, &answer.map(|paused| (paused.queued, paused.running)))
    }

    pub(super) fn resume(&mut self, kinds: &[Kind]) -> Result<(), Violation> {
        let answer = self.ask(Who::Owner, Resume { task_types: owned(kinds) });
        for (name, setting) in &mut self.queue.settings {
            if kinds.is_empty() || kinds.contains(&name.as_str()) {
                (setting.paused, setting.draining) = (false, false);
            }
        }
        self.counted("resume", kinds, &answer.map(|resumed| (resumed.queued, resumed.running)))
    }

    /// Checks the counts of these types, or of all.
    fn counted(
        &self,
        clause: &'static str,
        kinds: &[Kind],
        answer: &Result<(u64, u64), QueueError>,
    ) -> Result<(), Violation> {
        let count = |status| {
            let tasks = self.queue.tasks.iter().filter(|task| !task.gone && task.status() == status);
            let tasks = tasks.filter(|task| kinds.is_empty() || kinds.contains(&task.submit.task_type.as_str()));
            tasks.count() as u64
        };
        let expected = (count(TaskStatus::Queued), count(TaskStatus::Running));
        let is_as_expected = answer.as_ref().is_ok_and(|answer| *answer == expected);
        hold!(clause, is_as_expected, "{answer:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn limit_type(&mut self, kind: Kind, running_max: Option<u32>) -> Result<(), Violation> {
        let limit = Limit { task_type: Some(kind.to_owned()), concurrency_key: None, running_max };
        let answer = self.ask(Who::Owner, limit).map(|limited| limited.running);
        self.queue.settings.entry(kind.to_owned()).or_default().running_max = running_max;
        let expected = u64::from(self.queue.running_of_type(kind));
        hold!("limit", answer.as_ref() == Ok(&expected), "{answer:?} run instead of {expected}");
        Ok(())
    }

    pub(super) fn limit_key(&mut self, key: &str, running_max: Option<u32>) -> Result<(), Violation> {
        let limit = Limit { task_type: None, concurrency_key: Some(key.to_owned()), running_max };
        let answer = self.ask(Who::Owner, limit).map(|limited| limited.running);
        self.queue.key_limits.remove(key);
        running_max.map(|max| self.queue.key_limits.insert(key.to_owned(), max));
        let expected = u64::from(self.queue.running_with_key(key));
        hold!("limit", answer.as_ref() == Ok(&expected), "{answer:?} run instead of {expected}");
        Ok(())
    }

    pub(super) fn cache_set(&mut self, key: &str, value: u8, ttl_s: Option<f64>) -> Result<(), Violation> {
        let value = if value == 0 { Json::null() } else { json(value) };
        let answer = self.ask(Who::Owner, CacheSet { key: key.to_owned(), value: value.clone(), ttl_s });
        let expires_at = ttl_s.filter(|ttl_s| *ttl_s > 0.0).map(|ttl_s| self.queue.clocks.elapsed + micros(ttl_s));
        self.queue.cache.insert(key.to_owned(), (value, expires_at));
        hold!("cache", answer.as_ref().is_ok_and(|stored| stored.evicted == 0), "{answer:?}");
        Ok(())
    }

    pub(super) fn cache_get(&self, key: &str) -> Result<(), Violation> {
        let answer = self.ask(Who::Owner, CacheGet { key: key.to_owned() });
        let answer = answer.map(|got| got.hit.then_some(got.value));
        let expected = self.queue.cached(key);
        let is_as_expected = answer.as_ref().is_ok_and(|answer| answer.as_ref() == expected);
        hold!("cache", is_as_expected, "{key}: {answer:?} instead of {expected:?}");
        Ok(())
    }

    pub(super) fn cache_has(&self, key: &str) -> Result<(), Violation> {
        let answer = self.ask(Who::Owner, CacheHas { key: key.to_owned() }).map(|had| had.hit);
        let expected = self.queue.cached(key).is_some();
        hold!("cache", answer == Ok(expected), "{key}: {answer:?} instead of {expected}");
        Ok(())
    }

    pub(super) fn cache_delete(&mut self, key: &str) -> Result<(), Violation> {
        let answer = self.ask(Who::Owner, CacheDelete { key: key.to_owned() }).map(|deleted| deleted.deleted);
        let expected = self.queue.cached(key).is_some();
        self.queue.cache.remove(key);
        hold!("cache", answer == Ok(expected), "{key}: {answer:?} instead of {expected}");
        Ok(())
    }

    /// Checks the counts of the whole queue.
    pub(super) fn stats(&self) -> Result<(), Violation> {
        let mut expected = Stats::default();
        for status in TaskStatus::ALL {
            expected.totals.insert(status.as_str().to_owned(), 0);
        }
        let mut by_type: BTreeMap<String, TypeStats> = BTreeMap::new();
        for task in self.queue.tasks.iter().filter(|task| !task.gone) {
            let name = task.status().as_str();
            *expected.totals.entry(name.to_owned()).or_default() += 1;
            let of_type = by_type.entry(task.submit.task_type.clone()).or_default();
            *match task.status() {
                TaskStatus::Queued => &mut of_type.queued,
                TaskStatus::Running => &mut of_type.running,
                TaskStatus::Completed => &mut of_type.completed,
                TaskStatus::Failed => &mut of_type.failed,
                TaskStatus::Cancelled => &mut of_type.cancelled,
            } += 1;
        }
        for (name, setting) in &self.queue.settings {
            if name.is_empty() {
                (expected.paused, expected.draining) = (setting.paused, setting.draining);
            } else if *setting != super::queue::Setting::default() {
                let of_type = by_type.entry(name.clone()).or_default();
                (of_type.paused, of_type.draining) = (setting.paused, setting.draining);
                of_type.running_max = setting.running_max;
            }
        }
        expected.by_type = by_type;
        let observed = match self.ask(Who::Owner, StatsQuery {}) {
            Ok(observed) => observed,
            Err(error) => return broken("stats", format!("were refused: {error}")),
        };
        let ready = self.queue.tasks.iter().filter(|task| task.state == State::Ready && !task.gone);
        let oldest = ready
            .map(|task| task.ready_at)
            .min()
            .map(|at| super::task::as_secs((self.queue.clocks.elapsed - at).max(0)));
        let is_near = match (oldest, observed.oldest_queued_s) {
            (Some(expected), Some(observed)) => (expected - observed).abs() < SAME_S,
            (None, None) => true,
            _ => false,
        };
        hold!("stats", is_near, "the oldest waits for {:?} instead of {oldest:?}", observed.oldest_queued_s);
        expected.oldest_queued_s = observed.oldest_queued_s;
        hold!("stats", observed == expected, "{observed:?} instead of {expected:?}");
        Ok(())
    }
}

fn filters(sieve: &Sieve) -> (Vec<String>, Option<String>, Option<String>) {
    (owned(&sieve.kinds), sieve.session.map(str::to_owned), sieve.label.then(|| "l".to_owned()))
}

fn owned(kinds: &[Kind]) -> Vec<String> {
    kinds.iter().map(|kind| (*kind).to_owned()).collect()
}

/// The tolerance for seconds with fractions, which are rounded.
const SAME_S: f64 = 1e-5;
