//! The steps of a history, and how histories are drawn.

use std::fmt;

use proptest::{collection::vec, option, prelude::*, sample::select};
use taskqueue_api::{CompletedStatus, OnParentFailure, Order, TaskStatus};

/// A step of a history. Tasks and fences are chosen among those that exist, so that a history stays valid when steps
/// are left out of it.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Submit(Who, Draft),
    SubmitMany(Who, Vec<Draft>),
    /// Repeats the submit of a task that has a key, perhaps with another payload.
    Repeat(Who, usize, bool),
    Claim(Who, Want),
    ClaimMany(Who, Want, u32),
    Renew(Hold, f64, Option<f64>),
    /// A renewal that asks this question under this key.
    Ask(Hold, &'static str, u8),
    /// These keys get this answer.
    Answer(Pick, Vec<&'static str>, u8),
    Complete(Hold, CompletedStatus, Option<u8>, Vec<Draft>, Option<Want>),
    /// A failure with or without another attempt, perhaps with a delay of its own.
    Fail(Hold, bool, Option<f64>),
    Release(Hold, f64),
    /// All leases of this machine end.
    Free(Who),
    /// A cancellation with or without a reason.
    Cancel(Pick, bool),
    Get(Pick),
    List(Sieve, u32, Order),
    Retry(Chosen),
    Purge(Chosen),
    /// A pause of these types, or of all; with `true` a drain.
    Pause(Vec<Kind>, bool),
    Resume(Vec<Kind>),
    LimitType(Kind, Option<u32>),
    LimitKey(&'static str, Option<u32>),
    /// This many tasks that come after one of the tasks.
    Crowd(Pick, usize, OnParentFailure),
    /// A caller waits for the end of these tasks.
    Watch(Vec<Pick>),
    /// One of the callers with a waiting claim or a watch goes away.
    Leave(usize),
    CacheSet(&'static str, u8, Option<f64>),
    CacheGet(&'static str),
    CacheHas(&'static str),
    CacheDelete(&'static str),
    /// All clocks go forward. With `true`, the next step may come before the store has done what is due.
    Advance(f64, bool),
    /// The wall clock is set.
    Jump(f64),
    /// The machine sleeps, and the monotonic clock stands still.
    Sleep(f64),
    Restart(Restart),
}

/// What happens while the store is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    /// How long the store is closed.
    pub(super) off_s: f64,
    /// By how much the wall clock is set in the meantime.
    pub(super) jump_s: f64,
    /// Whether the machine restarts, and not only the process.
    pub(super) reboots: bool,
}

/// One of the two peers that ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Owner,
    Other,
}

pub(super) type Kind = &'static str;

/// A choice of one of the tasks so far.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pick {
    Any(usize),
    /// One of the running tasks, if there are any.
    Running(usize),
    /// One of the ended tasks, if there are any.
    Ended(usize),
    Unknown,
}

/// A task and a fence for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) task: Pick,
    pub(super) fence: Which,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The last fence that was issued for the task.
    Last,
    /// The fence before the last one.
    Earlier,
    /// A fence of another task.
    Foreign,
}

/// A submit, without the ids of its parents.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) priority: u8,
    pub(super) wait: Wait,
    pub(super) deadline_s: Option<f64>,
    /// An idempotency key and its window.
    pub(super) key: Option<(&'static str, f64)>,
    pub(super) submitter: Option<&'static str>,
    pub(super) requires: bool,
    pub(super) label: bool,
    pub(super) pin_to: Option<Who>,
    pub(super) session: Option<&'static str>,
    pub(super) after: Vec<Pick>,
    pub(super) policy: OnParentFailure,
    pub(super) concurrency_key: Option<&'static str>,
    pub(super) max_attempts: u32,
    pub(super) backoff_s: f64,
    pub(super) result_ttl_s: f64,
    pub(super) payload: u8,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    None,
    Delay(f64),
    /// A date this many seconds from now, or ago.
    NotBefore(f64),
}

/// A claim.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) kinds: Vec<Kind>,
    pub(super) gpu: bool,
    pub(super) session: Option<&'static str>,
    pub(super) lease_s: f64,
    /// How long the claim waits for a task.
    pub(super) wait_s: f64,
}

/// The filters of a list or a selection.
#[derive(Debug, Clone)]
pub(super) struct Sieve {
    pub(super) status: Option<TaskStatus>,
    pub(super) kinds: Vec<Kind>,
    pub(super) session: Option<&'static str>,
    pub(super) label: bool,
}

/// A choice of ended tasks.
#[derive(Debug, Clone)]
pub(super) enum Chosen {
    Named(Vec<Pick>),
    /// The filters, a limit, and an age in seconds.
    Sifted(Sieve, u32, f64),
}

/// The steps of a store's life from its beginning.
#[derive(Clone)]
pub(super) struct History(pub(super) Vec<Step>);

/// Shows one line for each step, because people read the steps of a failure.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(number, step)| f.write_str(&format!("\n  {number}: {step:?}")))
    }
}

