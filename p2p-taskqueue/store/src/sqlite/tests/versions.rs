//! Tests with files of every version.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::Connection;
use taskqueue_api::{
    Caller, Claim, Complete, Fail, Fence, Free, Get, Json, List, Order, PeerId, StatsQuery, Submit, TaskId,
    TaskQueueExt as _, TaskRecord, TaskStatus,
};

use super::{
    super::{SqliteBackend, reads, schema::SCHEMA_VERSION},
    sample::{TestResult, file},
};
use crate::{
    Backend, ManualClock, SqliteStore, StoreError, StoreOptions,
    conformance::soon,
    engine::{Elapsed, Now, Record, Wall},
};

const ME: Caller = Caller::Local;

/// The time at which the first fixture was written.
const THEN: Wall = Wall::from_micros(1_700_000_001_000_000);

/// Elapsed time starts at the wall time.
const NOW: Now =
    Now { wall: THEN, monotonic: Duration::ZERO, elapsed: Elapsed::from_micros(THEN.as_micros()), wall_ahead: 0 };

#[test]
fn every_version_opens_and_keeps_every_record() -> TestResult {
    for version in 1..=SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        for _ in 0..2 {
            let opened = SqliteBackend::open(&file(&directory))?;
            let mut reads = opened.backend.open_reads()?;
            let page = reads.list(&List { limit: 1_000, order: Order::Oldest, ..List::default() })?;
            let tasks: Vec<_> = page.records.into_iter().map(as_stored).collect();
            assert_eq!(tasks, expected(version)?, "version {version}");
            assert_eq!(reads.route(TaskId::from_bytes([7; 16]))?, Some(owner()));
        }
    }
    Ok(())
}

/// Returns a task as its file has it: why it waits is not stored.
fn as_stored(record: Record) -> TaskRecord {
    TaskRecord { waiting_for: None, ..record.into_task(owner(), NOW) }
}

/// A repair may have to read a file whose log is lost, and with it the steps to the current version.
#[test]
fn every_version_can_be_read_as_it_is() -> TestResult {
    for version in 1..=SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        let connection = Connection::open(file(&directory))?;
        let mut tasks = Vec::new();
        for seq in 1..100 {
            let record = reads::record(&connection, seq).map_err(|error| format!("task {seq}: {error:?}"))?;
            tasks.extend(record.map(as_stored));
        }
        let mut expected = expected(version)?;
        expected.sort_by_key(|task| tasks.iter().position(|found| found.task_id == task.task_id));
        assert_eq!(tasks, expected, "version {version}");
    }
    Ok(())
}

#[tokio::test]
async fn every_version_goes_on_where_it_was() -> TestResult {
    for version in 1..=SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        let clock = Arc::new(ManualClock::new(THEN));
        let store = open(&file(&directory), &clock)?;
        let expected = expected(version)?;
        let count = |status| expected.iter().filter(|task| task.status == status).count();
        let stats = soon(store.stats(&ME, StatsQuery {})).await?;
        for status in TaskStatus::ALL {
            assert_eq!(stats.totals[status.as_str()], count(status) as u64, "{status} in version {version}");
        }
        // The worker that had the task still has it.
        let running = find(&expected, "running")?;
        let done = Complete::new(running.task_id, Fence { epoch: 1, counter: 4 }, Some(Json::null()));
        soon(store.complete(&ME, done)).await?;
        // The key is still known.
        let keyed = Submit { idempotency_key: Some("key".to_owned()), ..Submit::new("work", Json::from_text("keyed")) };
        let submitted = soon(store.submit(&ME, keyed)).await?;
        assert_eq!((submitted.task_id, submitted.duplicate), (find(&expected, "keyed")?.task_id, true));
        // The order of the next claims has not changed: by priority, then by time.
        let mut claimed = Vec::new();
        let types = || vec!["work".to_owned(), "later".to_owned()];
        let claim = || Claim { supported_task_types: types(), lease_s: 86_400.0, ..Claim::new("w") };
        while let Some(task) = soon(store.claim(&ME, claim())).await?.task {
            claimed.push(task.payload.to::<String>()?);
        }
        assert_eq!(claimed, ["released", "ready", "keyed", "past"], "version {version}");
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(claimed_text(&store, claim()).await?, "backing off");
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(claimed_text(&store, claim()).await?, "delayed");
        // Results are removed at the time that was set.
        clock.advance(Duration::from_secs(86_400));
        // Any change is done after the timer has had its turn.
        soon(store.submit(&ME, text("probe"))).await?;
        let gone = Get { task_id: find(&expected, "completed")?.task_id };
        assert!(soon(store.get(&ME, gone)).await.is_err());
    }
    Ok(())
}

