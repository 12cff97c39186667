//! What is particular to this store: its file, its failures, its batches.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use rusqlite::{Connection, ffi};
use tempfile::TempDir;

use super::{SqliteStore, StoreOptions, schema};
use crate::{
    PeerId, QueueError,
    api::{Claim, Complete, ErrorCode, Outcome, Submit},
    carrier::RouteBook,
    store::{
        Leased, ManualClock, StoreError, TaskStore,
        conformance::{self, Rig, START, TestResult, soon},
    },
    task::{Json, TaskId, TaskStatus},
};

/// Failures that a test asks for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// What the next commit does; see the constants.
    commit: AtomicI64,
    /// The file may not grow over this many pages; 0 is no limit.
    pages_max: AtomicI64,
    /// Held by a test, it stops the writer before a commit.
    gate: Mutex<()>,
}

/// The commit fails, and nothing of it is there.
const COMMIT_FAILS: i64 = 1;
/// The commit fails, and yet it is there.
const COMMIT_FAILS_AFTERWARDS: i64 = 2;
/// Pages that the reserve frees.
const RESERVED_PAGES: i64 = 64;

impl Faults {
    pub(super) fn before_begin(&self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = match self.pages_max.load(Ordering::SeqCst) {
            0 => i64::from(i32::MAX),
            pages => pages,
        };
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }

    pub(super) fn before_commit(&self, connection: &Connection) -> rusqlite::Result<()> {
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        match self.commit.swap(0, Ordering::SeqCst) {
            COMMIT_FAILS => {}
            COMMIT_FAILS_AFTERWARDS => connection.execute_batch("COMMIT")?,
            _ => return Ok(()),
        }
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None))
    }

    pub(super) fn reserve_spent(&self) {
        if self.pages_max.load(Ordering::SeqCst) > 0 {
            self.pages_max.fetch_add(RESERVED_PAGES, Ordering::SeqCst);
        }
    }

    /// Whether the reserve can be filled again.
    pub(super) fn has_room(&self) -> bool {
        self.pages_max.load(Ordering::SeqCst) == 0
    }
}

conformance::conformance! { rig();
    t2_a_task_has_one_holder
    t3_a_fence_that_is_not_current_changes_nothing
    t4_a_dead_worker_costs_its_task_its_attempts
    t4_a_lease_ends_when_nothing_else_happens
    t5_setting_the_wall_clock_ends_no_lease
    t6_order_is_priority_then_time_then_acceptance
    t6_what_a_worker_may_not_take_hides_nothing
    t7_a_key_answers_the_first_task_or_a_conflict
    t7_repeats_in_one_batch_make_one_task
    t8_a_restart_keeps_what_was_acknowledged
    t11_results_are_removed_after_their_time
    t5_setting_the_wall_clock_removes_no_result_and_no_key
    a_long_poll_is_woken_by_whatever_makes_a_task_claimable
    a_dropped_long_poll_loses_no_task
    waiting_claims_are_served_in_turn_and_by_what_they_take
    cancelling_is_at_once_or_by_the_worker
    a_failed_attempt_waits_for_its_backoff
    delayed_tasks_come_when_the_wall_clock_says
    pages_are_stable_while_tasks_come
    lists_are_filtered_and_bounded_in_bytes
    the_status_counts_and_knows_the_longest_wait
    a_closed_store_turns_everybody_away
}

fn rig() -> Result<(Rig, TempDir), Box<dyn Error>> {
    let (store, clock, _, directory) = fixture()?;
    let (path, options) = (store.path().to_owned(), options(&clock, &Arc::default()));
    let reopen = Box::new(move |store: Arc<dyn TaskStore>| -> Arc<dyn TaskStore> {
        store.close();
        Arc::new(SqliteStore::open(&path, options.clone()).unwrap())
    });
    Ok((Rig { store: Arc::new(store), clock, reopen }, directory))
}

type Fixture = (SqliteStore, Arc<ManualClock>, Arc<Faults>, TempDir);

