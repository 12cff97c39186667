use std::{error::Error, sync::Arc};

use super::{MemoryBackend, MemoryStore};
use crate::{
    ManualClock, StoreOptions, TaskStore,
    backend_tests::{Rig, backend_tests},
    conformance::{self, START},
};

fn rig() -> Result<(Rig, ()), Box<dyn Error>> {
    let backend = MemoryBackend::default();
    let kept = backend.clone();
    let reopen = Box::new(move |_| -> Box<dyn crate::Backend> { Box::new(kept.clone()) });
    Ok((Rig { backend: Box::new(backend), reopen: Some(reopen) }, ()))
}

backend_tests!(rig());

fn whole() -> Result<(conformance::Rig, ()), Box<dyn Error>> {
    let clock = Arc::new(ManualClock::new(START));
    let manual: Arc<ManualClock> = Arc::clone(&clock);
    let options =
        StoreOptions::new(conformance::peer()).with_clock(manual).with_cache_bytes_max(conformance::CACHE_BYTES as u64);
    let backend = MemoryBackend::default();
    let store: Arc<dyn TaskStore> = Arc::new(MemoryStore::over(backend.clone(), options.clone())?);
    let reopen = Box::new(move |store: Arc<dyn TaskStore>| -> Arc<dyn TaskStore> {
        store.close();
        Arc::new(MemoryStore::over(backend.clone(), options.clone()).unwrap())
    });
    Ok((conformance::Rig { store, clock, reopen }, ()))
}

mod store {
    crate::conformance::conformance!(super::whole());
}
