//! The bounds of the operations, each with its reason.

/// The largest payload or result, in bytes of JSON text. It is large enough for a document, and a thousand of them in
/// flight fit in memory. Larger data travels by reference.
pub const JSON_BYTES_MAX: usize = 1024 * 1024;

/// The deepest nesting of arrays and objects in a value that is accepted.
///
/// Common JSON parsers stop at 127 levels. An answer puts up to six levels around a value: message, result,
/// `structuredContent`, list, record and its `input_requests`. The remaining levels are a reserve.
pub const JSON_DEPTH_MAX: usize = 100;

/// The deepest nesting in a value that is read from a store or from a peer's answer. Earlier versions accepted this
/// much.
pub const JSON_DEPTH_READ_MAX: usize = 128;

/// The longest name, in bytes: task type, model, session, worker id or label. Names are indexed, so they are short.
pub const NAME_BYTES_MAX: usize = 256;

/// The most labels of one task or one worker. Matching costs one comparison for each label.
pub const LABELS_MAX: usize = 32;

/// The most task types of one claim, list or worker.
pub const TASK_TYPES_MAX: usize = 256;

/// The longest reason, error text or status message, in bytes. It is kept with the task, so it is bounded like a log
/// line.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The longest error text of a worker, in bytes: the last 4 KiB of its standard error, and the sentence before them.
pub const ERROR_BYTES_MAX: usize = 8 * 1024;

/// The most attempts that a record shows: more than a task usually has, and few enough to be kept beside its state.
pub const ATTEMPTS_SHOWN_MAX: usize = 10;

/// The longest error text of one attempt in a record, in bytes: a sentence or two. The whole text of the last failure
/// is the record's `error`. All attempts of a record together stay below 10 KB.
pub const ATTEMPT_ERROR_BYTES_MAX: usize = 512;

/// The most questions that the worker of a task may ask: more than a person answers.
pub const INPUTS_MAX: usize = 32;

/// The most bytes of JSON text in the questions of one task, or in their answers. They are kept with the running task.
pub const INPUTS_BYTES_MAX: usize = 64 * 1024;

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// The most task types of one role. An entry of the roster, which holds them, has 1 KiB.
pub const ROLE_TYPES_MAX: usize = 16;

/// The range of the life of a ticket, in seconds: up to a year.
pub const TICKET_S_RANGE: std::ops::RangeInclusive<f64> = 1.0..=31_622_400.0;

/// The most machines that may come in by one ticket.
pub const TICKET_USES_MAX: u32 = 256;

/// The most machines that a removal names as those that stay: as many as an admin can have let in.
pub const KEPT_MEMBERS_MAX: usize = 1_024;

/// The most signed texts about members in one request.
pub const STATEMENTS_TOLD_MAX: usize = 128;

/// The longest signed text about a member, in bytes.
pub const STATEMENT_TEXT_BYTES_MAX: usize = 1_024;

/// The most workers of one machine of which the mesh hears. A program with more task types has one worker for many of
/// them.
pub const WORKERS_TOLD_MAX: usize = 64;

/// The most bytes of descriptions and schemas of one worker that are told. A machine with the most workers then stays
/// within one request.
pub const OFFER_BYTES_MAX: usize = 64 * 1024;

/// How long a node counts on a worker of its machine that has told of itself, in seconds. Workers tell of themselves again
/// after a third of this time.
pub const WORKER_STANDS_S: f64 = 60.0;

/// The most machines that a reason to wait names.
pub const WAITING_NAMES_MAX: usize = 8;

/// The lowest and the highest priority.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<u8> = 1..=10;

/// The most attempts that a task may ask for; 0 means without limit.
pub const MAX_ATTEMPTS_MAX: u32 = 1000;

/// The longest delay, window or time to live, in seconds: ten years. A longer one is a mistake.
pub const SPAN_S_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// The latest date, in Unix seconds: in the year 2106. A larger number is in another unit.
pub const DATE_S_MAX: f64 = 4_294_967_295.0;

/// The shortest time for which the record of an ended task is kept, in seconds, whatever `result_ttl_s` says.
///
/// It is twice the time that a request may take. So a submitter that is about to wait for the task still finds the
/// record. So does a submit that is repeated because its answer was lost.
pub const RESULT_KEPT_S_MIN: f64 = 60.0;

/// The shortest deadline, in seconds. A task with a shorter one would end before it could be claimed.
pub const DEADLINE_S_MIN: f64 = 0.001;

/// The longest backoff between attempts, in seconds. The backoff stops doubling here.
pub const BACKOFF_S_MAX: f64 = 300.0;

/// The range of a lease, in seconds. A shorter lease expires before a renewal can cross a network. A longer one hides a
/// dead worker for more than a day.
pub const LEASE_S_RANGE: std::ops::RangeInclusive<f64> = 1.0..=86_400.0;

/// The longest long poll of a claim, in seconds.
pub const CLAIM_WAIT_S_MAX: f64 = 300.0;

/// The longest wait for the end of a task, in seconds.
pub const WAIT_S_MAX: f64 = 3_600.0;

/// The most ids of one wait.
pub const WAIT_IDS_MAX: usize = 1_000;

/// The most tasks of one `submit_many`: one transaction of a few milliseconds.
pub const SUBMITS_MAX: usize = 1_000;

/// The most bytes of payloads and results in one request. With the text around them they stay below the 8 MiB of a
/// frame.
pub const REQUEST_JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most tasks that one task may come after. Each costs a row until it has ended.
pub const AFTER_MAX: usize = 128;

/// The most tasks of one `claim_many`: more than a worker with many slots takes at once.
pub const CLAIMS_MAX: u32 = 128;

/// The bytes of records at which a `claim_many` stops. The first record counts whatever its size.
pub const CLAIMED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most tasks that one `retry` or `purge` by a filter changes: some tenths of a second. The answer says when there
/// are more.
pub const SELECTED_MAX: u32 = 10_000;

/// The highest limit of running tasks that can be set.
pub const RUNNING_MAX_MAX: u32 = 1_000_000;

/// The longest key of the cache, in bytes.
pub const CACHE_KEY_BYTES_MAX: usize = 1024;

/// The most types that `stats` answers one by one. The totals count all types.
pub const STATS_TYPES_MAX: usize = 1_000;

/// The largest vector clock of a heartbeat, in bytes of JSON text: some hundreds of peers.
pub const CLOCK_BYTES_MAX: usize = 64 * 1024;

/// The most records of one page.
pub const LIST_LIMIT_MAX: u32 = 1_000;

/// The bytes of records at which a page ends early.
pub const LIST_PAGE_BYTES: usize = 512 * 1024;

/// The longest timeout of a call to a peer, in seconds, where the operation allows the caller to set it.
pub const CALL_TIMEOUT_S_MAX: f64 = 600.0;

/// The most discovery methods that one search may name: each method once, and room for those of newer versions.
pub const METHODS_MAX: usize = 32;

/// The most peers that one search answers.
pub const DISCOVER_LIMIT_MAX: u32 = 1_000;

/// The most bytes of records in one answer. With the text around them they stay below the largest frame of a session, 8
/// MiB.
pub const WAITED_BYTES_MAX: usize = 6 * 1024 * 1024;
