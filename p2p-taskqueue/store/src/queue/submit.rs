use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use taskqueue_api::{ErrorCode, QueueError, TaskId, WaitingFor};

use super::{
    depend::Parents,
    turn::{Found, Halt, Item, Kind, Turn, unusable, usable},
};
use crate::{
    backend::{Fault, KeyRow, KeyTable as _, TaskRow, TaskTable as _},
    engine::{self, Admission, Idempotency, Live, Phase, Spec},
};

/// A submit, prepared for its row on the caller's thread.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) row: TaskRow,
    live: Live,
    kind: Arc<Kind>,
    idempotency: Option<Idempotency>,
    /// Whether the submitter chose the id. Then it may repeat the submit with the same id.
    is_named: bool,
}

impl Prepared {
    pub(super) fn new(admission: Admission, is_named: bool) -> Self {
        let Admission { spec, live, payload, idempotency } = admission;
        let kind = Arc::new(Kind::of(&spec));
        let (ready_at, not_before) = (live.ready_at, live.not_before);
        let row = TaskRow { seq: 0, spec, ready_at, not_before, payload: payload.into_text() };
        Self { row, live, kind, idempotency, is_named }
    }
}

/// The outcome of a submit.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) task_id: TaskId,
    /// Whether an earlier submit made the task.
    pub(super) duplicate: bool,
    /// Why no worker can claim a new task now.
    pub(super) waiting_for: Option<WaitingFor>,
}

impl Submission {
    const fn repeated(task_id: TaskId) -> Self {
        Self { task_id, duplicate: true, waiting_for: None }
    }
}

/// Queues a task.
pub(super) fn submit(turn: &mut Turn<'_>, prepared: &mut Prepared) -> Result<Submission, Halt> {
    let plan = Plans::default().plan(turn, prepared)?;
    Ok(carry_out(turn, plan, &[], prepared)?)
}

/// Returns the tasks that the first of several equal completions has submitted. Their ids follow from the completion.
pub(super) fn submitted_before(turn: &mut Turn<'_>, prepared: &[Prepared], field: &str) -> Result<Vec<TaskId>, Halt> {
    let mut ids = Vec::with_capacity(prepared.len());
    for (at, one) in prepared.iter().enumerate() {
        let first = first_submit(turn, one).and_then(|first| first.ok_or_else(|| not_with_the_first().into()));
        ids.push(first.map_err(|halt| match halt {
            Halt::Refused(error) => Halt::Refused(error.within(&format!("{field}[{at}]"))),
            failed @ Halt::Failed(_) => failed,
        })?);
    }
    Ok(ids)
}

/// The plans of several submits that are accepted together or not at all. All of them are examined before anything is
/// written, and none is refused after that.
#[derive(Debug, Default)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    /// The planned submits with idempotency keys, by scope and key: their places in the request, and their content.
    keys: HashMap<(String, String), (usize, [u8; 32])>,
    /// The places of submits whose submitter chose the id.
    ids: HashMap<TaskId, usize>,
    /// The types and lines that do not exist yet and that the planned tasks open.
    types: HashSet<Arc<str>>,
    lanes: HashSet<Arc<str>>,
}

impl Plans {
    /// Plans all of the submits, or says which one is refused.
    pub(super) fn of(turn: &mut Turn<'_>, prepared: &[Prepared], field: &str) -> Result<Self, Halt> {
        let mut plans = Self::default();
        for (at, one) in prepared.iter().enumerate() {
            let plan = match plans.repeated(prepared, one) {
                Ok(Some(first)) => Ok(Plan::RepeatOf(first)),
                Ok(None) => plans.plan(turn, one),
                Err(error) => Err(error.into()),
            };
            plans.plans.push(plan.map_err(|halt| match halt {
                Halt::Refused(error) => Halt::Refused(error.within(&format!("{field}[{at}]"))),
                failed @ Halt::Failed(_) => failed,
            })?);
            plans.note(at, one);
        }
        Ok(plans)
    }

    /// Queues all of them.
    pub(super) fn carry_out(self, turn: &mut Turn<'_>, prepared: &mut [Prepared]) -> Result<Vec<TaskId>, Fault> {
        let mut ids = Vec::with_capacity(prepared.len());
        for (plan, one) in self.plans.into_iter().zip(prepared) {
            let submission = carry_out(turn, plan, &ids, one)?;
            ids.push(submission.task_id);
        }
        Ok(ids)
    }

