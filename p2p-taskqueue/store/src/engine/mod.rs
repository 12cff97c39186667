//! Decides what each operation does to one task.
//!
//! The decisions are pure functions of three things: the task's state, the request and the present time. They use no
//! file, no clock and no runtime.
//!
//! A store reads the task, calls a decision, and writes the result. So tasks have the same life in every store (clauses
//! T2 to T8 of `docs/semantics.md` in the repository).
//!
//! | file | what it decides |
//! |---|---|
//! | `admit` | what a submit becomes; whether a repeat is the same submit; the ids of a completion's tasks |
//! | `lane` | whether a worker may take a task |
//! | `lease` | claim, renew, release; whose fence is good |
//! | `inputs` | what a worker asks, and what it was answered |
//! | `finish` | complete, fail, cancel, the end of a lease, the deadline |
//! | `depend` | tasks that come after others; dead letters that are queued again |
//! | `attempts` | who tried, and how each attempt ended |
//! | `backoff` | how long a failed attempt waits |
//! | `waiting` | why a queued task is not ready |

mod admit;
mod attempts;
mod backoff;
mod depend;
mod finish;
mod inputs;
mod lane;
mod lease;
mod record;
mod state;
mod time;
mod waiting;

pub(crate) use admit::{Admission, Idempotency, admit, child_id};
pub use attempts::{Attempt, AttemptEnd, Attempts};
pub(crate) use depend::{block, parent_ended, parent_failed, retry, time_came};
pub(crate) use finish::{Completion, Step, cancel, complete, expire, fail, free, give_up};
pub use inputs::Inputs;
pub(crate) use inputs::answer;
pub(crate) use lane::{Claimant, Lane};
pub(crate) use lease::EPOCH_RANDOM_BITS;
pub(crate) use lease::{NewLease, give_back, grant, release, renew};
pub use record::Record;
pub use state::{Ended, Live, Phase, Policy, Spec, Standing};
pub use time::{Elapsed, Now, Wall};
pub(crate) use waiting::waiting_for;

#[cfg(test)]
mod tests;
