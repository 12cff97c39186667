use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use taskqueue_api::{Target, ToolOffer, WorkerInfo, Workers, WorkersListed};

use super::tool::MeshTool;
use crate::call::Asker;

/// The tools that the workers of the mesh offered when the local node was last asked.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Those of each machine: the local one, then the others in the order of their peer ids.
    machines: Vec<Vec<ToolOffer>>,
}

impl Offers {
    /// Asks the local node for the workers that it knows. If it does not answer in time, the earlier offers stay. Workers
    /// that are not connected offer nothing, and programs that claim without telling of themselves do not either.
    pub(super) async fn refresh(&mut self, asker: Asker<'_>) {
        let workers = Workers { schemas: true, ..Workers::default() };
        if let Ok(Ok(listed)) = tokio::time::timeout(PATIENCE, asker.ask(Target::default(), workers)).await {
            *self = Self::of(listed);
        }
    }

    fn of(listed: WorkersListed) -> Self {
        let mut machines: BTreeMap<_, Vec<WorkerInfo>> = BTreeMap::new();
        for worker in listed.workers.into_iter().filter(|worker| worker.connected && worker.slots.is_some()) {
            let is_other = worker.peer_id != listed.self_peer_id;
            machines.entry((is_other, worker.peer_id.to_string())).or_default().push(worker);
        }
        // The local node is no peer.
        let others_before = usize::from(machines.keys().any(|(is_other, _)| !is_other));
        let machines = machines.into_values().take(others_before + PEERS_MAX).map(|mut workers| {
            workers.sort_by(|one, other| one.worker_id.cmp(&other.worker_id));
            workers.into_iter().flat_map(|worker| worker.takes).take(OFFERS_MAX).collect()
        });
        Self { machines: machines.collect() }
    }

    /// Returns the tools in the order of their names. Of several offers with one name, the local machine's counts,
    /// otherwise that of the machine with the lowest peer id, and there that of the first worker by name. So everybody
    /// gets the same tool at any time.
    pub(super) fn tools(&self, taken: &[&str]) -> Vec<MeshTool> {
        let mut names: BTreeSet<&str> = taken.iter().copied().collect();
        let mut tools = Vec::new();
        for offer in self.machines.iter().flatten() {
            if tools.len() < TOOLS_MAX
                && !names.contains(offer.name.as_str())
                && let Some(tool) = MeshTool::of(offer)
            {
                names.insert(&offer.name);
                tools.push(tool);
            }
        }
        tools.sort_by(|one, other| one.name().cmp(other.name()));
        tools
    }
}

/// How long the local node may take to answer. It answers in milliseconds, and a list of tools does not wait for one that
/// hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most other machines whose workers offer tools: more than a person has.
const PEERS_MAX: usize = 64;

/// The most tools of one machine.
const OFFERS_MAX: usize = 256;

/// The most mesh tools in all. A model that is given more than some hundreds chooses badly.
const TOOLS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use taskqueue_api::{Json, PeerId};

    use super::*;

    fn worker(peer_id: PeerId, worker_id: &str, takes: &[(&str, &str)]) -> WorkerInfo {
        let offer = |(name, description): &(&str, &str)| ToolOffer {
            name: (*name).to_owned(),
            description: (*description).to_owned(),
            input_schema: Json::null(),
        };
        WorkerInfo {
            machine: "machine".to_owned(),
            peer_id,
            worker_id: worker_id.to_owned(),
            connected: true,
            last_seen: None,
            takes: takes.iter().map(offer).collect(),
            labels: Vec::new(),
            session: None,
            slots: Some(1),
            busy: Some(0),
            since: 0.0,
        }
    }

    fn tools(self_peer_id: PeerId, workers: Vec<WorkerInfo>) -> Vec<(String, String)> {
        let tools = Offers::of(WorkersListed { self_peer_id, workers }).tools(&["run_task"]);
        let shown = |tool: &MeshTool| {
            let description = tool.listed().description.clone().unwrap();
            (tool.name().to_owned(), description.split("\n\n").next().unwrap().to_owned())
        };
        tools.iter().map(shown).collect()
    }

    /// Returns the ids of three machines. The text of the second one is below that of the third.
    fn peers() -> [PeerId; 3] {
        let (here, one, other) = (PeerId::random(), PeerId::random(), PeerId::random());
        if one.to_string() < other.to_string() { [here, one, other] } else { [here, other, one] }
    }

    fn expected(tools: &[(&str, &str)]) -> Vec<(String, String)> {
        tools.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned())).collect()
    }

    #[test]
    fn a_name_is_offered_once_and_never_one_that_means_something_else() {
        let [here, low, high] = peers();
        let workers = vec![
            worker(high, "w", &[("scan", "high"), ("ocr", "high"), ("print", "high")]),
            worker(low, "z", &[("scan", "low z"), ("fax", "low z")]),
            worker(low, "a", &[("scan", "low a"), ("run_task", "low a"), ("no name", "low a")]),
            worker(here, "w", &[("print", "here")]),
        ];
        let names = expected(&[("fax", "low z"), ("ocr", "high"), ("print", "here"), ("scan", "low a")]);
        assert_eq!(tools(here, workers.clone()), names);
        assert_eq!(tools(here, workers.into_iter().rev().collect()), names, "in whatever order they are told");
    }

    #[test]
    fn a_worker_that_is_away_or_takes_any_type_offers_nothing() {
        let [here, low, high] = peers();
        let away = WorkerInfo { connected: false, ..worker(low, "w", &[("scan", "low"), ("fax", "low")]) };
        let any = worker(here, "w", &[]);
        let workers = vec![away, any, worker(high, "w", &[("scan", "high")])];
        assert_eq!(tools(here, workers), expected(&[("scan", "high")]));
    }

    #[test]
    fn one_machine_and_all_together_offer_only_so_many() {
        let [here, ..] = peers();
        let many = |of: &str, count: usize| -> Vec<String> { (0..count).map(|n| format!("{of}-{n}")).collect() };
        let taking = |peer: PeerId, of: &str, count: usize| {
            let names = many(of, count);
            worker(peer, "w", &names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>())
        };
        assert_eq!(tools(here, vec![taking(here, "a", 300)]).len(), 256);
        let two = vec![taking(here, "a", 200), taking(here, "b", 200)];
        assert_eq!(tools(here, two).len(), 256, "two workers are of one machine");
        let machines = |count: usize| (0..count).map(|n| taking(PeerId::random(), &format!("m{n}"), 20));
        assert_eq!(tools(here, machines(40).collect()).len(), 512);
        let one_each = |n: usize| taking(PeerId::random(), &format!("m{n}"), 1);
        let crowd = |own: Option<WorkerInfo>| own.into_iter().chain((0..70).map(one_each)).collect();
        assert_eq!(tools(here, crowd(None)).len(), 64);
        assert_eq!(tools(here, crowd(Some(taking(here, "a", 1)))).len(), 65, "the local machine is no peer");
    }
}
