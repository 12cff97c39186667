//! The bounds of the operations, each with its reason.

/// A payload or a result, in bytes of JSON text: large enough for a document, small enough that a thousand of them in
/// flight fit in memory. Larger things travel by reference.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// Nesting of arrays and objects in a value that is taken. Common JSON parsers stop at 127 levels, and up to six stand around
/// a value in an answer: message, result, `structuredContent`, list, record and its `input_requests`. The others are a reserve.
pub const JSON_DEPTH_MAX: usize = 100;

/// Nesting in a value that is read from a store or from a peer's answer: earlier versions took so much.
pub const JSON_DEPTH_READ_MAX: usize = 128;

/// A name: task type, model, session, worker id, label. Names are indexed, so they are short.
pub const NAME_BYTES_MAX: usize = 256;

/// Labels of one task or one worker: matching costs one comparison for each.
pub const LABELS_MAX: usize = 32;

/// Task types of one claim, list or worker.
pub const TASK_TYPES_MAX: usize = 256;

/// A reason, an error text or a status message: kept with the task, so bounded like a log line.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// A worker's error text: the last 4 KiB of its standard error and the sentence before it.
pub const ERROR_BYTES_MAX: usize = 8 * 1024;

/// Questions that the worker of a task may ask: more than a person answers.
pub const INPUTS_MAX: usize = 32;

/// The questions of one task, or their answers, in bytes of JSON text: they are kept with the running task.
pub const INPUTS_BYTES_MAX: usize = 64 * 1024;

/// An idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// The lowest and the highest priority.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<u8> = 1..=10;

/// Attempts that a task may ask for; 0 is without limit.
pub const MAX_ATTEMPTS_MAX: u32 = 1000;

/// A delay, a window or a time to live, in seconds: ten years, beyond which it is a mistake.
pub const SPAN_S_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// A date, in Unix seconds: one of 2106, beyond which it is another unit.
pub const DATE_S_MAX: f64 = 4_294_967_295.0;

/// How long a record is kept after its task's end at the least, in seconds, whatever `result_ttl_s` says: whoever has
/// submitted the task and is on the way to wait for it finds it, and so does a submit that is sent once more because its
/// answer was lost (twice the time that a request may take).
pub const RESULT_KEPT_S_MIN: f64 = 60.0;

/// The shortest deadline, in seconds: a task that is to end sooner cannot have been claimed.
pub const DEADLINE_S_MIN: f64 = 0.001;

/// The backoff between attempts stops doubling here, in seconds.
pub const BACKOFF_S_MAX: f64 = 300.0;

/// The bounds of a lease, in seconds: shorter expires before a renewal can cross a network, longer hides a dead worker
/// for more than a day.
pub const LEASE_S_RANGE: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;

/// A claim's long poll, in seconds.
pub const CLAIM_WAIT_S_MAX: f64 = 300.0;

/// A wait for a task's end, in seconds.
pub const WAIT_S_MAX: f64 = 3_600.0;

/// Ids of one wait.
pub const WAIT_IDS_MAX: usize = 1_000;

/// Tasks of one submit of many: one transaction of a few milliseconds.
pub const SUBMITS_MAX: usize = 1_000;

/// Payloads and results of one request together: with what surrounds them below the 8 MiB of a frame.
pub const REQUEST_JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tasks that one task may come after: each costs a row until it has ended.
pub const AFTER_MAX: usize = 128;

/// Tasks of one claim of many: more than a worker with many slots takes at once.
pub const CLAIMS_MAX: u32 = 128;

/// A claim of many stops when its records pass this many bytes; the first one counts whatever its size.
pub const CLAIMED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tasks that one `retry` or `purge` by a filter changes: some tenths of a second; the answer says when there are more.
pub const SELECTED_MAX: u32 = 10_000;

/// The highest limit of running tasks that can be set.
pub const RUNNING_MAX_MAX: u32 = 1_000_000;

/// A key of the cache.
pub const CACHE_KEY_BYTES_MAX: usize = 1024;

/// Types that `stats` answers one by one; the totals count all.
pub const STATS_TYPES_MAX: usize = 1_000;

/// A vector clock of a heartbeat, in bytes of JSON text: some hundreds of peers.
pub const CLOCK_BYTES_MAX: usize = 64 * 1024;

/// Records of one page.
pub const LIST_LIMIT_MAX: u32 = 1_000;

/// A page ends early when its records pass this many bytes.
pub const LIST_PAGE_BYTES: usize = 512 * 1024;

/// A call to a peer, in seconds, where the operation allows it to be set.
pub const CALL_TIMEOUT_S_MAX: f64 = 600.0;

/// Ways of looking for peers that one search may name: each once, and room for those of newer versions.
pub const METHODS_MAX: usize = 32;

/// Peers that one search answers.
pub const DISCOVER_LIMIT_MAX: u32 = 1_000;

/// The records in one answer: below the largest frame of a session, 8 MiB, by more than what surrounds them.
pub const WAITED_BYTES_MAX: usize = 6 * 1024 * 1024;
