use super::{
    backend::Shared,
    lines, list,
    tables::{Draft, Seen},
};
use crate::{
    PeerId, QueueError,
    api::{ErrorCode, List, Selection},
    engine::{Elapsed, Record, Wall},
    store::{CacheRow, Page, Reads, Seq, TaskRow, TypeRow, paging::gather},
    task::{Json, TaskId},
};

/// The rows, for a thread that only reads.
#[derive(Debug)]
pub(super) struct MemoryReads {
    tables: Shared,
    /// A reader changes nothing.
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

    fn list(&mut self, query: &List) -> Result<Page, QueueError> {
        self.see(|seen| list::list(seen, query))
    }

    fn select(&mut self, selection: &Selection, ended_by: Wall) -> Result<(Vec<TaskId>, bool), QueueError> {
        let Some(status) = selection.status else { return Ok((Vec::new(), false)) };
        self.see(|seen| {
            let chosen = |seq: &Seq| seen.ends.get(seq).is_none_or(|(ended, _)| ended.at <= ended_by);
            let mut ids = lines::of_state(seen, status)
                .filter(chosen)
                .filter_map(|seq| seen.tasks.get(&seq))
                .filter(|row| passes(row, &selection.task_types, selection.session.as_ref(), selection.label.as_ref()))
                .map(|row| row.spec.id);
            let first = ids.by_ref().take(selection.limit as usize).collect();
            Ok((first, ids.next().is_some()))
        })
    }

    fn types(&mut self) -> Result<Vec<(String, TypeRow)>, QueueError> {
        Ok(self.see(|seen| seen.types.all().map(|(name, row)| (name.clone(), row.clone())).collect()))
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

/// Puts a task's rows together; `None` when it is not there.
pub(super) fn record(seen: &Seen<'_>, seq: Seq) -> Result<Option<Record>, QueueError> {
    let (Some(row), Some(standing)) = (seen.tasks.get(&seq), seen.standing(seq)) else { return Ok(None) };
    let TaskRow { spec, payload, .. } = row.clone();
    let payload = Json::parse(payload).map_err(|error| {
        QueueError::new(ErrorCode::StorageError, format!("task {}: its payload is damaged: {error}", spec.id))
    })?;
    let result = seen.ends.get(&seq).and_then(|(_, result)| result.clone());
    Ok(Some(Record { spec, payload, standing, result }))
}

/// Whether a task passes the filters of a list or a selection.
pub(super) fn passes(row: &TaskRow, types: &[String], session: Option<&String>, label: Option<&String>) -> bool {
    (types.is_empty() || types.contains(&row.spec.task_type))
        && session.is_none_or(|session| row.spec.session.as_ref() == Some(session))
        && label.is_none_or(|label| row.spec.labels.contains(label))
}
