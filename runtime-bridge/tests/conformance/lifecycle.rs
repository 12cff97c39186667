//! Start, names, hooks.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use runtime_bridge::{Backend, ExecutorThread, Runtime, RuntimeExt, StartError, ThreadConfig};

use crate::{
    outside::Driven,
    support::{AMPLE, every, watch},
};

fn on_every_backend(test: fn(Driven) -> crate::support::TestResult) {
    // Confines async-std first.
    every(|_| async { Ok(()) });
    for backend in Driven::all() {
        watch(&backend.to_string(), move || test(backend));
    }
}

#[test]
fn a_backend_is_named_as_it_is_parsed() {
    for &backend in Backend::ALL {
        assert_eq!(backend.to_string().parse(), Ok(backend));
    }
    let unknown = "monoio".parse::<Backend>().unwrap_err();
    assert_eq!(unknown.name, "monoio");
    assert!(Backend::ALL.iter().all(|backend| unknown.available.contains(backend.name())));
}

#[test]
fn work_runs_on_the_thread_that_the_backend_promises() {
    on_every_backend(|backend| {
        let thread = ExecutorThread::start(backend, ThreadConfig::default().with_name("mine"))?;
        let name = async { thread::current().name().map(str::to_owned) };
        let called = thread.bridge().run_in_p2p_blocking(name)?;
        // async-std's own thread serves all of its executor threads; the others have one each.
        let expected = if backend.to_string() == "async-std" { "async-std/runtime" } else { "mine" };
        assert_eq!(called.as_deref(), Some(expected));
        // What tokio itself spawns from there: on the thread that drives tokio, which is the helper's on async-std.
        let spawned = thread.bridge().run_in_p2p_blocking(async {
            let name = async { thread::current().name().map(str::to_owned) };
            tokio::runtime::Handle::current().spawn(name).await
        })??;
        assert_eq!(spawned.as_deref(), Some("mine"));
        thread.shutdown_blocking(AMPLE)?;
        Ok(())
    });
}

#[test]
fn hooks_run_on_the_thread_in_order_and_backwards() {
    on_every_backend(|backend| {
        let (log, entries) = mpsc::sync_channel(8);
        let mut config = ThreadConfig::default();
        for number in [1, 2] {
            let (start, stop) = (log.clone(), log.clone());
            config = config
                .with_start_hook(move |runtime: Arc<dyn Runtime>| async move {
                    let spawned = runtime.spawn(async { tokio::runtime::Handle::try_current().is_ok() });
                    Ok(start.send(("start", number, spawned.await?))?)
                })
                .with_shutdown_hook(move |runtime: Arc<dyn Runtime>| async move {
                    let spawned = runtime.spawn(async { tokio::runtime::Handle::try_current().is_ok() });
                    let _logged = stop.send(("stop", number, spawned.await == Ok(true)));
                });
        }
        drop(log);
        let thread = ExecutorThread::start(backend, config)?;
        let report = thread.shutdown_blocking(AMPLE)?;
        assert_eq!(report.hooks_failed, 0);
        let entries: Vec<_> = entries.iter().collect();
        let expected = [("start", 1, true), ("start", 2, true), ("stop", 2, true), ("stop", 1, true)];
        assert_eq!(entries, expected);
        Ok(())
    });
}

#[test]
fn a_failing_start_hook_fails_the_start() {
    on_every_backend(|backend| {
        let fails = ThreadConfig::default().with_start_hook(|_| async { Err("no disk".into()) });
        let error = ExecutorThread::start(backend, fails).unwrap_err();
        assert!(matches!(&error, StartError::Hook(cause) if cause.to_string() == "no disk"), "{error}");
        let panics = ThreadConfig::default().with_start_hook(|_| async { panic!("no luck") });
        let error = ExecutorThread::start(backend, panics).unwrap_err();
        assert!(matches!(&error, StartError::Panicked { message } if message == "no luck"), "{error}");
        let hangs = ThreadConfig::default()
            .with_start_deadline(Duration::from_millis(20))
            .with_start_hook(|_| std::future::pending());
        let error = ExecutorThread::start(backend, hangs).unwrap_err();
        assert!(matches!(error, StartError::TimedOut { .. }), "{error}");
        Ok(())
    });
}

#[test]
fn a_shutdown_hook_that_panics_is_reported_and_the_rest_goes_on() {
    on_every_backend(|backend| {
        let (log, entries) = mpsc::sync_channel(1);
        let config = ThreadConfig::default()
            .with_shutdown_hook(move |_| async move {
                let _logged = log.send("the first one");
            })
            .with_shutdown_hook(|_| async { panic!("at the end") });
        let thread = ExecutorThread::start(backend, config)?;
        let report = thread.shutdown_blocking(AMPLE)?;
        assert_eq!(report.hooks_failed, 1);
        assert_eq!(entries.try_recv(), Ok("the first one"));
        Ok(())
    });
}

#[test]
fn shutdown_hooks_that_the_deadline_cuts_off_are_reported() {
    on_every_backend(|backend| {
        let config = ThreadConfig::default()
            .with_shutdown_hook(|_| async { panic!("its turn never comes") })
            .with_shutdown_hook(|_| std::future::pending());
        let thread = ExecutorThread::start(backend, config)?;
        let report = thread.shutdown_blocking(Duration::from_millis(30))?;
        assert_eq!(report.hooks_failed, 2);
        Ok(())
    });
}

#[test]
fn what_has_begun_may_finish_while_the_hooks_run() {
    on_every_backend(|backend| {
        let (go_on, may_go_on) = tokio::sync::oneshot::channel::<u8>();
        let config = ThreadConfig::default().with_shutdown_hook(move |runtime: Arc<dyn Runtime>| async move {
            let _receiver_waits = go_on.send(9);
            // Lets what it woke run.
            runtime.sleep_until(runtime.now() + Duration::from_millis(5)).await;
        });
        let thread = ExecutorThread::start(backend, config)?;
        let (bridge, (begin, begun)) = (thread.bridge(), mpsc::sync_channel(1));
        let caller = thread::spawn(move || {
            bridge.run_in_p2p_blocking(async move {
                let _asker_gone = begin.send(());
                may_go_on.await
            })
        });
        begun.recv()?;
        let report = thread.shutdown_blocking(AMPLE)?;
        assert_eq!(report.cut_off, 0);
        assert_eq!(caller.join().unwrap()??, 9);
        Ok(())
    });
}

#[test]
fn a_busy_blocking_task_does_not_hold_up_the_end() {
    on_every_backend(|backend| {
        let thread = ExecutorThread::start(backend, ThreadConfig::default())?;
        let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
        let busy = async {
            let (begin, begun) = tokio::sync::oneshot::channel();
            let block = move || {
                let _asker_gone = begin.send(());
                let _go_on = may_go_on.recv();
            };
            drop(tokio::runtime::Handle::current().spawn_blocking(block));
            begun.await
        };
        thread.bridge().run_in_p2p_blocking(busy)??;
        thread.shutdown_blocking(AMPLE)?;
        go_on.send(())?;
        Ok(())
    });
}
