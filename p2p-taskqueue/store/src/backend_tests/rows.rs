//! Tests that written rows are there, in their order.

use std::{cmp::Reverse, error::Error};

use taskqueue_api::{FailedBy, Json, List, OnParentFailure, PeerId, TaskStatus, limits::JSON_BYTES_MAX};

use super::{
    Rig, TestResult,
    fixture::{
        ODD_TEXTS, accept, at, attempt, cache_row, commit, end, ended, id, inputs, lane, lanes, leave, place, running,
        seqs, span, start, task,
    },
    snapshot::photograph,
};
use crate::{
    CacheRow, Clocks, Due, KeyRow, Meta, Place, Reads, Rows, TaskRow, Timer, TypeRow,
    engine::{Attempts, Ended, Live, Phase, Policy, Spec, Standing},
};

pub(crate) fn a_task_is_kept_to_the_letter(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let plain = task(1);
    let mut full = task(2);
    full.spec = Spec {
        submitter: Some("laptop".to_owned()),
        submitted_by: Some(PeerId::random()),
        model_name: "m".to_owned(),
        priority: 10,
        created_at: at(0.000_001),
        deadline_s: Some(0.1),
        labels: vec!["b".to_owned(), "a".to_owned()],
        requires: vec!["y".to_owned(), "x".to_owned()],
        session: Some("s".to_owned()),
        pin_to: Some(PeerId::random()),
        after: vec![id(1), id(9)],
        on_parent_failure: OnParentFailure::Run,
        concurrency_key: Some("k".to_owned()),
        policy: Policy { max_attempts: 1000, backoff_s: 0.1, result_ttl_s: 1e-6 },
        ..full.spec
    };
    full.ready_at = span(2.5);
    full.not_before = Some(at(-1.0));
    full.payload = r#"{ "z":1.50,"a":[12345678901234567890123] }"#.to_owned();
    commit(&mut *rows, |rows| [&plain, &full].into_iter().try_for_each(|row| accept(rows, row)))?;
    for row in [&plain, &full] {
        assert_eq!(rows.task(row.seq)?.as_ref(), Some(row));
        assert_eq!(rows.seq_of(row.spec.id)?, Some(row.seq));
        assert_eq!((rows.live(row.seq)?, rows.ended(row.seq)?), (None, None));
    }
    assert_eq!((rows.task(3)?, rows.seq_of(id(3))?, rows.live(3)?, rows.ended(3)?), (None, None, None, None));
    Ok(())
}

pub(crate) fn odd_texts_are_kept(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    for (seq, text) in (1..).zip(ODD_TEXTS) {
        let (text, mut row) = (text.to_owned(), task(seq));
        row.spec = Spec {
            task_type: text.clone(),
            submitter: Some(text.clone()),
            model_name: text.clone(),
            labels: vec![text.clone(), "x".to_owned()],
            requires: vec![text.clone()],
            session: Some(text.clone()),
            concurrency_key: Some(text.clone()),
            ..row.spec
        };
        row.payload = Json::from_text(&text).to_string();
        let live = Live {
            worker: Some(text.clone()),
            cancel: Some(text.clone()),
            status_message: Some(text.clone()),
            error: Some(text.clone()),
            inputs: Some(inputs(&[(&text, &text)], &[("x", &text)])),
            attempts: Attempts::of(vec![attempt(&text, Some(&text)), attempt(&text, None)]),
            ..running(&row, 1)
        };
        let key = KeyRow { content: [7; 32], id: row.spec.id, expires_at: span(1.0) };
        let (numbers, cached) = (TypeRow { draining: true, ..TypeRow::default() }, cache_row("v", None, 0.0));
        commit(&mut *rows, |rows| {
            accept(rows, &row)?;
            start(rows, &row, &live)?;
            rows.put_key(&text, &text, &key)?;
            rows.put_type(&text, &numbers)?;
            rows.put_key_limit(&text, Some(3))?;
            rows.put_cached(&text, &cached)
        })?;
        assert_eq!((rows.task(seq)?, rows.live(seq)?), (Some(row.clone()), Some(live)), "{text:?}");
        assert_eq!(rows.key(&text, &text)?, Some(key), "{text:?}");
        assert!(rows.types()?.contains(&(text.clone(), numbers)), "{text:?}");
        assert!(rows.key_limits()?.contains(&(text.clone(), 3)), "{text:?}");
        assert_eq!(reads.cached(&text)?, Some(cached), "{text:?}");
        let query = List {
            task_types: vec!["none".to_owned(), text.clone()],
            session: Some(text.clone()),
            label: Some(text.clone()),
            ..List::default()
        };
        assert_eq!(seqs(&reads.list(&query)?), [seq], "{text:?}");
    }
    Ok(())
}

