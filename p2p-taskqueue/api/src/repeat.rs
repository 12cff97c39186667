/// The effect of asking the same request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The request changes nothing, either time.
    Reads,
    /// The second request finds the effect of the first one, and leaves it unchanged.
    Same,
    /// As [`Same`](Self::Same), as long as every task is recognised by its id or an idempotency key.
    Known,
    /// The second request has another effect: it hands out, takes back, counts or removes.
    Differs,
}