#[test]
fn a_newer_version_is_refused_untouched() -> TestResult {
    let directory = tempfile::tempdir()?;
    drop(SqliteBackend::open(&file(&directory))?);
    Connection::open(file(&directory))?.pragma_update(None, "user_version", SCHEMA_VERSION + 1)?;
    let before = fs::read(file(&directory))?;
    let error = SqliteBackend::open(&file(&directory)).unwrap_err();
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
        let error = SqliteBackend::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. } | StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(&path)?, before);
    }
    Ok(())
}

#[test]
fn a_file_from_before_the_first_release_is_refused_untouched() -> TestResult {
    for found in 1..=4 {
        let directory = tempfile::tempdir()?;
        drop(SqliteBackend::open(&file(&directory))?);
        let connection = Connection::open(file(&directory))?;
        connection.pragma_update(None, "application_id", i64::from(u32::from_be_bytes(*b"tmsh")))?;
        connection.pragma_update(None, "user_version", found)?;
        // Everything is in the file now, and the files beside it go away.
        connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
        drop(connection);
        let before = fs::read(file(&directory))?;
        let refused = |error: StoreError| {
            assert!(matches!(error, StoreError::Unreleased { found: of, .. } if of == found), "{error}");
            let said = error.to_string();
            assert!(said.contains("before the first release") && said.contains("another data folder"), "{said}");
        };
        refused(SqliteBackend::open(&file(&directory)).unwrap_err());
        refused(SqliteStore::repair(&file(&directory)).unwrap_err());
        assert_eq!(fs::read(file(&directory))?, before);
    }
    Ok(())
}