pub(crate) fn large_values_are_kept(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let large = Json::from_text(&"ü".repeat(JSON_BYTES_MAX / 2 - 1));
    assert_eq!(large.len_bytes(), JSON_BYTES_MAX);
    let row = TaskRow { payload: large.to_string(), ..task(1) };
    let cached = CacheRow { value: large.clone(), expires_at: None, used_at: span(0.0) };
    commit(&mut *rows, |rows| {
        accept(rows, &row)?;
        rows.put_cached("k", &cached)
    })?;
    assert_eq!(rows.task(1)?.as_ref(), Some(&row));
    commit(&mut *rows, |rows| end(rows, &row, &ended(TaskStatus::Completed, 1.0), Some(&large)))?;
    let record = reads.get(&[row.spec.id])?.remove(0).ok_or("the task")?;
    assert_eq!((record.payload, record.result), (large.clone(), Some(large)));
    assert_eq!(reads.cached("k")?, Some(cached));
    Ok(())
}

pub(crate) fn a_task_stands_as_it_was_last_written(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let row = TaskRow { ready_at: span(3.0), not_before: Some(at(-3.0)), ..task(1) };
    let standing =
        |reads: &mut dyn Reads| Ok::<_, Box<dyn Error>>(reads.get(&[id(1)])?.remove(0).ok_or("a task")?.standing);
    commit(&mut *rows, |rows| accept(rows, &row))?;
    assert_eq!(standing(&mut *reads)?, Standing::Live(row.fresh()));
    let full = Live {
        ready_at: span(4.0),
        not_before: Some(at(5.0)),
        deadline: Some(span(6.0)),
        waiting: 2,
        kept_until: Some(span(8.0)),
        cancel: Some("c".to_owned()),
        progress: Some(0.1),
        status_message: Some(String::new()),
        error: Some("e".to_owned()),
        inputs: Some(inputs(&[("q", "?"), ("", "")], &[("a", "!")])),
        attempts: Attempts::of(vec![attempt("v", Some("e")), attempt("w", None)]),
        ..running(&row, u64::MAX)
    };
    commit(&mut *rows, |rows| leave(rows, &row))?;
    for phase in [Phase::Delayed, Phase::Scheduled, Phase::Running, Phase::Blocked] {
        for live in [Live { phase, ..row.fresh() }, Live { phase, ..full.clone() }] {
            commit(&mut *rows, |rows| rows.put_live(1, id(1), &live))?;
            assert_eq!(rows.live(1)?.as_ref(), Some(&live));
            assert_eq!(standing(&mut *reads)?, Standing::Live(live));
        }
    }
    commit(&mut *rows, |rows| rows.remove_live(1, id(1)))?;
    assert_eq!(rows.live(1)?, None);
    let bare = Ended { attempt: 0, fence: None, worker: None, ..ended(TaskStatus::Failed, 7.0) };
    let full = Ended {
        not_before: Some(at(5.0)),
        deadline: Some(span(6.0)),
        progress: Some(1.0),
        status_message: Some("m".to_owned()),
        error: Some("e".to_owned()),
        dead: true,
        attempts: Attempts::of(vec![attempt("v", Some("e")), attempt("w", Some(""))]),
        ..ended(TaskStatus::Cancelled, 7.0)
    };
    let null = Json::null();
    let dead = |by| Ended { dead: true, failed_by: by, ..bare.clone() };
    let dead = [None, Some(FailedBy::Worker), Some(FailedBy::Queue)].map(dead).map(|dead| (dead, None));
    for (ended, result) in [(bare.clone(), None), (full, Some(&null))].into_iter().chain(dead) {
        commit(&mut *rows, |rows| rows.insert_ended(1, id(1), &ended, result))?;
        assert_eq!(rows.ended(1)?, Some((id(1), ended.clone(), result.cloned())));
        assert_eq!(standing(&mut *reads)?, Standing::Ended(ended));
        assert_eq!(reads.get(&[id(1)])?[0].as_ref().and_then(|record| record.result.as_ref()), result);
        commit(&mut *rows, |rows| rows.remove_ended(1, id(1)))?;
        assert_eq!(rows.ended(1)?, None);
    }
    Ok(())
}

