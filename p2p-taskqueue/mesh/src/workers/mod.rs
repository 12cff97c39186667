//! The workers of the mesh: which there are, what they take, and why a task waits for one.
//!
//! Workers tell the node of their machine of themselves, and the node tells its peers. A program that claims by itself
//! tells nothing; of it the node knows what its claims say.

mod book;
mod demand;
mod teller;

pub(crate) use book::{Known, WorkerBook};
pub(crate) use demand::{Demand, Mesh};
pub(crate) use teller::keep_telling;

#[cfg(test)]
mod book_tests;
#[cfg(test)]
mod demand_tests;
