use std::collections::BTreeSet;

use libp2p::PeerId;
use taskqueue_api::{
    Lacking, Submit, TaskRecord, WaitReason, WaitingFor, WorkerOffer, limits::WAITING_NAMES_MAX, nearest,
};

use super::Known;

/// What a task demands of the worker that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Demand<'a> {
    pub(crate) task_type: &'a str,
    pub(crate) pin_to: Option<PeerId>,
    pub(crate) session: Option<&'a str>,
    pub(crate) requires: &'a [String],
}

impl<'a> From<&'a Submit> for Demand<'a> {
    fn from(submit: &'a Submit) -> Self {
        let Submit { task_type, pin_to, session, requires, .. } = submit;
        Self { task_type, pin_to: *pin_to, session: session.as_deref(), requires }
    }
}

impl<'a> From<&'a TaskRecord> for Demand<'a> {
    fn from(task: &'a TaskRecord) -> Self {
        let TaskRecord { task_type, pin_to, session, requires, .. } = task;
        Self { task_type, pin_to: *pin_to, session: session.as_deref(), requires }
    }
}

/// What the reasons say of the machines.
pub(crate) trait Mesh {
    /// Returns the name of a machine; `None` when it is no member.
    fn name(&self, machine: &PeerId) -> Option<String>;
    /// Tells whether a machine can be asked now.
    fn is_there(&self, machine: &PeerId) -> bool;
}

