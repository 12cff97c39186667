use rusqlite::{Connection, OptionalExtension, named_params};

use super::{
    command::storage_error,
    reader::{read_record, record_bytes},
    rows::{self, RowError},
    turn::unusable,
};
use crate::{
    QueueError,
    api::{List, Order, limits::LIST_PAGE_BYTES},
    store::Page,
    task::{TaskId, TaskStatus},
};

/// Reads a page of records in the order of acceptance.
///
/// A cursor names the last task of its page, so tasks that come and go meanwhile neither repeat nor hide others. Sparse
/// filters examine up to [`WINDOWS_MAX`] windows of [`WINDOW`] tasks; then the page ends early, perhaps empty, with a cursor.
pub(super) fn list(connection: &Connection, query: &List) -> Result<Page, QueueError> {
    let failed = |error: rusqlite::Error| storage_error(&error);
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    let mut page = Filling { query, page: Page { records: Vec::new(), next_cursor: None }, bytes: 0, last: None };
    let mut after = match &query.cursor {
        Some(cursor) => Some(parse_cursor(cursor, query.order)?),
        None => None,
    };
    for _ in 0..WINDOWS_MAX {
        let Some(start) = next_seq(&snapshot, query, after).map_err(failed)? else { return Ok(page.page) };
        let end = match query.order {
            Order::Oldest => start.saturating_add(WINDOW),
            Order::Newest => start.saturating_sub(WINDOW),
        };
        if page.fill(&snapshot, start, end)? {
            page.page.next_cursor = page.last.map(|seq| write_cursor(seq, query.order));
            return Ok(page.page);
        }
        after = Some(end);
    }
    page.page.next_cursor = after.map(|seq| write_cursor(seq, query.order));
    Ok(page.page)
}

/// A page and how far it is.
struct Filling<'a> {
    query: &'a List,
    page: Page,
    bytes: usize,
    last: Option<i64>,
}

impl Filling<'_> {
    /// Adds the matching tasks from `start` to `end`, both included; whether the page is full and there are more.
    fn fill(&mut self, connection: &Connection, start: i64, end: i64) -> Result<bool, QueueError> {
        let failed = |error: rusqlite::Error| storage_error(&error);
        let mut statement = connection.prepare_cached(&page_sql(self.query)).map_err(failed)?;
        let types = (!self.query.task_types.is_empty()).then(|| serde_json::json!(self.query.task_types).to_string());
        let mut rows = statement
            .query(named_params! {
                ":low": start.min(end), ":high": start.max(end),
                ":types": types, ":session": self.query.session, ":label": self.query.label,
            })
            .map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if self.page.records.len() >= self.query.limit as usize {
                return Ok(true);
            }
            let (seq, id) = place(row)?;
            let record = read_record(row).map_err(|error| unusable(id, error))?;
            let bytes = record_bytes(&record);
            // A record that is larger than a page is a page by itself.
            if self.bytes + bytes > LIST_PAGE_BYTES && !self.page.records.is_empty() {
                return Ok(true);
            }
            self.bytes += bytes;
            self.last = Some(seq);
            self.page.records.push(record);
        }
        Ok(false)
    }
}

fn place(row: &rusqlite::Row<'_>) -> Result<(i64, TaskId), QueueError> {
    let read = || Ok::<_, rusqlite::Error>((row.get(0)?, TaskId::from_bytes(row.get(1)?)));
    read().map_err(|error| match RowError::from(error) {
        RowError::Sqlite(error) => storage_error(&error),
        RowError::Damaged => storage_error(&rusqlite::Error::InvalidQuery),
    })
}

