//! Tests of the answers to readers.

use std::{error::Error, thread};

use taskqueue_api::{ErrorCode, Json, List, Order, Selection, TaskStatus, limits::JSON_BYTES_MAX};

use super::{
    Rig, TestResult,
    fixture::{
        STATES_OF_THE_GALLERY, accept, at, commit, end, ended, gallery, gallery_row, id, leave, running, seqs, span,
        start, task,
    },
    snapshot::{change_everything, furnish, photograph_reads},
};
use crate::{
    Fault, Seq, TaskRow,
    engine::{Record, Spec, Standing, Wall},
};

pub(crate) fn readers_see_what_is_committed(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let mut second = rig.backend.open_reads()?;
    commit(&mut *rows, furnish)?;
    let before = photograph_reads(&mut *reads)?;
    rows.begin()?;
    change_everything(&mut *rows)?;
    assert_eq!(photograph_reads(&mut *reads)?, before);
    rows.commit()?;
    let after = photograph_reads(&mut *reads)?;
    assert_ne!(after, before);
    assert_eq!(photograph_reads(&mut *second)?, after);
    rows.tidy(false)?;
    assert_eq!(photograph_reads(&mut *reads)?, after);
    Ok(())
}

/// Two tasks always change together, and a reader never sees them differ.
pub(crate) fn an_answer_is_as_of_one_moment(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let pair = [task(1), task(2)];
    commit(&mut *rows, |rows| pair.iter().try_for_each(|row| accept(rows, row)))?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for counter in 0..500 {
                commit(&mut *rows, |rows| pair.iter().try_for_each(|row| start(rows, row, &running(row, counter))))?;
            }
            Ok::<_, Fault>(())
        });
        let mut answers = 0;
        while !writer.is_finished() || answers < 100 {
            let [first, second] = &reads.get(&[id(1), id(2)])?[..] else { panic!("two answers") };
            let fence = |record: &Option<_>| match record {
                Some(Record { standing: Standing::Live(live), .. }) => live.fence,
                other => panic!("{other:?}"),
            };
            assert_eq!(fence(first), fence(second));
            answers += 1;
        }
        writer.join().expect("the writer does not panic")?;
        Ok(())
    })
}

pub(crate) fn records_come_in_the_order_of_the_ids(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let large = TaskRow { payload: Json::from_text(&"x".repeat(JSON_BYTES_MAX - 2)).to_string(), ..task(3) };
    commit(&mut *rows, |rows| [&task(1), &task(2), &large].into_iter().try_for_each(|row| accept(rows, row)))?;
    let found = reads.get(&[id(2), id(9), id(1), id(2)])?;
    let found: Vec<_> = found.into_iter().map(|record| record.map(|record| record.spec.id)).collect();
    assert_eq!(found, [Some(id(2)), None, Some(id(1)), Some(id(2))]);
    assert_eq!(reads.get(&[])?, []);
    assert_eq!(reads.get(&[id(3); 30])?.len(), 30);
    assert_eq!(reads.get(&[id(3); 200]).unwrap_err().code, ErrorCode::LimitExceeded);
    Ok(())
}

