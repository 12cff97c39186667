//! Workers: claim tasks from the local queue and from every connected peer, run them, report how they ended.
//!
//! A [`Worker`] takes the tasks of one type, a few at a time. It keeps one long poll open at each source (the local queue
//! and every peer that serves), renews the lease while a [`Handler`] works, and repeats the report of the end until the
//! task's owner has answered it, so that an owner that is being restarted loses no result.

mod attempt;
mod command;
mod handler;
mod pool;

pub use command::{CommandHandler, ParseCommandError};
pub use handler::{Handler, Outcome, Stop};
pub use pool::{Worker, WorkerConfig};
