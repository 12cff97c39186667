use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use taskqueue_api::{ListTools, PeerId, Peers, Target, ToolOffer};

use super::tool::MeshTool;
use crate::call::Asker;

/// The tools that each node offered when it was last asked.
#[derive(Debug, Default)]
pub(super) struct Offers {
    here: Vec<ToolOffer>,
    peers: BTreeMap<String, Vec<ToolOffer>>,
}

impl Offers {
    /// Asks the local node and the connected peers for their offers. A node that does not answer in time keeps its
    /// earlier offers. The offers of a peer that is no longer connected are dropped.
    pub(super) async fn refresh(&mut self, asker: Asker<'_>) {
        if let Some(offers) = asked(asker, Target::default()).await {
            self.here = offers;
        }
        let Ok(Ok(listed)) =
            tokio::time::timeout(PATIENCE, asker.ask(Target::default(), Peers { connected_only: true })).await
        else {
            return;
        };
        let peers: Vec<PeerId> = listed.peers.into_iter().take(PEERS_MAX).map(|peer| peer.peer_id).collect();
        let asked: Vec<_> = stream::iter(peers)
            .map(|peer| async move { (peer.to_string(), asked(asker, Target::peer(peer)).await) })
            .buffer_unordered(ASKED_AT_ONCE)
            .collect()
            .await;
        let mut before = std::mem::take(&mut self.peers);
        for (peer, offers) in asked {
            if let Some(offers) = offers.or_else(|| before.remove(&peer)) {
                self.peers.insert(peer, offers);
            }
        }
    }

    /// Returns the tools in the order of their names. Of several offers with one name, the local node's counts,
    /// otherwise that of the peer with the lowest id. So everybody gets the same tool at any time.
    pub(super) fn tools(&self, taken: &[&str]) -> Vec<MeshTool> {
        let mut names: BTreeSet<&str> = taken.iter().copied().collect();
        let mut tools = Vec::new();
        for offer in self.here.iter().chain(self.peers.values().flatten()) {
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

async fn asked(asker: Asker<'_>, target: Target) -> Option<Vec<ToolOffer>> {
    let listed = tokio::time::timeout(PATIENCE, asker.ask(target, ListTools {})).await.ok()?.ok()?;
    Some(listed.tools.into_iter().take(OFFERS_MAX).collect())
}

/// How long a node may take to answer. Nodes answer in milliseconds, and a list of tools does not wait for one that
/// hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most peers that are asked: more machines than a person has. Each one costs a question.
const PEERS_MAX: usize = 64;

const ASKED_AT_ONCE: usize = 16;

/// The most tools of one node.
const OFFERS_MAX: usize = 256;

/// The most mesh tools in all. A model that is given more than some hundreds chooses badly.
const TOOLS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use taskqueue_api::Json;

    use super::*;

    fn offer(name: &str, description: &str) -> ToolOffer {
        ToolOffer { name: name.to_owned(), description: description.to_owned(), input_schema: Json::null() }
    }

    #[test]
    fn a_name_is_offered_once_and_never_one_that_means_something_else() {
        let peers = [
            ("b".to_owned(), vec![offer("scan", "at b"), offer("ocr", "at b")]),
            ("a".to_owned(), vec![offer("scan", "at a"), offer("run_task", "at a"), offer("no name", "at a")]),
        ];
        let offers = Offers { here: vec![offer("print", "here")], peers: peers.into() };
        let tools = offers.tools(&["run_task"]);
        let seen: Vec<_> = tools.iter().map(|tool| (tool.name(), tool.listed().description.clone().unwrap())).collect();
        let names: Vec<_> = seen.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["ocr", "print", "scan"]);
        assert!(seen[2].1.starts_with("at a"), "{seen:?}");
    }
}
