//! Brings files of earlier releases to the current schema when they are opened.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::schema;

/// Brings the tables of one schema version to the next one, within the transaction of the whole migration.
pub(super) type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// The steps from the first released schema to the current one, in order.
pub(super) const STEPS: &[Step] = &[machines];

/// Applies the missing steps to a file of an earlier schema version, all in one transaction: either all are done, or
/// the file stays as it was. A step has to keep what it cannot read as it is, so that a damaged row stays damaged.
pub(super) fn migrate(connection: &Connection, found: i64, steps: &[Step]) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut version = 1;
    for step in steps {
        if version >= found {
            step(&transaction)?;
        }
        version += 1;
    }
    schema::mark(&transaction, version)?;
    transaction.commit()
}

/// Makes room for the machine that submitted a task, and for the machines that tried it.
fn machines(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE task ADD COLUMN submitted_by BLOB;
         ALTER TABLE live ADD COLUMN attempts BLOB;
         ALTER TABLE finished ADD COLUMN attempts BLOB;",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps to a schema that is two versions newer.
    const LATER: [Step; 2] = [
        |transaction| transaction.execute_batch("ALTER TABLE task ADD COLUMN second TEXT"),
        |transaction| {
            transaction.execute_batch("UPDATE task SET second='filled in'; CREATE TABLE third (x INTEGER) STRICT")
        },
    ];

    const KEPT: &str = "hex(id)||crc||payload";

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    /// Opens a file of the first version that has tasks.
    fn first() -> rusqlite::Result<Connection> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(include_str!("fixtures/schema-1.sql"))?;
        Ok(connection)
    }

    /// Returns the content of these columns for each task.
    fn content(connection: &Connection, columns: &str) -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("SELECT {columns} FROM task ORDER BY seq"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    }

    fn version(connection: &Connection) -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    }

    #[test]
    fn the_schema_version_is_raised_with_a_step() -> TestResult {
        assert_eq!(schema::SCHEMA_VERSION, 1 + i64::try_from(STEPS.len())?);
        Ok(())
    }

    #[test]
    fn a_file_takes_the_steps_that_it_lacks_and_keeps_its_rows() -> TestResult {
        let before = content(&first()?, KEPT)?;
        assert!(before.len() > 10, "{before:?}");
        for found in 1..=2 {
            let connection = first()?;
            if found == 2 {
                migrate(&connection, 1, &LATER[..1])?;
                assert_eq!(version(&connection)?, 2);
            }
            migrate(&connection, found, &LATER)?;
            assert_eq!((version(&connection)?, content(&connection, KEPT)?), (3, before.clone()));
            assert!(content(&connection, "second")?.iter().all(|second| second == "filled in"));
            assert!(connection.table_exists(None, "third")?);
        }
        Ok(())
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() -> TestResult {
        let connection = first()?;
        let before = content(&connection, KEPT)?;
        let fails: Step = |transaction| transaction.execute_batch("DELETE FROM task; DROP TABLE not_there");
        migrate(&connection, 1, &[LATER[0], fails]).unwrap_err();
        assert_eq!((version(&connection)?, content(&connection, KEPT)?), (1, before));
        assert!(content(&connection, "second").is_err(), "the first step is undone as well");
        Ok(())
    }
}
