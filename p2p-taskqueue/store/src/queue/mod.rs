//! What every store does alike: a writer thread that makes every decision and change, readers beside it.
//!
//! ```text
//! callers ──bounded──▶ writer: all commands that wait, one transaction, one commit ──▶ sync ──▶ answers
//!         ──bounded──▶ readers: a snapshot each; what they saw is synced before they answer
//! ```
//!
//! With more to do, the sync is left to a thread of its own, and the writer goes on with the next transaction.
//!
//! | file | what is in it |
//! |---|---|
//! | `store`, `stats` | the handle that callers hold; starting and closing; the numbers of a queue |
//! | `opening` | what is done once, before anything else |
//! | `work` | what callers send to the writer, and what it answers |
//! | `writer`, `syncer`, `recovery` | the writer thread: batches, commits, the timer; syncs; what follows when one of these fails |
//! | `room` | what is refused when the disk is full, and when it is taken again |
//! | `batch` | what is done in one transaction, in which order |
//! | `timeline` | elapsed time, which goes on over restarts |
//! | `turn` | one transaction: finding tasks, moving them from state to state |
//! | `recorder` | the rows as a transaction has them, and what it has written: every write goes through here |
//! | `submit`, `claim`, `finish`, `manage`, `cache` | the operations, against one transaction |
//! | `depend`, `chores`, `aside` | what follows from the end of a task; what nobody asked for; what is due and cannot be done |
//! | `lanes`, `gates`, `running` | what the writer has in memory: heads of the lines of ready tasks, numbers and limits, leases |
//! | `parked` | claims that wait for a task |
//! | `readers`, `recent` | the reader threads; records that need none, for they were read and have not changed |

mod aside;
mod batch;
mod cache;
mod chores;
mod claim;
mod depend;
mod finish;
mod gates;
mod lanes;
mod manage;
mod opening;
mod parked;
mod readers;
mod recent;
mod recorder;
mod recovery;
mod room;
mod running;
mod sets;
mod stats;
mod store;
mod submit;
mod syncer;
mod timeline;
mod turn;
mod work;
mod writer;

#[cfg(test)]
mod bystanders;
#[cfg(test)]
mod chores_tests;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod vitals;

pub(crate) use store::Core;
#[cfg(test)]
pub(crate) use vitals::{CLAIM_BYTES, InUse, Vitals};
