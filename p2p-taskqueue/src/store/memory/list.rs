use std::ops::Bound;

use super::{
    reads::{passes, record},
    tables::Seen,
};
use crate::{
    QueueError,
    api::{List, Order},
    engine::Record,
    store::{Page, Seq, paging::Filling},
};

/// Reads a page of records in the order of acceptance.
///
/// A cursor names the last task that was looked at, so tasks that come and go meanwhile neither repeat nor hide others. A
/// filter that few pass looks at up to [`EXAMINED_MAX`] tasks; then the page ends early, perhaps empty, with a cursor.
pub(super) fn list(seen: &Seen<'_>, query: &List) -> Result<Page, QueueError> {
    let mut page = Filling::new(query);
    let mut last = None;
    for (count, seq) in candidates(seen, query, page.start()?).enumerate() {
        if count >= EXAMINED_MAX {
            return Ok(page.up_to(last));
        }
        if let Some(record) = chosen(seen, seq, query)?
            && !page.add(seq, record)
        {
            return Ok(page.up_to(last));
        }
        last = Some(seq);
    }
    Ok(page.up_to(None))
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

/// Some hundredths of a second at the most, in which the writer can commit nothing.
const EXAMINED_MAX: usize = 100_000;
