//! The bounds and deadlines of the wire, each with its reason.

use std::time::Duration;

use crate::members::{ADMINS_MAX, MEMBERS_MAX, SIGNED_BY_ADMIN_MAX};

/// The longest frame, in bytes, before the peer has proved that it belongs to the mesh. A hello has a few hundred.
pub(crate) const FRAME_BYTES_UNPROVEN: usize = 4 * 1024;

/// The longest frame between the proof of a secret and the check of the membership, in bytes: two entries with every
/// character escaped.
pub(crate) const FRAME_BYTES_DOOR: usize = 8 * 1024;

/// The longest frame in which members tell each other what they know of the mesh, in bytes: the ids of all statements
/// of the largest roster.
pub(crate) const FRAME_BYTES_ROSTER: usize = 512 * 1024;

/// The most bytes of entries that this node puts into one frame.
pub(crate) const ENTRIES_FRAME_BYTES: usize = 64 * 1024;

/// The most entries by which an end shows that it is a member: its own, and that of the admin that signed it.
pub(crate) const CREDENTIALS_MAX: usize = 2;

/// The most statements that an end takes in one exchange: those of the largest roster.
pub(crate) const STATEMENTS_MAX: usize = MEMBERS_MAX + ADMINS_MAX * (SIGNED_BY_ADMIN_MAX + 1) + 1;

/// The longest frame of a proven peer, in bytes.
///
/// The largest honest frames are: a record with a payload and a result of 1 MiB each; a page of records that such a
/// record takes past its 512 KiB; and the records of a wait, up to
/// [`WAITED_BYTES_MAX`](taskqueue_api::limits::WAITED_BYTES_MAX).
pub(crate) const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The frame length, in bytes, that every end takes, whatever its hello says. Every message without a payload and every
/// refusal fits.
pub(crate) const FRAME_BYTES_MIN: usize = 64 * 1024;

/// The longest request without a payload, result or value, in bytes of text.
///
/// The longest lists of types, labels and ids fit, even when every character of them is escaped. A longer request is
/// refused before it is parsed.
pub(crate) const REQUEST_BYTES_SMALL: usize = 512 * 1024;

/// The most bytes of the parser's message in a refusal. The message may quote a long part of the request.
pub(crate) const REFUSAL_TEXT_BYTES_MAX: usize = 512;

/// The read buffer of a quiet session, in bytes. Most frames fit, and a thousand idle sessions cost 8 MiB.
pub(crate) const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The write buffer of a lane is freed when it is empty and larger than this, in bytes.
pub(crate) const WRITE_BUFFER_KEPT_BYTES: usize = 256 * 1024;

/// The most frames that are read from one peer before other peers get their turn.
pub(crate) const FRAMES_PER_TURN: usize = 64;

/// The most requests in flight on one session in each direction, without those that wait.
pub(crate) const IN_FLIGHT_MAX: usize = 1_024;

/// The most requests that wait on one session in each direction: more than a thousand waits for tasks, and the waits of
/// workers besides. Each one costs about 2 KiB at the end that answers it.
pub(crate) const WAITS_MAX: usize = 2 * IN_FLIGHT_MAX;

/// The number of requests in flight that every end takes, whatever its hello says. It is enough for the claims and
/// renewals of a worker and a few other requests.
pub(crate) const IN_FLIGHT_MIN: usize = 16;

/// The bytes of requests that one peer may have in flight here before a further request that waits is refused: sixteen
/// payloads of the largest size.
///
/// A request that is answered at once has room for one more frame of the largest size beyond this, and a request that
/// keeps a lease room for two. So neither is kept out by the kinds before it.
pub(crate) const INBOUND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The bytes of requests that may be queued here for one peer to read before a further request that waits is refused.
/// The other kinds have the same additional room as with [`INBOUND_BYTES_MAX`].
pub(crate) const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest frame of a request that goes ahead of others, in bytes: a renewal with its questions. A longer one would
/// hold up other renewals.
pub(crate) const URGENT_REQUEST_BYTES_MAX: usize = 128 * 1024;

/// While a lane has this many bytes to write, its jobs are not run, because the peer reads too slowly. Each of the two
/// lanes has this bound for itself.
pub(crate) const WRITE_BUFFER_HIGH: usize = 1024 * 1024;

/// The most bytes that may wait to be written to one peer. A peer that causes more without reading is disconnected.
///
/// Each of the two lanes may hold [`WRITE_BUFFER_HIGH`]. The rest is room for one answer of the largest size, and for
/// refusals and urgent answers, which are small.
pub(crate) const WRITE_BUFFER_MAX: usize = 2 * WRITE_BUFFER_HIGH + FRAME_BYTES_MAX + 4 * 1024 * 1024;

/// The `retry_after_s` of a refusal because of a bound, in seconds. By then a full queue is worked off.
pub(crate) const RETRY_AFTER_S: f64 = 0.5;

/// The longest duration of a handshake, from the open stream to the proof that the peer is a member.
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// The longest duration of the exchange of what members know of the mesh. The largest roster is some 20 MB.
pub(crate) const ROSTER_DEADLINE: Duration = Duration::from_secs(30);

/// How long the connection to a refused peer stays open, so that the peer learns why it is refused.
pub(crate) const REFUSAL_LINGER: Duration = Duration::from_millis(500);

/// The time of silence after which a peer is sent a ping.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(10);

/// The number of spans of [`PING_AFTER`] after which a peer counts as dead when it has been silent, or has read nothing
/// of what waits for it.
///
/// That is half a minute: long enough for a congested network to recover, and short enough for a person to wait.
pub(crate) const SILENT_TICKS_MAX: u32 = 3;

/// The bytes that must come between two ticks so that a peer within a large frame does not count as silent.
///
/// That is 50 kbit/s. A slower transfer of a payload is of no use, and a peer that sends single bytes does not reach
/// it.
pub(crate) const PROGRESS_BYTES_MIN: u64 = 64 * 1024;

/// The timeout of a request that does not set one.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The time that is added to the wait of a long poll, for the answer's way back.
pub(crate) const LONG_POLL_MARGIN: Duration = Duration::from_secs(5);

/// The most addresses that a peer may name as its own, and that are kept for it.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// The longest address, in bytes of text.
pub(crate) const ADDRESS_BYTES_MAX: usize = 256;

/// The longest software version or other short text in a handshake, in bytes.
pub(crate) const HELLO_TEXT_BYTES_MAX: usize = 64;