impl Demand<'_> {
    /// Tells whether a worker on this machine meets all demands but the type.
    pub(crate) fn fits(&self, machine: PeerId, offer: &WorkerOffer) -> bool {
        self.fits_machine(machine) && self.fits_session(offer) && self.fits_labels(offer)
    }

    fn fits_machine(&self, machine: PeerId) -> bool {
        self.pin_to.is_none_or(|pin| pin == machine)
    }

    fn fits_session(&self, offer: &WorkerOffer) -> bool {
        self.session.is_none_or(|session| offer.session.as_deref() == Some(session))
    }

    fn fits_labels(&self, offer: &WorkerOffer) -> bool {
        self.requires.iter().all(|label| offer.labels.contains(label))
    }

    /// Returns the reason why no worker has claimed a task with these demands; `None` when one is free for it.
    pub(crate) fn waiting_for(&self, known: &[Known], mesh: &impl Mesh) -> Option<WaitingFor> {
        let taking: Vec<_> = known.iter().filter(|worker| worker.takes(self.task_type)).collect();
        if taking.is_empty() {
            return Some(self.no_type(known));
        }
        let pinned: Vec<_> = taking.into_iter().filter(|worker| self.fits_machine(worker.machine)).collect();
        if pinned.is_empty() {
            return Some(self.no_machine(known, mesh));
        }
        let in_session: Vec<_> = pinned.into_iter().filter(|worker| self.fits_session(&worker.offer)).collect();
        if in_session.is_empty() {
            let message = format!("no worker of session {} takes {}", quoted(self.session), quoted(self.task_type));
            return Some(absent(Lacking::Session, message));
        }
        let fitting: Vec<_> = in_session.iter().copied().filter(|worker| self.fits_labels(&worker.offer)).collect();
        if fitting.is_empty() {
            return Some(self.no_labels(&in_session));
        }
        let (there, away): (Vec<_>, Vec<_>) =
            fitting.into_iter().partition(|worker| worker.stands && mesh.is_there(&worker.machine));
        if there.is_empty() {
            return Some(self.all_away(&away, mesh));
        }
        let is_busy = there.iter().all(|worker| !worker.has_room());
        is_busy.then(|| self.all_busy(&there, mesh))
    }

    fn no_type(&self, known: &[Known]) -> WaitingFor {
        let task_type = quoted(self.task_type);
        let types = known.iter().filter(|worker| worker.may_work()).flat_map(|worker| &worker.offer.takes);
        let types: BTreeSet<&str> = types.map(|tool| tool.name.as_str()).take(COMPARED_MAX).collect();
        let near = nearest(self.task_type, types.iter().copied());
        let hint = match (near, types.is_empty()) {
            (Some(near), _) => format!("; did you mean {}?", quoted(near)),
            (None, false) => "; `taskmesh workers` lists what machines take".to_owned(),
            (None, true) => {
                let name = self.task_type;
                format!("; no worker is known: `taskmesh serve --worker {name}=COMMAND` starts one")
            }
        };
        let reason = absent(Lacking::Type, format!("no machine takes {task_type}{hint}"));
        WaitingFor { nearest: near.map(str::to_owned), ..reason }
    }

    fn no_machine(&self, known: &[Known], mesh: &impl Mesh) -> WaitingFor {
        let Some(pin) = self.pin_to else { return self.no_type(known) };
        let task_type = quoted(self.task_type);
        let message = match mesh.name(&pin) {
            None => format!("it may run only on {pin}, which is no member of the mesh"),
            Some(name) if !mesh.is_there(&pin) => {
                format!("it may run only on {name}, which is not connected and has no known worker for {task_type}")
            }
            Some(name) => format!("it may run only on {name}, where no worker takes {task_type}"),
        };
        absent(Lacking::Machine, message)
    }

    /// The reason when workers take the type, but none of them has all labels.
    fn no_labels(&self, taking: &[&Known]) -> WaitingFor {
        let task_type = quoted(self.task_type);
        let labels: BTreeSet<&str> =
            taking.iter().flat_map(|worker| &worker.offer.labels).map(String::as_str).take(COMPARED_MAX).collect();
        let Some(missing) = self.requires.iter().find(|label| !labels.contains(label.as_str())) else {
            let all: Vec<_> = self.requires.iter().map(|label| quoted(label.as_str())).collect();
            let message = format!("no worker that takes {task_type} has all of the labels {}", all.join(", "));
            return absent(Lacking::Labels, message);
        };
        let near = nearest(missing, labels.iter().copied());
        let hint = near.map(|near| format!("; did you mean {}?", quoted(near))).unwrap_or_default();
        let message = format!("no worker that takes {task_type} has the label {}{hint}", quoted(missing.as_str()));
        WaitingFor { nearest: near.map(str::to_owned), ..absent(Lacking::Labels, message) }
    }

    fn all_away(&self, away: &[&Known], mesh: &impl Mesh) -> WaitingFor {
        let machines = names(away, mesh);
        let (who, verb) = (listed(&machines), if machines.len() == 1 { "is" } else { "are" });
        let message = format!("only {who} would take {}, and {verb} not there now", quoted(self.task_type));
        WaitingFor { machines: shown(machines), ..absent(Lacking::Nothing, message) }
    }

    fn all_busy(&self, there: &[&Known], mesh: &impl Mesh) -> WaitingFor {
        let machines = names(there, mesh);
        let (busy, slots) = there.iter().fold((0, 0), |(busy, slots), worker| {
            (busy + u64::from(worker.busy.unwrap_or_default()), slots + u64::from(worker.offer.slots))
        });
        let who = listed(&machines);
        let message =
            format!("all workers that take {} are busy: {busy} of {slots} slots, on {who}", quoted(self.task_type));
        WaitingFor { machines: shown(machines), ..WaitingFor::new(WaitReason::WorkerBusy, message) }
    }
}

fn absent(lacking: Lacking, message: String) -> WaitingFor {
    WaitingFor { lacking: Some(lacking), ..WaitingFor::new(WaitReason::WorkerAbsent, message) }
}

/// Returns the names of the machines of these workers, each once.
fn names(workers: &[&Known], mesh: &impl Mesh) -> BTreeSet<String> {
    let name = |worker: &&Known| mesh.name(&worker.machine).unwrap_or_else(|| worker.machine.to_string());
    workers.iter().map(name).collect()
}

fn shown(names: BTreeSet<String>) -> Vec<String> {
    names.into_iter().take(WAITING_NAMES_MAX).collect()
}

/// Returns the first names as a part of a sentence.
fn listed(names: &BTreeSet<String>) -> String {
    let named: Vec<_> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn quoted<'a>(text: impl Into<Option<&'a str>>) -> String {
    format!("'{}'", text.into().unwrap_or_default())
}

/// The most machines that a sentence names.
const NAMED_MAX: usize = 3;

/// The most names that are compared with a misspelt one: more than a person has. Comparing costs a microsecond each.
const COMPARED_MAX: usize = 512;
