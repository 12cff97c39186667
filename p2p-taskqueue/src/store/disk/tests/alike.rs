//! What every backend must do.

use std::{error::Error, sync::Arc};

use tempfile::TempDir;

use super::{
    super::{SqliteBackend, scrub},
    sample::{file, open},
};
use crate::store::{
    Backend, ManualClock, SqliteStore, StoreOptions, TaskStore,
    backend_tests::{Rig, backend_tests},
    conformance::{self, START},
};

fn rig() -> Result<(Rig, TempDir), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let backend = Box::new(open(&directory)?.backend);
    let path = file(&directory);
    let reopen = Box::new(move |backend: Box<dyn Backend>| -> Box<dyn Backend> {
        drop(backend);
        Box::new(SqliteBackend::open(&path).unwrap().backend)
    });
    Ok((Rig { backend, reopen: Some(reopen) }, directory))
}

backend_tests!(rig());

fn whole() -> Result<(conformance::Rig, TempDir), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let path = file(&directory);
    let clock = Arc::new(ManualClock::new(START));
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options = StoreOptions::new(conformance::peer()).with_clock(manual);
    let store: Arc<dyn TaskStore> = Arc::new(SqliteStore::open(&path, options.clone())?);
    let reopen = Box::new(move |store: Arc<dyn TaskStore>| -> Arc<dyn TaskStore> {
        store.close();
        let report = scrub::scrub(&path, &Arc::default()).unwrap();
        assert!(report.is_sound(), "{report:?}");
        Arc::new(SqliteStore::open(&path, options.clone()).unwrap())
    });
    Ok((conformance::Rig { store, clock, reopen }, directory))
}

mod store {
    crate::store::conformance::conformance!(super::whole());
}
