//! The rules of answers with many records: the same for every backend.

use super::{Page, Seq};
use crate::{
    QueueError, TaskId,
    api::{List, Order, limits::LIST_PAGE_BYTES},
    engine::Record,
    task::Json,
};

/// A page that is being filled.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    query: &'a List,
    records: Vec<Record>,
    bytes: usize,
    /// The last task of the page.
    last: Option<Seq>,
}

impl<'a> Filling<'a> {
    pub(crate) const fn new(query: &'a List) -> Self {
        Self { query, records: Vec::new(), bytes: 0, last: None }
    }

    /// Where the page starts: behind this task.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a cursor that is not from a list in this order.
    pub(crate) fn start(&self) -> Result<Option<Seq>, QueueError> {
        let Some(cursor) = &self.query.cursor else { return Ok(None) };
        let seq = cursor.strip_prefix(prefix(self.query.order)).and_then(|seq| seq.parse().ok());
        seq.map(Some).ok_or_else(|| QueueError::invalid("cursor", "not the next_cursor of a list in this order"))
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

    /// The page, with more to come behind its last record.
    pub(crate) fn with_more(self) -> Page {
        let last = self.last;
        self.up_to(last)
    }

    /// The page; more comes behind this task, if there is one.
    pub(crate) fn up_to(self, last: Option<Seq>) -> Page {
        let next_cursor = last.map(|seq| format!("{}{seq}", prefix(self.query.order)));
        Page { records: self.records, next_cursor }
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

/// What one answer may hold in memory.
const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A record's other fields and their names, as JSON.
const RECORD_BYTES_AROUND: usize = 640;
