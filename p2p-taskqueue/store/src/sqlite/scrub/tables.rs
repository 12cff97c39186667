use rusqlite::Row;

use super::{
    super::{
        cache, edge, key, line, route,
        row::{Columns, RowError, read_place},
        timer, types,
    },
    Scrub, Stopped,
};

/// A table other than those of the tasks: the name of its rows in messages, the query for them, and the function that
/// reads one.
type Table = (&'static str, &'static str, fn(&Row<'_>) -> Result<(), RowError>);

impl Scrub<'_> {
    /// Reads each row of the tables other than those of the tasks.
    pub(super) fn checksums(&mut self) -> Result<(), Stopped> {
        for (what, sql, read) in TABLES {
            if let Err(error) = self.read_all(what, sql, *read) {
                self.unreadable(what, error)?;
            }
        }
        Ok(())
    }

    fn read_all(&mut self, what: &str, sql: &str, read: fn(&Row<'_>) -> Result<(), RowError>) -> Result<(), RowError> {
        let connection = self.connection;
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok(()) => {}
                Err(RowError::Damaged) => self.problem(format!("{what}: damaged")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks for rows and entries whose task does not exist or stands elsewhere.
    pub(super) fn leftovers(&mut self) -> Result<(), Stopped> {
        for (what, sql) in LEFTOVERS {
            let found = self.connection.prepare(sql).and_then(|mut leftovers| {
                leftovers.query_map([], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()
            });
            match found {
                Ok(found) => found.into_iter().for_each(|seq| self.problem(format!("{what} of task number {seq}"))),
                Err(error) => self.unreadable(what, error.into())?,
            }
        }
        Ok(())
    }

    /// Compares the stored counts with the number of rows.
    pub(super) fn counts(&mut self) -> Result<(), Stopped> {
        for (what, sql) in COUNTS {
            let found = self.connection.prepare(sql).and_then(|mut differing| {
                differing.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
            });
            match found {
                Ok(found) => found.into_iter().for_each(|name| self.problem(format!("{what} {name:?} is wrong"))),
                Err(error) => self.unreadable(what, error.into())?,
            }
        }
        Ok(())
    }
}

const TABLES: &[Table] = &[
    ("a place in line", "SELECT priority,ready_at,id,seq,crc,lane FROM line", |row| {
        let lane: String = row.get(5)?;
        read_place(row, &lane).map(drop)
    }),
    ("a timer", "SELECT at,seq,crc,kind FROM timer", |row| {
        timer::read(timer::of_kind(row.get(3)?).ok_or(RowError::Damaged)?, row).map(drop)
    }),
    ("a note of who waits for whom", "SELECT parent,child,crc FROM edge", |row| edge::read(row).map(drop)),
    ("a count of ready tasks", "SELECT number,ready,crc FROM block", |row| line::read_count(row).map(drop)),
    ("an idempotency key", "SELECT scope,key,content,id,expires_at,crc FROM idempotency", |row| {
        let mut columns = Columns::new(row);
        let (scope, key): (String, String) = (columns.take()?, columns.take()?);
        key::read(&scope, &key, &mut columns).map(drop)
    }),
    ("a task type", "SELECT * FROM type", |row| types::read(row).map(drop)),
    ("a limit", "SELECT * FROM key_limit", |row| types::read_key_limit(row).map(drop)),
    ("a note of who keeps a task", "SELECT id,owner,crc FROM route", |row| {
        route::read(&mut Columns::new(row)).map(drop)
    }),
    ("a cached value", "SELECT key,bytes,expires_at,used_at,crc,value FROM cache", |row| cache::read(row).map(drop)),
];

const LEFTOVERS: &[(&str, &str)] = &[
    (
        "a standing",
        "SELECT max(key,~key) FROM live l WHERE NOT EXISTS \
         (SELECT 1 FROM task t WHERE t.seq=max(l.key,~l.key) AND t.id=l.id)",
    ),
    ("an end", "SELECT seq FROM finished f WHERE NOT EXISTS (SELECT 1 FROM task t WHERE t.seq=f.seq AND t.id=f.id)"),
    (
        "a place in line",
        "SELECT n.seq FROM line n LEFT JOIN task t ON t.seq=n.seq LEFT JOIN live l ON l.key=~n.seq \
         WHERE t.seq IS NULL OR t.id<>n.id OR coalesce(l.phase,0)<>0 OR coalesce(l.ready_at,t.ready_at)<>n.ready_at \
         OR EXISTS (SELECT 1 FROM live WHERE key=n.seq) OR EXISTS (SELECT 1 FROM finished WHERE seq=n.seq)",
    ),
    (
        "a timer",
        "SELECT seq FROM timer m WHERE NOT CASE kind \
         WHEN 0 THEN EXISTS (SELECT 1 FROM live WHERE key=~m.seq AND ready_at=m.at) \
         WHEN 1 THEN EXISTS (SELECT 1 FROM live WHERE key IN (m.seq,~m.seq) AND deadline=m.at) \
         WHEN 2 THEN EXISTS (SELECT 1 FROM finished WHERE seq=m.seq AND expires_at=m.at) \
         WHEN 3 THEN EXISTS (SELECT 1 FROM live WHERE key=~m.seq AND phase=4 AND not_before=m.at) ELSE 0 END",
    ),
];

/// The type with the empty name stands for the whole queue and counts nothing.
const COUNTS: &[(&str, &str)] = &[
    (
        "the count of tasks of type",
        "WITH counted AS ( \
           SELECT t.task_type AS name, \
             sum(f.seq IS NULL AND l.key IS NULL) AS queued, sum(f.seq IS NULL AND l.key IS NOT NULL) AS running, \
             coalesce(sum(f.status=3),0) AS completed, coalesce(sum(f.status=4),0) AS failed, \
             coalesce(sum(f.status=5),0) AS cancelled \
           FROM task t LEFT JOIN finished f ON f.seq=t.seq LEFT JOIN live l ON l.key=t.seq GROUP BY t.task_type) \
         SELECT name FROM counted c WHERE NOT EXISTS (SELECT 1 FROM type y WHERE y.name=c.name AND y.queued=c.queued \
           AND y.running=c.running AND y.completed=c.completed AND y.failed=c.failed AND y.cancelled=c.cancelled) \
         UNION ALL SELECT name FROM type WHERE queued+running+completed+failed+cancelled>0 \
           AND NOT EXISTS (SELECT 1 FROM counted c WHERE c.name=type.name)",
    ),
    (
        "the count of ready tasks of block",
        "SELECT CAST(number AS TEXT) FROM (SELECT seq/1024 AS number, count(*) AS ready FROM line GROUP BY 1) c \
         WHERE NOT EXISTS (SELECT 1 FROM block b WHERE b.number=c.number AND b.ready>=c.ready)",
    ),
];
