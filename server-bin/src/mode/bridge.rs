//! The mode `bridge`: HTTP runs on tokio's own threads, the node on its executor thread, and every call crosses by
//! `run_in_p2p`.

use std::sync::Arc;

use p2p_taskqueue::BridgedQueue;

use super::{Server, ServerConfig, front::Front, node::NodeSide};
use crate::{failure::Failure, http::HttpListener};

const MODE: &str = "bridge";

impl Server {
    /// Starts everything, or nothing: when a later part fails, the parts before it are ended.
    pub(crate) async fn bridge(config: ServerConfig) -> Result<Self, Failure> {
        let locked = config.node.data_dir.lock()?;
        let listener = HttpListener::bind(&config.http).await?;
        let node = NodeSide::start(config.node, locked, MODE).await?;
        let front = Front::serve(listener, Arc::new(BridgedQueue::new(node.bridge(), node.queue())));
        Ok(Self::new(node.ready(Some(front.url())), Some(front), Some(node)))
    }
}