fn fixture() -> Result<Fixture, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::new(START));
    let faults = Arc::default();
    let store = SqliteStore::open(&file(&directory), options(&clock, &faults))?;
    Ok((store, clock, faults, directory))
}

fn options(clock: &Arc<ManualClock>, faults: &Arc<Faults>) -> StoreOptions {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    StoreOptions { faults: Arc::clone(faults), ..StoreOptions::default().with_clock(clock) }
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("queue.sqlite3")
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, StoreOptions::default())
}

async fn submit(store: &SqliteStore, text: &str) -> Result<TaskId, QueueError> {
    Ok(soon(store.submit("local".to_owned(), Submit::new("echo", Json::from_text(text)))).await?.task_id)
}

async fn claim(store: &SqliteStore) -> Result<Leased, Box<dyn Error>> {
    Ok(soon(store.claim(PeerId::random(), Claim::new("w"))).await?.ok_or("nothing to claim")?)
}

fn complete(leased: &Leased, result: Json) -> Complete {
    let (task_id, fence) = (leased.record.spec.id, leased.fence);
    Complete::new(task_id, fence, Some(result))
}

#[tokio::test]
async fn t1_a_burst_shares_its_commits() -> TestResult {
    let (store, _, faults, directory) = fixture()?;
    let closed = faults.gate.lock().unwrap();
    let mut all = join_all((0..400).map(|n| {
        let store = &store;
        async move { submit(store, &n.to_string()).await }
    }));
    // All are sent; none is answered before its commit.
    assert!((&mut all).now_or_never().is_none());
    drop(closed);
    for submitted in soon(all).await {
        submitted?;
    }
    let batches: i64 = Connection::open(file(&directory))?.query_row("SELECT batch FROM meta", [], |row| row.get(0))?;
    assert!(batches <= 4, "{batches} commits for 400 submits");
    Ok(())
}

#[tokio::test]
async fn one_refusal_in_a_batch_leaves_the_others_alone() -> TestResult {
    let (store, _, faults, _directory) = fixture()?;
    submit(&store, "a").await?;
    let leased = claim(&store).await?;
    let closed = faults.gate.lock().unwrap();
    let good = complete(&leased, Json::null());
    let mut all = join_all([
        store.complete(Complete { task_id: TaskId::from_bytes([1; 16]), ..good.clone() }),
        store.complete(good.clone()),
        store.complete(Complete { result: Some(Json::from_text("other")), ..good }),
    ]);
    assert!((&mut all).now_or_never().is_none());
    drop(closed);
    let answers = soon(all).await;
    let codes: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.code)).collect();
    assert_eq!(codes[0], Err(ErrorCode::NotFound));
    assert!(codes[1].is_ok());
    assert_eq!(codes[2], Err(ErrorCode::AlreadyFinished));
    Ok(())
}

#[tokio::test]
async fn a_statement_that_fails_fails_its_own_command_only() -> TestResult {
    let (store, _, faults, directory) = fixture()?;
    let other = Connection::open(file(&directory))?;
    other.execute_batch(
        "CREATE TRIGGER poison BEFORE INSERT ON task WHEN new.payload = '\"poison\"'
         BEGIN SELECT raise(ROLLBACK, 'poisoned'); END",
    )?;
    let closed = faults.gate.lock().unwrap();
    let mut all = join_all(["a", "poison", "b"].map(|text| submit(&store, text)));
    assert!((&mut all).now_or_never().is_none());
    drop(closed);
    let answers = soon(all).await;
    let error = answers[1].clone().unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::StorageError, Outcome::NotApplied));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(claim(&store).await?.record.payload, Json::from_text("a"));
    assert_eq!(claim(&store).await?.record.payload, Json::from_text("b"));
    assert_eq!(soon(store.status()).await?.totals["queued"], 0);
    Ok(())
}

