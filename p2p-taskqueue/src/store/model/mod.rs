//! Whole stores against a model of the queue, by random histories: whatever is asked in whatever order, with clocks that
//! jump and restarts in between, every answer is one that the clauses T1 to T11 and the operations' documents allow.
//!
//! | file | what is in it |
//! |---|---|
//! | `step` | what happens in a history, and how histories are drawn |
//! | `task`, `queue`, `life` | the model: a list of tasks, and loops over it |
//! | `world` | a store and its model side by side, and time |
//! | `acts`, `inputs`, `manage` | the operations: asked of the store, compared with the model, done to the model |
//! | `look` | what the store holds after each step |
//! | `found` | the shortest histories of what was found like this |
//!
//! The number of histories comes from the environment variable `TASKMESH_HISTORIES`. Seeds of failures are kept in
//! `proptest-regressions`.

mod acts;
mod found;
mod inputs;
mod life;
mod look;
mod manage;
mod queue;
mod step;
mod task;
mod world;

use std::{path::Path, sync::Arc};

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError},
};

use super::{ManualClock, MemoryStore, SqliteStore, StoreOptions, TaskStore, memory::MemoryBackend, sqlite::scrub};
use crate::{PeerId, api::Durability, engine::Wall};
use step::History;
use world::{Subject, World};

/// Histories of one test function; they are spread over several, so that these run side by side.
fn config(histories: u32, functions: u32) -> Config {
    let asked = std::env::var("TASKMESH_HISTORIES").ok().and_then(|number| number.parse().ok());
    Config {
        cases: asked.unwrap_or(histories).div_ceil(functions),
        max_shrink_iters: SHRINKS_MAX,
        // Histories need no secrets, and drawing them is a good part of the work.
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    }
}

fn live_through(subject: Subject, history: &History) -> Result<(), TestCaseError> {
    World::new(subject).live_through(&history.0).map_err(|violation| TestCaseError::fail(violation.to_string()))
}

fn in_memory() -> Subject {
    let backend = MemoryBackend::default();
    subject(Durability::Volatile, move |options| {
        Arc::new(MemoryStore::over(backend.clone(), options).expect("threads"))
    })
}

fn on_disk() -> Subject {
    on_disk_as(Durability::Synced, |_| {})
}

fn on_disk_relaxed() -> Subject {
    on_disk_as(Durability::Relaxed, |_| {})
}

/// At each restart the file is looked over and repaired: nothing is wrong, and a repair changes nothing.
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
    subject(durability, move |options| {
        let path = directory.path().join("queue.sqlite3");
        if path.exists() {
            before_restart(&path);
        }
        Arc::new(SqliteStore::open(&path, options).expect("a store"))
    })
}

fn subject(durability: Durability, open: impl Fn(StoreOptions) -> Arc<dyn TaskStore> + 'static) -> Subject {
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
    Subject { store, clock, owner, durability, reopen }
}

macro_rules! histories {
    ($($name:ident: $subject:ident, $histories:expr, $functions:expr;)*) => {
        $(proptest! {
            #![proptest_config(config($histories, $functions))]
            #[test]
            fn $name(history in step::history()) {
                live_through($subject(), &history)?;
            }
        })*
    };
}

histories! {
    memory_does_what_the_model_does_1: in_memory, HISTORIES_IN_MEMORY, 2;
    memory_does_what_the_model_does_2: in_memory, HISTORIES_IN_MEMORY, 2;
    sqlite_does_what_the_model_does_1: on_disk, HISTORIES_ON_DISK, 2;
    sqlite_does_what_the_model_does_2: on_disk, HISTORIES_ON_DISK, 2;
    sqlite_does_what_the_model_does_relaxed: on_disk_relaxed, HISTORIES_RELAXED, 1;
    sqlite_does_what_the_model_does_repaired: on_disk_repaired, HISTORIES_RELAXED, 1;
}

/// A failure is made small in some seconds.
const SHRINKS_MAX: u32 = 4_000;

/// About a minute of two cores.
const HISTORIES_IN_MEMORY: u32 = 10_000;

/// With those below about 40 seconds, most of which the disk takes: a store makes room for itself when it is opened.
const HISTORIES_ON_DISK: u32 = 300;

const HISTORIES_RELAXED: u32 = 60;
