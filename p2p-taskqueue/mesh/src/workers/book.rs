use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use taskqueue_api::{
    Allowed, Claim, Grant, Grants, QueueError, TellWorkers, ToolOffer, WorkerOffer, WorkersTold,
    limits::{WORKER_STANDS_S, WORKERS_TOLD_MAX},
};
use tokio::sync::watch;

use super::Demand;
use crate::node::Moment;

/// What this node knows of the workers of each machine, its own among them.
#[derive(Debug)]
pub(crate) struct WorkerBook {
    own: PeerId,
    state: Mutex<State>,
    /// Counts all changes.
    version: AtomicU64,
    /// Counts the changes of what workers of other machines take.
    others: AtomicU64,
    /// Counts the changes of what the own workers take.
    offers: watch::Sender<u64>,
    /// Counts the changes of how many tasks they run.
    busy: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    machines: HashMap<PeerId, Machine>,
    /// The bytes of all offers.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Machine {
    /// What the machine may do; `None` for this one, which may do everything.
    grants: Option<Arc<Grants>>,
    /// The workers that were told of, by instance.
    told: BTreeMap<String, Told>,
    /// The workers of which only claims are known, by worker id.
    claimants: HashMap<String, Told>,
}

#[derive(Debug)]
struct Told {
    offer: Arc<WorkerOffer>,
    busy: u32,
    stands: Stands,
}

/// How long a node counts on a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stands {
    /// As long as its machine is connected.
    WhileConnected,
    /// Until then, unless it is heard of again. The number is when it was heard of last, in Unix seconds.
    Until(Instant, f64),
    /// Not any more, since then, in Unix seconds.
    Stopped(f64),
}

/// A worker, as this node knows it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) machine: PeerId,
    pub(crate) offer: Arc<WorkerOffer>,
    /// How many of its slots are busy; `None` for one that tells nothing of itself.
    pub(crate) busy: Option<u32>,
    /// Whether it runs, if its machine is there.
    pub(crate) stands: bool,
    /// When it was heard of last, in Unix seconds, if that is known from itself.
    pub(crate) last_seen: Option<f64>,
    grants: Option<Arc<Grants>>,
}

/// The workers of a machine, as they are kept between two runs of a node.
#[derive(Debug, Serialize, Deserialize)]
struct KeptMachine {
    peer_id: PeerId,
    workers: Vec<KeptWorker>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptWorker {
    last_seen: f64,
    offer: WorkerOffer,
}

impl Known {
    /// Tells whether the worker takes tasks of a type, and its machine may work on them.
    pub(crate) fn takes(&self, task_type: &str) -> bool {
        takes(&self.offer, self.grants.as_deref(), task_type)
    }

    /// Tells whether the worker takes another task now, as far as is known.
    pub(crate) fn has_room(&self) -> bool {
        self.busy.is_none_or(|busy| busy < self.offer.slots)
    }

