//! Tests how long a small read waits while other reads look through everything.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, ThreadId},
};

use futures::{FutureExt as _, future::join_all};
use taskqueue_api::{
    Caller, Durability, ErrorCode, GetMany, Json, List, PeerId, Purge, Purged, QueueError, Selection, StatsQuery,
    Submit, TaskId, TaskQueueExt, TaskStatus,
};

use super::Core;
use crate::{
    StoreError, StoreOptions,
    backend::{Backend, CacheRow, Fault, Log, Reads, Rows, Seq, TypeRow},
    conformance::{peer, soon},
    engine::{Elapsed, Ended, Record, Wall},
    paging::{Choosing, Filling},
    sqlite::{OpenFile, SqliteBackend},
};

const ME: Caller = Caller::Local;

/// What the reader threads began to do, in order.
#[derive(Debug, Default)]
struct Began(Mutex<Vec<(ThreadId, What)>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    PieceOfAPurge,
    SmallRead,
}

impl Began {
    fn note(&self, what: What) {
        self.lock().push((thread::current().id(), what));
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    /// Returns how many pieces of purges a thread began after `point`, before it served the first small read after
    /// `point`.
    fn pieces_before_small_read(&self, point: usize) -> usize {
        let began = self.lock();
        let since = &began[point..];
        let served = since.iter().position(|(_, what)| *what == What::SmallRead).expect("it was served");
        let server = since[served].0;
        since[..served].iter().filter(|(thread, what)| *thread == server && *what == What::PieceOfAPurge).count()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(ThreadId, What)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Watched {
    inner: SqliteBackend,
    began: Arc<Began>,
}

impl Backend for Watched {
    fn open_rows(&self) -> Result<Box<dyn Rows>, Fault> {
        self.inner.open_rows()
    }

    fn open_log(&self) -> std::io::Result<Option<Box<dyn Log>>> {
        self.inner.open_log()
    }

    fn open_reads(&self) -> Result<Box<dyn Reads>, StoreError> {
        Ok(Box::new(WatchedReads { inner: self.inner.open_reads()?, began: Arc::clone(&self.began) }))
    }
}

#[derive(Debug)]
struct WatchedReads {
    inner: Box<dyn Reads>,
    began: Arc<Began>,
}

impl Reads for WatchedReads {
    fn get(&mut self, ids: &[TaskId]) -> Result<Vec<Option<Record>>, QueueError> {
        self.began.note(What::SmallRead);
        self.inner.get(ids)
    }
    fn list_on(&mut self, page: &mut Filling) -> Result<bool, QueueError> {
        self.began.note(What::SmallRead);
        self.inner.list_on(page)
    }
    fn select_on(&mut self, choosing: &mut Choosing) -> Result<bool, QueueError> {
        self.began.note(What::PieceOfAPurge);
        self.inner.select_on(choosing)
    }
    fn types(&mut self, behind: Option<&str>, count_max: usize) -> Result<Vec<(String, TypeRow)>, QueueError> {
        self.began.note(What::SmallRead);
        self.inner.types(behind, count_max)
    }
    fn oldest_ready(&mut self) -> Result<Option<Elapsed>, QueueError> {
        self.inner.oldest_ready()
    }
    fn route(&mut self, task: TaskId) -> Result<Option<PeerId>, QueueError> {
        self.inner.route(task)
    }
    fn cached(&mut self, key: &str) -> Result<Option<CacheRow>, QueueError> {
        self.inner.cached(key)
    }
}

/// Opens a store with [`FAILED`] failed tasks.
fn open(directory: &tempfile::TempDir) -> Result<(Core, Arc<Began>), Box<dyn Error>> {
    let OpenFile { backend, mut rows, .. } = SqliteBackend::open(&directory.path().join("queue.sqlite3"))?;
    let began = Arc::new(Began::default());
    furnish(&mut *rows)?;
    let watched = Watched { inner: backend, began: Arc::clone(&began) };
    let core = Core::start(Box::new(watched), rows, StoreOptions::new(peer()), Durability::Synced)?;
    Ok((core, began))
}

fn furnish(rows: &mut dyn Rows) -> Result<(), Box<dyn Error>> {
    use crate::backend_tests::fixture::{ended, task};
    rows.begin()?;
    for seq in 1..=FAILED {
        let mut row = task(1);
        row.seq = seq;
        row.spec.id = id(seq);
        rows.insert_task(&row)?;
        let ended = Ended { at: Wall::from_micros(seq), ..ended(TaskStatus::Failed, 1.0) };
        // The record is kept for longer than the test takes.
        let ended = Ended { expires_at: Elapsed::from_micros(0).after(1e10), ..ended };
        rows.insert_ended(seq, id(seq), &ended, None)?;
    }
    let meta = rows.meta()?;
    rows.save_meta(&crate::Meta { next_seq: FAILED + 1, ..meta })?;
    rows.commit()?;
    Ok(())
}

fn id(seq: Seq) -> TaskId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&seq.to_be_bytes());
    TaskId::from_bytes(bytes)
}

fn purge_of_nothing() -> Purge {
    let label = Some("nobody has it".to_owned());
    Purge { selection: Selection { label, ..Selection::ended(TaskStatus::Failed) } }
}

#[tokio::test]
async fn a_small_read_waits_for_one_piece_of_the_purges_and_no_more() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (core, began) = open(&directory)?;
    soon(core.submit(&ME, Submit::new("a", Json::null()))).await?;
    let start = || Box::pin(join_all((0..PURGES).map(|_| core.purge(&ME, purge_of_nothing()))));
    let mut purges = start();
    for round in 0..ROUNDS {
        while let Some(purged) = (&mut purges).now_or_never() {
            check(purged)?;
            purges = start();
        }
        let point;
        match round % 3 {
            0 => {
                let mut list = Box::pin(core.list(&ME, List::default()));
                point = began.count();
                let listed = match (&mut list).now_or_never() {
                    Some(listed) => listed?,
                    None => soon(list).await?,
                };
                assert_eq!(listed.tasks.len(), 50);
            }
            1 => {
                let mut get = Box::pin(core.get_many(&ME, GetMany { task_ids: vec![id(1), id(2)] }));
                point = began.count();
                let got = match (&mut get).now_or_never() {
                    Some(got) => got?,
                    None => soon(get).await?,
                };
                assert_eq!(got.tasks.len(), 2);
            }
            _ => {
                let mut stats = Box::pin(TaskQueueExt::stats(&core, &ME, StatsQuery {}));
                point = began.count();
                match (&mut stats).now_or_never() {
                    Some(stats) => stats?,
                    None => soon(stats).await?,
                };
            }
        }
        let waited = began.pieces_before_small_read(point);
        assert!(waited <= 1, "round {round}: its thread began {waited} pieces of purges first");
    }
    check(soon(purges).await)
}

