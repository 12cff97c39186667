use std::{collections::BTreeMap, sync::Arc, time::Instant};

use libp2p::PeerId;
use taskqueue_api::{
    Grants, Json, Lacking, Role, TellWorkers, ToolOffer, WaitReason, WaitingFor, WorkerOffer, limits::WAITING_NAMES_MAX,
};

use super::{Demand, Mesh, WorkerBook};
use crate::node::Moment;

/// The machines of a test by their names, with whether they are there.
#[derive(Default)]
struct World {
    book: Option<WorkerBook>,
    machines: BTreeMap<PeerId, (String, bool)>,
}

impl Mesh for World {
    fn name(&self, machine: &PeerId) -> Option<String> {
        self.machines.get(machine).map(|(name, _)| name.clone())
    }

    fn is_there(&self, machine: &PeerId) -> bool {
        self.machines.get(machine).is_some_and(|(_, is_there)| *is_there)
    }
}

fn now() -> Moment {
    Moment { instant: Instant::now(), unix_s: 1.0 }
}

impl World {
    /// Adds a machine with one worker, which has two slots.
    fn machine(&mut self, name: &str, is_there: bool, types: &[&str], change: impl Fn(&mut WorkerOffer)) -> PeerId {
        let peer = PeerId::random();
        self.machines.insert(peer, (name.to_owned(), is_there));
        let tool = |name: &&str| ToolOffer {
            name: (*name).to_owned(),
            description: String::new(),
            input_schema: Json::null(),
        };
        let mut offer = WorkerOffer {
            instance: "i".to_owned(),
            worker_id: "w".to_owned(),
            takes: types.iter().map(tool).collect(),
            labels: Vec::new(),
            session: None,
            slots: 2,
            busy: 0,
            since: 1.0,
        };
        change(&mut offer);
        let told = TellWorkers { workers: vec![offer], all: true, ..TellWorkers::default() };
        let book = self.book.get_or_insert_with(|| WorkerBook::new(PeerId::random()));
        book.tell(peer, Some(Arc::new(Grants::of(Role::Member))), told, now()).unwrap();
        peer
    }

    fn reason(&self, demand: &Demand<'_>) -> Option<WaitingFor> {
        let known = self.book.as_ref().map(|book| book.known(now())).unwrap_or_default();
        let reason = demand.waiting_for(&known, self);
        let serves = self.book.as_ref().is_some_and(|book| book.serves(demand, |peer| self.is_there(peer), now()));
        assert_eq!(reason.is_none(), serves, "the short way and the long way agree: {reason:?}");
        reason
    }

    fn absent(&self, demand: &Demand<'_>) -> (Lacking, String) {
        let reason = self.reason(demand).unwrap();
        assert_eq!(reason.reason, WaitReason::WorkerAbsent, "{reason:?}");
        (reason.lacking.unwrap(), reason.message)
    }
}

fn of_type(task_type: &str) -> Demand<'_> {
    Demand { task_type, pin_to: None, session: None, requires: &[] }
}

#[test]
fn a_misspelt_type_is_told_with_the_nearest() {
    let mut world = World::default();
    let (lacking, message) = world.absent(&of_type("wordcuont"));
    assert_eq!(lacking, Lacking::Type);
    assert_eq!(
        message,
        "no machine takes 'wordcuont'; no worker is known: `taskmesh serve --worker wordcuont=COMMAND` starts one"
    );
    world.machine("laptop", true, &["wordcount", "resize"], |_| {});
    let reason = world.reason(&of_type("wordcuont")).unwrap();
    assert_eq!(reason.message, "no machine takes 'wordcuont'; did you mean 'wordcount'?");
    assert_eq!((reason.lacking, reason.nearest.as_deref()), (Some(Lacking::Type), Some("wordcount")));
    let (_, message) = world.absent(&of_type("transcribe"));
    assert_eq!(message, "no machine takes 'transcribe'; `taskmesh workers` lists what machines take");
    assert_eq!(world.reason(&of_type("wordcount")), None);
}