pub(crate) fn running_tasks_are_found(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let all: Vec<_> = (1..=5).map(task).collect();
    commit(&mut *rows, |rows| {
        all.iter().try_for_each(|row| accept(rows, row))?;
        all[..4].iter().try_for_each(|row| start(rows, row, &running(row, 1)))?;
        rows.put_live(1, id(1), &Live { phase: Phase::Delayed, ..running(&all[0], 1) })?;
        end(rows, &all[1], &ended(TaskStatus::Failed, 1.0), None)
    })?;
    let mut found = rows.running()?;
    found.sort_by_key(|(seq, ..)| *seq);
    assert_eq!(found, [(3, id(3), running(&all[2], 1)), (4, id(4), running(&all[3], 1))]);
    Ok(())
}

pub(crate) fn a_removed_task_leaves_nothing(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let row = task(1);
    let before = photograph(&mut *rows, &mut *reads)?;
    commit(&mut *rows, |rows| {
        accept(rows, &row)?;
        end(rows, &row, &ended(TaskStatus::Failed, 1.0), Some(&Json::null()))
    })?;
    assert_ne!(photograph(&mut *rows, &mut *reads)?, before);
    commit(&mut *rows, |rows| {
        rows.clear_timer(Due::Removal(span(61.0)), 1)?;
        rows.remove_ended(1, id(1))?;
        rows.remove_task(1, id(1))
    })?;
    assert_eq!(photograph(&mut *rows, &mut *reads)?, before);
    Ok(())
}

pub(crate) fn t6_a_line_is_ordered_by_priority_then_time_then_id(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let place = |priority, ready_s, number: u8, seq| Place {
        priority: Reverse(priority),
        ready_at: span(ready_s),
        id: id(number),
        seq,
    };
    let ordered = [
        place(10, 9.0, 4, 1),
        place(9, -1e9, 200, 2),
        place(9, 0.000_001, 7, 3),
        place(9, 0.000_002, 5, 9),
        place(9, 0.000_002, 6, 8),
        place(9, 0.000_002, 128, 7),
        place(1, -5.0, 1, 4),
    ];
    let (lane, other) = (lane("echo"), lane("echo2"));
    commit(&mut *rows, |rows| {
        for at in [3, 0, 6, 5, 1, 4, 2] {
            rows.join_line(&lane, &ordered[at])?;
        }
        rows.join_line(&other, &place(10, 0.0, 99, 99))
    })?;
    assert_eq!(rows.line(&lane, None, 100)?, ordered);
    for count in 0..=ordered.len() {
        assert_eq!(rows.line(&lane, None, count)?, ordered[..count]);
    }
    for at in 0..ordered.len() {
        assert_eq!(rows.line(&lane, Some(&ordered[at]), 2)?, ordered[at + 1..ordered.len().min(at + 3)]);
    }
    assert_eq!(rows.line("none", None, 1)?, []);
    commit(&mut *rows, |rows| {
        rows.leave_line(&lane, &ordered[0])?;
        rows.leave_line(&lane, &ordered[4])
    })?;
    let left = [&ordered[1..4], &ordered[5..]].concat();
    assert_eq!(rows.line(&lane, None, 100)?, left);
    assert_eq!(rows.line(&other, None, 100)?.len(), 1);
    Ok(())
}

