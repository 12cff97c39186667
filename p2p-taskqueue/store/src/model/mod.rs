//! Tests whole stores against a model of the queue, by random histories. Requests come in any order, clocks jump, and
//! the store restarts in between. Every answer must be one that the clauses T1 to T11 (`docs/semantics.md`) and the
//! documentation of the operations allow.
//!
//! | file | content |
//! |---|---|
//! | `step` | the steps of a history, and how histories are drawn |
//! | `task`, `queue`, `life` | the model: a list of tasks, and loops over it |
//! | `world` | a store and its model side by side, and time |
//! | `acts`, `inputs`, `manage` | the operations: asked of the store, compared with the model, applied to the model |
//! | `waits` | claims and watches that wait: which must be served, and in which order |
//! | `reasons` | why a queued task waits |
//! | `look` | the content of the store after each step |
//! | `liveness`, `budgets` | at the end of every history: what may happen does, and what is bounded is given back |
//! | `refusals` | a refused command changes nothing |
//! | `bursts` | many callers at once: no answers are compared, but the store comes to rest and every task ends |
//! | `found` | the shortest histories of the failures that were found in this way |
//!
//! The number of histories comes from the environment variable `TASKMESH_HISTORIES`. Seeds of failures are kept in
//! `proptest-regressions`.

mod acts;
mod budgets;
mod bursts;
mod found;
mod inputs;
mod life;
mod liveness;
mod look;
mod manage;
mod queue;
mod reasons;
mod refusals;
mod step;
mod task;
mod waits;
mod world;

use std::{path::Path, sync::Arc};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError},
};
use step::History;
use taskqueue_api::{Durability, PeerId};
use world::{Subject, World};

use super::{ManualClock, MemoryStore, SqliteStore, StoreOptions, TaskStore, memory::MemoryBackend, sqlite::scrub};
use crate::engine::Wall;

/// Returns the configuration of one test function. The histories are spread over several functions, which run side by
/// side.
fn config(histories: u32, functions: u32) -> Config {
    let asked = std::env::var("TASKMESH_HISTORIES").ok().and_then(|number| number.parse().ok());
    Config {
        cases: asked.unwrap_or(histories).div_ceil(functions),
        max_shrink_iters: SHRINKS_MAX,
        // Histories need no secrets, and drawing them takes a good part of the time.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    }
}

fn live_through(subject: Subject, history: &History) -> Result<(), TestCaseError> {
    World::new(subject).live_through(&history.0).map_err(|violation| TestCaseError::fail(violation.to_string()))
}

fn live_through_refusals(subject: Subject, history: &History) -> Result<(), TestCaseError> {
    let lived = World::new(subject).watching_refusals().live_through(&history.0);
    lived.map_err(|violation| TestCaseError::fail(violation.to_string()))
}

fn in_memory() -> Subject {
    let backend = MemoryBackend::default();
    let shown = backend.clone();
    subject(
        Durability::Volatile,
        move |options| Arc::new(MemoryStore::over(backend.clone(), options).expect("threads")),
        move || shown.picture(),
    )
}

fn on_disk() -> Subject {
    on_disk_as(Durability::Synced, |_| {})
}

fn on_disk_relaxed() -> Subject {
    on_disk_as(Durability::Relaxed, |_| {})
}

/// Returns a store whose file is checked and repaired at each restart: there must be no problem, and the repair must
/// change nothing.
fn on_disk_repaired() -> Subject {
    on_disk_as(Durability::Synced, |path| {
        let looked_over = |path| scrub(path, &Arc::default()).expect("a report");
        let found = looked_over(path);
        assert!(found.is_sound(), "{found:?}");
        let repaired = SqliteStore::repair(path).expect("a repair");
        assert!(repaired.lost_count == 0 && repaired.remarks.is_empty(), "{repaired:?}");
        let found = looked_over(path);
        assert!(found.is_sound(), "{found:?}");
    })
}

fn on_disk_as(durability: Durability, before_restart: fn(&Path)) -> Subject {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("queue.sqlite3");
    let shown = path.clone();
    let open = move |options| -> Arc<dyn TaskStore> {
        // The folder is removed with the last store.
        let path = directory.path().join(&path);
        if path.exists() {
            before_restart(&path);
        }
        Arc::new(SqliteStore::open(&path, options).expect("a store"))
    };
    subject(durability, open, move || dump(&shown).expect("a readable file"))
}

/// Returns all rows of a file.
fn dump(path: &Path) -> rusqlite::Result<String> {
    let connection = rusqlite::Connection::open(path)?;
    let mut tables = connection.prepare("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")?;
    let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut lines = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<_> = (0..columns).map(|column| row.get_ref(column)).collect::<Result<_, _>>()?;
            lines.push(format!("{table} {values:?}"));
        }
    }
    Ok(lines.join("\n"))
}

fn subject(
    durability: Durability,
    open: impl Fn(StoreOptions) -> Arc<dyn TaskStore> + 'static,
    rows: impl Fn() -> String + 'static,
) -> Subject {
    let (clock, owner) = (Arc::new(ManualClock::new(Wall::from_secs(1_800_000_000.0))), PeerId::random());
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options = StoreOptions::new(owner).with_clock(manual).with_durability(durability);
    let store = open(options.clone());
    let reopen = Box::new(move |store: Arc<dyn TaskStore>, meanwhile: &dyn Fn()| {
        store.close();
        drop(store);
        meanwhile();
        open(options.clone())
    });
    Subject { store, clock, owner, durability, reopen, rows: Box::new(rows) }
}

macro_rules! histories {
    ($($name:ident: $live_through:ident $subject:ident, $histories:expr, $functions:expr;)*) => {
        $(proptest! {
            #![proptest_config(config($histories, $functions))]
            #[test]
            fn $name(history in step::history()) {
                $live_through($subject(), &history)?;
            }
        })*
    };
}

histories! {
    memory_does_what_the_model_does_1: live_through in_memory, HISTORIES_IN_MEMORY, 2;
    memory_does_what_the_model_does_2: live_through in_memory, HISTORIES_IN_MEMORY, 2;
    sqlite_does_what_the_model_does_1: live_through on_disk, HISTORIES_ON_DISK, 2;
    sqlite_does_what_the_model_does_2: live_through on_disk, HISTORIES_ON_DISK, 2;
    sqlite_does_what_the_model_does_relaxed: live_through on_disk_relaxed, HISTORIES_RELAXED, 1;
    sqlite_does_what_the_model_does_repaired: live_through on_disk_repaired, HISTORIES_RELAXED, 1;
    a_refusal_changes_nothing_in_memory: live_through_refusals in_memory, HISTORIES_OF_REFUSALS, 1;
    a_refusal_changes_nothing_in_sqlite: live_through_refusals on_disk, HISTORIES_OF_REFUSALS / 5, 1;
}

/// The most steps to make a failing history smaller: some seconds.
const SHRINKS_MAX: u32 = 4_000;

/// The number of histories takes about a minute of two cores.
const HISTORIES_IN_MEMORY: u32 = 10_000;

/// With the histories below, this takes about 40 seconds. Most of that is the disk, because a store sets its room aside
/// when it is opened.
const HISTORIES_ON_DISK: u32 = 300;

const HISTORIES_RELAXED: u32 = 60;

/// All rows are shown before and after each operation, so these take some seconds.
const HISTORIES_OF_REFUSALS: u32 = 100;
