//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files to [`WANTED`], or as far as the administrator allows. A login usually
/// allows fewer files than the connections that this process serves.
pub(crate) fn allow_more() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, wanted, "cannot raise the limit of open files: fewer connections can be served");
    }
}

/// More than twice the connections that HTTP clients and peers may have together.
const WANTED: u64 = 16_384;