pub(crate) fn a_list_passes_its_filters(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, gallery)?;
    let mut listed = |query: List| Ok::<_, Box<dyn Error>>(seqs(&reads.list(&query)?));
    let all: Vec<Seq> = (1..=12).collect();
    assert_eq!(listed(oldest_first())?, all);
    let newest: Vec<Seq> = all.iter().rev().copied().collect();
    assert_eq!(listed(List { order: Order::Newest, ..oldest_first() })?, newest);
    for (status, expected) in STATES_OF_THE_GALLERY {
        let query = List { status: Some(status), ..oldest_first() };
        assert_eq!(listed(query.clone())?, expected, "{status}");
        let expected: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(listed(List { order: Order::Newest, ..query })?, expected, "{status}");
    }
    let even = vec!["none".to_owned(), "even".to_owned()];
    assert_eq!(listed(List { task_types: even.clone(), ..oldest_first() })?, [2, 4, 6, 8, 10, 12]);
    let (session, label) = (Some("s".to_owned()), Some("l".to_owned()));
    assert_eq!(listed(List { session: session.clone(), ..oldest_first() })?, [3, 6, 9, 12]);
    assert_eq!(listed(List { label: label.clone(), ..oldest_first() })?, [4, 8, 12]);
    assert_eq!(listed(List { label: Some("other".to_owned()), ..oldest_first() })?, all);
    let status = Some(TaskStatus::Queued);
    let query = List { status, task_types: even, session, label, ..oldest_first() };
    assert_eq!(listed(query)?, [12]);
    assert_eq!(listed(List { session: Some("l".to_owned()), ..oldest_first() })?, [] as [Seq; 0]);
    Ok(())
}

pub(crate) fn a_list_is_read_page_by_page(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, gallery)?;
    for (order, status) in [Order::Oldest, Order::Newest]
        .into_iter()
        .flat_map(|order| [None, Some(TaskStatus::Queued)].map(|status| (order, status)))
    {
        let query = List { order, status, ..oldest_first() };
        let whole = seqs(&reads.list(&query)?);
        for limit in 1..=13 {
            let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
            loop {
                let page = reads.list(&List { limit, cursor, ..query.clone() })?;
                assert!(page.records.len() <= limit as usize);
                found.extend(seqs(&page));
                pages += 1;
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, whole);
            assert_eq!(pages, whole.len().div_ceil(limit as usize), "no page is empty, and the last one says so");
        }
    }
    // Tasks that come and go between two pages neither repeat nor hide others.
    let first = reads.list(&List { limit: 4, ..oldest_first() })?;
    commit(&mut *rows, |rows| {
        leave(rows, &gallery_row(1))?;
        start(rows, &gallery_row(12), &running(&gallery_row(12), 1))?;
        rows.remove_task(1, gallery_row(1).spec.id)?;
        accept(rows, &task(20))
    })?;
    let second = reads.list(&List { cursor: first.next_cursor, ..oldest_first() })?;
    assert_eq!((seqs(&second), second.next_cursor), ((5..=12).chain([20]).collect(), None));
    Ok(())
}

pub(crate) fn a_page_ends_at_its_bytes(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let sized = |seq, bytes: usize| TaskRow { payload: Json::from_text(&"x".repeat(bytes)).to_string(), ..task(seq) };
    commit(&mut *rows, |rows| {
        (1..=5).try_for_each(|seq| accept(rows, &sized(seq, 200 * 1024)))?;
        // The bytes of results count, too.
        let (large, result) = (sized(6, 1), Json::from_text(&"x".repeat(600 * 1024)));
        accept(rows, &large)?;
        end(rows, &large, &ended(TaskStatus::Completed, 1.0), Some(&result))?;
        accept(rows, &sized(7, 1))
    })?;
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = reads.list(&List { cursor, ..oldest_first() })?;
        pages.push(seqs(&page));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![1, 2], vec![3, 4], vec![5], vec![6], vec![7]]);
    Ok(())
}

pub(crate) fn a_foreign_cursor_is_refused(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, gallery)?;
    let page = reads.list(&List { limit: 2, ..oldest_first() })?;
    for (cursor, order) in [
        (page.next_cursor.as_deref().ok_or("a cursor")?, Order::Newest),
        ("", Order::Oldest),
        ("2", Order::Oldest),
        ("oldest-", Order::Oldest),
        ("oldest-x", Order::Oldest),
        ("oldest-1; DROP TABLE task", Order::Oldest),
    ] {
        let query = List { cursor: Some(cursor.to_owned()), order, ..oldest_first() };
        let error = reads.list(&query).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidArgument, Some("cursor")), "{cursor}");
    }
    for order in [Order::Oldest, Order::Newest] {
        let name = if order == Order::Oldest { "oldest" } else { "newest" };
        for end in [Seq::MIN, Seq::MAX] {
            reads.list(&List { cursor: Some(format!("{name}-{end}")), order, ..oldest_first() })?;
        }
    }
    Ok(())
}

