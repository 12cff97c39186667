use std::error::Error;

use super::MemoryBackend;
use crate::store::backend_tests::{Rig, backend_tests};

fn rig() -> Result<(Rig, ()), Box<dyn Error>> {
    let backend = MemoryBackend::default();
    let kept = backend.clone();
    let reopen = Box::new(move |_| -> Box<dyn crate::store::Backend> { Box::new(kept.clone()) });
    Ok((Rig { backend: Box::new(backend), reopen: Some(reopen) }, ()))
}

backend_tests!(rig());
