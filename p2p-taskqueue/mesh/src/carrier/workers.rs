//! The part of a node's queue about workers: the list, what is told of them, and why tasks wait.

use std::{
    cell::OnceCell,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use taskqueue_api::{
    Caller, Claim, Complete, Json, Operation as _, QueueError, Request, Response, Submit, Submitted, TaskRecord,
    TaskStatus, TellWorkers, ToolOffer, WaitingFor, WorkerInfo, Workers, WorkersListed, WorkersTold, check_size,
};

use super::MeshQueue;
use crate::{
    members::Names,
    node::{Directory, Moment},
    workers::{Demand, Known, Mesh},
};

/// The reasons that were found lately. Many tasks wait for the same.
#[derive(Debug, Default)]
pub(super) struct Reasons(Mutex<Vec<Found>>);

#[derive(Debug)]
struct Found {
    at: Instant,
    /// The state of the book of workers that it was found in.
    version: u64,
    task_type: String,
    pin_to: Option<PeerId>,
    session: Option<String>,
    requires: Vec<String>,
    reason: Option<WaitingFor>,
}

impl Found {
    fn is_of(&self, demand: &Demand<'_>) -> bool {
        let Self { task_type, pin_to, session, requires, .. } = self;
        *demand == Demand { task_type, pin_to: *pin_to, session: session.as_deref(), requires }
    }
}

impl Reasons {
    /// Returns the reason that was found lately for the same demands, or finds it.
    fn get(
        &self,
        demand: &Demand<'_>,
        (now, version): (Instant, u64),
        find: impl FnOnce() -> Option<WaitingFor>,
    ) -> Option<WaitingFor> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |found: &Found| found.version == version && now.saturating_duration_since(found.at) < FRESH;
        if let Some(found) = lock().iter().find(|found| found.is_of(demand) && is_fresh(found)) {
            return found.reason.clone();
        }
        let reason = find();
        let mut all = lock();
        all.retain(|found| is_fresh(found) && !found.is_of(demand));
        if all.len() < REASONS_MAX {
            all.push(Found {
                at: now,
                version,
                task_type: demand.task_type.to_owned(),
                pin_to: demand.pin_to,
                session: demand.session.map(str::to_owned),
                requires: demand.requires.to_vec(),
                reason: reason.clone(),
            });
        }
        reason
    }
}

/// What the reasons need to know of the machines of this mesh.
struct Machines<'a> {
    directory: &'a Directory,
    names: OnceCell<Names>,
}

impl<'a> Machines<'a> {
    const fn of(directory: &'a Directory) -> Self {
        Self { directory, names: OnceCell::new() }
    }
}

impl Mesh for Machines<'_> {
    fn name(&self, machine: &PeerId) -> Option<String> {
        self.names.get_or_init(|| self.directory.membership.names()).get(machine).cloned()
    }

    fn is_there(&self, machine: &PeerId) -> bool {
        *machine == self.directory.peer_id || self.directory.standing(*machine).is_some()
    }
}

impl MeshQueue {
    pub(super) async fn list_workers(&self, query: Workers) -> Result<WorkersListed, QueueError> {
        let directory = &self.directory;
        let now = Moment::now(&*directory.runtime);
        let peers = directory.peers(false).await?;
        let machines = Machines::of(directory);
        let is_asked_for = |worker: &Known| {
            let takes = query.task_type.as_deref().is_none_or(|task_type| worker.takes(task_type));
            let has_label = query.label.as_ref().is_none_or(|label| worker.offer.labels.contains(label));
            takes && has_label && worker.may_work()
        };
        let info = |worker: Known| {
            let is_own = worker.machine == directory.peer_id;
            let machine = machines.name(&worker.machine).or_else(|| is_own.then(|| worker.machine.to_string()))?;
            let connected = worker.stands && machines.is_there(&worker.machine);
            let peer = peers.iter().find(|peer| peer.peer_id == worker.machine);
            let of_machine = peer.and_then(|peer| peer.last_seen).filter(|_| !machines.is_there(&worker.machine));
            let last_seen = [worker.last_seen, of_machine].into_iter().flatten().reduce(f64::max);
            Some(WorkerInfo {
                machine,
                peer_id: worker.machine,
                worker_id: worker.offer.worker_id.clone(),
                connected,
                last_seen: last_seen.filter(|_| !connected),
                takes: worker.offer.takes.iter().map(|tool| shown(tool, query.schemas)).collect(),
                labels: worker.offer.labels.clone(),
                session: worker.offer.session.clone(),
                slots: worker.busy.map(|_| worker.offer.slots),
                busy: worker.busy.map(|busy| if connected { busy } else { 0 }),
                since: worker.offer.since,
            })
        };
        let known = directory.workers.known(now).into_iter().filter(is_asked_for);
        let mut workers: Vec<_> = known.filter_map(info).collect();
        workers.sort_by(|a, b| (&a.machine, &a.worker_id).cmp(&(&b.machine, &b.worker_id)));
        let answer = Response::WorkersListed(WorkersListed { self_peer_id: directory.peer_id, workers });
        check_size(&answer)?;
        Workers::answer(answer)
    }

