//! The rules for answers with many records. They are the same for every backend.

use taskqueue_api::{Json, List, Order, QueueError, Selection, TaskId, limits::LIST_PAGE_BYTES};

use super::{Page, Seq};
use crate::engine::{Record, Wall};

/// A page that is filled piece by piece, so that other reads get their turn in between.
#[derive(Debug)]
pub(crate) struct Filling {
    query: List,
    records: Vec<Record>,
    bytes: usize,
    /// The last task on the page.
    last: Option<Seq>,
    /// The last place that was examined. The next piece starts behind it.
    after: Option<Seq>,
    /// The number of places that were examined.
    examined: usize,
    /// The task behind which the next page starts.
    next: Option<Seq>,
}

impl Filling {
    /// # Errors
    ///
    /// `invalid_argument` for a cursor that is not from a list in this order.
    pub(crate) fn new(query: List) -> Result<Self, QueueError> {
        let after = match &query.cursor {
            Some(cursor) => Some(read_cursor(cursor, query.order)?),
            None => None,
        };
        Ok(Self { query, records: Vec::new(), bytes: 0, last: None, after, examined: 0, next: None })
    }

    pub(crate) const fn query(&self) -> &List {
        &self.query
    }

    /// The task behind which the next piece starts.
    pub(crate) const fn after(&self) -> Option<Seq> {
        self.after
    }

    /// Whether the page has as many records as the query asked for.
    pub(crate) const fn is_full(&self) -> bool {
        self.records.len() >= self.query.limit as usize
    }

    /// Adds a record, and answers whether it had room. A record that is larger than a page gets a page of its own.
    pub(crate) fn add(&mut self, seq: Seq, record: Record) -> bool {
        let bytes = record_bytes(&record);
        if self.is_full() || (self.bytes + bytes > LIST_PAGE_BYTES && !self.records.is_empty()) {
            return false;
        }
        self.bytes += bytes;
        self.last = Some(seq);
        self.records.push(record);
        true
    }

    /// Ends the page; more records follow behind its last one.
    pub(crate) const fn end_with_more(&mut self) {
        self.next = self.last;
    }

    /// Ends a piece that examined `count` places, up to `last`. Answers whether the page ends too, because it has
    /// examined enough.
    pub(crate) const fn end_piece(&mut self, count: usize, last: Seq) -> bool {
        self.after = Some(last);
        self.examined += count;
        let is_enough = self.examined >= EXAMINED_MAX;
        if is_enough {
            self.next = self.after;
        }
        is_enough
    }

    /// Returns the page after it has ended.
    pub(crate) fn into_page(self) -> Page {
        let next_cursor = self.next.map(|seq| format!("{}{seq}", prefix(self.query.order)));
        Page { records: self.records, next_cursor }
    }
}

/// A choice of ended tasks that is made piece by piece, in the order of submission.
#[derive(Debug)]
pub(crate) struct Choosing {
    pub(crate) selection: Selection,
    /// The latest time of an end that counts.
    pub(crate) ended_by: Wall,
    ids: Vec<TaskId>,
    /// The last task that was examined. The next piece starts behind it.
    pub(crate) after: Seq,
    more: bool,
}

impl Choosing {
    pub(crate) const fn new(selection: Selection, ended_by: Wall) -> Self {
        Self { selection, ended_by, ids: Vec::new(), after: Seq::MIN, more: false }
    }

    /// Adds a task that passes the filter, and answers whether it had room. If it had none, there are more tasks than
    /// were asked for, and the choice has ended.
    pub(crate) fn add(&mut self, id: TaskId) -> bool {
        self.more = self.ids.len() >= self.selection.limit as usize;
        if !self.more {
            self.ids.push(id);
        }
        !self.more
    }

    /// Returns the ids after the choice has ended, and whether there are more.
    pub(crate) fn into_ids(self) -> (Vec<TaskId>, bool) {
        (self.ids, self.more)
    }
}

/// Reads records one by one, until they reach the bytes of one answer.
///
/// # Errors
///
/// `limit_exceeded` when the records are too large for one answer, and the errors of reading one record.
pub(crate) fn gather(
    ids: &[TaskId],
    mut read: impl FnMut(TaskId) -> Result<Option<Record>, QueueError>,
) -> Result<Vec<Option<Record>>, QueueError> {
    let (mut records, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for id in ids {
        let record = read(*id)?;
        bytes += record.as_ref().map_or(0, record_bytes);
        if bytes > READ_BYTES_MAX && records.len() > 1 {
            return Err(QueueError::over_limit("task_ids", bytes, READ_BYTES_MAX, "bytes of records"));
        }
        records.push(record);
    }
    Ok(records)
}

fn read_cursor(cursor: &str, order: Order) -> Result<Seq, QueueError> {
    let seq = cursor.strip_prefix(prefix(order)).and_then(|seq| seq.parse().ok());
    seq.ok_or_else(|| QueueError::invalid("cursor", "not the next_cursor of a list in this order"))
}

const fn prefix(order: Order) -> &'static str {
    match order {
        Order::Oldest => "oldest-",
        Order::Newest => "newest-",
    }
}

/// Estimates the size of the record in an answer, in bytes.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let result = record.result.as_ref().map_or(0, Json::len_bytes);
    RECORD_BYTES_AROUND + record.payload.len_bytes() + result + record.inputs_bytes() + record.names_bytes()
}

/// The most rows that a reader examines before other reads get their turn: about half a millisecond.
pub(crate) const EXAMINED_AT_ONCE: usize = 512;

/// The most places that are examined for one page: some tenths of a second. After that the caller learns how far the
/// list has come.
const EXAMINED_MAX: usize = 400_000;

/// The most bytes that one answer may hold in memory.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The bytes of a record's other fields and their names, as JSON.
const RECORD_BYTES_AROUND: usize = 640;
