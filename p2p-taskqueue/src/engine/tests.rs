//! The life of a task as a whole.
