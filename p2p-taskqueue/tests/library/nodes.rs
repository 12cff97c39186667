//! Tests of nodes that are made by their builder: a mesh of two, and the contents of a data folder.

use std::path::Path;

use p2p_taskqueue::{
    DataFolderError, DiscoveryConfig, Identity, Multiaddr, Node, NodeBuilder, StartNodeError, Worker, api::Target,
};

use super::{Add, TestResult, add, soon};

fn on_loopback(builder: NodeBuilder) -> TestResult<NodeBuilder> {
    Ok(builder.listen("/ip4/127.0.0.1/tcp/0".parse()?))
}

async fn start(builder: NodeBuilder) -> TestResult<Node> {
    Ok(soon(builder.start()).await??)
}

#[tokio::test]
async fn two_nodes_submit_and_work_for_each_other() -> TestResult {
    let (a, b) = (start(on_loopback(Node::builder())?).await?, start(on_loopback(Node::builder())?).await?);
    let joined = soon(a.join(b.invite().await?)).await??;
    assert_eq!((joined.connected, joined.peer_id), (true, b.peer_id()));
    soon(a.handle().serving_peers().wait_for(|peers| !peers.is_empty())).await??;
    assert_eq!(a.peers(), [b.peer_id()]);

    let queue = a.queue();
    let address: Multiaddr = b.addresses().into_iter().next().ok_or("no address")?;
    let (at_home, by_id) = (queue.submit(Add(1, 1)).await?, queue.submit(Add(2, 2)).on(b.peer_id()).await?);
    let by_address = queue.submit(Add(3, 3)).on(address.clone()).await?;
    let by_target = queue.submit(Add(4, 4)).on(Target::from(address)).await?;
    let owners = [at_home.record().await?.owner, by_id.record().await?.owner, by_address.record().await?.owner];
    assert_eq!(owners, [a.peer_id(), b.peer_id(), b.peer_id()]);

    let mut sums = None;
    let client =
        async { sums = Some(futures::join!(at_home.wait(), by_id.wait(), by_address.wait(), by_target.wait())) };
    Box::pin(soon(Worker::new(&b.queue()).slots(2).handle(add).run_until(client))).await??;
    let (first, second, third, fourth) = sums.ok_or("no end")?;
    assert_eq!((first?, second?, third?, fourth?), (2, 4, 6, 8));
    soon(b.shutdown()).await??;
    soon(a.shutdown()).await??;
    Ok(())
}

/// Starts a node again at the address where its peers know it.
async fn restarted(folder: &Path, address: &Multiaddr) -> TestResult<Node> {
    let own_part = address.iter().take(2).collect();
    start(Node::builder().data_dir(folder).listen(own_part)).await
}

#[tokio::test]
async fn a_wait_goes_on_while_the_peer_that_keeps_the_task_is_restarted() -> TestResult {
    let folder = tempfile::tempdir()?;
    let owner = start(on_loopback(Node::builder().data_dir(folder.path()))?).await?;
    let asker = start(on_loopback(Node::builder())?).await?;
    assert!(soon(asker.join(owner.invite().await?)).await??.connected);
    let job = asker.queue().submit(Add(40, 2)).on(owner.peer_id()).await?;
    let (peer_id, address) = (owner.peer_id(), owner.addresses().into_iter().next().ok_or("no address")?);

    let restart = Box::pin(async {
        soon(owner.shutdown()).await??;
        let owner = restarted(folder.path(), &address).await?;
        assert_eq!(owner.peer_id(), peer_id);
        let done = async { drop(owner.queue().job::<Add>(job.id()).wait().await) };
        soon(Worker::new(&owner.queue()).handle(add).run_until(done)).await??;
        TestResult::Ok(owner)
    });
    let (sum, owner) = soon(async { futures::join!(job.wait(), restart) }).await?;
    assert_eq!(sum?, 42);
    soon(owner?.shutdown()).await??;
    soon(asker.shutdown()).await??;
    Ok(())
}

#[tokio::test]
async fn a_data_folder_is_one_nodes_alone() -> TestResult {
    let folder = tempfile::tempdir()?;
    let builder = || on_loopback(Node::builder().data_dir(folder.path()).discovery(DiscoveryConfig::default()));
    let node = start(builder()?).await?;
    match soon(builder()?.start()).await? {
        Err(StartNodeError::DataFolder(DataFolderError::InUse { .. })) => {}
        other => panic!("{other:?}"),
    }
    for name in ["identity.key", "mesh.json", "root.key", "queue.sqlite3", "lock"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
    soon(node.shutdown()).await??;
    // The folder is free again.
    soon(start(builder()?).await?.shutdown()).await??;
    std::fs::write(folder.path().join("identity.key"), "short")?;
    match soon(builder()?.start()).await? {
        Err(StartNodeError::DataFolder(DataFolderError::DamagedKey { path, .. })) => {
            assert!(path.ends_with("identity.key"));
        }
        other => panic!("{other:?}"),
    }
    let identity = Identity::generate()?;
    let node = start(builder()?.identity(identity.clone())).await?;
    assert_eq!(node.peer_id(), identity.peer_id());
    soon(node.shutdown()).await??;
    Ok(())
}

#[tokio::test]
async fn a_node_without_an_address_is_not_started() -> TestResult {
    match soon(Node::builder().start()).await? {
        Err(StartNodeError::Node(error)) => assert!(error.to_string().contains("no address"), "{error}"),
        other => panic!("{other:?}"),
    }
    Ok(())
}
