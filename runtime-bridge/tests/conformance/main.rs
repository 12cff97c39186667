//! One suite for every backend, called from every runtime: each clause of the contracts has a test that carries
//! its number. `R` clauses are on `Runtime`, `C` clauses on `Bridge`, `F` clauses on `RuntimeFactory`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking, too")]

mod admission;
mod call;
mod cancel;
mod context;
mod counters;
mod lifecycle;
mod load;
mod local;
mod outside;
mod panic;
mod shutdown;
mod spawn;
mod support;
mod time;
