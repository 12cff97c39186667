use std::{collections::BTreeSet, error::Error, sync::Arc};

use taskqueue_api::TaskStatus;

use super::*;
use crate::{
    Backend as _,
    backend::Fault,
    backend_tests::fixture::{ended, task},
    faulty::{FaultyRows, Plan, WRITES},
    memory::MemoryBackend,
};

type TestResult = Result<(), Box<dyn Error>>;

/// The effect of a write on the record of the task that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The record stays the same.
    Nothing,
    /// The record changes, or is removed.
    Changed,
    /// The record changes, and the task has ended.
    Ended,
}

type Write = fn(&mut Recorder<'_>) -> Result<(), Fault>;

const SEQ: Seq = 1;

/// Every write, with the effect that is to be recorded.
const EACH: &[(Says, Write)] = &[
    (Says::Nothing, |rows| rows.insert_task(&task(SEQ))),
    (Says::Changed, |rows| rows.put_live(SEQ, id(), &task(SEQ).fresh())),
    (Says::Changed, |rows| rows.remove_live(SEQ, id())),
    (Says::Ended, |rows| rows.insert_ended(SEQ, id(), &ended(TaskStatus::Failed, 1.0), None)),
    (Says::Changed, |rows| rows.remove_ended(SEQ, id())),
    (Says::Changed, |rows| rows.remove_task(SEQ, id())),
    (Says::Nothing, |rows| rows.join_line("lane", &place())),
    (Says::Nothing, |rows| rows.leave_line("lane", &place())),
    (Says::Nothing, |rows| rows.set_timer(Timer::Ready.at(1), SEQ)),
    (Says::Nothing, |rows| rows.clear_timer(Timer::Ready.at(1), SEQ)),
    (Says::Nothing, |rows| rows.add_edge(SEQ, 2)),
    (Says::Nothing, |rows| rows.remove_edge(SEQ, 2)),
    (Says::Nothing, |rows| {
        rows.put_key("scope", "key", &KeyRow { content: [0; 32], id: id(), expires_at: Elapsed::from_micros(1) })
    }),
    (Says::Nothing, |rows| rows.remove_keys(Elapsed::from_micros(1), 1).map(|removed| assert_eq!(removed, 1))),
    (Says::Nothing, |rows| rows.put_type("type", &TypeRow { paused: true, ..TypeRow::default() })),
    (Says::Nothing, |rows| rows.put_key_limit("key", Some(1))),
    (Says::Nothing, |rows| rows.put_route(id(), PeerId::random(), 1)),
    (Says::Nothing, |rows| rows.put_cached("key", &cached())),
    (Says::Nothing, |rows| rows.touch_cached("key", Elapsed::from_micros(2))),
    (Says::Nothing, |rows| rows.remove_cached("key")),
];

fn id() -> TaskId {
    task(SEQ).spec.id
}

fn place() -> Place {
    Place { priority: std::cmp::Reverse(5), ready_at: Elapsed::from_micros(1), id: id(), seq: SEQ }
}

fn cached() -> CacheRow {
    CacheRow { value: Json::null(), expires_at: None, used_at: Elapsed::from_micros(1) }
}

#[test]
fn every_write_is_recorded() -> TestResult {
    let plan = Arc::new(Plan::default());
    let mut rows = FaultyRows { inner: MemoryBackend::default().open_rows()?, plan: Arc::clone(&plan) };
    rows.begin()?;
    let mut seen = BTreeSet::from(["begin"]);
    for (says, write) in EACH {
        let mut recorder = Recorder::new(&mut rows);
        write(&mut recorder)?;
        let (name, _) = plan.events().pop().ok_or("no write")?;
        assert!(seen.insert(name), "{name} twice");
        let of_it = |is_named: bool| if is_named { vec![id()] } else { Vec::new() };
        let wanted =
            Written { anything: true, changed: of_it(*says != Says::Nothing), ended: of_it(*says == Says::Ended) };
        assert_eq!(recorder.into_written(), wanted, "{name}");
    }
    // A turn neither begins nor ends a transaction.
    let all: BTreeSet<_> = WRITES.iter().filter(|(table, _)| *table != "Rows").map(|(_, name)| *name).collect();
    seen.remove("begin");
    assert_eq!(seen, all, "every write of the tables is to be tried here");
    Ok(())
}

#[test]
fn what_only_reads_and_what_removes_nothing_is_no_write() -> TestResult {
    let mut rows = MemoryBackend::default().open_rows()?;
    rows.begin()?;
    rows.insert_task(&task(SEQ))?;
    let mut recorder = Recorder::new(&mut *rows);
    assert_eq!(recorder.seq_of(id())?, Some(SEQ));
    recorder.task(SEQ)?;
    recorder.live(SEQ)?;
    recorder.running()?;
    recorder.ended(SEQ)?;
    recorder.line("lane", None, 1)?;
    recorder.next_lane(None)?;
    recorder.due(Timer::Ready.at(1), 1)?;
    recorder.first_due(Timer::Ready)?;
    recorder.has_edge(SEQ, 2)?;
    recorder.children(SEQ, 1)?;
    recorder.unsettled()?;
    recorder.key("scope", "key")?;
    recorder.first_key_expiry()?;
    recorder.types()?;
    recorder.key_limits()?;
    recorder.cache_bytes()?;
    recorder.cache_size("key")?;
    recorder.cache_least_used(1)?;
    recorder.cache_expired(Elapsed::from_micros(1), 1)?;
    recorder.first_cache_expiry()?;
    assert_eq!(recorder.remove_keys(Elapsed::from_micros(1), 1)?, 0);
    assert_eq!(recorder.into_written(), Written::default());
    Ok(())
}

#[test]
fn a_task_that_changes_in_several_writes_is_named_once() -> TestResult {
    let mut rows = MemoryBackend::default().open_rows()?;
    rows.begin()?;
    rows.insert_task(&task(SEQ))?;
    let mut recorder = Recorder::new(&mut *rows);
    recorder.remove_live(SEQ, id())?;
    recorder.clear_timer(Timer::Deadline.at(1), SEQ)?;
    recorder.insert_ended(SEQ, id(), &ended(TaskStatus::Completed, 1.0), None)?;
    assert_eq!(recorder.into_written(), Written { anything: true, changed: vec![id()], ended: vec![id()] });
    Ok(())
}