#[test]
fn what_a_version_adds_is_checked_in_files_of_every_version() -> TestResult {
    let changes = [
        "UPDATE task SET submitter = coalesce(submitter, '') || 'x' WHERE id = ?",
        "UPDATE live SET inputs = coalesce(inputs, '{\"open\":{},\"answers\":{}}') || ' ' WHERE id = ?",
        "UPDATE live SET kept_until = coalesce(kept_until, 0) + 1 WHERE id = ?",
        "UPDATE finished SET dead = 3 - dead WHERE id = ?",
        "UPDATE task SET submitted_by = X'0024080112200000000000000000000000000000000000000000000000000000000000000000' WHERE id = ?",
        "UPDATE live SET attempts = X'' WHERE id = ?",
        "UPDATE finished SET attempts = X'' WHERE id = ?",
    ];
    let names = ["ready", "running", "running", "completed", "ready", "running", "completed"];
    for version in 1..=SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        drop(SqliteBackend::open(&file(&directory))?);
        let expected = expected(version)?;
        for (sql, text) in changes.into_iter().zip(names) {
            let id = find(&expected, text)?.task_id;
            assert_eq!(Connection::open(file(&directory))?.execute(sql, [id.as_bytes()])?, 1);
            let mut reads = SqliteBackend::open(&file(&directory))?.backend.open_reads()?;
            assert!(reads.get(&[id]).is_err(), "version {version}: {sql}");
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "writes the fixture of this schema version: run it when the tables change, before they are released"]
async fn write_the_fixture() -> TestResult {
    let directory = tempfile::tempdir()?;
    let newest = (1..=SCHEMA_VERSION).rev().find(|version| fixture(*version, "sql").exists()).ok_or("no fixture")?;
    restore(newest, &file(&directory))?;
    let clock = Arc::new(ManualClock::new(THEN));
    let store = open(&file(&directory), &clock)?;
    // Operations of a new version have to be used on the store here.
    use_machines(&store).await?;
    let tasks = soon(store.list(&ME, List { limit: 1_000, order: Order::Oldest, ..List::default() })).await?.tasks;
    let lines: Vec<_> = tasks.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(fixture(SCHEMA_VERSION, "json"), format!("[\n{}\n]\n", lines.join(",\n")))?;
    fs::write(fixture(SCHEMA_VERSION, "sql"), dumped(&Connection::open(file(&directory))?)?)?;
    Ok(())
}

/// Makes tasks of another machine, and tasks that it has tried.
async fn use_machines(store: &SqliteStore) -> TestResult {
    let machine: PeerId = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse()?;
    let other = Caller::member(machine);
    let task = |text: &str| Submit { task_type: "machines".to_owned(), ..self::text(text) };
    let claim = || Claim { supported_task_types: vec!["machines".to_owned()], lease_s: 86_400.0, ..Claim::new("v") };
    let mut leases = Vec::new();
    for text in ["of a machine", "tried twice", "freed"] {
        soon(store.submit(&other, task(text))).await?;
    }
    for caller in [&ME, &other, &other] {
        let task = soon(store.claim(caller, claim())).await?.task.ok_or("a task")?;
        leases.push((task.task_id, task.fence.ok_or("a fence")?));
    }
    let [(first, first_fence), (task_id, fence), _] = leases[..] else { return Err("three leases".into()) };
    soon(store.complete(&ME, Complete::new(first, first_fence, Some(Json::from_text("r"))))).await?;
    let fail = Fail { task_id, fence, error: "no".to_owned(), retryable: true, delay_s: Some(0.0) };
    soon(store.fail(&other, fail)).await?;
    soon(store.claim(&ME, claim())).await?.task.ok_or("the second attempt")?;
    let freed = soon(store.free(&ME, Free { machine })).await?.freed;
    assert_eq!(freed, 1);
    Ok(())
}

/// Returns the statements that create an equal file.
fn dumped(connection: &Connection) -> Result<String, Box<dyn Error>> {
    let mut sql = "-- A store of this schema version with tasks in every state and a row of every kind.\n".to_owned();
    let mut schema =
        connection.prepare("SELECT name, sql, type = 'table' FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")?;
    let mut made = schema.query([])?;
    while let Some(row) = made.next()? {
        let (name, make, is_table): (String, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        writeln!(sql, "{make};")?;
        if !is_table {
            continue;
        }
        let mut columns = connection
            .prepare("SELECT group_concat('quote(' || name || ')', '||'',''||') FROM pragma_table_info(?)")?;
        let quoted: String = columns.query_row([&name], |row| row.get(0))?;
        let mut rows = connection.prepare(&format!("SELECT {quoted} FROM {name}"))?;
        for values in rows.query_map([], |row| row.get::<_, String>(0))? {
            writeln!(sql, "INSERT INTO {name} VALUES({});", values?)?;
        }
    }
    for pragma in ["application_id", "user_version"] {
        let value: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        writeln!(sql, "PRAGMA {pragma} = {value};")?;
    }
    Ok(sql)
}

fn restore(version: i64, path: &Path) -> TestResult {
    let connection = Connection::open(path)?;
    Ok(connection.execute_batch(&fs::read_to_string(fixture(version, "sql"))?)?)
}

fn expected(version: i64) -> Result<Vec<TaskRecord>, Box<dyn Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(fixture(version, "json"))?)?)
}

fn fixture(version: i64, extension: &str) -> PathBuf {
    let name = format!("src/sqlite/fixtures/schema-{version}.{extension}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn find<'a>(tasks: &'a [TaskRecord], text: &str) -> Result<&'a TaskRecord, Box<dyn Error>> {
    let of = |task: &&TaskRecord| task.payload == Json::from_text(text);
    Ok(tasks.iter().find(of).ok_or("a task of the fixture")?)
}

fn text(text: &str) -> Submit {
    Submit::new("new", Json::from_text(text))
}

async fn claimed_text(store: &SqliteStore, claim: Claim) -> Result<String, Box<dyn Error>> {
    let task = soon(store.claim(&ME, Claim { wait_s: 10.0, ..claim })).await?.task.ok_or("a task in time")?;
    Ok(task.payload.to()?)
}

fn open(path: &Path, clock: &Arc<ManualClock>) -> Result<SqliteStore, StoreError> {
    let manual: Arc<ManualClock> = Arc::clone(clock);
    SqliteStore::open(path, StoreOptions::new(owner()).with_clock(manual))
}

/// The peer that kept the first fixture.
fn owner() -> PeerId {
    "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo".parse().expect("it was printed by a peer")
}
