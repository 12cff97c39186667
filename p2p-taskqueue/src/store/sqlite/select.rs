use rusqlite::{Connection, named_params};

use super::{
    fault::{damaged, reading},
    row::status_number,
};
use crate::{QueueError, api::Selection, engine::Wall, task::TaskId};

/// The ids of ended tasks that pass a filter, the first submitted first; whether there are more.
pub(super) fn select(
    connection: &Connection,
    selection: &Selection,
    ended_by: Wall,
) -> Result<(Vec<TaskId>, bool), QueueError> {
    let Some(status) = selection.status.and_then(status_number) else { return Ok((selection.task_ids.clone(), false)) };
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(_) => reading(&error),
        None => damaged("a finished task"),
    };
    let types = (!selection.task_types.is_empty()).then(|| serde_json::json!(selection.task_types).to_string());
    let mut statement = connection.prepare_cached(&sql(selection, status)).map_err(failed)?;
    let mut rows = statement
        .query(named_params! {
            ":status": status, ":by": ended_by.as_micros(),
            ":types": types, ":session": selection.session, ":label": selection.label,
        })
        .map_err(failed)?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        if ids.len() >= selection.limit as usize {
            return Ok((ids, true));
        }
        ids.push(TaskId::from_bytes(row.get(0).map_err(failed)?));
    }
    Ok((ids, false))
}

/// Without a filter on what the submit said, the rows of `task` are not looked at.
fn sql(selection: &Selection, status: i64) -> String {
    // The index on those that did not complete, which are few.
    let index = if status == COMPLETED { "" } else { "INDEXED BY finished_badly" };
    let narrow = if status == COMPLETED { "1" } else { "f.status <> 3" };
    let filtered = !selection.task_types.is_empty() || selection.session.is_some() || selection.label.is_some();
    let (join, filter) = if filtered {
        (
            "CROSS JOIN task t ON t.seq = f.seq",
            "(:types IS NULL OR t.task_type IN (SELECT value FROM json_each(:types))) \
             AND (:session IS NULL OR t.session = :session) \
             AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(t.labels) WHERE value = :label))",
        )
    } else {
        ("", "(:types IS NULL AND :session IS NULL AND :label IS NULL)")
    };
    format!(
        "SELECT f.id FROM finished f {index} {join} WHERE {narrow} AND f.status = :status AND f.at <= :by AND {filter} \
         ORDER BY f.seq"
    )
}

const COMPLETED: i64 = 3;
