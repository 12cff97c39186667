//! Workers: claim tasks from the local queue and from every connected peer, run them, report how they ended.
//!
//! A [`Worker`] takes the tasks of some types, a few at a time. It keeps one long poll open at each source (the local queue
//! and every peer that serves), renews the lease while a [`Handler`] works, and repeats the report of the end until the
//! task's owner has answered it, so that an owner that is being restarted loses no result.
//!
//! One renewal waits at the owner as long as the handler works: so a worker hears at once that its task was called off, or
//! what was answered to it. What a handler tells and asks goes through its [`Contact`].

mod attempt;
mod command;
mod contact;
mod handler;
mod pool;
mod renewals;

pub use command::{CommandHandler, ParseCommandError, SUPERVISE, supervise};
pub use contact::{AskError, Contact, Source};
pub use handler::{Handler, Outcome};
pub use pool::{Worker, WorkerConfig};

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
