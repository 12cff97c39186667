//! The bounds and deadlines of the wire, each with its reason.

use std::time::Duration;

/// A frame before the peer has proved that it belongs to the mesh: a hello is a few hundred bytes.
pub(crate) const FRAME_BYTES_UNPROVEN: usize = 4 * 1024;

/// A frame of a proven peer. The largest honest ones are a record with a payload and a result of 1 MiB each, a page of
/// records that passes its 512 KiB with one such record, and the records of a wait up to [`WAITED_BYTES_MAX`](taskqueue_api::limits::WAITED_BYTES_MAX).
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Every end takes frames of this size, whatever it says: room for every message without a payload, and for every refusal.
pub(crate) const FRAME_BYTES_MIN: usize = 64 * 1024;

/// A request that carries no payload, result or value, as text: the longest lists of types, labels and ids, every character
/// of them escaped. What is larger is refused before it is taken apart.
pub(crate) const REQUEST_BYTES_SMALL: usize = 512 * 1024;

/// What is said of a request that is not understood: the parser's message may quote the request at length.
pub(crate) const REFUSAL_TEXT_BYTES_MAX: usize = 512;

/// The read buffer of a session that hears little: most frames fit, and a thousand idle sessions cost 8 MiB.
pub(crate) const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The read buffer grows by at most this much ahead of the bytes that have come, so that a claimed length costs nothing.
pub(crate) const READ_AHEAD_BYTES: usize = 256 * 1024;

/// Frames taken from one peer before others get their turn.
pub(crate) const FRAMES_PER_TURN: usize = 64;

/// Requests in flight on one session, each way, besides those that wait.
pub(crate) const IN_FLIGHT_MAX: usize = 1_024;

/// Requests that wait on one session, each way: a thousand and more for tasks, and beside them those of workers. Each costs
/// the end where it waits some two kilobytes.
pub(crate) const WAITS_MAX: usize = 2 * IN_FLIGHT_MAX;

/// Every end takes this many requests at once, whatever it says: a worker's claims and renewals beside a few questions.
pub(crate) const IN_FLIGHT_MIN: usize = 16;

/// The bytes of the requests that wait and that one peer may have in flight here: sixteen payloads of the largest size.
/// Requests that are answered at once have room for one frame more, and those that keep a lease for one more beyond that, so
/// that neither finds everything taken by the ones before.
pub(crate) const INBOUND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The request bytes that wait here for one peer to read them, with the same room beyond.
pub(crate) const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The largest request that goes ahead of others: a renewal with its questions. What is larger would hold up other renewals.
pub(crate) const URGENT_REQUEST_BYTES_MAX: usize = 128 * 1024;

/// While more than this waits to be written, no answer is worked on: the peer reads too slowly. What is urgent has as much
/// of its own.
pub(crate) const WRITE_BUFFER_HIGH: usize = 1024 * 1024;

/// Beyond [`WRITE_BUFFER_HIGH`], twice, there is room for one answer of the largest size and for refusals, which are small, as
/// are urgent answers. A peer that makes more without reading is disconnected.
pub(crate) const WRITE_BUFFER_MAX: usize = 2 * WRITE_BUFFER_HIGH + FRAME_BYTES_MAX + 4 * 1024 * 1024;

/// When to try again after a refusal for a bound: a queue of this length is worked off by then.
pub(crate) const RETRY_AFTER_S: f64 = 0.5;

/// The handshake, from the open stream to the verified proof.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How long to listen to a peer of another mesh, so that it hears why it is turned away.
pub(crate) const REFUSAL_LINGER: Duration = Duration::from_millis(500);

/// A peer that has been silent for this long is asked for a sign of life.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(10);

/// A peer that has been silent, or has read nothing of what waits for it, for this many times [`PING_AFTER`] is dead: half
/// a minute, in which a congested network recovers, and which a person will wait.
pub(crate) const SILENT_TICKS_MAX: u32 = 3;

/// A peer in the middle of a large frame counts as heard when this much has come since the last tick: 50 kbit/s, below
/// which nobody waits for a payload, and which a peer that sends byte by byte does not reach.
pub(crate) const PROGRESS_BYTES_MIN: u64 = 64 * 1024;

/// A request that says no time of its own.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Added to the time that a long poll asks for: the answer's way back.
pub(crate) const LONG_POLL_MARGIN: Duration = Duration::from_secs(5);

/// The addresses that a peer may name as its own, and that are kept of it.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// The length of one address.
pub(crate) const ADDRESS_BYTES_MAX: usize = 256;

/// A software version or another short text of a handshake.
pub(crate) const HELLO_TEXT_BYTES_MAX: usize = 64;
