use rusqlite::{Connection, OptionalExtension, named_params};
use taskqueue_api::{List, Order, QueueError, TaskStatus};

use super::{
    fault::{reading, reading_row},
    line,
    reads::record_at,
};
use crate::{
    Seq,
    paging::{EXAMINED_AT_ONCE, Filling},
};

/// Reads a piece of a page of records in the order of acceptance, and returns whether the page is done.
///
/// A cursor names a place in that order. So tasks that come and go in the meantime neither repeat nor hide others. With
/// a filter that few tasks pass, many places are examined, window by window; then the page ends early, perhaps empty,
/// with a cursor.
pub(super) fn list(connection: &Connection, page: &mut Filling) -> Result<bool, QueueError> {
    let snapshot = connection.unchecked_transaction().map_err(|error| reading(&error))?;
    let Some(window) = next_window(&snapshot, page.query(), page.after())? else { return Ok(true) };
    if fill(page, &snapshot, window)? {
        page.end_with_more();
        return Ok(true);
    }
    Ok(page.end_piece(EXAMINED_AT_ONCE, window.last(page.query().order)))
}

/// A range of places that one statement examines, both ends included.
#[derive(Debug, Clone, Copy)]
struct Window {
    low: Seq,
    high: Seq,
}

impl Window {
    const fn last(self, order: Order) -> Seq {
        match order {
            Order::Oldest => self.high,
            Order::Newest => self.low,
        }
    }
}

/// Adds the matching tasks of a window. Returns whether the page is full and there are more.
fn fill(page: &mut Filling, connection: &Connection, window: Window) -> Result<bool, QueueError> {
    let failed = |error: rusqlite::Error| reading(&error);
    let query = page.query();
    let mut statement = connection.prepare_cached(&page_sql(query)).map_err(failed)?;
    let types = (!query.task_types.is_empty()).then(|| serde_json::json!(query.task_types).to_string());
    let mut rows = statement
        .query(named_params! {
            ":low": window.low, ":high": window.high,
            ":types": types, ":session": query.session, ":label": query.label,
        })
        .map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if page.is_full() {
            return Ok(true);
        }
        let seq = row.get(0).map_err(failed)?;
        if !page.add(seq, record_at(connection, seq)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the next places after `after` (or from the start of the order) at which there may be tasks in the requested
/// state.
fn next_window(connection: &Connection, query: &List, after: Option<Seq>) -> Result<Option<Window>, QueueError> {
    let forward = query.order == Order::Oldest;
    let from = match after {
        Some(seq) if forward => seq.saturating_add(1),
        Some(seq) => seq.saturating_sub(1),
        None if forward => 0,
        None => Seq::MAX,
    };
    if from < 0 {
        return Ok(None);
    }
    if query.status == Some(TaskStatus::Queued) {
        return next_queued(connection, from, forward);
    }
    let rows = match query.status {
        None | Some(TaskStatus::Queued) => "seq FROM task WHERE seq",
        Some(TaskStatus::Running) => "key FROM live WHERE key>=0 AND key",
        Some(TaskStatus::Completed) => "seq FROM finished WHERE seq",
        Some(TaskStatus::Failed | TaskStatus::Cancelled) => {
            "seq FROM finished INDEXED BY finished_badly WHERE status<>3 AND seq"
        }
    };
    let start = first(connection, rows, from, forward)?;
    Ok(start.map(|start| window(start, forward)))
}

/// Returns the next places at which there may be queued tasks: in a block that has ready ones, or where a task waits
/// for something.
fn next_queued(connection: &Connection, from: Seq, forward: bool) -> Result<Option<Window>, QueueError> {
    let block = line::next_block(connection, from, forward)
        .map_err(|error| reading_row("the count of ready tasks", &error))?
        .map(|(low, high)| if forward { low.max(from) } else { high.min(from) });
    // In `live`, the key of a task that does not run is the complement of its sequence number, so these rows are in
    // reverse order.
    let waiting = first(connection, "key FROM live WHERE key<0 AND key", !from, !forward)?.map(|key| !key);
    let start = match (block, waiting) {
        (Some(block), Some(waiting)) if forward => block.min(waiting),
        (Some(block), Some(waiting)) => block.max(waiting),
        (one, other) => match one.or(other) {
            Some(start) => start,
            None => return Ok(None),
        },
    };
    Ok(Some(window(start, forward)))
}

const fn window(start: Seq, forward: bool) -> Window {
    if forward {
        Window { low: start, high: start.saturating_add(WINDOW - 1) }
    } else {
        let low = start.saturating_sub(WINDOW - 1);
        Window { low: if low < 0 { 0 } else { low }, high: start }
    }
}

/// Returns the first number at `from` or behind it, in this direction. `rows` ends with the column that is compared.
fn first(connection: &Connection, rows: &str, from: i64, forward: bool) -> Result<Option<i64>, QueueError> {
    let (compare, direction) = if forward { (">=", "ASC") } else { ("<=", "DESC") };
    let sql = format!("SELECT {rows} {compare} ?1 ORDER BY 1 {direction} LIMIT 1");
    let first =
        connection.prepare_cached(&sql).and_then(|mut first| first.query_row([from], |row| row.get(0)).optional());
    first.map_err(|error| reading(&error))
}

/// Returns the statement of a page. It starts from the narrowest table for the state, so that a page costs only what it
/// shows.
fn page_sql(query: &List) -> String {
    let (rows, first) = match query.status {
        None => ("task t WHERE 1", "t.seq"),
        Some(TaskStatus::Queued) => (QUEUED, "t.seq"),
        Some(TaskStatus::Running) => ("live l CROSS JOIN task t ON t.seq = l.key WHERE 1", "l.key"),
        Some(TaskStatus::Completed) => ("finished f CROSS JOIN task t ON t.seq = f.seq WHERE f.status = 3", "f.seq"),
        Some(TaskStatus::Failed) => (FAILED, "f.seq"),
        Some(TaskStatus::Cancelled) => (CANCELLED, "f.seq"),
    };
    let direction = match query.order {
        Order::Oldest => "ASC",
        Order::Newest => "DESC",
    };
    format!(
        "SELECT {first} FROM {rows} AND {first} BETWEEN :low AND :high \
         AND (:types IS NULL OR t.task_type IN (SELECT value FROM json_each(:types))) \
         AND (:session IS NULL OR t.session = :session) \
         AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(t.labels) WHERE value = :label)) \
         ORDER BY {first} {direction}"
    )
}

const QUEUED: &str = "task t WHERE NOT EXISTS (SELECT 1 FROM finished WHERE seq = t.seq) \
     AND NOT EXISTS (SELECT 1 FROM live WHERE key = t.seq)";
const FAILED: &str = "finished f INDEXED BY finished_badly CROSS JOIN task t ON t.seq = f.seq \
     WHERE f.status <> 3 AND f.status = 4";
const CANCELLED: &str = "finished f INDEXED BY finished_badly CROSS JOIN task t ON t.seq = f.seq \
     WHERE f.status <> 3 AND f.status = 5";

/// The number of places that one statement examines.
const WINDOW: i64 = EXAMINED_AT_ONCE.cast_signed() as i64;