pub(super) fn history() -> impl Strategy<Value = History> {
    // Each step may be left out, which makes a failing history shorter than any that is drawn.
    let steps = vec(option::weighted(0.95, step()), 32..62);
    steps.prop_map(|steps| History(steps.into_iter().flatten().collect()))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => work().boxed(),
        7 => lease().boxed(),
        7 => time().boxed(),
        2 => waits().boxed(),
        3 => manage().boxed(),
        1 => cache().boxed(),
    ]
}

fn work() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (who(), draft()).prop_map(|(who, draft)| Step::Submit(who, draft)),
        1 => (who(), vec(draft(), 1..4)).prop_map(|(who, drafts)| Step::SubmitMany(who, drafts)),
        1 => (who(), 0_usize..64, prop::bool::weighted(0.3))
            .prop_map(|(who, number, other)| Step::Repeat(who, number, other)),
        11 => (who(), want()).prop_map(|(who, want)| Step::Claim(who, want)),
        1 => (who(), want(), 1_u32..4).prop_map(|(who, want, count)| Step::ClaimMany(who, want, count)),
        5 => (hold(), completed(), option::of(0_u8..3), children(), option::weighted(0.2, want()))
            .prop_map(|(hold, status, result, children, next)| Step::Complete(hold, status, result, children, next)),
    ]
}

fn lease() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (hold(), lease_s(), option::of(select(vec![0.0, 0.5, 1.0])))
            .prop_map(|(hold, lease_s, progress)| Step::Renew(hold, lease_s, progress)),
        2 => (hold(), select(INPUT_KEYS.to_vec()), 0_u8..3).prop_map(|(hold, key, question)| Step::Ask(hold, key, question)),
        2 => (running(), prop::sample::subsequence(INPUT_KEYS.to_vec(), 1..=2), 10_u8..13)
            .prop_map(|(task, keys, response)| Step::Answer(task, keys, response)),
        4 => (hold(), prop::bool::weighted(0.7), option::weighted(0.3, select(vec![0.0, 2.0, 50.0])))
            .prop_map(|(hold, retryable, delay_s)| Step::Fail(hold, retryable, delay_s)),
        2 => (hold(), select(vec![0.0, 0.0, 2.0, 50.0])).prop_map(|(hold, delay_s)| Step::Release(hold, delay_s)),
        2 => (pick(), any::<bool>()).prop_map(|(task, reason)| Step::Cancel(task, reason)),
        1 => select(vec![Who::Owner, Who::Other]).prop_map(Step::Free),
    ]
}

fn time() -> impl Strategy<Value = Step> {
    let day = 86_400.0;
    prop_oneof![
        12 => (select(vec![0.5, 0.5, 1.0, 1.0, 2.5, 2.5, 6.0, 25.0, 70.0, 350.0]), prop::bool::weighted(0.3))
            .prop_map(|(seconds, at_once)| Step::Advance(seconds, at_once)),
        1 => select(vec![4_000.0, 30_000.0, 90_000.0]).prop_map(|seconds| Step::Advance(seconds, false)),
        2 => select(vec![3_600.0, -3_600.0, day, -day]).prop_map(Step::Jump),
        2 => select(vec![30.0, 4_000.0, 90_000.0]).prop_map(Step::Sleep),
        2 => restart().prop_map(Step::Restart),
    ]
}

