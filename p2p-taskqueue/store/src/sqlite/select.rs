use rusqlite::{Connection, named_params};
use taskqueue_api::{QueueError, Selection, TaskId};

use super::{
    fault::{damaged, reading},
    row::status_number,
};
use crate::paging::{Choosing, EXAMINED_AT_ONCE};

/// Goes on choosing ended tasks that pass a filter, and looks at up to [`EXAMINED_AT_ONCE`] of them. Returns whether
/// the choice is done.
pub(super) fn select(connection: &Connection, choosing: &mut Choosing) -> Result<bool, QueueError> {
    let selection = &choosing.selection;
    let Some(status) = selection.status.and_then(status_number) else { return Ok(true) };
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(_) => reading(&error),
        None => damaged("a finished task"),
    };
    let types = (!selection.task_types.is_empty()).then(|| serde_json::json!(selection.task_types).to_string());
    let mut statement = connection.prepare_cached(&sql(selection, status)).map_err(failed)?;
    let mut rows = statement
        .query(named_params! {
            ":status": status, ":by": choosing.ended_by.as_micros(),
            ":types": types, ":session": selection.session, ":label": selection.label,
            ":after": choosing.after, ":count": EXAMINED_AT_ONCE.cast_signed(),
        })
        .map_err(failed)?;
    let mut examined = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let (seq, chosen): (_, Option<_>) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        if let Some(id) = chosen
            && !choosing.add(TaskId::from_bytes(id))
        {
            return Ok(true);
        }
        choosing.after = seq;
        examined += 1;
    }
    Ok(examined < EXAMINED_AT_ONCE)
}

/// Returns the statement of a choice. It answers every row that is looked at, with the id of those that pass, so that
/// the number of rows bounds the work. Without a filter on the submit's fields, the rows of `task` are not read.
fn sql(selection: &Selection, status: i64) -> String {
    // This index lists the tasks that did not complete, which are few.
    let index = if status == COMPLETED { "" } else { "INDEXED BY finished_badly" };
    let narrow = if status == COMPLETED { "1" } else { "f.status <> 3" };
    let filtered = !selection.task_types.is_empty() || selection.session.is_some() || selection.label.is_some();
    let filter = if filtered {
        "EXISTS (SELECT 1 FROM task t WHERE t.seq = f.seq \
         AND (:types IS NULL OR t.task_type IN (SELECT value FROM json_each(:types))) \
         AND (:session IS NULL OR t.session = :session) \
         AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(t.labels) WHERE value = :label)))"
    } else {
        "(:types IS NULL AND :session IS NULL AND :label IS NULL)"
    };
    format!(
        "SELECT f.seq, CASE WHEN f.status = :status AND f.at <= :by AND {filter} THEN f.id END \
         FROM finished f {index} WHERE {narrow} AND f.seq > :after ORDER BY f.seq LIMIT :count"
    )
}

const COMPLETED: i64 = 3;
