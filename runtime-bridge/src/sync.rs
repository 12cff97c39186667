//! The locks that the models swap: `std` in a build, `loom` under `cfg(bridge_loom)`.
//!
//! Only what our own synchronisation stands on goes through here. Channels, semaphores and runtimes are the
//! business of the crates that they come from and are not modelled again.

use std::sync::PoisonError;

#[cfg(bridge_loom)]
use loom::sync as imp;
#[cfg(not(bridge_loom))]
use std::sync as imp;

pub(crate) use imp::MutexGuard;

/// A mutex that a panic does not poison.
///
/// Every critical section of this crate leaves its data whole before anything in it can panic (wakers are
/// called and futures dropped outside), so a poisoned lock would only turn one panic into many.
#[derive(Debug)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
