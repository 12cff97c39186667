//! Tests that all values of the types are read as they were written: through the file, from another connection, and
//! after the file was opened again.

use std::{cmp::Reverse, error::Error, sync::Arc};

use proptest::{collection::vec, option, prelude::*, test_runner::TestCaseError};
use rusqlite::Connection;
use taskqueue_api::{AttemptOutcome, FailedBy, Fence, Json, OnParentFailure, PeerId, TaskId, TaskStatus};

use super::{
    super::{cache, edge, find, key, line, meta, route, row::RowError, schema, scrub::scrub, timer, types},
    sample::{TestResult, completed, file, open, running, task},
};
use crate::{
    CacheRow, Clocks, Due, Fault, KeyRow, Meta, Place, Rows, Seq, TaskRow, Timer, TypeRow,
    engine::{Attempt, AttemptEnd, Attempts, Elapsed, Ended, Inputs, Live, Phase, Policy, Spec, Wall},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_was_submitted(rows in vec(task_row(), 1..30)) {
        let rows: Vec<_> = rows.into_iter().zip(seqs()).map(|(row, seq)| numbered(row, seq)).collect();
        kept(|store| rows.iter().try_for_each(|row| store.insert_task(row)), |connection| {
            for row in &rows {
                let found = find::task(connection, row.seq).map_err(told)?.ok_or("gone")?;
                let Policy { backoff_s, result_ttl_s, .. } = found.spec.policy;
                no_minus([Some(backoff_s), Some(result_ttl_s), found.spec.deadline_s])?;
                same(&found, row)?;
                same(&find::seq_of(connection, row.spec.id).map_err(told)?, &Some(row.seq))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn how_a_task_stands(lives in vec(live(), 1..30)) {
        let lives: Vec<_> = lives.into_iter().zip(seqs()).collect();
        let put = |store: &mut dyn Rows| lives.iter().try_for_each(|(live, seq)| store.put_live(*seq, id(*seq), live));
        kept(put, |connection| {
            for (live, seq) in &lives {
                let found = find::live(connection, *seq).map_err(told)?.ok_or("gone")?.live;
                let Policy { backoff_s, result_ttl_s, .. } = found.policy;
                no_minus([Some(found.lease_s), found.progress, Some(backoff_s), Some(result_ttl_s)])?;
                same(&found, live)?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn how_a_task_ended(ends in vec((ended(), option::of(json())), 1..30)) {
        let ends: Vec<_> = ends.into_iter().zip(seqs()).collect();
        let insert = |store: &mut dyn Rows| {
            ends.iter().try_for_each(|((ended, result), seq)| store.insert_ended(*seq, id(*seq), ended, result.as_ref()))
        };
        kept(insert, |connection| {
            for ((ended, result), seq) in &ends {
                let (_, found, found_result) = find::ended(connection, *seq).map_err(told)?.ok_or("gone")?;
                no_minus([found.progress])?;
                same(&(found, found_result), &(ended.clone(), result.clone()))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn places_in_line_and_their_counts(places in vec((text(), any::<u8>(), int(), int()), 1..30)) {
        let places: Vec<_> = places.into_iter().zip(seqs()).map(|((lane, priority, ready_at, seq), number)| {
            let ready_at = Elapsed::from_micros(ready_at);
            (lane, Place { priority: Reverse(priority), ready_at, id: id(number), seq })
        }).collect();
        kept(|store| places.iter().try_for_each(|(lane, place)| store.join_line(lane, place)), |connection| {
            for (lane, place) in &places {
                let found = line::places(connection, lane, None, places.len())?;
                if !found.contains(place) {
                    return Err(format!("{place:?} of {lane:?}: {found:?}").into());
                }
                line::next_block(connection, place.seq, true).map_err(told)?.ok_or("no count")?;
            }
            let mut lanes = Vec::new();
            while let Some(lane) = line::next_lane(connection, lanes.last().map(String::as_str))? {
                lanes.push(lane);
            }
            let mut wanted: Vec<_> = places.iter().map(|(lane, _)| lane.clone()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            same(&lanes, &wanted)
        })?;
    }

    #[test]
    fn timers_and_who_waits_for_whom(timers in vec((0..4_usize, int(), int()), 1..30)) {
        let set = |store: &mut dyn Rows| timers.iter().try_for_each(|(kind, at, seq)| {
            store.set_timer(Timer::ALL[*kind].at(*at), *seq)?;
            store.add_edge(*at, *seq)
        });
        kept(set, |connection| {
            for (kind, at, seq) in &timers {
                let due: Due = Timer::ALL[*kind].at(*at);
                let there = timer::is_set(connection, due, *seq)?
                    && timer::due(connection, due, timers.len())?.contains(&(due, *seq))
                    && edge::is_there(connection, *at, *seq).map_err(told)?;
                same(&there, &true)?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn keys_and_cached_values_and_routes(
        rows in vec((text(), text(), any::<[u8; 32]>(), int(), option::of(int()), json()), 1..30),
    ) {
        let owner = PeerId::random();
        let rows: Vec<_> = rows.into_iter().zip(seqs()).map(|((scope, key, content, at, expires_at, value), seq)| {
            // There is one row for each key.
            let key = format!("{seq} {key}");
            let row = KeyRow { content, id: id(seq), expires_at: Elapsed::from_micros(at) };
            let expires_at = expires_at.map(Elapsed::from_micros);
            let cached = CacheRow { value, expires_at, used_at: Elapsed::from_micros(at) };
            (scope, key, row, cached)
        }).collect();
        let put = |store: &mut dyn Rows| rows.iter().try_for_each(|(scope, key, row, cached)| {
            store.put_key(scope, key, row)?;
            store.put_cached(key, cached)?;
            store.put_route(row.id, owner, i64::MAX)
        });
        kept(put, |connection| {
            for (scope, key, row, cached) in &rows {
                same(&key::find(connection, scope, key).map_err(told)?, &Some(row.clone()))?;
                same(&cache::find(connection, key).map_err(told)?, &Some(cached.clone()))?;
                same(&route::find(connection, row.id).map_err(told)?, &Some(owner))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn numbers_of_types_and_limits(rows in vec((text(), type_row(), any::<u32>()), 1..30)) {
        let rows: Vec<_> = rows.into_iter().zip(seqs()).map(|((name, row, max), seq)| (format!("{seq} {name}"), row, max)).collect();
        let put = |store: &mut dyn Rows| rows.iter().try_for_each(|(name, row, max)| {
            store.put_type(name, row)?;
            store.put_key_limit(name, Some(*max))
        });
        kept(put, |connection| {
            let types = types::all(connection).map_err(told)?;
            let limits = types::key_limits(connection).map_err(told)?;
            for (name, row, max) in &rows {
                same(&types.iter().find(|(known, _)| known == name).map(|(_, row)| row.clone()).unwrap_or_default(), row)?;
                same(&limits.iter().find(|(known, _)| known == name).map(|(_, max)| *max), &Some(*max))?;
            }
            Ok(())
        })?;
    }

    #[test]
    fn running_numbers(meta in meta()) {
        kept(|store| store.save_meta(&meta), |connection| same(&meta::read(connection).map_err(told)?.1, &meta))?;
    }
}

/// The rows of tasks refuse NaN, or store it as no number. No row is damaged afterwards.
#[test]
fn what_is_not_a_number_damages_nothing() -> TestResult {
    let directory = tempfile::tempdir()?;
    let mut rows = open(&directory)?.rows;
    let nan = Policy { max_attempts: 1, backoff_s: f64::NAN, result_ttl_s: 1.0 };
    rows.begin()?;
    let row = task(1);
    rows.insert_task(&TaskRow { spec: Spec { policy: nan, ..row.spec.clone() }, ..row }).unwrap_err();
    rows.rollback()?;
    let row = task(1);
    let live = running(&row);
    rows.begin()?;
    rows.insert_task(&TaskRow { spec: Spec { deadline_s: Some(f64::NAN), ..row.spec.clone() }, ..row.clone() })?;
    rows.put_live(1, row.spec.id, &Live { progress: Some(f64::NAN), ..live.clone() })?;
    rows.insert_ended(2, row.spec.id, &Ended { progress: Some(f64::NAN), ..completed(&live) }, None)?;
    rows.commit()?;
    assert_eq!(rows.task(1)?.and_then(|row| row.spec.deadline_s), None);
    assert_eq!(rows.live(1)?.and_then(|live| live.progress), None);
    assert_eq!(rows.ended(2)?.and_then(|(_, ended, _)| ended.progress), None);
    Ok(())
}

/// Writes to a new store, and reads from another connection, then again after the file was closed and opened.
fn kept(
    write: impl FnOnce(&mut dyn Rows) -> Result<(), Fault>,
    look: impl Fn(&Connection) -> TestResult,
) -> Result<(), TestCaseError> {
    let all = || -> TestResult {
        let directory = tempfile::tempdir()?;
        let mut opened = open(&directory)?;
        opened.rows.begin()?;
        write(&mut *opened.rows)?;
        opened.rows.commit()?;
        look(&schema::open_reader(&file(&directory))?)?;
        opened.rows.tidy(true)?;
        drop(opened);
        let _opened = open(&directory)?;
        look(&schema::open_reader(&file(&directory))?)?;
        let problems = scrub(&file(&directory), &Arc::default())?.problems;
        // Only the rows of one table were written, so the scrub also misses others. Only damaged rows count here.
        let damaged: Vec<_> = problems.into_iter().filter(|problem| problem.ends_with(": damaged")).collect();
        same(&damaged, &Vec::new())
    };
    all().map_err(|error| TestCaseError::fail(error.to_string()))
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, wanted: &T) -> TestResult {
    if found == wanted { Ok(()) } else { Err(format!("found {found:?}\nnot {wanted:?}").into()) }
}

fn no_minus<const N: usize>(reals: [Option<f64>; N]) -> TestResult {
    let minus = reals.into_iter().flatten().any(|real| real == 0.0 && real.is_sign_negative());
    if minus { Err("minus zero".into()) } else { Ok(()) }
}

fn told(error: RowError) -> Box<dyn Error> {
    match error {
        RowError::Damaged => "damaged".into(),
        RowError::Sqlite(error) => error.into(),
    }
}

/// Sequence numbers as a store gives them, from 1 on, and the last possible one.
fn seqs() -> impl Iterator<Item = Seq> {
    std::iter::once(Seq::MAX).chain(1..)
}

fn id(seq: Seq) -> TaskId {
    super::sample::id(seq)
}

fn numbered(row: TaskRow, seq: Seq) -> TaskRow {
    TaskRow { seq, spec: Spec { id: id(seq), ..row.spec }, ..row }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("\0".to_owned()),
        Just("a\0b\0".to_owned()),
        Just("\u{10ffff}\u{1f980}\u{feff}\u{200d}\u{fffd}".to_owned()),
        Just("'\"\\%_--;\r\n\u{1}\u{7f}\u{85}".to_owned()),
        Just("1".to_owned()),
        Just("-0.0".to_owned()),
        Just("x".repeat(10_000)),
        any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn json() -> impl Strategy<Value = Json> {
    prop_oneof![
        prop_oneof![
            Just("-0.0"),
            Just("1e400"),
            Just("18446744073709551616"),
            Just("\"\\u0000\\ud83e\\udd80\""),
            Just("{\"a\":1,\"a\":2}"),
            Just(" [ ] "),
            Just("null"),
        ]
        .prop_map(|text| Json::parse(text.to_owned()).expect("JSON")),
        text().prop_map(|text| Json::from_text(&text)),
    ]
}

fn real() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::from_bits(1)),
        Just(-f64::from_bits(1)),
        Just(f64::MIN_POSITIVE),
        Just(f64::MAX),
        Just(f64::MIN),
        Just(f64::EPSILON),
        Just(9_007_199_254_740_993.0),
        Just(140_737_488_355_328.0),
        Just(9.223_372_036_854_776e18),
        Just(1.0),
        any::<f64>().prop_filter("a number", |value| value.is_finite()),
    ]
}

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(-1), Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1), any::<i64>()]
}

fn unsigned() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(i64::MAX.cast_unsigned()), Just(1 << 63), Just(u64::MAX), any::<u64>()]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), Just(1 << 31), any::<u32>()]
}

fn wall() -> impl Strategy<Value = Wall> {
    int().prop_map(Wall::from_micros)
}

fn elapsed() -> impl Strategy<Value = Elapsed> {
    int().prop_map(Elapsed::from_micros)
}

fn fence() -> impl Strategy<Value = Option<Fence>> {
    option::of((unsigned(), unsigned()).prop_map(|(epoch, counter)| Fence { epoch, counter }))
}

fn policy() -> impl Strategy<Value = Policy> {
    (small(), real(), real()).prop_map(|(max_attempts, backoff_s, result_ttl_s)| Policy {
        max_attempts,
        backoff_s,
        result_ttl_s,
    })
}

fn task_row() -> impl Strategy<Value = TaskRow> {
    let names = (option::of(text()), text(), text(), option::of(text()), option::of(text()), any::<u8>());
    let times = (wall(), elapsed(), option::of(wall()), option::of(real()), policy());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let lists = (texts(), texts(), vec(any::<[u8; 16]>(), 0..4), flags, json());
    (names, times, lists).prop_map(|(names, times, lists)| {
        let (submitter, task_type, model_name, session, concurrency_key, priority) = names;
        let (created_at, ready_at, not_before, deadline_s, policy) = times;
        let (labels, requires, after, (run, pinned, is_foreign), payload) = lists;
        let spec = Spec {
            id: id(1),
            submitter,
            submitted_by: is_foreign.then(PeerId::random),
            task_type,
            model_name,
            priority,
            created_at,
            deadline_s,
            labels,
            requires,
            session,
            pin_to: pinned.then(PeerId::random),
            after: after.into_iter().map(TaskId::from_bytes).collect(),
            on_parent_failure: if run { OnParentFailure::Run } else { OnParentFailure::Fail },
            concurrency_key,
            policy,
        };
        TaskRow { seq: 1, spec, ready_at, not_before, payload: payload.into_text() }
    })
}

fn live() -> impl Strategy<Value = Live> {
    let phases = [Phase::Ready, Phase::Delayed, Phase::Scheduled, Phase::Running, Phase::Blocked];
    let times =
        (elapsed(), option::of(wall()), option::of(elapsed()), option::of(wall()), option::of(elapsed()), wall());
    let numbers =
        (proptest::sample::select(phases.to_vec()), small(), small(), fence(), real(), option::of(real()), policy());
    let texts = (option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(inputs()));
    (times, numbers, texts, attempts()).prop_map(|(times, numbers, texts, attempts)| {
        let (ready_at, not_before, deadline, lease_until, kept_until, updated_at) = times;
        let (phase, waiting, attempt, fence, lease_s, progress, policy) = numbers;
        let (worker, cancel, status_message, error, inputs) = texts;
        // A task that waits for a date must have one.
        let not_before = if phase == Phase::Scheduled { not_before.or(Some(updated_at)) } else { not_before };
        Live {
            phase,
            ready_at,
            not_before,
            deadline,
            waiting,
            attempt,
            fence,
            worker,
            lease_s,
            lease_until,
            kept_until,
            cancel,
            progress,
            status_message,
            error,
            inputs: inputs.map(Arc::new),
            attempts,
            updated_at,
            policy,
        }
    })
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let some = || proptest::collection::btree_map(text(), json(), 0..3);
    (some(), some()).prop_map(|(open, answers)| Inputs::new(open, answers))
}

fn attempts() -> impl Strategy<Value = Attempts> {
    let end = (wall(), proptest::sample::select(AttemptOutcome::ALL.to_vec()), option::of(text()))
        .prop_map(|(at, outcome, error)| AttemptEnd { at, outcome, error });
    let attempt = (text(), wall(), option::of(end)).prop_map(|(worker, started_at, end)| Attempt {
        machine: PeerId::random(),
        worker,
        started_at,
        end,
    });
    vec(attempt, 0..4).prop_map(Attempts::of)
}

fn ended() -> impl Strategy<Value = Ended> {
    let statuses = [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled];
    let deaths = [(false, None), (true, None), (true, Some(FailedBy::Worker)), (true, Some(FailedBy::Queue))];
    let times = (wall(), elapsed(), option::of(wall()), option::of(elapsed()));
    let numbers = (small(), fence(), option::of(real()));
    let texts = (option::of(text()), option::of(text()), option::of(text()));
    let how = (proptest::sample::select(statuses.to_vec()), proptest::sample::select(deaths.to_vec()));
    (how, times, numbers, texts, attempts()).prop_map(
        |((status, (dead, failed_by)), times, numbers, texts, attempts)| {
            let (at, expires_at, not_before, deadline) = times;
            let (attempt, fence, progress) = numbers;
            let (worker, status_message, error) = texts;
            Ended {
                status,
                at,
                expires_at,
                not_before,
                deadline,
                attempt,
                fence,
                worker,
                progress,
                status_message,
                error,
                dead,
                failed_by,
                attempts,
            }
        },
    )
}

fn type_row() -> impl Strategy<Value = TypeRow> {
    (vec(unsigned(), TaskStatus::ALL.len()), any::<bool>(), any::<bool>(), option::of(small())).prop_map(
        |(counts, paused, draining, running_max)| {
            let counts = counts.try_into().expect("one for each status");
            TypeRow { counts, paused, draining, running_max }
        },
    )
}

fn meta() -> impl Strategy<Value = Meta> {
    let clocks = (elapsed(), wall(), int(), option::of(any::<[u8; 16]>()))
        .prop_map(|(elapsed, wall, uptime, boot)| Clocks { elapsed, wall, uptime, boot });
    (unsigned(), unsigned(), int(), option::of(clocks)).prop_map(|(epoch, batch, next_seq, clocks)| Meta {
        epoch,
        batch,
        next_seq,
        clocks,
    })
}