#[tokio::test]
async fn a_file_that_another_program_holds_is_told_at_once() -> TestResult {
    let (store, clock, _, directory) = fixture()?;
    submit(&store, "before").await?;
    let other = Connection::open(file(&directory))?;
    other.execute_batch("BEGIN IMMEDIATE")?;
    for answer in soon(join_all(["a", "b", "c"].map(|text| submit(&store, text)))).await {
        let error = answer.unwrap_err();
        assert_eq!((error.code, error.outcome, error.retryable), (ErrorCode::StorageError, Outcome::NotApplied, true));
        assert!(error.message.contains("another program"), "{error}");
    }
    other.execute_batch("ROLLBACK")?;
    clock.advance(Duration::from_secs(2));
    submit(&store, "after").await?;
    assert_eq!(soon(store.status()).await?.totals["queued"], 2);
    Ok(())
}

#[tokio::test]
async fn a_failed_commit_is_told_and_the_file_is_opened_again() -> TestResult {
    let (store, clock, faults, _directory) = fixture()?;
    let kept = submit(&store, "kept").await?;
    let leased = claim(&store).await?;
    faults.commit.store(COMMIT_FAILS, Ordering::SeqCst);
    let error = submit(&store, "lost").await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::StorageError, Outcome::NotApplied));
    faults.commit.store(COMMIT_FAILS_AFTERWARDS, Ordering::SeqCst);
    let error = submit(&store, "there").await.unwrap_err();
    assert_eq!((error.code, error.outcome), (ErrorCode::StorageError, Outcome::Unknown));
    // It goes on: what was acknowledged is there, leases run on, nothing is there twice.
    clock.advance(Duration::from_secs(2));
    let status = soon(store.status()).await?;
    assert_eq!((status.totals["queued"], status.totals["running"]), (1, 1));
    assert_eq!(claim(&store).await?.record.payload, Json::from_text("there"));
    clock.advance(Duration::from_secs(290));
    soon(store.complete(complete(&leased, Json::null()))).await?;
    assert_eq!(soon(store.get(vec![kept])).await?[0].standing.status(), TaskStatus::Completed);
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_submits_and_completions_go_on() -> TestResult {
    let (store, clock, faults, directory) = fixture()?;
    let first = submit(&store, "first").await?;
    let pages: i64 = Connection::open(file(&directory))?.pragma_query_value(None, "page_count", |row| row.get(0))?;
    faults.pages_max.store(pages + 8, Ordering::SeqCst);
    let large = "x".repeat(5_000);
    let mut acknowledged = vec![first];
    let error = loop {
        match submit(&store, &large).await {
            Ok(id) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 100);
    };
    assert_eq!((error.code, error.outcome), (ErrorCode::StorageFull, Outcome::NotApplied));
    assert!(error.retry_after_s.is_some());
    assert_eq!(submit(&store, "small").await.unwrap_err().code, ErrorCode::StorageFull);
    let leased = claim(&store).await?;
    soon(store.complete(complete(&leased, Json::from_text(&large)))).await?;
    assert_eq!(soon(store.get(acknowledged.clone())).await?.len(), acknowledged.len());
    faults.pages_max.store(0, Ordering::SeqCst);
    clock.advance(Duration::from_secs(2));
    submit(&store, "again").await?;
    Ok(())
}