    pub(super) fn tell_workers(&self, caller: &Caller, told: TellWorkers) -> Result<WorkersTold, QueueError> {
        let now = Moment::now(&*self.directory.runtime);
        let (machine, grants) = match caller {
            Caller::Local => (self.directory.peer_id, None),
            Caller::Peer(member) => (member.peer, Some(Arc::clone(&member.grants))),
        };
        self.directory.workers.tell(machine, grants, told, now)
    }

    /// Notes who claims tasks of this node.
    pub(super) fn note_claim(&self, caller: &Caller, request: &Request) {
        let claim: &Claim = match request {
            Request::Claim(claim) | Request::Complete(Complete { claim_next: Some(claim), .. }) => claim,
            Request::ClaimMany(many) => &many.claim,
            _ => return,
        };
        let now = Moment::now(&*self.directory.runtime);
        let (machine, grants) = match caller {
            Caller::Local => (self.directory.peer_id, None),
            Caller::Peer(member) => (member.peer, Some(&member.grants)),
        };
        self.directory.workers.claimed(machine, grants, claim, now);
    }

    /// Returns for each task of a submit why no worker would claim it now.
    pub(super) fn unclaimed(&self, request: &Request) -> Vec<Option<WaitingFor>> {
        let reason = |submit: &Submit| self.waiting_for(&Demand::from(submit));
        match request {
            Request::Submit(submit) => vec![reason(submit)],
            Request::SubmitMany(many) => many.tasks.iter().map(reason).collect(),
            _ => Vec::new(),
        }
    }

    /// Says why the tasks of an answer wait, unless their store has said so, and names the machines of their attempts.
    pub(super) fn explain(&self, response: &mut Response, unclaimed: Vec<Option<WaitingFor>>) {
        let mut unclaimed = unclaimed.into_iter();
        let note = |submitted: &mut Submitted, reason: Option<WaitingFor>| {
            if !submitted.duplicate && submitted.waiting_for.is_none() {
                submitted.waiting_for = reason;
            }
        };
        match response {
            Response::Submitted(submitted) => note(submitted, unclaimed.next().flatten()),
            Response::SubmittedMany(many) => {
                for (result, reason) in many.results.iter_mut().zip(unclaimed) {
                    result.submitted.iter_mut().for_each(|submitted| note(submitted, reason.clone()));
                }
            }
            Response::Got(got) => self.explain_task(&mut got.task),
            Response::GotMany(got) => got.tasks.iter_mut().for_each(|task| self.explain_task(task)),
            Response::Listed(listed) => listed.tasks.iter_mut().for_each(|task| self.explain_task(task)),
            Response::Waited(waited) => {
                let tasks = waited.task.iter_mut().chain(waited.tasks.iter_mut().flatten());
                tasks.for_each(|task| self.explain_task(task));
            }
            Response::ToolCalled(called) => self.explain_task(&mut called.task),
            _ => {}
        }
    }

    fn explain_task(&self, task: &mut TaskRecord) {
        // A peer that keeps the task has said so itself.
        let is_own = task.owner == self.directory.peer_id;
        if is_own && task.status == TaskStatus::Queued && task.waiting_for.is_none() {
            task.waiting_for = self.waiting_for(&Demand::from(&*task));
        }
        let unnamed = task.attempts.iter_mut().filter(|attempt| attempt.machine_name.is_none());
        for attempt in unnamed {
            attempt.machine_name = self.directory.membership.name_of(&attempt.machine);
        }
    }

    /// Returns the reason why no worker claims a task with these demands; `None` when one is free for it.
    fn waiting_for(&self, demand: &Demand<'_>) -> Option<WaitingFor> {
        let (workers, machines) = (&self.directory.workers, Machines::of(&self.directory));
        let now = Moment::now(&*self.directory.runtime);
        if workers.serves(demand, |machine| machines.is_there(machine), now) {
            return None;
        }
        let state = (now.instant, workers.version());
        self.reasons.get(demand, state, || demand.waiting_for(&workers.known(now), &machines))
    }
}

fn shown(tool: &ToolOffer, schemas: bool) -> ToolOffer {
    let input_schema = if schemas { tool.input_schema.clone() } else { Json::null() };
    ToolOffer { input_schema, ..tool.clone() }
}

/// How long a reason counts as found lately. Workers that fall silent are no change that is counted.
const FRESH: Duration = Duration::from_millis(100);

/// The most reasons that are kept: more kinds of tasks than usually wait at the same time.
const REASONS_MAX: usize = 32;
