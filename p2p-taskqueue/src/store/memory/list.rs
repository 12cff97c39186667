use std::ops::Bound;

use super::{
    reads::{passes, record, record_bytes},
    tables::Seen,
};
use crate::{
    QueueError,
    api::{List, Order, limits::LIST_PAGE_BYTES},
    engine::Record,
    store::{Page, Seq},
};

/// Reads a page of records in the order of acceptance.
///
/// A cursor names the last task that was looked at, so tasks that come and go meanwhile neither repeat nor hide others. A
/// filter that few pass looks at up to [`EXAMINED_MAX`] tasks; then the page ends early, perhaps empty, with a cursor.
pub(super) fn list(seen: &Seen<'_>, query: &List) -> Result<Page, QueueError> {
    let after = query.cursor.as_ref().map(|cursor| parse_cursor(cursor, query.order)).transpose()?;
    let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
    for (count, seq) in candidates(seen, query, after).enumerate() {
        if count >= EXAMINED_MAX {
            return Ok(page(records, last, query.order));
        }
        if let Some(record) = chosen(seen, seq, query)? {
            let size = record_bytes(&record);
            // A record that is larger than a page is a page by itself.
            let full = bytes + size > LIST_PAGE_BYTES && !records.is_empty();
            if full || records.len() >= query.limit as usize {
                return Ok(page(records, last, query.order));
            }
            bytes += size;
            records.push(record);
        }
        last = Some(seq);
    }
    Ok(page(records, None, query.order))
}

/// The record of a task that passes the filters.
fn chosen(seen: &Seen<'_>, seq: Seq, query: &List) -> Result<Option<Record>, QueueError> {
    match seen.tasks.get(&seq) {
        Some(row) if passes(row, &query.task_types, query.session.as_ref(), query.label.as_ref()) => record(seen, seq),
        _ => Ok(None),
    }
}

/// The tasks of the state that is asked for, behind the last one that was looked at.
fn candidates<'a>(seen: &Seen<'a>, query: &List, after: Option<Seq>) -> Box<dyn Iterator<Item = Seq> + 'a> {
    let start = match query.order {
        Order::Oldest => after.unwrap_or(Seq::MIN),
        Order::Newest => after.unwrap_or(Seq::MAX),
    };
    let Some(status) = query.status else {
        return match query.order {
            Order::Oldest => Box::new(seen.tasks.from(Bound::Excluded(&start)).map(|(seq, _)| *seq)),
            Order::Newest => Box::new(seen.tasks.back_from(Bound::Excluded(&start)).map(|(seq, _)| *seq)),
        };
    };
    let (name, start) = (status.as_str(), (status.as_str(), start));
    let of_status = move |(state, ()): (&(&'static str, Seq), &())| (state.0 == name).then_some(state.1);
    match query.order {
        Order::Oldest => Box::new(seen.states.from(Bound::Excluded(&start)).map_while(of_status)),
        Order::Newest => Box::new(seen.states.back_from(Bound::Excluded(&start)).map_while(of_status)),
    }
}

fn page(records: Vec<Record>, last: Option<Seq>, order: Order) -> Page {
    Page { records, next_cursor: last.map(|seq| write_cursor(seq, order)) }
}

fn write_cursor(seq: Seq, order: Order) -> String {
    format!("{}{seq}", prefix(order))
}

fn parse_cursor(cursor: &str, order: Order) -> Result<Seq, QueueError> {
    let seq = cursor.strip_prefix(prefix(order)).and_then(|seq| seq.parse().ok());
    seq.ok_or_else(|| QueueError::invalid("cursor", "not the next_cursor of a list in this order"))
}

const fn prefix(order: Order) -> &'static str {
    match order {
        Order::Oldest => "oldest-",
        Order::Newest => "newest-",
    }
}

/// Some hundredths of a second at the most, in which the writer can commit nothing.
const EXAMINED_MAX: usize = 100_000;
