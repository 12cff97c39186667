use std::ops::Bound;

use taskqueue_api::{List, Order, QueueError};

use super::{
    reads::{passes, record},
    tables::Seen,
};
use crate::{
    Seq,
    engine::Record,
    paging::{EXAMINED_AT_ONCE, Filling},
};

/// Reads a piece of a page of records in the order of acceptance, and returns whether the page is done.
///
/// A cursor names the last task that was looked at. So tasks that come and go in the meantime neither repeat nor hide
/// others. With a filter that few tasks pass, many tasks are looked at; then the page ends early, perhaps empty, with a
/// cursor.
pub(super) fn list(seen: &Seen<'_>, page: &mut Filling) -> Result<bool, QueueError> {
    let (mut examined, mut last) = (0, None);
    for seq in candidates(seen, page.query(), page.after()).take(EXAMINED_AT_ONCE) {
        if let Some(record) = chosen(seen, seq, page.query())?
            && !page.add(seq, record)
        {
            page.end_with_more();
            return Ok(true);
        }
        examined += 1;
        last = Some(seq);
    }
    match last {
        Some(last) if examined == EXAMINED_AT_ONCE => Ok(page.end_piece(examined, last)),
        _ => Ok(true),
    }
}

/// Returns the record of a task that passes the filters.
fn chosen(seen: &Seen<'_>, seq: Seq, query: &List) -> Result<Option<Record>, QueueError> {
    match seen.tasks.get(&seq) {
        Some(row) if passes(row, &query.task_types, query.session.as_ref(), query.label.as_ref()) => record(seen, seq),
        _ => Ok(None),
    }
}

/// Returns the tasks in the requested state, behind the last one that was looked at.
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
