//! The rules of answers with many records: the same for every backend.

use taskqueue_api::{Json, List, Order, QueueError, Selection, TaskId, limits::LIST_PAGE_BYTES};

use super::{Page, Seq};
use crate::engine::{Record, Wall};

/// A page that is being filled, piece by piece: other reads have their turn in between.
#[derive(Debug)]
pub(crate) struct Filling {
    query: List,
    records: Vec<Record>,
    bytes: usize,
    /// The last task of the page.
    last: Option<Seq>,
    /// The last place that was looked at; the next piece starts behind it.
    after: Option<Seq>,
    /// Places that were looked at.
    examined: usize,
    /// Behind which task the next page starts.
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

    /// Where the next piece starts: behind this task.
    pub(crate) const fn after(&self) -> Option<Seq> {
        self.after
    }

    /// Whether the page has as many records as were asked for.
    pub(crate) const fn is_full(&self) -> bool {
        self.records.len() >= self.query.limit as usize
    }

    /// Adds a record; whether it had room. One that is larger than a page is a page by itself.
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

    /// Ends the page with more to come behind its last record.
    pub(crate) const fn end_with_more(&mut self) {
        self.next = self.last;
    }

    /// Ends a piece that looked at so many places, the last of which is this one; whether the page ends with it, because
    /// it has looked at enough.
    pub(crate) const fn end_piece(&mut self, count: usize, last: Seq) -> bool {
        self.after = Some(last);
        self.examined += count;
        let is_enough = self.examined >= EXAMINED_MAX;
        if is_enough {
            self.next = self.after;
        }
        is_enough
    }

    /// The page, once it has ended.
    pub(crate) fn into_page(self) -> Page {
        let next_cursor = self.next.map(|seq| format!("{}{seq}", prefix(self.query.order)));
        Page { records: self.records, next_cursor }
    }
}

/// Ended tasks that are being chosen, piece by piece, the first submitted first.
#[derive(Debug)]
pub(crate) struct Choosing {
    pub(crate) selection: Selection,
    /// The latest end that counts.
    pub(crate) ended_by: Wall,
    ids: Vec<TaskId>,
    /// The last task that was looked at; the next piece starts behind it.
    pub(crate) after: Seq,
    more: bool,
}

impl Choosing {
    pub(crate) const fn new(selection: Selection, ended_by: Wall) -> Self {
        Self { selection, ended_by, ids: Vec::new(), after: Seq::MIN, more: false }
    }

    /// Adds a task that passes the filter; whether it had room. Without, there is more than was asked for, and the choice
    /// has ended.
    pub(crate) fn add(&mut self, id: TaskId) -> bool {
        self.more = self.ids.len() >= self.selection.limit as usize;
        if !self.more {
            self.ids.push(id);
        }
        !self.more
    }

    /// The ids, once the choice has ended; whether there are more.
    pub(crate) fn into_ids(self) -> (Vec<TaskId>, bool) {
        (self.ids, self.more)
    }
}

/// Reads records one by one, up to the bytes of one answer.
///
/// # Errors
///
/// `limit_exceeded` when they are too large for one answer; what reading one answers.
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

/// About how large the record is when it is answered.
pub(crate) fn record_bytes(record: &Record) -> usize {
    let result = record.result.as_ref().map_or(0, Json::len_bytes);
    RECORD_BYTES_AROUND + record.payload.len_bytes() + result + record.inputs_bytes()
}

/// Rows that a reader looks at before other reads have their turn: about half a millisecond.
pub(crate) const EXAMINED_AT_ONCE: usize = 512;

/// Places that are looked at for one page: some tenths of a second at the most, after which its caller hears how far the
/// list has come.
const EXAMINED_MAX: usize = 400_000;

/// What one answer may hold in memory.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A record's other fields and their names, as JSON.
const RECORD_BYTES_AROUND: usize = 640;