    /// Tells whether the machine may work at all.
    pub(crate) fn may_work(&self) -> bool {
        may_work(self.grants.as_deref())
    }
}

impl WorkerBook {
    pub(crate) fn new(own: PeerId) -> Self {
        Self {
            own,
            state: Mutex::default(),
            version: AtomicU64::new(0),
            others: AtomicU64::new(0),
            offers: watch::Sender::new(0),
            busy: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a number that is another one after every change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Notes a change, also one of which machines are there.
    pub(crate) fn touch(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns a number that is another one after every change of what workers of other machines take.
    pub(crate) fn others(&self) -> u64 {
        self.others.load(Ordering::Acquire)
    }

    /// Returns the text by which [`remember`](Self::remember) knows the workers of other machines again.
    pub(crate) fn to_text(&self, now: Moment) -> String {
        let state = self.lock();
        let others = state.machines.iter().filter(|(machine, _)| **machine != self.own);
        let kept = others.map(|(machine, entry)| KeptMachine {
            peer_id: *machine,
            workers: entry.told.values().map(|told| told.kept(now)).collect(),
        });
        let kept: Vec<_> = kept.filter(|machine| !machine.workers.is_empty()).collect();
        drop(state);
        serde_json::to_string(&kept).unwrap_or_else(|_| "[]".to_owned())
    }

    /// Takes in what was known before a restart. None of these workers counts as there until its machine says so.
    /// `grants` is what each member may do.
    pub(crate) fn remember(&self, text: &str, grants: impl Fn(&PeerId) -> Option<Arc<Grants>>) {
        let kept: Vec<KeptMachine> = serde_json::from_str(text).unwrap_or_default();
        let mut state = self.lock();
        for KeptMachine { peer_id, workers } in kept {
            let Some(grants) = grants(&peer_id).filter(|_| peer_id != self.own) else { continue };
            let entry = state.machines.entry(peer_id).or_default();
            entry.grants = Some(grants);
            let told = workers.into_iter().take(WORKERS_TOLD_MAX).map(|kept| {
                let instance = kept.offer.instance.clone();
                let stands = Stands::Stopped(kept.last_seen);
                (instance, Told { offer: Arc::new(kept.offer), busy: 0, stands })
            });
            entry.told.extend(told);
        }
        state.bytes = state.machines.values().map(Machine::bytes).sum();
        self.touch();
    }

    /// Shows each change of what the own workers take.
    pub(crate) fn offers(&self) -> watch::Receiver<u64> {
        self.offers.subscribe()
    }

    /// Shows each change of how many tasks the own workers run.
    pub(crate) fn busy(&self) -> watch::Receiver<u64> {
        self.busy.subscribe()
    }

    /// Takes what a machine tells of its workers. `grants` is what the machine may do; `None` stands for this one.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` when the machine has too many workers, `overloaded` when there is no more room for offers.
    pub(crate) fn tell(
        &self,
        machine: PeerId,
        grants: Option<Arc<Grants>>,
        told: TellWorkers,
        now: Moment,
    ) -> Result<WorkersTold, QueueError> {
        let is_own = grants.is_none();
        let TellWorkers { workers, busy, stopped, all } = told;
        let (offers_changed, busy_changed) = (!workers.is_empty() || !stopped.is_empty(), !busy.is_empty());
        let stands = if is_own { Stands::until(now) } else { Stands::WhileConnected };
        let mut unknown = Vec::new();
        {
            let mut state = self.lock();
            if state.bytes + workers.iter().map(bytes_of).sum::<usize>() > BOOK_BYTES_MAX {
                return Err(QueueError::overloaded(BOOK_BYTES_MAX, "bytes of what workers take", RETRY_AFTER_S));
            }
            let entry = state.machines.entry(machine).or_default();
            let before = entry.bytes();
            entry.grants = grants;
            if all {
                entry.told.clear();
            }
            let added = workers.into_iter().try_for_each(|offer| entry.add(offer, stands));
            for (instance, count) in busy {
                match entry.told.get_mut(&instance) {
                    Some(told) => told.heard(count, now),
                    None => unknown.push(instance),
                }
            }
            for instance in stopped {
                if let Some(told) = entry.told.get_mut(&instance) {
                    told.stands = Stands::Stopped(now.unix_s);
                }
            }
            let after = entry.bytes();
            state.bytes = state.bytes - before + after;
            self.touch();
            added?;
        }
        if !is_own && (offers_changed || all) {
            self.others.fetch_add(1, Ordering::Release);
        }
        if is_own && offers_changed {
            self.offers.send_modify(|count| *count += 1);
        }
        if is_own && busy_changed {
            self.busy.send_modify(|count| *count += 1);
        }
        Ok(WorkersTold { unknown })
    }

    /// Notes who claims. A worker that has told of itself is known already.
    pub(crate) fn claimed(&self, machine: PeerId, grants: Option<&Arc<Grants>>, claim: &Claim, now: Moment) {
        let mut state = self.lock();
        let has_room = state.bytes < BOOK_BYTES_MAX;
        let entry = state.machines.entry(machine).or_default();
        if entry.told.values().any(|told| told.offer.worker_id == claim.worker_id && told.stands.is_standing(now)) {
            return;
        }
        if let Some(grants) = grants {
            entry.grants = Some(Arc::clone(grants));
        }
        let wait = Duration::try_from_secs_f64(claim.wait_s).unwrap_or_default();
        let stands = Stands::Until(now.instant + wait + CLAIMANT_STANDS, now.unix_s);
        if let Some(known) = entry.claimants.get_mut(&claim.worker_id)
            && known.claims_as(claim)
        {
            known.stands = stands;
        } else if has_room {
            let before = entry.bytes();
            entry.add_claimant(claim, stands, now);
            let after = entry.bytes();
            state.bytes = state.bytes - before + after;
            self.touch();
        }
    }

    /// Ends the standing of own workers that have not been heard of in time.
    pub(crate) fn expire(&self, now: Moment) {
        let mut expired = false;
        if let Some(entry) = self.lock().machines.get_mut(&self.own) {
            for told in entry.told.values_mut() {
                if let Stands::Until(until, heard) = told.stands
                    && until <= now.instant
                {
                    told.stands = Stands::Stopped(heard);
                    expired = true;
                }
            }
        }
        if expired {
            self.offers.send_modify(|count| *count += 1);
        }
    }

    /// Forgets the workers of a machine.
    pub(crate) fn forget(&self, machine: &PeerId) {
        let mut state = self.lock();
        if let Some(entry) = state.machines.remove(machine) {
            state.bytes -= entry.bytes();
            self.touch();
        }
    }

    /// Forgets the workers of all other machines.
    pub(crate) fn forget_others(&self) {
        let mut state = self.lock();
        state.machines.retain(|machine, _| *machine == self.own);
        state.bytes = state.machines.values().map(Machine::bytes).sum();
        self.touch();
    }

    /// Returns all workers that are known.
    pub(crate) fn known(&self, now: Moment) -> Vec<Known> {
        let state = self.lock();
        let of_machine = |(machine, entry): (&PeerId, &Machine)| {
            let known = |told: &Told, busy: Option<u32>| Known {
                machine: *machine,
                offer: Arc::clone(&told.offer),
                busy,
                stands: told.stands.is_standing(now),
                last_seen: told.stands.last_seen(),
                grants: entry.grants.clone(),
            };
            let told = entry.told.values().map(|told| known(told, Some(told.busy)));
            told.chain(entry.claimants.values().map(|told| known(told, None))).collect::<Vec<_>>()
        };
        state.machines.iter().flat_map(of_machine).collect()
    }

    /// Tells whether a worker is there that takes such a task now. `is_there` says which machines are.
    pub(crate) fn serves(&self, demand: &Demand<'_>, is_there: impl Fn(&PeerId) -> bool, now: Moment) -> bool {
        let state = self.lock();
        state.machines.iter().any(|(machine, entry)| {
            let fits = |told: &Told| {
                told.stands.is_standing(now)
                    && takes(&told.offer, entry.grants.as_deref(), demand.task_type)
                    && demand.fits(*machine, &told.offer)
            };
            let has_room = |told: &Told| told.busy < told.offer.slots;
            let serves =
                entry.told.values().any(|told| has_room(told) && fits(told)) || entry.claimants.values().any(fits);
            serves && is_there(machine)
        })
    }

    /// Returns the own workers that run, by instance, with the number of busy slots of each.
    pub(crate) fn own_workers(&self) -> BTreeMap<String, (Arc<WorkerOffer>, u32)> {
        let state = self.lock();
        let told = state.machines.get(&self.own).into_iter().flat_map(|entry| &entry.told);
        let standing = told.filter(|(_, told)| !matches!(told.stands, Stands::Stopped(_)));
        standing.map(|(instance, told)| (instance.clone(), (Arc::clone(&told.offer), told.busy))).collect()
    }

    /// Returns the task types of the own workers, each once, in the order of their names.
    pub(crate) fn own_tools(&self) -> Vec<ToolOffer> {
        let mut tools = BTreeMap::new();
        for (offer, _) in self.own_workers().into_values() {
            for tool in &offer.takes {
                tools.entry(tool.name.clone()).or_insert_with(|| tool.clone());
            }
        }
        tools.into_values().collect()
    }
}

impl Machine {
    /// Adds a worker, or replaces what was told of it.
    fn add(&mut self, offer: WorkerOffer, stands: Stands) -> Result<(), QueueError> {
        // The worker was started again, or it had claimed before it told of itself.
        let is_stale =
            |told: &Told| told.offer.worker_id == offer.worker_id && matches!(told.stands, Stands::Stopped(_));
        self.told.retain(|instance, told| *instance != offer.instance && !is_stale(told));
        self.claimants.remove(&offer.worker_id);
        if self.told.len() >= WORKERS_TOLD_MAX {
            self.make_room();
        }
        if self.told.len() >= WORKERS_TOLD_MAX {
            return Err(QueueError::over_limit("workers", self.told.len() + 1, WORKERS_TOLD_MAX, "workers"));
        }
        let told = Told { busy: offer.busy, offer: Arc::new(offer), stands };
        self.told.insert(told.offer.instance.clone(), told);
        Ok(())
    }

    /// Drops the worker that stopped first, if one has stopped.
    fn make_room(&mut self) {
        let stopped = self.told.iter().filter_map(|(instance, told)| match told.stands {
            Stands::Stopped(at) => Some((at, instance.clone())),
            _ => None,
        });
        if let Some((_, first)) = stopped.min_by(|(a, _), (b, _)| a.total_cmp(b)) {
            self.told.remove(&first);
        }
    }

    /// Adds a worker of which a claim is known, if there is room for it.
    fn add_claimant(&mut self, claim: &Claim, stands: Stands, now: Moment) {
        let is_new = !self.claimants.contains_key(&claim.worker_id);
        if is_new && self.claimants.len() >= WORKERS_TOLD_MAX {
            self.claimants.retain(|_, told| told.stands.is_standing(now));
            if self.claimants.len() >= WORKERS_TOLD_MAX {
                return;
            }
        }
        let offer = WorkerOffer {
            instance: String::new(),
            worker_id: claim.worker_id.clone(),
            takes: claim.supported_task_types.iter().map(ToolOffer::named).collect(),
            labels: claim.labels.clone(),
            session: claim.session.clone(),
            slots: 0,
            busy: 0,
            since: now.unix_s,
        };
        self.claimants.insert(claim.worker_id.clone(), Told { offer: Arc::new(offer), busy: 0, stands });
    }

    fn bytes(&self) -> usize {
        self.told.values().chain(self.claimants.values()).map(|told| bytes_of(&told.offer)).sum()
    }
}

impl Told {
    fn kept(&self, now: Moment) -> KeptWorker {
        KeptWorker { last_seen: self.stands.last_seen().unwrap_or(now.unix_s), offer: WorkerOffer::clone(&self.offer) }
    }

    /// Notes that the worker was heard of, and how many tasks it runs.
    fn heard(&mut self, busy: u32, now: Moment) {
        self.busy = busy;
        if !matches!(self.stands, Stands::WhileConnected) {
            self.stands = Stands::until(now);
        }
    }

    /// Tells whether a claim is like the one that is known.
    fn claims_as(&self, claim: &Claim) -> bool {
        let types = self.offer.takes.iter().map(|tool| &tool.name);
        types.eq(&claim.supported_task_types)
            && self.offer.labels == claim.labels
            && self.offer.session == claim.session
    }
}

impl Stands {
    fn until(now: Moment) -> Self {
        Self::Until(now.instant + Duration::from_secs_f64(WORKER_STANDS_S), now.unix_s)
    }

    fn is_standing(self, now: Moment) -> bool {
        match self {
            Self::WhileConnected => true,
            Self::Until(until, _) => now.instant < until,
            Self::Stopped(_) => false,
        }
    }

    const fn last_seen(self) -> Option<f64> {
        match self {
            Self::WhileConnected => None,
            Self::Until(_, at) | Self::Stopped(at) => Some(at),
        }
    }
}

/// Returns about how many bytes an offer takes.
fn bytes_of(offer: &WorkerOffer) -> usize {
    let names = offer.takes.iter().map(|tool| tool.name.len()).chain(offer.labels.iter().map(String::len));
    offer.content_bytes() + names.sum::<usize>() + size_of::<WorkerOffer>()
}

fn takes(offer: &WorkerOffer, grants: Option<&Grants>, task_type: &str) -> bool {
    let is_offered = offer.takes.is_empty() || offer.takes.iter().any(|tool| tool.name == task_type);
    is_offered && may_work(grants) && grants.is_none_or(|grants| grants.allow_type(task_type))
}

fn may_work(grants: Option<&Grants>) -> bool {
    grants.is_none_or(|grants| grants.allow(Grant::Work) != Allowed::No)
}

/// How long after its last claim a program that claims by itself counts as a worker: as long as it may need for a task.
const CLAIMANT_STANDS: Duration = Duration::from_secs(90);

/// The most bytes that all offers may take: those of hundreds of machines with as much to say as one may.
const BOOK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Machines go and come within minutes.
const RETRY_AFTER_S: f64 = 60.0;