/// The first place after `after` (or from the end of the order) at which there may be a task of this status.
fn next_seq(connection: &Connection, query: &List, after: Option<i64>) -> rusqlite::Result<Option<i64>> {
    let (from, condition) = match query.status {
        None => ("task", "1"),
        Some(TaskStatus::Queued) => ("live", "1"),
        Some(TaskStatus::Running) => ("live INDEXED BY live_running", "phase = 2"),
        Some(TaskStatus::Completed) => ("finished", "1"),
        Some(TaskStatus::Failed | TaskStatus::Cancelled) => ("finished INDEXED BY finished_badly", "status <> 3"),
    };
    let (compare, direction, after) = match query.order {
        Order::Oldest => (">", "ASC", after.unwrap_or(i64::MIN)),
        Order::Newest => ("<", "DESC", after.unwrap_or(i64::MAX)),
    };
    let sql = format!("SELECT seq FROM {from} WHERE {condition} AND seq {compare} ?1 ORDER BY seq {direction} LIMIT 1");
    connection.prepare_cached(&sql)?.query_row([after], |row| row.get(0)).optional()
}

/// The narrowest table of the status leads, so that a page costs what it shows.
fn page_sql(query: &List) -> String {
    let (from, first, condition) = match query.status {
        None => ("task t LEFT JOIN live l ON l.seq = t.seq LEFT JOIN finished f ON f.seq = t.seq", "t", "1"),
        Some(TaskStatus::Queued) => (FROM_LIVE, "l", "l.phase < 2"),
        Some(TaskStatus::Running) => (FROM_LIVE_RUNNING, "l", "l.phase = 2"),
        Some(TaskStatus::Completed) => (FROM_FINISHED, "f", "f.status = 3"),
        Some(TaskStatus::Failed) => (FROM_FINISHED_BADLY, "f", "f.status <> 3 AND f.status = 4"),
        Some(TaskStatus::Cancelled) => (FROM_FINISHED_BADLY, "f", "f.status <> 3 AND f.status = 5"),
    };
    let direction = match query.order {
        Order::Oldest => "ASC",
        Order::Newest => "DESC",
    };
    format!(
        "SELECT {}, {}, {} FROM {from} WHERE {condition} AND {first}.seq BETWEEN :low AND :high \
         AND (:types IS NULL OR t.task_type IN (SELECT value FROM json_each(:types))) \
         AND (:session IS NULL OR t.session = :session) \
         AND (:label IS NULL OR EXISTS (SELECT 1 FROM json_each(t.labels) WHERE value = :label)) \
         ORDER BY {first}.seq {direction}",
        rows::spec_columns!(),
        rows::live_columns!(),
        rows::ended_columns!(),
    )
}

const FROM_LIVE: &str = "live l CROSS JOIN task t ON t.seq = l.seq LEFT JOIN finished f ON f.seq = l.seq";
const FROM_LIVE_RUNNING: &str =
    "live l INDEXED BY live_running CROSS JOIN task t ON t.seq = l.seq LEFT JOIN finished f ON f.seq = l.seq";
const FROM_FINISHED: &str = "finished f CROSS JOIN task t ON t.seq = f.seq LEFT JOIN live l ON l.seq = f.seq";
const FROM_FINISHED_BADLY: &str =
    "finished f INDEXED BY finished_badly CROSS JOIN task t ON t.seq = f.seq LEFT JOIN live l ON l.seq = f.seq";

fn write_cursor(seq: i64, order: Order) -> String {
    match order {
        Order::Oldest => format!("oldest-{seq}"),
        Order::Newest => format!("newest-{seq}"),
    }
}

fn parse_cursor(cursor: &str, order: Order) -> Result<i64, QueueError> {
    let prefix = match order {
        Order::Oldest => "oldest-",
        Order::Newest => "newest-",
    };
    cursor
        .strip_prefix(prefix)
        .and_then(|seq| seq.parse().ok())
        .ok_or_else(|| QueueError::invalid("cursor", "not the next_cursor of a list in this order"))
}

/// Tasks examined by one statement.
const WINDOW: i64 = 20_000;

/// Windows of one page: some tenths of a second at the most, so that a reader is soon free and the log can be copied.
const WINDOWS_MAX: usize = 20;
