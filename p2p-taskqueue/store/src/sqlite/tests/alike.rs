//! Runs the test suite of all backends on these rows.

use std::error::Error;

use tempfile::TempDir;

use super::{
    super::SqliteBackend,
    sample::{file, open},
};
use crate::{
    Backend,
    backend_tests::{Rig, backend_tests},
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
