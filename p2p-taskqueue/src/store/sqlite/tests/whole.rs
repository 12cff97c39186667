//! The whole store over these rows.

use std::{error::Error, sync::Arc};

use super::super::scrub;
use crate::store::{
    ManualClock, SqliteStore, StoreOptions, TaskStore,
    conformance::{CACHE_BYTES, Rig, START, conformance, peer},
};

fn rig() -> Result<(Rig, tempfile::TempDir), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("queue.sqlite3");
    let clock = Arc::new(ManualClock::new(START));
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options = StoreOptions::new(peer()).with_clock(manual).with_cache_bytes_max(CACHE_BYTES as u64);
    let store = Arc::new(SqliteStore::open(&path, options.clone())?);
    let reopen = Box::new(move |store: Arc<dyn TaskStore>| -> Arc<dyn TaskStore> {
        store.close();
        let report = scrub(&path, &Arc::default()).unwrap();
        assert!(report.is_sound(), "{report:?}");
        Arc::new(SqliteStore::open(&path, options.clone()).unwrap())
    });
    Ok((Rig { store, clock, reopen }, directory))
}

conformance!(rig());
