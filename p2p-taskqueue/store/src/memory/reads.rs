use std::ops::Bound;

use taskqueue_api::{ErrorCode, Json, PeerId, QueueError, TaskId};

use super::{
    backend::Shared,
    lines, list,
    tables::{Draft, Seen},
};
use crate::{
    CacheRow, Reads, Seq, TaskRow, TypeRow,
    engine::{Elapsed, Record},
    paging::{Choosing, EXAMINED_AT_ONCE, Filling, gather},
};

/// The rows, for a thread that only reads.
#[derive(Debug)]
pub(super) struct MemoryReads {
    tables: Shared,
    /// Always empty, because a reader changes nothing.
    nothing: Draft,
}

impl MemoryReads {
    pub(super) fn new(tables: Shared) -> Self {
        Self { tables, nothing: Draft::default() }
    }

    fn see<T>(&self, answer: impl FnOnce(&Seen<'_>) -> T) -> T {
        answer(&self.tables.read().seen(&self.nothing))
    }
}

impl Reads for MemoryReads {
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError> {
        self.see(|seen| gather(ids, |id| seen.ids.get(&id).map_or(Ok(None), |seq| record(seen, *seq))))
    }

    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError> {
        self.see(|seen| list::list(seen, page))
    }

    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError> {
        let Some(status) = choosing.selection.status else { return Ok(true) };
        self.see(|seen| {
            let mut examined = 0;
            for seq in lines::of_state(seen, status, choosing.after).take(EXAMINED_AT_ONCE) {
                if let Some(id) = chosen(seen, seq, choosing)
                    && !choosing.add(id)
                {
                    return Ok(true);
                }
                choosing.after = seq;
                examined += 1;
            }
            Ok(examined < EXAMINED_AT_ONCE)
        })
    }

    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError> {
        let behind = behind.map(str::to_owned);
        let first = behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.see(|seen| {
            let types = seen.types.from(first).take(count_max);
            types.map(|(name, row)| (name.clone(), row.clone())).collect()
        }))
    }

    fn oldest_ready(&mut self) -> Result<Option<Elapsed>, QueueError> {
        Ok(self.see(lines::oldest_ready))
    }

    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        Ok(self.see(|seen| seen.routes.get(&task).map(|(_, owner)| *owner)))
    }

    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError> {
        Ok(self.see(|seen| seen.cache.get(key).cloned()))
    }
}

/// Returns the id of an ended task that passes the filter.
fn chosen(seen: &Seen<'_>, seq: Seq, choosing: &Choosing) -> Option<TaskId> {
    let Choosing { selection, ended_by, .. } = choosing;
    if seen.ends.get(&seq).is_some_and(|(_, ended, _)| ended.at > *ended_by) {
        return None;
    }
    let row = seen.tasks.get(&seq)?;
    let passes = passes(row, &selection.task_types, selection.session.as_ref(), selection.label.as_ref());
    passes.then_some(row.spec.id)
}

/// Puts together the record of a task; `None` when the task does not exist.
pub(super) fn record(seen: &Seen<'_>, seq: Seq) -> Result<Option<Record>, QueueError> {
    let (Some(row), Some(standing)) = (seen.tasks.get(&seq), seen.standing(seq)) else { return Ok(None) };
    let TaskRow { spec, payload, .. } = row.clone();
    let payload = Json::parse(payload).map_err(|error| {
        QueueError::new(ErrorCode::StorageError, format!("task {}: its payload is damaged: {error}", spec.id))
    })?;
    let result = seen.ends.get(&seq).and_then(|(_, _, result)| result.clone());
    Ok(Some(Record { spec, payload, standing, result }))
}

/// Whether a task passes the filters of a list or a selection.
pub(super) fn passes(row: &TaskRow, types: &[String], session: Option<&String>, label: Option<&String>) -> bool {
    (types.is_empty() || types.contains(&row.spec.task_type))
        && session.is_none_or(|session| row.spec.session.as_ref() == Some(session))
        && label.is_none_or(|label| row.spec.labels.contains(label))
}
