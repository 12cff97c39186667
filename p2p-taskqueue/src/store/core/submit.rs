use std::{collections::HashMap, sync::Arc};

use super::{
    depend::Parents,
    turn::{Halt, Item, Kind, Turn},
};
use crate::{
    QueueError,
    api::ErrorCode,
    engine::{self, Admission, Idempotency, Live, Phase, Spec},
    store::backend::{KeyRow, TaskRow},
    task::TaskId,
};

/// A submit, made ready for its row on the caller's thread.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) row: TaskRow,
    live: Live,
    kind: Arc<Kind>,
    idempotency: Option<Idempotency>,
    /// Whether the submitter has drawn the id, and may come again with it.
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

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) task_id: TaskId,
    /// Whether an earlier submit made it.
    pub(super) duplicate: bool,
}

/// Queues a task.
pub(super) fn submit(turn: &mut Turn<'_>, prepared: &mut Prepared) -> Result<Submission, Halt> {
    let plan = Plan::of(turn, prepared)?;
    plan.carry_out(turn, prepared)
}

/// Queues all tasks, or none and says which one is to blame.
pub(super) fn submit_all(turn: &mut Turn<'_>, prepared: &mut [Prepared], field: &str) -> Result<Vec<TaskId>, Halt> {
    let mut plans = Vec::with_capacity(prepared.len());
    let mut keys: HashMap<(&str, &str), &[u8; 32]> = HashMap::new();
    for (at, one) in prepared.iter().enumerate() {
        let plan = Plan::of(turn, one).and_then(|plan| {
            let repeated = one
                .idempotency
                .as_ref()
                .and_then(|one| keys.insert((&one.scope, &one.key), &one.content).zip(Some(one)));
            match repeated {
                Some((content, one)) if *content != one.content => Err(conflict("in the same request").into()),
                _ => Ok(plan),
            }
        });
        plans.push(plan.map_err(|halt| match halt {
            Halt::Refused(error) => Halt::Refused(error.within(field, at)),
            failed @ Halt::Failed(_) => failed,
        })?);
    }
    let mut ids = Vec::with_capacity(plans.len());
    for (plan, one) in plans.into_iter().zip(prepared) {
        // One before it may have had the same key.
        let plan = match first_submit(turn, one)? {
            Some(first) => Plan::Repeat(first),
            None => plan,
        };
        ids.push(plan.carry_out(turn, one)?.task_id);
    }
    Ok(ids)
}

/// What a submit comes to: found out before anything is written, so that a refusal leaves nothing behind.
enum Plan {
    /// It was made before.
    Repeat(TaskId),
    /// It is new.
    New(Box<Parents>),
}

impl Plan {
    fn of(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Self, Halt> {
        if let Some(first) = first_submit(turn, prepared)? {
            return Ok(Self::Repeat(first));
        }
        turn.memory.gates.admit(&prepared.kind.task_type)?;
        let lanes = &turn.memory.lanes;
        if lanes.len() >= LANES_MAX && !lanes.contains(&prepared.kind.lane) {
            let what = "queued combinations of type, requires, session, pin_to and concurrency_key";
            return Err(QueueError::overloaded(LANES_MAX, what, LANES_RETRY_AFTER_S).into());
        }
        Ok(Self::New(Box::new(Parents::of(turn, &prepared.row.spec)?.known()?)))
    }

    fn carry_out(self, turn: &mut Turn<'_>, prepared: &mut Prepared) -> Result<Submission, Halt> {
        let parents = match self {
            Self::Repeat(task_id) => return Ok(Submission { task_id, duplicate: true }),
            Self::New(parents) => parents,
        };
        let task_id = prepared.row.spec.id;
        let live = engine::block(prepared.live.clone(), parents.count());
        let seq = turn.next_seq();
        prepared.row.seq = seq;
        let live = turn.placed(live);
        prepared.row.ready_at = live.ready_at;
        turn.rows.insert_task(&prepared.row)?;
        turn.wrote = true;
        if let Some(idempotency) = &prepared.idempotency {
            remember(turn, idempotency, task_id)?;
        }
        if let Some((parent, ended)) = &parents.failed {
            let ended = engine::parent_failed(live, *parent, ended, turn.now);
            turn.record_end(seq, task_id, &prepared.kind.task_type, &ended, None)?;
            return Ok(Submission { task_id, duplicate: false });
        }
        let has_row = live.phase != Phase::Ready || live.deadline.is_some();
        let item = Item { seq, id: task_id, kind: Arc::clone(&prepared.kind), live };
        turn.begin(item, &parents.waiting, has_row)?;
        Ok(Submission { task_id, duplicate: false })
    }
}

/// The task of an earlier submit with the same key or the same id (clause T7).
fn first_submit(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    match first_of_key(turn, prepared)? {
        None if prepared.is_named => first_of_id(turn, prepared),
        first => Ok(first),
    }
}

fn first_of_id(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    let ours = &prepared.row;
    let Some(seq) = turn.rows.seq_of(ours.spec.id)? else { return Ok(None) };
    let Some(theirs) = turn.rows.task(seq)? else { return Ok(None) };
    // The time of a delay counts from each submit: it is no sign of another task.
    let spec = Spec { created_at: theirs.spec.created_at, ..ours.spec.clone() };
    if spec == theirs.spec && ours.payload == theirs.payload {
        return Ok(Some(spec.id));
    }
    Err(QueueError::new(ErrorCode::Conflict, format!("task {} is there already, with other content", spec.id)).into())
}

fn first_of_key(turn: &mut Turn<'_>, prepared: &Prepared) -> Result<Option<TaskId>, Halt> {
    let Some(idempotency) = &prepared.idempotency else { return Ok(None) };
    let known = turn.rows.key(&idempotency.scope, &idempotency.key)?;
    match known.filter(|known| known.expires_at > turn.now.elapsed) {
        Some(known) if known.content == idempotency.content => Ok(Some(known.id)),
        Some(known) => Err(conflict(&format!("for task {}", known.id)).into()),
        None => Ok(None),
    }
}

fn remember(turn: &mut Turn<'_>, idempotency: &Idempotency, id: TaskId) -> Result<(), Halt> {
    let row = KeyRow { content: idempotency.content, id, expires_at: idempotency.expires_at };
    turn.rows.put_key(&idempotency.scope, &idempotency.key, &row)?;
    let first = turn.memory.keys_at.map_or(row.expires_at, |first| first.min(row.expires_at));
    turn.memory.keys_at = Some(first);
    Ok(())
}

fn conflict(whose: &str) -> QueueError {
    QueueError::new(ErrorCode::Conflict, format!("this idempotency key was used with other content, {whose}"))
}

/// Lines whose heads are held in memory, at about 500 bytes each. Far above what types, worker labels, peers and sessions in
/// use come to.
const LANES_MAX: usize = 100_000;

/// Lines go away as their tasks are claimed.
const LANES_RETRY_AFTER_S: f64 = 5.0;