#[tokio::test]
async fn a_flipped_byte_is_told_with_its_task_and_holds_nobody_up() -> TestResult {
    let (store, _, _, directory) = fixture()?;
    let damaged = submit(&store, "the words that will be damaged").await?;
    let sound = submit(&store, "sound").await?;
    store.close();
    let mut bytes = fs::read(file(&directory))?;
    let words = b"the words that will be damaged";
    let at = bytes.windows(words.len()).position(|window| window == words).ok_or("no payload in the file")?;
    bytes[at] ^= 1;
    fs::write(file(&directory), bytes)?;
    let store = open(&file(&directory))?;
    let error = soon(store.get(vec![damaged])).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageError);
    assert!(error.message.contains(&damaged.to_string()), "{error}");
    let leased = claim(&store).await?;
    assert_eq!((leased.record.spec.id, leased.record.payload), (sound, Json::from_text("sound")));
    assert!(soon(store.claim(PeerId::random(), Claim::new("w"))).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_heads_of_the_lines_are_those_of_the_file_after_a_restart() -> TestResult {
    let (store, clock, faults, directory) = fixture()?;
    let mut expected = Vec::new();
    for n in 0..60_u8 {
        let submit = Submit {
            priority: 1 + n % 3,
            session: (n % 4 == 0).then(|| "s".to_owned()),
            ..Submit::new(format!("type-{}", n % 5), Json::null())
        };
        let id = soon(store.submit("local".to_owned(), submit)).await?.task_id;
        expected.push((std::cmp::Reverse(1 + n % 3), n, id));
    }
    expected.sort();
    let (mut store, mut claimed) = (store, Vec::new());
    for n in 0..60 {
        if n % 25 == 10 {
            store.close();
            store = SqliteStore::open(&file(&directory), options(&clock, &faults))?;
        }
        let claim = Claim { session: Some("s".to_owned()), ..Claim::new("w") };
        claimed.push(soon(store.claim(PeerId::random(), claim)).await?.ok_or("a task")?.record.spec.id);
    }
    assert_eq!(claimed, expected.iter().map(|(_, _, id)| *id).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn routes_are_remembered_and_the_oldest_go() -> TestResult {
    let (store, _, _, directory) = fixture()?;
    let (first, second, owner) = (TaskId::random()?, TaskId::random()?, PeerId::random());
    soon(store.remember(first, owner)).await?;
    assert_eq!(soon(store.owner_of(first)).await?, Some(owner));
    assert_eq!(soon(store.owner_of(second)).await?, None);
    store.close();
    Connection::open(file(&directory))?.execute("UPDATE sqlite_sequence SET seq = 100000 WHERE name = 'route'", [])?;
    let store = open(&file(&directory))?;
    assert_eq!(soon(store.owner_of(first)).await?, Some(owner));
    soon(store.remember(second, owner)).await?;
    assert_eq!(soon(store.owner_of(first)).await?, None);
    assert_eq!(soon(store.owner_of(second)).await?, Some(owner));
    Ok(())
}

#[test]
fn a_newer_schema_is_refused_untouched() -> TestResult {
    let directory = tempfile::tempdir()?;
    open(&file(&directory))?.close();
    Connection::open(file(&directory))?.pragma_update(None, "user_version", schema::SCHEMA_VERSION + 1)?;
    let before = fs::read(file(&directory))?;
    let error = open(&file(&directory)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found, supported, .. } if found == supported + 1), "{error}");
    assert_eq!(fs::read(file(&directory))?, before);
    Ok(())
}

#[test]
fn files_that_are_no_store_are_refused_untouched() -> TestResult {
    let directory = tempfile::tempdir()?;
    let foreign = directory.path().join("foreign.sqlite3");
    Connection::open(&foreign)?.execute_batch("CREATE TABLE t (x)")?;
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, "these are notes, not a database")?;
    let broken = directory.path().join("broken");
    fs::write(&broken, [b"SQLite format 3\0".as_slice(), &[7; 5_000]].concat())?;
    for path in [foreign, garbage, broken] {
        let before = fs::read(&path)?;
        let error = open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. } | StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path)?, before);
    }
    Ok(())
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_closed() -> TestResult {
    let directory = tempfile::tempdir()?;
    let first = open(&file(&directory))?;
    assert!(matches!(open(&file(&directory)).unwrap_err(), StoreError::InUse { .. }));
    first.close();
    open(&file(&directory))?;
    Ok(())
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_files() -> TestResult {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    fs::write(file(&directory), "")?;
    let _store = open(&file(&directory))?;
    let mut files = 0;
    for entry in fs::read_dir(directory.path())? {
        let entry = entry?;
        assert_eq!(entry.metadata()?.permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 3);
    Ok(())
}
