//! C10 and the wrapper: tokio-only code in a call, wherever it is polled and dropped.

use runtime_bridge::in_tokio_context;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{drop_probe, every, watch};

#[test]
fn c10_a_call_is_polled_and_dropped_inside_a_tokio_context() {
    every(|case| async move {
        let connected = case.bridge.run_in_p2p(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let (client, server) =
                futures::future::join(TcpStream::connect(listener.local_addr()?), listener.accept()).await;
            client.and_then(|_| server.map(|_| ()))
        });
        connected.await??;
        let (probe, dropped) = drop_probe();
        case.bridge
            .run_in_p2p(async move {
                let _held = probe;
                tokio::task::yield_now().await;
            })
            .await?;
        assert!(dropped.await?.in_tokio);
        Ok(())
    });
}

#[test]
fn c10_an_inline_call_is_too() {
    every(|case| async move {
        let bridge = case.bridge.clone();
        let (probe, dropped) = drop_probe();
        let inline = async move {
            let _held = probe;
            tokio::runtime::Handle::try_current().is_ok()
        };
        assert!(case.bridge.run_in_p2p(async move { bridge.run_in_p2p(inline).await }).await??);
        assert!(dropped.await?.in_tokio);
        Ok(())
    });
}

#[test]
fn the_wrapper_enters_the_context_for_polls_and_for_the_drop() {
    watch("wrapper", || {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (probe, mut dropped) = drop_probe();
        let future = async move {
            let _held = probe;
            TcpListener::bind("127.0.0.1:0").await.map(|_| ())
        };
        futures::executor::block_on(in_tokio_context(tokio.handle(), future))?;
        assert!(dropped.try_recv()?.in_tokio);
        let (probe, mut dropped) = drop_probe();
        let never_polled = async move {
            let _held = probe;
        };
        drop(in_tokio_context(tokio.handle(), never_polled));
        assert!(dropped.try_recv()?.in_tokio);
        Ok(())
    });
}
