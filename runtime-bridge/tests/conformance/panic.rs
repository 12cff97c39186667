//! R5, C4: a panic is an error of the one who asked, and of nobody else.

use runtime_bridge::{CallError, RuntimeExt, SpawnedError};

use crate::support::{every, every_runtime};

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a destructor");
        }
    }
}

#[test]
fn r5_a_panic_reaches_the_handle_and_the_runtime_goes_on() {
    every_runtime(|runtime| async move {
        let spawned = runtime.spawn(async {
            tokio::task::yield_now().await;
            panic!("number {}", 7);
        });
        assert_eq!(spawned.await, Err::<(), _>(SpawnedError::Panicked { message: "number 7".to_owned() }));
        assert_eq!(runtime.spawn(async { 1 }).await, Ok(1));
        Ok(())
    });
}

#[test]
fn r5_a_panicking_destructor_reaches_the_handle_too() {
    every_runtime(|runtime| async move {
        let spawned = runtime.spawn(async {
            let _held = PanicsWhenDropped;
            tokio::task::yield_now().await;
        });
        assert_eq!(spawned.await, Err(SpawnedError::Panicked { message: "in a destructor".to_owned() }));
        // Nobody is left to hear of this one.
        let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
        let value = async {
            let _sent = may_go_on.await;
            PanicsWhenDropped
        };
        runtime.spawn(value).detach();
        let _receiver_waits = go_on.send(());
        assert_eq!(runtime.spawn(async { 1 }).await, Ok(1));
        Ok(())
    });
}

#[test]
fn c4_a_panic_is_an_error_with_its_message_and_the_executor_goes_on() {
    every(|case| async move {
        let message = |text: &str| CallError::Panicked { message: text.to_owned() };
        let first_poll = case.bridge.run_in_p2p(async { panic!("at once") }).await;
        assert_eq!(first_poll, Err::<(), _>(message("at once")));
        let later = case
            .bridge
            .run_in_p2p(async {
                tokio::task::yield_now().await;
                panic!("later")
            })
            .await;
        assert_eq!(later, Err::<(), _>(message("later")));
        let there = case.bridge.clone();
        let inline = case.bridge.run_in_p2p(async move { there.run_in_p2p(async { panic!("inline") }).await });
        assert_eq!(inline.await?, Err::<(), _>(message("inline")));
        assert_eq!(case.bridge.run_in_p2p(async { 1 }).await, Ok(1));
        assert_eq!(case.bridge.counters().panicked, 3);
        Ok(())
    });
}
