//! The part of a node's queue about workers: the list, what is told of them, and why tasks wait.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use taskqueue_api::{
    Caller, Claim, Complete, Grants, Json, Peer, QueueError, Request, Response, Submit, Submitted, TaskRecord,
    TaskStatus, TellWorkers, ToolOffer, WaitingFor, WorkerInfo, Workers, WorkersListed, WorkersTold,
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
        let peers: BTreeMap<PeerId, Peer> =
            directory.peers(false).await?.into_iter().map(|peer| (peer.peer_id, peer)).collect();
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
            let peer = peers.get(&worker.machine);
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
        fit(&mut workers);
        Ok(WorkersListed { self_peer_id: directory.peer_id, workers })
    }

    pub(super) fn tell_workers(&self, caller: &Caller, told: TellWorkers) -> Result<WorkersTold, QueueError> {
        let (machine, grants) = self.origin(caller);
        self.directory.workers.tell(machine, grants.cloned(), told, Moment::now(&*self.directory.runtime))
    }

    /// Returns the machine that asks, and what it may do; `None` stands for this one.
    fn origin<'a>(&self, caller: &'a Caller) -> (PeerId, Option<&'a Arc<Grants>>) {
        match caller {
            Caller::Local => (self.directory.peer_id, None),
            Caller::Peer(member) => (member.peer, Some(&member.grants)),
        }
    }

    /// Notes who claims tasks of this node.
    pub(super) fn note_claim(&self, caller: &Caller, request: &Request) {
        let claim: &Claim = match request {
            Request::Claim(claim) | Request::Complete(Complete { claim_next: Some(claim), .. }) => claim,
            Request::ClaimMany(many) => &many.claim,
            _ => return,
        };
        let (machine, grants) = self.origin(caller);
        self.directory.workers.claimed(machine, grants, claim, Moment::now(&*self.directory.runtime));
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

/// Leaves out descriptions and schemas until the rest fits into an answer: those of the machine that has the most, then of
/// the next. So a machine that has much to say keeps nobody from what the others say.
fn fit(workers: &mut [WorkerInfo]) {
    let mut said: BTreeMap<PeerId, usize> = BTreeMap::new();
    for worker in &*workers {
        *said.entry(worker.peer_id).or_default() += worker.takes.iter().map(ToolOffer::content_bytes).sum::<usize>();
    }
    let mut bytes: usize = said.values().sum();
    while bytes > CONTENT_BYTES_MAX {
        let Some((most, of_it)) = said.iter().max_by_key(|(_, bytes)| **bytes).map(|(peer, bytes)| (*peer, *bytes))
        else {
            return;
        };
        let its = workers.iter_mut().filter(|worker| worker.peer_id == most);
        its.flat_map(|worker| &mut worker.takes).for_each(ToolOffer::strip);
        said.remove(&most);
        bytes -= of_it;
    }
}

fn shown(tool: &ToolOffer, schemas: bool) -> ToolOffer {
    let input_schema = if schemas { tool.input_schema.clone() } else { Json::null() };
    ToolOffer { input_schema, ..tool.clone() }
}

/// How long a reason counts as found lately. Workers that fall silent are no change that is counted.
const FRESH: Duration = Duration::from_millis(100);

/// The most bytes of descriptions and schemas in one list of workers. With the names they stay below the largest frame.
const CONTENT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The most reasons that are kept: more kinds of tasks than usually wait at the same time.
const REASONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(peer_id: PeerId, tools: usize, description_bytes: usize) -> WorkerInfo {
        let tool =
            |number| ToolOffer { description: "d".repeat(description_bytes), ..ToolOffer::named(format!("t{number}")) };
        WorkerInfo {
            machine: "machine".to_owned(),
            peer_id,
            worker_id: "w".to_owned(),
            connected: true,
            last_seen: None,
            takes: (0..tools).map(tool).collect(),
            labels: Vec::new(),
            session: None,
            slots: Some(1),
            busy: Some(0),
            since: 1.0,
        }
    }

    #[test]
    fn machines_with_much_to_say_keep_nobody_from_what_the_others_say() {
        let [greedy, other_greedy, modest] = [(); 3].map(|()| PeerId::random());
        let mut workers = vec![worker(modest, 3, 1_000), worker(modest, 2, 20_000)];
        // Many small texts, and few large ones.
        workers.extend((0..64).map(|_| worker(greedy, 256, 250)));
        workers.extend((0..64).map(|_| worker(other_greedy, 1, 64_000)));
        let before = workers.clone();
        fit(&mut workers);
        for (worker, before) in workers.iter().zip(&before) {
            let names = |worker: &WorkerInfo| worker.takes.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(worker), names(before), "types are listed in any case");
            assert_eq!(worker.takes == before.takes, worker.peer_id == modest);
        }
        let mut fitting = vec![worker(greedy, 256, 250), worker(modest, 1, 10)];
        fit(&mut fitting);
        assert_eq!(fitting, [worker(greedy, 256, 250), worker(modest, 1, 10)]);
    }
}
