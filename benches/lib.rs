//! The benchmarks are in the files beside this one, one question for each.
