//! Files of every version.

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
    Answer, CacheSet, Caller, Claim, Complete, Fail, Fence, Get, Json, Limit, List, OnParentFailure, Order, Pause,
    PeerId, Renew, StatsQuery, Submit, Task, TaskId, TaskQueueExt as _, TaskStatus,
};

use super::{
    super::{SqliteBackend, schema::SCHEMA_VERSION},
    sample::{TestResult, file},
};
use crate::{
    Backend, ManualClock, SqliteStore, StoreError, StoreOptions,
    conformance::soon,
    engine::{Elapsed, Now, Wall},
};

const ME: Caller = Caller::Local;

/// When the fixture of version 1 was written.
const THEN: Wall = Wall::from_micros(1_700_000_001_000_000);

/// Elapsed time begins as wall time.
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
            let tasks: Vec<_> = page.records.into_iter().map(|record| record.into_task(owner(), NOW)).collect();
            assert_eq!(tasks, expected(version)?, "version {version}");
            assert_eq!(reads.route(TaskId::from_bytes([7; 16]))?, Some(owner()));
        }
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
        // The worker that had a task still has it.
        let running = find(&expected, "running")?;
        let done = Complete::new(running.task_id, Fence { epoch: 1, counter: 4 }, Some(Json::null()));
        soon(store.complete(&ME, done)).await?;
        // The key is still known.
        let keyed = Submit { idempotency_key: Some("key".to_owned()), ..Submit::new("work", Json::from_text("keyed")) };
        let submitted = soon(store.submit(&ME, keyed)).await?;
        assert_eq!((submitted.task_id, submitted.duplicate), (find(&expected, "keyed")?.task_id, true));
        // What was to be claimed next still is: by priority, then by time.
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
        // Results end when they were to end.
        clock.advance(Duration::from_secs(86_400));
        // Any change has to wait its turn behind the timer.
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
fn a_migration_keeps_damage_to_itself() -> TestResult {
    for version in 1..SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        let expected = expected(version)?;
        let mut damaged = Vec::new();
        for (table, text) in [("task", "ready"), ("live", "running"), ("finished", "completed")] {
            let id = find(&expected, text)?.task_id;
            let sql = format!("UPDATE {table} SET crc = crc + 1 WHERE id = ?");
            assert_eq!(Connection::open(file(&directory))?.execute(&sql, [id.as_bytes()])?, 1);
            damaged.push(id);
        }
        let opened = SqliteBackend::open(&file(&directory))?;
        let mut reads = opened.backend.open_reads()?;
        for task in expected {
            let read = reads.get(&[task.task_id]);
            if damaged.contains(&task.task_id) {
                let error = read.unwrap_err();
                assert!(error.message.contains(&task.task_id.to_string()), "{error}");
            } else {
                assert_eq!(
                    read?.remove(0).map(|record| record.into_task(owner(), NOW)),
                    Some(task),
                    "version {version}"
                );
            }
        }
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
    ];
    for version in 1..=SCHEMA_VERSION {
        let directory = tempfile::tempdir()?;
        restore(version, &file(&directory))?;
        drop(SqliteBackend::open(&file(&directory))?);
        let expected = expected(version)?;
        for (sql, text) in changes.into_iter().zip(["ready", "running", "running", "completed"]) {
            let id = find(&expected, text)?.task_id;
            assert_eq!(Connection::open(file(&directory))?.execute(sql, [id.as_bytes()])?, 1);
            let mut reads = SqliteBackend::open(&file(&directory))?.backend.open_reads()?;
            assert!(reads.get(&[id]).is_err(), "version {version}: {sql}");
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "writes the fixture of this version: run it when the tables change, before they are released"]
async fn write_the_fixture() -> TestResult {
    let directory = tempfile::tempdir()?;
    restore(1, &file(&directory))?;
    let clock = Arc::new(ManualClock::new(THEN));
    let store = open(&file(&directory), &clock)?;
    let parent = find(&expected(1)?, "delayed")?.task_id;
    let new = [
        Submit { deadline_s: Some(5_000.0), priority: 2, ..text("with a deadline") },
        Submit { after: vec![parent], on_parent_failure: OnParentFailure::Run, ..text("after another") },
        Submit { concurrency_key: Some("k".to_owned()), ..text("with a key") },
        Submit { not_before: Some(THEN.after(9_000.0).as_secs()), ..text("with a date") },
        Submit { submitter: Some("laptop".to_owned()), ..text("of a submitter") },
    ];
    for submit in new {
        soon(store.submit(&ME, Submit { task_type: "new".to_owned(), ..submit })).await?;
    }
    let once = Submit { task_type: "once".to_owned(), max_attempts: 1, ..text("failed by its worker") };
    soon(store.submit(&ME, once)).await?;
    let fence = claimed_as(&store, "once").await?;
    let fail = Fail { task_id: fence.0, fence: fence.1, error: "no".to_owned(), retryable: false, delay_s: None };
    soon(store.fail(&ME, fail)).await?;
    soon(store.submit(&ME, Submit { task_type: "asking".to_owned(), ..text("asking") })).await?;
    let fence = claimed_as(&store, "asking").await?;
    let texts = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), Json::from_text(key))).collect();
    let ask = Renew { input_requests: texts(&["open", "answered"]), ..Renew::new(fence.0, fence.1, 86_400.0) };
    soon(store.renew(&ME, ask)).await?;
    soon(store.answer(&ME, Answer { task_id: fence.0, input_responses: texts(&["answered"]) })).await?;
    let cached = CacheSet { key: "cached".to_owned(), value: Json::from_text("value"), ttl_s: Some(9_000.0) };
    soon(store.cache_set(&ME, cached)).await?;
    soon(store.pause(&ME, Pause { task_types: vec!["paused".to_owned()], drain: false })).await?;
    let limit = Limit { task_type: None, concurrency_key: Some("k".to_owned()), running_max: Some(2) };
    soon(store.limit(&ME, limit)).await?;
    let tasks = soon(store.list(&ME, List { limit: 1_000, ..List::default() })).await?.tasks;
    let lines: Vec<_> = tasks.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    fs::write(fixture(SCHEMA_VERSION, "json"), format!("[\n{}\n]\n", lines.join(",\n")))?;
    fs::write(fixture(SCHEMA_VERSION, "sql"), dumped(&Connection::open(file(&directory))?)?)?;
    Ok(())
}