    /// Returns the place of an earlier submit of the same request that this one repeats.
    fn repeated(&self, prepared: &[Prepared], one: &Prepared) -> Result<Option<usize>, QueueError> {
        if let Some(idempotency) = &one.idempotency
            && let Some((first, content)) = self.keys.get(&key_of(idempotency))
        {
            let is_same = *content == idempotency.content;
            return if is_same { Ok(Some(*first)) } else { Err(conflict("in the same request")) };
        }
        let first = if one.is_named { self.ids.get(&one.row.spec.id) } else { None };
        match first.and_then(|first| prepared.get(*first).zip(Some(*first))) {
            Some((known, first)) if is_same(&one.row, &known.row) => Ok(Some(first)),
            Some(_) => Err(other_content(one.row.spec.id)),
            None => Ok(None),
        }
    }

    fn plan(&mut self, turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Plan, Halt> {
        if let Some(first) = first_submit(turn, prepared)? {
            return Ok(Plan::Repeat(first));
        }
        let kind = &prepared.kind;
        let beside = self.types.len() - usize::from(self.types.contains(&kind.task_type));
        if turn.memory.gates.admit(&kind.task_type, beside)? {
            self.types.insert(Arc::clone(&kind.task_type));
        }
        let lanes = &turn.memory.lanes;
        if !lanes.contains(&kind.lane) && self.lanes.insert(Arc::clone(&kind.lane)) {
            let count = lanes.len() + self.lanes.len();
            if count > LANES_MAX {
                let what = "queued combinations of type, requires, session, pin_to and concurrency_key";
                return Err(QueueError::overloaded(LANES_MAX, what, LANES_RETRY_AFTER_S).into());
            }
        }
        Ok(Plan::New(Box::new(Parents::of(turn, &prepared.row.spec)?.known()?)))
    }

    fn note(&mut self, at: usize, one: &Prepared) {
        if let Some(idempotency) = &one.idempotency {
            self.keys.entry(key_of(idempotency)).or_insert((at, idempotency.content));
        }
        if one.is_named {
            self.ids.entry(one.row.spec.id).or_insert(at);
        }
    }
}

/// What a submit will do.
#[derive(Debug)]
enum Plan {
    /// It repeats the submit of this task.
    Repeat(TaskId),
    /// It repeats the submit at this place of the same request.
    RepeatOf(usize),
    /// It adds a new task.
    New(Box<Parents>),
}

/// Carries out a plan. `before` has the tasks of the same request before this one.
fn carry_out(turn: &mut Turn<'_>, plan: Plan, before: &[TaskId], prepared: &mut Prepared) -> Result<Submission, Fault> {
    let task_id = prepared.row.spec.id;
    let parents = match plan {
        Plan::Repeat(task_id) => return Ok(Submission::repeated(task_id)),
        Plan::RepeatOf(first) => {
            let task_id = before.get(first).copied().unwrap_or(task_id);
            return Ok(Submission::repeated(task_id));
        }
        Plan::New(parents) => parents,
    };
    let live = engine::block(prepared.live.clone(), parents.count());
    let seq = turn.next_seq();
    prepared.row.seq = seq;
    let live = turn.placed(live);
    prepared.row.ready_at = live.ready_at;
    turn.rows.insert_task(&prepared.row)?;
    if let Some(idempotency) = &prepared.idempotency {
        remember(turn, idempotency, task_id)?;
    }
    if let Some((parent, ended)) = &parents.failed {
        parents.note(turn, seq)?;
        let ended = engine::parent_failed(live, *parent, ended, turn.now);
        turn.record_end(seq, task_id, &prepared.kind.task_type, &ended, None)?;
        return Ok(Submission { task_id, duplicate: false, waiting_for: None });
    }
    let kind = &prepared.kind;
    let waiting_for =
        engine::waiting_for(&live, turn.now).or_else(|| turn.memory.gates.reason(&kind.task_type, kind.key.as_deref()));
    let has_row = live.phase != Phase::Ready || live.deadline.is_some();
    let item = Item { seq, id: task_id, kind: Arc::clone(kind), live };
    turn.begin(item, &parents.waiting, has_row)?;
    Ok(Submission { task_id, duplicate: false, waiting_for })
}

fn key_of(idempotency: &Idempotency) -> (String, String) {
    (idempotency.scope.clone(), idempotency.key.clone())
}

/// Returns the task of an earlier submit with the same key or the same id (clause T7).
fn first_submit(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    match first_of_key(turn, prepared)? {
        None if prepared.is_named => first_of_id(turn, prepared),
        first => Ok(first),
    }
}

fn first_of_id(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    let id = prepared.row.spec.id;
    let Some(seq) = turn.rows.seq_of(id).map_err(|fault| unusable(id, fault))? else { return Ok(None) };
    let Some(theirs) = turn.rows.task(seq).map_err(|fault| unusable(id, fault))? else { return Ok(None) };
    if is_same(&prepared.row, &theirs) { Ok(Some(id)) } else { Err(other_content(id).into()) }
}

/// Whether two submits of one machine with the same id ask for the same. The end of a delay is not compared, because it counts from
/// the moment of each submit.
fn is_same(ours: &TaskRow, theirs: &TaskRow) -> bool {
    // Files of earlier versions do not say which machine submitted a task.
    let submitted_by = theirs.spec.submitted_by.and(ours.spec.submitted_by);
    let spec = Spec { created_at: theirs.spec.created_at, submitted_by, ..ours.spec.clone() };
    spec == theirs.spec && ours.payload == theirs.payload
}

fn first_of_key(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    let Some(idempotency) = &prepared.idempotency else { return Ok(None) };
    let Some(known) = usable(turn.rows.key(&idempotency.scope, &idempotency.key))? else {
        let message = "what is stored of this idempotency key is damaged; run `taskmesh repair`";
        let error = QueueError::new(ErrorCode::StorageError, message);
        return Err(error.not_retryable().into());
    };
    let Some(known) = known.filter(|known| known.expires_at > turn.now.elapsed) else { return Ok(None) };
    // A key counts only as long as the record exists. Its row may stay until it expires: a task does not lead to its
    // key, and an index for that would cost every submit with a key another write.
    if !is_kept(turn, known.id)? {
        return Ok(None);
    }
    if known.content == idempotency.content {
        return Ok(Some(known.id));
    }
    Err(conflict(&format!("for task {}", known.id)).into())
}

/// Whether the record of a task exists, and is not merely waiting for its removal.
fn is_kept(turn: &mut Turn<'_>, id: TaskId) -> Result<bool, Halt> {
    Ok(match turn.find_if_any(id)? {
        None => false,
        Some(Found::Live(_)) => true,
        Some(Found::Ended(_, ended, _)) => ended.expires_at > turn.now.elapsed,
    })
}

fn remember(turn: &mut Turn<'_>, idempotency: &Idempotency, id: TaskId) -> Result<(), Fault> {
    let row = KeyRow { content: idempotency.content, id, expires_at: idempotency.expires_at };
    turn.rows.put_key(&idempotency.scope, &idempotency.key, &row)?;
    let first = turn.memory.keys_at.map_or(row.expires_at, |first| first.min(row.expires_at));
    turn.memory.keys_at = Some(first);
    Ok(())
}

fn not_with_the_first() -> QueueError {
    let message = "the task has ended by this completion before, which did not submit this one, or it has gone since; \
                   nothing is submitted now";
    QueueError::new(ErrorCode::Conflict, message)
}

fn other_content(id: TaskId) -> QueueError {
    QueueError::new(ErrorCode::Conflict, format!("task {id} is there already, with other content"))
}

fn conflict(whose: &str) -> QueueError {
    QueueError::new(ErrorCode::Conflict, format!("this idempotency key was used with other content, {whose}"))
}

/// The most lines whose heads are in memory, at about 500 bytes each. That is far above the number that the types,
/// worker labels, peers and sessions in use make. The number is smaller in tests, which reach it.
const LANES_MAX: usize = if cfg!(test) { 500 } else { 100_000 };

/// Lines go away when their tasks are claimed.
const LANES_RETRY_AFTER_S: f64 = 5.0;
