//! The Tasks extension (SEP-2663) over the queue. A handle is the id of a durable task, and every answer about it is
//! read from the record of the task.
//!
//! Nothing is kept here. So a server also answers for handles that it gave before a restart, or that another server
//! gave.

mod handle;
mod method;
mod progress;
mod record;
mod work;

#[cfg(feature = "fixtures")]
pub(crate) use handle::declares;
pub(crate) use handle::{DurableTasks, until_gone};
pub(crate) use work::{Reply, Shape, Work};
