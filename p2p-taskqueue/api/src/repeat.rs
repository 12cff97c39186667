/// What comes of asking the same thing twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing is changed either time.
    Reads,
    /// The second time finds what the first has left, and leaves it so.
    Same,
    /// As [`Same`](Self::Same), as long as every task is known again, by its id or an idempotency key.
    Known,
    /// Something else: it hands out, takes back, counts or removes.
    Differs,
}