pub(crate) fn a_selection_passes_its_filters(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, gallery)?;
    let late = at(1e6);
    let mut selected = |selection: Selection, by: Wall| {
        let (ids, more) = reads.select(&selection, by)?;
        Ok::<_, Box<dyn Error>>((ids.iter().map(|id| i64::from(id.as_bytes()[0])).collect::<Vec<_>>(), more))
    };
    for (status, expected) in STATES_OF_THE_GALLERY.into_iter().filter(|(status, _)| status.is_terminal()) {
        assert_eq!(selected(Selection::ended(status), late)?, (expected.to_vec(), false), "{status}");
    }
    let failed = Selection::ended(TaskStatus::Failed);
    let [three, .., nine] = STATES_OF_THE_GALLERY[3].1 else { panic!("several failed tasks") };
    // Each task ended at as many seconds as its number.
    assert_eq!(selected(failed.clone(), at(2.999_999))?, (vec![], false));
    assert_eq!(selected(failed.clone(), at(3.0))?, (vec![*three], false));
    assert_eq!(selected(Selection { limit: 1, ..failed.clone() }, late)?, (vec![*three], true));
    assert_eq!(selected(Selection { limit: 2, ..failed.clone() }, late)?, (vec![*three, *nine], false));
    let types = vec!["odd".to_owned()];
    assert_eq!(selected(Selection { task_types: types.clone(), ..failed.clone() }, late)?.0, [3, 9]);
    let completed = Selection::ended(TaskStatus::Completed);
    assert_eq!(selected(Selection { task_types: types, ..completed.clone() }, late)?.0, [] as [Seq; 0]);
    assert_eq!(selected(Selection { session: Some("s".to_owned()), ..failed.clone() }, late)?.0, [3, 9]);
    assert_eq!(selected(Selection { session: Some("s".to_owned()), ..completed.clone() }, late)?.0, [] as [Seq; 0]);
    assert_eq!(selected(Selection { label: Some("l".to_owned()), ..completed }, late)?.0, [4, 8]);
    assert_eq!(selected(Selection { label: Some("l".to_owned()), ..failed }, late)?.0, [] as [Seq; 0]);
    Ok(())
}

pub(crate) fn the_oldest_ready_task_is_found(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    assert_eq!(reads.oldest_ready()?, None);
    let row = |seq, task_type: &str, priority, ready_s| {
        let row = task(seq);
        let spec = Spec { task_type: task_type.to_owned(), priority, ..row.spec };
        TaskRow { spec, ready_at: span(ready_s), ..row }
    };
    let (oldest, second) = (row(3, "b", 2, 1.0), row(2, "a", 1, 2.0));
    let others = [row(1, "a", 9, 3.0), row(4, "b", 9, 5.0), row(5, "b", 1, 4.0), row(6, "c", 5, 6.0)];
    commit(&mut *rows, |rows| {
        [&oldest, &second].into_iter().chain(&others).try_for_each(|row| accept(rows, row))?;
        accept(rows, &row(7, "c", 5, -9.0))?;
        start(rows, &row(7, "c", 5, -9.0), &running(&row(7, "c", 5, -9.0), 1))
    })?;
    assert_eq!(reads.oldest_ready()?, Some(span(1.0)));
    commit(&mut *rows, |rows| leave(rows, &oldest))?;
    assert_eq!(reads.oldest_ready()?, Some(span(2.0)));
    commit(&mut *rows, |rows| leave(rows, &second))?;
    assert_eq!(reads.oldest_ready()?, Some(span(3.0)));
    Ok(())
}

fn oldest_first() -> List {
    List { order: Order::Oldest, ..List::default() }
}