fn check(purged: Vec<Result<Purged, QueueError>>) -> Result<(), Box<dyn Error>> {
    for purged in purged {
        let purged = purged?;
        assert_eq!((purged.purged, purged.skipped, purged.more), (0, 0, false));
    }
    Ok(())
}

#[tokio::test]
async fn purges_go_on_while_small_reads_never_end() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (core, _) = open(&directory)?;
    let mut purge = Box::pin(core.purge(&ME, purge_of_nothing()));
    assert!((&mut purge).now_or_never().is_none());
    // At any time, more reads wait than there are readers.
    for _ in 0..FAILED {
        let reads = (0..8).map(|_| core.get_many(&ME, GetMany { task_ids: vec![id(1), id(2)] }));
        for got in soon(join_all(reads)).await {
            assert_eq!(got?.tasks.len(), 2);
        }
        if let Some(purged) = (&mut purge).now_or_never() {
            assert!(!purged?.more);
            return Ok(());
        }
    }
    Err("the purge has not come to its end".into())
}

#[tokio::test]
async fn closing_does_not_wait_for_purges() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let (core, began) = open(&directory)?;
    let mut purges = Box::pin(join_all((0..PURGES).map(|_| core.purge(&ME, purge_of_nothing()))));
    assert!((&mut purges).now_or_never().is_none());
    core.close();
    let pieces = began.count();
    for purged in soon(purges).await {
        assert_eq!(purged.unwrap_err().code, ErrorCode::ShuttingDown);
    }
    assert_eq!(began.count(), pieces);
    Ok(())
}

const FAILED: Seq = 30_000;
const PURGES: usize = 20;
const ROUNDS: usize = 60;
