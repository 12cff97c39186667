//! The Tasks extension (SEP-2663) over the queue: a handle is the id of a durable task, and whatever is said of it is read
//! from its record. Nothing is kept here, so that a server that was restarted, or another one, answers for old handles.

mod handle;
mod method;
mod progress;
mod record;
mod work;

#[cfg(feature = "fixtures")]
pub(crate) use handle::declares;
pub(crate) use handle::{DurableTasks, until_gone};
pub(crate) use work::{Reply, Shape, Work};
