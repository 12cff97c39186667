//! The locks that the models swap: `std` in a build, `loom` under `cfg(bridge_loom)`.
//!
//! Only what this crate's own synchronisation is built on goes through here. Channels, semaphores and runtimes are
//! tested by the crates that they come from and are not modelled again.

use std::sync::PoisonError;

#[cfg(bridge_loom)]
use loom::sync as imp;
#[cfg(not(bridge_loom))]
use std::sync as imp;

pub(crate) use imp::MutexGuard;

/// A mutex that a panic does not poison.
///
/// Every critical section of this crate leaves its data whole before anything in it can panic: wakers are called and
/// futures dropped outside. A poisoned lock would only turn one panic into many.
#[derive(Debug)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