pub(crate) fn lanes_follow_each_other_in_a_fixed_order(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    assert_eq!(rows.next_lane(None)?, None);
    assert_eq!(rows.next_lane(Some("x"))?, None);
    let mut expected: Vec<String> = ODD_TEXTS.into_iter().map(lane).collect();
    commit(&mut *rows, |rows| {
        for (seq, lane) in (1..).zip(&expected) {
            // Two tasks in the same line make one lane.
            rows.join_line(lane, &place(&task(2 * seq)))?;
            rows.join_line(lane, &place(&task(2 * seq + 1)))?;
        }
        Ok(())
    })?;
    let lanes = lanes(&mut *rows)?;
    let mut sorted = lanes.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected);
    // A lane whose line is empty still has its place in the order.
    let gone = rows.line(&lanes[1], None, 9)?;
    commit(&mut *rows, |rows| gone.iter().try_for_each(|place| rows.leave_line(&lanes[1], place)))?;
    assert_eq!(rows.next_lane(Some(&lanes[0]))?.as_ref(), Some(&lanes[2]));
    assert_eq!(rows.next_lane(Some(&lanes[1]))?.as_ref(), Some(&lanes[2]));
    Ok(())
}

pub(crate) fn timers_of_a_kind_end_in_their_order(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let deadline = |seconds| Due::Deadline(span(seconds));
    for timer in Timer::ALL {
        assert_eq!((rows.first_due(timer)?, rows.due(timer.at(i64::MAX), 9)?), (None, vec![]));
    }
    commit(&mut *rows, |rows| {
        for (seq, seconds) in [(1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0), (5, -1e9)] {
            rows.set_timer(Due::Deadline(span(seconds)), seq)?;
        }
        rows.set_timer(Due::Ready(span(2.5)), 1)?;
        rows.set_timer(Due::Date(at(0.5)), 1)?;
        rows.set_timer(Due::Removal(span(0.5)), 1)
    })?;
    let mut due = rows.due(Due::Deadline(span(2.0)), 9)?;
    due[1..3].sort_unstable();
    assert_eq!(due, [(deadline(-1e9), 5), (deadline(1.0), 2), (deadline(1.0), 4), (deadline(2.0), 3)]);
    assert_eq!(rows.due(Due::Deadline(span(2.0)), 1)?, [(deadline(-1e9), 5)]);
    assert_eq!(rows.due(Due::Deadline(span(0.999_999)), 9)?, [(deadline(-1e9), 5)]);
    assert_eq!(rows.due(Due::Ready(span(9.0)), 9)?, [(Due::Ready(span(2.5)), 1)]);
    let first = |rows: &mut dyn Rows| Timer::ALL.map(|timer| rows.first_due(timer));
    let (removal, date) = (Due::Removal(span(0.5)), Due::Date(at(0.5)));
    let all = [Due::Ready(span(2.5)), deadline(-1e9), removal, date];
    assert_eq!(first(&mut *rows), all.map(|due| Ok(Some(due))));
    commit(&mut *rows, |rows| {
        rows.clear_timer(Due::Deadline(span(-1e9)), 5)?;
        rows.clear_timer(Due::Ready(span(2.5)), 1)
    })?;
    assert_eq!(first(&mut *rows), [Ok(None), Ok(Some(deadline(1.0))), Ok(Some(removal)), Ok(Some(date))]);
    Ok(())
}

pub(crate) fn edges_lead_to_the_children(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let all: Vec<_> = (1..=6).map(task).collect();
    commit(&mut *rows, |rows| {
        all.iter().try_for_each(|row| accept(rows, row))?;
        for (parent, child) in [(1, 4), (1, 3), (1, 6), (2, 4)] {
            rows.add_edge(parent, child)?;
        }
        Ok(())
    })?;
    let mut children = rows.children(1, 9)?;
    children.sort_unstable();
    assert_eq!((children, rows.children(2, 9)?, rows.children(3, 9)?), (vec![3, 4, 6], vec![4], vec![]));
    assert_eq!(rows.children(1, 2)?.len(), 2);
    assert!(rows.unsettled()?.is_empty());
    commit(&mut *rows, |rows| {
        [1, 3].into_iter().try_for_each(|at| end(rows, &all[at - 1], &ended(TaskStatus::Completed, 1.0), None))
    })?;
    assert_eq!(rows.unsettled()?, [1]);
    commit(&mut *rows, |rows| [3, 4].into_iter().try_for_each(|child| rows.remove_edge(1, child)))?;
    assert_eq!((rows.children(1, 9)?, rows.unsettled()?), (vec![6], vec![1]));
    commit(&mut *rows, |rows| rows.remove_edge(1, 6))?;
    assert_eq!((rows.unsettled()?, rows.children(2, 9)?), (vec![], vec![4]));
    Ok(())
}

