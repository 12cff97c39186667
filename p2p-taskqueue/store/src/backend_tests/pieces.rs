//! Tests of reads that look at more rows than one piece may.

use std::error::Error;

use taskqueue_api::{List, Order, Selection, TaskId, TaskStatus};

use super::{
    Rig, TestResult,
    fixture::{accept, at, commit, end, ended, gallery_row},
};
use crate::{Reads, Rows, Seq, TaskRow, TypeRow, engine::Spec, paging::Filling};

/// The number of ended tasks; they take several pieces.
const TASKS: Seq = 3_000;

pub(crate) fn a_selection_is_the_same_over_any_number_of_pieces(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    fill(&mut *rows)?;
    for status in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled] {
        for filter in FILTERS {
            let every = Selection { limit: 10_000, ..filter.selection(status) };
            let passes = |seq: &Seq| status_of(*seq) == status && filter.passes(*seq);
            let expected: Vec<_> = (1..=TASKS).filter(passes).collect();
            let chosen = |reads: &mut dyn Reads, limit: usize| {
                let limit = u32::try_from(limit)?;
                let (ids, more) = reads.select(&Selection { limit, ..every.clone() }, at(1e9))?;
                Ok::<_, Box<dyn Error>>((ids.into_iter().map(number).collect::<Vec<_>>(), more))
            };
            assert_eq!(chosen(&mut *reads, 10_000)?, (expected.clone(), false), "{status} {filter:?}");
            for limit in [1, expected.len() / 2, expected.len().saturating_sub(1), expected.len()] {
                let first = expected.iter().copied().take(limit.max(1)).collect();
                let more = expected.len() > limit.max(1);
                assert_eq!(chosen(&mut *reads, limit.max(1))?, (first, more), "{status} {filter:?} {limit}");
            }
        }
    }
    // Only the time of the end counts, not the piece that finds the task.
    let (ids, more) = reads.select(&Selection::ended(TaskStatus::Completed), at(0.0))?;
    assert_eq!((ids, more), (vec![], false));
    Ok(())
}

pub(crate) fn a_list_is_the_same_over_any_number_of_pieces(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    fill(&mut *rows)?;
    for status in TaskStatus::ALL.into_iter().map(Some).chain([None]) {
        for (filter, order) in FILTERS.into_iter().flat_map(|filter| [(filter, Order::Oldest), (filter, Order::Newest)])
        {
            let session = filter.session.then(|| "s".to_owned());
            let label = filter.label.then(|| "l".to_owned());
            let query = List { status, session, label, order, limit: 400, ..oldest_first() };
            let of_status = |seq: Seq| status.is_none_or(|status| status_of(seq) == status);
            let mut expected: Vec<_> = (1..=TASKS).filter(|seq| of_status(*seq) && filter.passes(*seq)).collect();
            if order == Order::Newest {
                expected.reverse();
            }
            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let page = reads.list(&List { cursor, ..query.clone() })?;
                let left = expected.len() - found.len();
                assert_eq!(page.records.len(), left.min(400), "{query:?}");
                found.extend(page.records.iter().map(|record| number(record.spec.id)));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{query:?}");
        }
    }
    Ok(())
}

/// Tasks that come and go between two pieces of a page neither repeat nor hide others.
pub(crate) fn tasks_come_and_go_between_two_pieces(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    fill(&mut *rows)?;
    let label = Some("l".to_owned());
    let mut page = Filling::new(List { label, limit: 1_000, ..oldest_first() })?;
    assert!(!reads.list_on(&mut page)?, "one piece is not all");
    commit(&mut *rows, |rows| {
        for seq in [4, 8, 2_996] {
            let id = row(seq).spec.id;
            rows.remove_ended(seq, id)?;
            rows.remove_task(seq, id)?;
        }
        accept(rows, &row(TASKS + 4))
    })?;
    while !reads.list_on(&mut page)? {}
    let found: Vec<_> = page.into_page().records.iter().map(|record| number(record.spec.id)).collect();
    let expected: Vec<_> = (1..=TASKS + 4).filter(|seq| seq % 4 == 0 && *seq != 2_996).collect();
    assert_eq!(found, expected);
    Ok(())
}

pub(crate) fn types_are_read_some_at_a_time(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let row = |count| TypeRow { counts: [count, 0, 0, 0, 0], ..TypeRow::default() };
    let names = ["", "a", "b", "ü"];
    commit(&mut *rows, |rows| names.iter().zip(1..).try_for_each(|(name, count)| rows.put_type(name, &row(count))))?;
    let all: Vec<_> = names.iter().zip(1..).map(|(name, count)| ((*name).to_owned(), row(count))).collect();
    for count_max in 1..=5 {
        let mut found: Vec<(String, TypeRow)> = Vec::new();
        loop {
            let behind = found.last().map(|(name, _)| name.clone());
            let some = reads.types(behind.as_deref(), count_max)?;
            assert!(some.len() <= count_max);
            if some.is_empty() {
                break;
            }
            found.extend(some);
        }
        assert_eq!(found, all);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Filter {
    session: bool,
    label: bool,
}

const FILTERS: [Filter; 3] = [
    Filter { session: false, label: false },
    Filter { session: true, label: false },
    Filter { session: true, label: true },
];

impl Filter {
    const fn passes(self, seq: Seq) -> bool {
        (!self.session || seq % 3 == 0) && (!self.label || seq % 4 == 0)
    }

    fn selection(self, status: TaskStatus) -> Selection {
        let (session, label) = (self.session.then(|| "s".to_owned()), self.label.then(|| "l".to_owned()));
        Selection { session, label, ..Selection::ended(status) }
    }
}

/// Writes tasks that have ended in one of the three ways.
fn fill(rows: &mut dyn Rows) -> TestResult {
    commit(rows, |rows| {
        (1..=TASKS).try_for_each(|seq| {
            let row = row(seq);
            accept(rows, &row)?;
            end(rows, &row, &ended(status_of(seq), 1.0), None)
        })
    })?;
    Ok(())
}

const fn status_of(seq: Seq) -> TaskStatus {
    match seq % 5 {
        0 => TaskStatus::Cancelled,
        1 => TaskStatus::Failed,
        _ => TaskStatus::Completed,
    }
}

fn row(seq: Seq) -> TaskRow {
    let row = gallery_row(1 + (seq - 1) % 12);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    TaskRow { seq, spec: Spec { id: TaskId::from_bytes(id), ..row.spec }, ..row }
}

fn number(id: TaskId) -> Seq {
    id.as_bytes().first_chunk().map_or(0, |bytes| Seq::from_be_bytes(*bytes))
}

fn oldest_first() -> List {
    List { order: Order::Oldest, ..List::default() }
}