/// The statements that make the same file.
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

fn expected(version: i64) -> Result<Vec<Task>, Box<dyn Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(fixture(version, "json"))?)?)
}

fn fixture(version: i64, extension: &str) -> PathBuf {
    let name = format!("src/sqlite/fixtures/schema-{version}.{extension}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn find<'a>(tasks: &'a [Task], text: &str) -> Result<&'a Task, Box<dyn Error>> {
    let of = |task: &&Task| task.payload == Json::from_text(text);
    Ok(tasks.iter().find(of).ok_or("a task of the fixture")?)
}

fn text(text: &str) -> Submit {
    Submit::new("new", Json::from_text(text))
}

async fn claimed_text(store: &SqliteStore, claim: Claim) -> Result<String, Box<dyn Error>> {
    let task = soon(store.claim(&ME, Claim { wait_s: 10.0, ..claim })).await?.task.ok_or("a task in time")?;
    Ok(task.payload.to()?)
}

async fn claimed_as(store: &SqliteStore, task_type: &str) -> Result<(TaskId, Fence), Box<dyn Error>> {
    let claim = Claim { supported_task_types: vec![task_type.to_owned()], lease_s: 86_400.0, ..Claim::new("w") };
    let task = soon(store.claim(&ME, claim)).await?.task.ok_or("a task")?;
    Ok((task.task_id, task.fence.ok_or("a fence")?))
}

fn open(path: &Path, clock: &Arc<ManualClock>) -> Result<SqliteStore, StoreError> {
    let manual: Arc<ManualClock> = Arc::clone(clock);
    SqliteStore::open(path, StoreOptions::new(owner()).with_clock(manual))
}

/// The peer that kept the fixture of version 1.
fn owner() -> PeerId {
    "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo".parse().expect("it was printed by a peer")
}
