//! Converts rows to engine types and back. Each row has a checksum over everything that the engine reads of it.

mod attempts;
mod checksum;
mod columns;
mod ended;
mod live;
mod place;
mod task;

pub(super) use checksum::Checksum;
pub(super) use columns::{Columns, RowError};
pub(super) use ended::{insert_ended, read_ended, status_number};
pub(super) use live::{LiveRow, live_key, put_live, read_live};
pub(super) use place::{insert_place, read_place};
pub(super) use task::{insert_task, read_task};
