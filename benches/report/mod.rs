//! The report of a benchmark that prints its own tables.

mod goal;
mod lines;
mod times;

pub(crate) use goal::Goal;
pub(crate) use lines::Lines;
pub(crate) use times::Times;