pub(crate) fn a_key_is_kept_until_its_time_ends(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let key = |number, seconds| KeyRow { content: [number; 32], id: id(number), expires_at: span(seconds) };
    assert_eq!((rows.first_key_expiry()?, rows.key("a", "k")?), (None, None));
    commit(&mut *rows, |rows| {
        rows.put_key("a", "k", &key(1, 1.0))?;
        rows.put_key("b", "k", &key(2, 2.0))?;
        rows.put_key("a", "l", &key(3, 3.0))?;
        rows.put_key("a", "m", &key(4, 4.0))?;
        rows.put_key("a", "k", &key(5, 5.0))
    })?;
    assert_eq!(rows.key("a", "k")?, Some(key(5, 5.0)));
    assert_eq!((rows.key("b", "k")?, rows.key("b", "l")?), (Some(key(2, 2.0)), None));
    assert_eq!(rows.first_key_expiry()?, Some(span(2.0)));
    assert_eq!(commit(&mut *rows, |rows| rows.remove_keys(span(1.999_999), 9))?, 0);
    assert_eq!(commit(&mut *rows, |rows| rows.remove_keys(span(4.0), 2))?, 2);
    assert_eq!((rows.key("b", "k")?, rows.key("a", "l")?), (None, None));
    assert_eq!(rows.first_key_expiry()?, Some(span(4.0)));
    assert_eq!(commit(&mut *rows, |rows| rows.remove_keys(span(9.0), 9))?, 2);
    assert_eq!((rows.first_key_expiry()?, rows.key("a", "k")?), (None, None));
    Ok(())
}

pub(crate) fn types_keep_their_numbers(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let whole = TypeRow { paused: true, ..TypeRow::default() };
    let numbers = TypeRow { counts: [1, 2, 3, 4, 1 << 40], paused: true, draining: true, running_max: Some(7) };
    let limited = TypeRow { running_max: Some(u32::MAX), ..TypeRow::default() };
    commit(&mut *rows, |rows| {
        rows.put_type("b", &whole)?;
        rows.put_type("b", &numbers)?;
        rows.put_type("a", &limited)?;
        rows.put_type("c", &TypeRow { counts: [0, 0, 0, 0, 1], ..TypeRow::default() })?;
        rows.put_type("c", &TypeRow::default())?;
        rows.put_type("d", &TypeRow::default())?;
        rows.put_type("", &whole)
    })?;
    let expected = [("", whole), ("a", limited), ("b", numbers)].map(|(name, row)| (name.to_owned(), row));
    assert_eq!(reads.types(None, 1_000)?, expected);
    let mut types = rows.types()?;
    types.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(types, expected);
    Ok(())
}