#[test]
fn each_demand_that_nobody_meets_is_named() {
    let mut world = World::default();
    let laptop = world.machine("laptop", true, &["render"], |_| {});
    let gpu = world.machine("gpu-box", true, &["transcribe"], |offer| {
        offer.labels = vec!["gpu".to_owned(), "ssd".to_owned()];
        offer.session = Some("night".to_owned());
    });
    let pinned = |peer| Demand { pin_to: Some(peer), ..of_type("render") };
    assert_eq!(world.reason(&pinned(laptop)), None);
    let (lacking, message) = world.absent(&pinned(gpu));
    assert_eq!((lacking, &*message), (Lacking::Machine, "it may run only on gpu-box, where no worker takes 'render'"));
    let stranger = PeerId::random();
    let (lacking, message) = world.absent(&pinned(stranger));
    assert_eq!(lacking, Lacking::Machine);
    assert_eq!(message, format!("it may run only on {stranger}, which is no member of the mesh"));

    let gpus = ["gpu".to_owned()];
    let (lacking, message) = world.absent(&Demand { requires: &gpus, ..of_type("render") });
    assert_eq!((lacking, &*message), (Lacking::Labels, "no worker that takes 'render' has the label 'gpu'"));
    let misspelt = ["gpus".to_owned()];
    let (_, message) = world.absent(&Demand { requires: &misspelt, ..of_type("transcribe") });
    assert_eq!(message, "no worker that takes 'transcribe' has the label 'gpus'; did you mean 'gpu'?");
    assert_eq!(world.reason(&Demand { requires: &gpus, ..of_type("transcribe") }), None);

    let (lacking, message) = world.absent(&Demand { session: Some("day"), ..of_type("transcribe") });
    assert_eq!((lacking, &*message), (Lacking::Session, "no worker of session 'day' takes 'transcribe'"));
    assert_eq!(world.reason(&Demand { session: Some("night"), ..of_type("transcribe") }), None);
}

#[test]
fn labels_that_no_single_worker_has_are_named_together() {
    let mut world = World::default();
    for label in ["gpu", "ssd"] {
        world.machine(label, true, &["render"], |offer| offer.labels = vec![label.to_owned()]);
    }
    let both = ["gpu".to_owned(), "ssd".to_owned()];
    let (lacking, message) = world.absent(&Demand { requires: &both, ..of_type("render") });
    assert_eq!(lacking, Lacking::Labels);
    assert_eq!(message, "no worker that takes 'render' has all of the labels 'gpu', 'ssd'");
}

#[test]
fn absent_machines_that_would_take_it_are_named_and_busy_ones_too() {
    let mut world = World::default();
    for name in ["gpu-box", "desk"] {
        world.machine(name, false, &["render"], |_| {});
    }
    let reason = world.reason(&of_type("render")).unwrap();
    assert_eq!((reason.reason, reason.lacking), (WaitReason::WorkerAbsent, Some(Lacking::Nothing)));
    assert_eq!(reason.message, "only desk, gpu-box would take 'render', and are not there now");
    assert_eq!(reason.machines, ["desk", "gpu-box"]);

    world.machine("laptop", true, &["render"], |offer| offer.busy = 2);
    let reason = world.reason(&of_type("render")).unwrap();
    assert_eq!((reason.reason, reason.lacking), (WaitReason::WorkerBusy, None));
    assert_eq!(reason.message, "all workers that take 'render' are busy: 2 of 2 slots, on laptop");
    assert_eq!(reason.machines, ["laptop"]);

    world.machine("server", true, &["render"], |offer| offer.busy = 1);
    assert_eq!(world.reason(&of_type("render")), None);
}

#[test]
fn a_worker_of_any_type_takes_all_and_many_machines_are_cut() {
    let mut world = World::default();
    for number in 0..20 {
        world.machine(&format!("m{number:02}"), true, &[], |offer| offer.busy = 2);
    }
    let reason = world.reason(&of_type("whatever")).unwrap();
    assert_eq!(
        reason.message,
        "all workers that take 'whatever' are busy: 40 of 40 slots, on m00, m01, m02 and 17 more"
    );
    assert_eq!(reason.machines.len(), WAITING_NAMES_MAX);
}
