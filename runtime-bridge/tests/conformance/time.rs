//! R8, R9: sleeping and telling the time.

use std::time::{Duration, Instant};

use futures::FutureExt;
use runtime_bridge::RuntimeExt;

use crate::support::every_runtime;

#[test]
fn r8_a_sleep_ends_at_its_instant_or_later_wherever_it_is_polled() {
    every_runtime(|runtime| async move {
        let until = Instant::now() + Duration::from_millis(15);
        runtime.sleep_until(until).await;
        assert!(Instant::now() >= until);
        let until = Instant::now() + Duration::from_millis(15);
        let sleep = runtime.sleep_until(until);
        runtime.spawn(sleep).await?;
        assert!(Instant::now() >= until);
        Ok(())
    });
}

#[test]
fn r8_a_sleep_into_the_past_has_ended_already() {
    every_runtime(|runtime| async move {
        let before = runtime.now();
        assert_eq!(runtime.sleep_until(before).now_or_never(), Some(()));
        Ok(())
    });
}

#[test]
fn r9_time_does_not_run_backwards() {
    every_runtime(|runtime| async move {
        let first = runtime.now();
        let second = runtime.spawn({
            let runtime = runtime.clone();
            async move { runtime.now() }
        });
        let second = second.await?;
        assert!(first <= second && second <= runtime.now());
        Ok(())
    });
}