pub(crate) fn limits_of_keys_are_kept(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    commit(&mut *rows, |rows| {
        rows.put_key_limit("b", Some(1))?;
        rows.put_key_limit("a", Some(2))?;
        rows.put_key_limit("b", Some(3))?;
        rows.put_key_limit("none", None)
    })?;
    let mut limits = rows.key_limits()?;
    limits.sort();
    assert_eq!(limits, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    commit(&mut *rows, |rows| rows.put_key_limit("a", None))?;
    assert_eq!(rows.key_limits()?, [("b".to_owned(), 3)]);
    Ok(())
}

pub(crate) fn the_oldest_routes_go(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let owners = [(); 5].map(|()| PeerId::random());
    let mut found = |rows: &mut dyn Rows, number: u8, owner: usize| -> Result<Vec<bool>, Box<dyn Error>> {
        commit(rows, |rows| rows.put_route(id(number), owners[owner], 3))?;
        (1..=4).map(|number| Ok(reads.route(id(number))?.is_some())).collect()
    };
    assert_eq!(found(&mut *rows, 1, 0)?, [true, false, false, false]);
    assert_eq!(found(&mut *rows, 2, 1)?, [true, true, false, false]);
    assert_eq!(found(&mut *rows, 3, 2)?, [true, true, true, false]);
    assert_eq!(found(&mut *rows, 4, 3)?, [false, true, true, true]);
    assert!(found(&mut *rows, 4, 4)?[3]);
    assert_eq!(reads.route(id(4))?, Some(owners[4]));
    assert_eq!(reads.route(id(3))?, Some(owners[2]));
    Ok(())
}

pub(crate) fn the_cache_knows_its_bytes_and_its_order(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    assert_eq!((rows.cache_bytes()?, rows.cache_size("a")?, rows.first_cache_expiry()?), (0, None, None));
    commit(&mut *rows, |rows| {
        rows.put_cached("a", &cache_row("older", Some(1.0), 0.0))?;
        rows.put_cached("bb", &cache_row("v", Some(3.0), 60.0))?;
        rows.put_cached("ccc", &cache_row("v", None, 120.0))?;
        rows.put_cached("a", &cache_row("v", Some(2.0), 0.0))
    })?;
    // A value is the JSON text of one letter: three bytes.
    assert_eq!((rows.cache_bytes()?, rows.cache_size("ccc")?), (15, Some(6)));
    assert_eq!(reads.cached("a")?, Some(cache_row("v", Some(2.0), 0.0)));
    assert_eq!((reads.cached("ccc")?, reads.cached("c")?), (Some(cache_row("v", None, 120.0)), None));
    let named = |names: &[&str]| names.iter().map(|key| ((*key).to_owned(), key.len() as u64 + 3)).collect::<Vec<_>>();
    assert_eq!(rows.cache_least_used(2)?, named(&["a", "bb"]));
    assert_eq!(rows.first_cache_expiry()?, Some(span(2.0)));
    assert_eq!(rows.cache_expired(span(1.999_999), 9)?, []);
    assert_eq!(rows.cache_expired(span(2.0), 9)?, named(&["a"]));
    assert_eq!(rows.cache_expired(span(1e9), 9)?.len(), 2);
    assert_eq!(rows.cache_expired(span(1e9), 1)?.len(), 1);
    commit(&mut *rows, |rows| {
        rows.touch_cached("a", span(180.0))?;
        rows.touch_cached("none", span(180.0))?;
        rows.remove_cached("none")
    })?;
    assert_eq!(rows.cache_least_used(9)?, named(&["bb", "ccc", "a"]));
    assert_eq!(reads.cached("a")?, Some(cache_row("v", Some(2.0), 180.0)));
    commit(&mut *rows, |rows| rows.remove_cached("a"))?;
    assert_eq!((rows.cache_bytes()?, rows.cache_size("a")?, reads.cached("a")?), (11, None, None));
    assert_eq!((rows.cache_least_used(9)?, rows.first_cache_expiry()?), (named(&["bb", "ccc"]), Some(span(3.0))));
    Ok(())
}

pub(crate) fn the_running_numbers_are_kept(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    let first = rows.meta()?;
    let clocks = |boot| Some(Clocks { elapsed: span(-5.0), wall: at(6.0), uptime: 7, boot });
    for clocks in [None, clocks(None), clocks(Some([8; 16]))] {
        let (epoch, batch, next_seq) = (first.epoch + 1, first.batch + 2, first.next_seq + 3);
        let (before, meta) = (rows.meta()?, Meta { epoch, batch, next_seq, clocks });
        rows.begin()?;
        rows.save_meta(&meta)?;
        assert_eq!(rows.meta()?, meta);
        rows.rollback()?;
        assert_eq!(rows.meta()?, before);
        commit(&mut *rows, |rows| rows.save_meta(&meta))?;
        assert_eq!(rows.meta()?, meta);
    }
    Ok(())
}