fn restart() -> impl Strategy<Value = Restart> {
    let off_s = select(vec![0.0, 0.0, 0.0, 1.0, 4.0, 30.0, 4_000.0]);
    let jump_s = select(vec![0.0, 0.0, 0.0, 90_000.0, -90_000.0]);
    (off_s, jump_s, any::<bool>()).prop_map(|(off_s, jump_s, reboots)| Restart { off_s, jump_s, reboots })
}

fn manage() -> impl Strategy<Value = Step> {
    let max = || option::weighted(0.7, 1_u32..3);
    prop_oneof![
        2 => pick().prop_map(Step::Get),
        2 => (sieve(), 1_u32..6, select(vec![Order::Oldest, Order::Newest]))
            .prop_map(|(sieve, limit, order)| Step::List(sieve, limit, order)),
        4 => chosen(vec![TaskStatus::Failed, TaskStatus::Cancelled]).prop_map(Step::Retry),
        2 => chosen(vec![TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled]).prop_map(Step::Purge),
        1 => (kinds(), any::<bool>()).prop_map(|(kinds, drain)| Step::Pause(kinds, drain)),
        2 => kinds().prop_map(Step::Resume),
        1 => (select(KINDS.to_vec()), max()).prop_map(|(kind, max)| Step::LimitType(kind, max)),
        1 => (select(CONCURRENCY_KEYS.to_vec()), max()).prop_map(|(key, max)| Step::LimitKey(key, max)),
    ]
}

fn waits() -> impl Strategy<Value = Step> {
    let policy = select(vec![OnParentFailure::Fail, OnParentFailure::Run]);
    prop_oneof![
        2 => (pick(), 3_usize..12, policy).prop_map(|(parent, count, policy)| Step::Crowd(parent, count, policy)),
        2 => vec(pick(), 1..4).prop_map(Step::Watch),
        2 => (0_usize..64).prop_map(Step::Leave),
    ]
}

fn cache() -> impl Strategy<Value = Step> {
    let key = || select(vec!["a", "b"]);
    prop_oneof![
        (key(), 0_u8..3, option::of(select(vec![0.0, 5.0, 400.0])))
            .prop_map(|(key, value, ttl_s)| Step::CacheSet(key, value, ttl_s)),
        key().prop_map(Step::CacheGet),
        key().prop_map(Step::CacheHas),
        key().prop_map(Step::CacheDelete),
    ]
}

/// The parts of a step are boxed: as one value they are too large for the stack of a test.
fn draft() -> BoxedStrategy<Draft> {
    let place = (
        select(KINDS.to_vec()),
        select(vec![5_u8, 5, 5, 1, 10]),
        wait(),
        prop::bool::weighted(0.15),
        any::<bool>(),
        option::weighted(0.1, who()),
        option::weighted(0.15, select(SESSIONS.to_vec())),
        option::weighted(0.25, select(CONCURRENCY_KEYS.to_vec())),
        option::weighted(0.3, select(vec!["laptop", "phone"])),
    );
    let policy = (
        option::weighted(0.15, select(vec![3.0, 20.0, 200.0])),
        option::weighted(0.2, (select(vec!["x", "y"]), select(vec![10.0, 1_000.0]))),
        vec(parent(), 0..=2).prop_flat_map(|parents| prop_oneof![3 => Just(Vec::new()), 2 => Just(parents)]),
        select(vec![OnParentFailure::Fail, OnParentFailure::Fail, OnParentFailure::Run]),
        select(vec![3_u32, 3, 0, 1, 2]),
        select(vec![1.0, 0.0, 4.0, 300.0]),
        select(vec![86_400.0, 86_400.0, 0.0, 20.0, 100.0]),
        0_u8..2,
    );
    (place, policy)
        .prop_map(|(place, policy)| {
            let (kind, priority, wait, requires, label, pin_to, session, concurrency_key, submitter) = place;
            let (deadline_s, key, after, policy, max_attempts, backoff_s, result_ttl_s, payload) = policy;
            Draft {
                kind,
                priority,
                wait,
                deadline_s,
                key,
                submitter,
                requires,
                label,
                pin_to,
                session,
                after,
                policy,
                concurrency_key,
                max_attempts,
                backoff_s,
                result_ttl_s,
                payload,
            }
        })
        .boxed()
}

