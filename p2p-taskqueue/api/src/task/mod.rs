//! The task and its parts: plain data, one concept per file.

mod attempt;
mod fence;
mod id;
mod json;
mod readable;
mod record;
mod status;

pub use attempt::{Attempt, AttemptOutcome};
pub use fence::{Fence, ParseFenceError};
pub use id::{ParseTaskIdError, TaskId};
pub use json::{Json, JsonError};
pub use readable::Unreadable;
pub use record::{FailedBy, TaskRecord};
pub use status::{TaskStatus, UnknownStatus};
