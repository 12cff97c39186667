//! What is particular to this store: its file, its failures.

use rusqlite::Connection;

/// Failures that a test asks for.
#[derive(Debug, Default)]
pub(super) struct Faults {}

impl Faults {
    pub(super) fn before_commit(&self, _connection: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}
