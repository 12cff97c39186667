//! A process that has used async-std before gets a typed refusal, not a thread that is none. In a binary of its own,
//! because a process has one async-std.

use std::error::Error;

use runtime_bridge::{Backend, ExecutorThread, StartError, ThreadConfig};

#[test]
fn an_executor_that_was_started_elsewhere_is_refused() -> Result<(), Box<dyn Error>> {
    let backend = Backend::AsyncStd;
    async_std::task::block_on(async_std::task::spawn(async {}));
    for _ in 0..2 {
        let refused = ExecutorThread::start(backend, ThreadConfig::default());
        assert!(matches!(refused, Err(StartError::AsyncStdNotConfined)), "{refused:?}");
    }
    Ok(())
}
