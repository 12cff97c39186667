//! Mesh tools: what the workers of the mesh offer, listed and called as ordinary tools. A call is a durable task of that
//! type, queued at the local node, for whichever worker of the mesh is free first.

mod offers;
mod tool;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use self::offers::Offers;
pub(crate) use self::tool::MeshTool;
use crate::call::Asker;

/// The tools of the mesh as they were last seen.
#[derive(Debug)]
pub(crate) struct MeshTools {
    /// Names that mean something else here.
    taken: Vec<&'static str>,
    seen: Mutex<Seen>,
    /// Held while somebody looks, so that a crowd of clients asks the peers once.
    looking: tokio::sync::Mutex<Offers>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    tools: Arc<[MeshTool]>,
}

impl MeshTools {
    pub(crate) fn new(taken: Vec<&'static str>) -> Self {
        Self { taken, seen: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// The tools that the mesh offers now, by name. Looks again when the last look is older than [`FRESH`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was seen before stays.
    pub(crate) async fn look(&self, asker: Asker<'_>) -> Arc<[MeshTool]> {
        if let Some(tools) = self.fresh() {
            return tools;
        }
        let mut offers = self.looking.lock().await;
        if let Some(tools) = self.fresh() {
            return tools;
        }
        offers.refresh(asker).await;
        let tools: Arc<[MeshTool]> = offers.tools(&self.taken).into();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Seen { at: Some(Instant::now()), tools: Arc::clone(&tools) };
        tools
    }

    /// The tool of this name, as it was last seen.
    pub(crate) fn known(&self, name: &str) -> Option<MeshTool> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.tools.iter().find(|tool| tool.name() == name).cloned()
    }

    /// The tool of this name; looks for it when it has not been seen.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn find(&self, asker: Asker<'_>, name: &str) -> Option<MeshTool> {
        match self.known(name) {
            Some(tool) => Some(tool),
            None if tool::is_name(name) => self.look(asker).await.iter().find(|tool| tool.name() == name).cloned(),
            None => None,
        }
    }

    fn fresh(&self) -> Option<Arc<[MeshTool]>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.at.filter(|at| at.elapsed() < FRESH).map(|_| Arc::clone(&seen.tools))
    }
}

/// How long what was seen is good for, which clients are told too: a worker that was just started is found by the next
/// list, and an agent that lists at every step does not ask all machines each time.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