fn wait() -> impl Strategy<Value = Wait> {
    let seconds = select(vec![0.0, 1.0, 5.0, 60.0]);
    prop_oneof![
        8 => Just(Wait::None),
        2 => seconds.prop_map(Wait::Delay),
        1 => select(vec![-100.0, 0.0, 5.0, 2_000.0]).prop_map(Wait::NotBefore),
    ]
}

fn want() -> impl Strategy<Value = Want> {
    let session = option::weighted(0.5, select(SESSIONS.to_vec()));
    let wait_s = prop_oneof![3 => Just(0.0), 1 => select(vec![2.0, 30.0, 300.0])];
    (prop_oneof![3 => Just(Vec::new()), 1 => kinds()], prop::bool::weighted(0.8), session, lease_s(), wait_s)
        .prop_map(|(kinds, gpu, session, lease_s, wait_s)| Want { kinds, gpu, session, lease_s, wait_s })
}

fn children() -> impl Strategy<Value = Vec<Draft>> {
    prop_oneof![4 => Just(Vec::new()), 1 => vec(draft(), 1..3)]
}

fn chosen(allowed: Vec<TaskStatus>) -> impl Strategy<Value = Chosen> {
    let age_s = select(vec![0.0, 0.0, 30.0]);
    let sifted = (sieve(), select(allowed), 1_u32..5, age_s).prop_map(|(sieve, status, limit, age_s)| {
        Chosen::Sifted(Sieve { status: Some(status), ..sieve }, limit, age_s)
    });
    prop_oneof![2 => vec(pick(), 1..4).prop_map(Chosen::Named), 1 => sifted]
}

fn sieve() -> impl Strategy<Value = Sieve> {
    let session = option::weighted(0.2, select(SESSIONS.to_vec()));
    (option::of(select(TaskStatus::ALL.to_vec())), kinds(), session, prop::bool::weighted(0.2))
        .prop_map(|(status, kinds, session, label)| Sieve { status, kinds, session, label })
}

fn hold() -> impl Strategy<Value = Hold> {
    let task = prop_oneof![
        8 => (0_usize..64).prop_map(Pick::Running),
        1 => (0_usize..64).prop_map(Pick::Ended),
        1 => pick(),
    ];
    let fence = prop_oneof![8 => Just(Which::Last), 1 => Just(Which::Earlier), 1 => Just(Which::Foreign)];
    (task, fence).prop_map(|(task, fence)| Hold { task, fence })
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => (0_usize..64).prop_map(Pick::Any),
        3 => (0_usize..64).prop_map(Pick::Running),
        4 => (0_usize..64).prop_map(Pick::Ended),
        1 => Just(Pick::Unknown),
    ]
}

fn running() -> impl Strategy<Value = Pick> {
    prop_oneof![8 => (0_usize..64).prop_map(Pick::Running), 1 => pick()]
}

fn parent() -> impl Strategy<Value = Pick> {
    prop_oneof![
        12 => (0_usize..64).prop_map(Pick::Any),
        12 => (0_usize..64).prop_map(Pick::Running),
        1 => Just(Pick::Unknown),
    ]
}

fn completed() -> impl Strategy<Value = CompletedStatus> {
    prop_oneof![3 => Just(CompletedStatus::Completed), 1 => Just(CompletedStatus::Failed)]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![3 => Just(Who::Owner), 1 => Just(Who::Other)]
}

fn lease_s() -> impl Strategy<Value = f64> {
    select(vec![5.0, 30.0, 300.0])
}

/// Some types, each once. An empty list means all of them.
fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::sample::subsequence(KINDS.to_vec(), 1..=2),
    ]
}

pub(super) const KINDS: [Kind; 3] = ["a", "b", "c"];
const SESSIONS: [&str; 2] = ["s", "t"];
/// The keys under which workers ask.
const INPUT_KEYS: [&str; 3] = ["q", "r", "s"];
const CONCURRENCY_KEYS: [&str; 2] = ["k", "l"];
