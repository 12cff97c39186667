//! Mesh tools: task types that workers of the mesh offer, listed and called as ordinary tools.
//!
//! A call submits a durable task of that type at the local node. The first worker of the mesh that is free takes it.

mod offers;
mod tool;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use self::offers::Offers;
pub(crate) use self::tool::MeshTool;
use crate::call::Asker;

/// The mesh tools as they were last seen.
#[derive(Debug)]
pub(crate) struct MeshTools {
    /// The names of the built-in tools, which no mesh tool may have.
    taken: Vec<&'static str>,
    seen: Mutex<Seen>,
    /// The offers of all workers. The lock is held while the node is asked, so that many clients at once ask it only once.
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

    /// Returns the tools that the mesh offers now, in the order of their names. Asks the local node again when its last
    /// answer is older than [`FRESH`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the tools that were seen before stay.
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

    /// Returns the tool of this name among those that were last seen.
    pub(crate) fn known(&self, name: &str) -> Option<MeshTool> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.tools.iter().find(|tool| tool.name() == name).cloned()
    }

    /// Returns the tool of this name. Asks the mesh for it when it was not among those last seen.
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

/// How long the seen tools count as current. Clients are told this time, too.
///
/// It is so short that the next list has the tools of a worker that was just started. It is so long that an agent that
/// lists at every step does not have all schemas read each time.
pub(crate) const FRESH: Duration = Duration::from_secs(2);
