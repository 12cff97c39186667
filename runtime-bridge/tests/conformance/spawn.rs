//! R1, R2, R7, R10, C8: where a spawned future runs, what its handle gives, in which surroundings.

use std::thread;

use runtime_bridge::RuntimeExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::support::{TestResult, drop_probe, every, every_runtime, executor_id};

#[test]
fn r1_a_spawned_future_runs_on_the_runtime_without_anybody_awaiting_it() {
    every_runtime(|runtime| async move {
        let (sender, receiver) = oneshot::channel();
        runtime
            .spawn(async move {
                let _asker_gone = sender.send(thread::current().id());
            })
            .detach();
        assert_ne!(receiver.await?, thread::current().id());
        Ok(())
    });
}

#[test]
fn r1_a_spawned_future_runs_on_the_executor_thread_after_each_await() {
    every(|case| async move {
        let executor = executor_id(&case.bridge).await?;
        let bridge = case.bridge.clone();
        let spawned = case.thread.runtime().spawn(async move {
            let before = bridge.require_p2p();
            tokio::task::yield_now().await;
            (before, bridge.require_p2p(), thread::current().id())
        });
        assert_eq!(spawned.await?, (Ok(()), Ok(()), executor));
        Ok(())
    });
}

#[test]
fn r2_the_handle_gives_the_value() {
    every_runtime(|runtime| async move {
        let outer = runtime.clone();
        let nested = async move {
            let inner = outer.spawn(async { 20 });
            inner.await.map(|value| value + 22)
        };
        assert_eq!(runtime.spawn(nested).await?, Ok(42));
        Ok(())
    });
}

#[test]
fn r7_a_spawned_future_is_polled_and_dropped_inside_a_tokio_context() {
    every_runtime(|runtime| async move {
        let (probe, dropped) = drop_probe();
        let spawned = runtime.spawn(async move {
            let _held = probe;
            tokio::runtime::Handle::try_current().is_ok()
        });
        assert!(spawned.await?);
        assert!(dropped.await?.in_tokio);
        Ok(())
    });
}

#[test]
fn r7_tokio_sockets_and_timers_work_in_a_spawned_future() {
    async fn echo() -> std::io::Result<[u8; 4]> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(b"ping").await?;
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).await?;
        tokio::time::sleep_until(tokio::time::Instant::now()).await;
        Ok(buffer)
    }
    every_runtime(|runtime| async move {
        assert_eq!(&runtime.spawn(echo()).await??, b"ping");
        Ok(())
    });
}

#[test]
fn r10_and_c8_the_span_of_the_asker_is_current_over_there() -> TestResult {
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    tracing::subscriber::set_global_default(subscriber)?;
    every_runtime(|runtime| async move {
        let span = tracing::info_span!("caller");
        let spawned = span.in_scope(|| runtime.spawn(async { tracing::Span::current().id() }));
        assert_eq!(spawned.await?, span.id());
        Ok(())
    });
    every(|case| async move {
        use tracing::Instrument;
        let span = tracing::info_span!("caller");
        let call = async move {
            let before = tracing::Span::current().id();
            tokio::task::yield_now().await;
            (before, tracing::Span::current().id())
        };
        let seen = case.bridge.run_in_p2p(call).instrument(span.clone()).await?;
        assert_eq!(seen, (span.id(), span.id()));
        Ok(())
    });
    Ok(())
}
