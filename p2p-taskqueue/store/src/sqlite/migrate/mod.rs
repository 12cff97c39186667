//! Files of earlier versions, brought to the current one when they are opened.

mod copy;
mod old;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::schema;

/// The versions that are migrated.
pub(super) const OLD_VERSIONS: [i64; 3] = [FIRST_VERSION, 2, 3];

/// Brings the tables of an old version to the current ones, all in one transaction: it is done, or the file is as it was.
/// Everything is kept: leases, keys, routes, and rows that are damaged, which stay so.
pub(super) fn migrate(connection: &Connection, found: i64) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if found == FIRST_VERSION {
        transaction.execute_batch(SET_ASIDE)?;
        transaction.execute_batch(schema::TABLES)?;
        copy::everything(&transaction)?;
        transaction.execute_batch(REMOVE)?;
    } else {
        if found == 2 {
            transaction.execute_batch(WIDEN_2)?;
        }
        transaction.execute_batch(WIDEN_3)?;
    }
    schema::mark(&transaction)?;
    transaction.commit()
}

/// Its tables are other ones; those of later versions only lack columns.
const FIRST_VERSION: i64 = 1;

/// What version 3 has more than version 2. The rows stay as they are: a column that is not there reads as nothing.
const WIDEN_2: &str = "
ALTER TABLE task ADD COLUMN submitter TEXT;
ALTER TABLE live ADD COLUMN inputs TEXT;
";

/// What version 4 has more than version 3. Its spans run on elapsed time, which goes on from the wall time that they had.
const WIDEN_3: &str = "
ALTER TABLE meta ADD COLUMN elapsed INTEGER;
ALTER TABLE meta ADD COLUMN wall INTEGER;
ALTER TABLE meta ADD COLUMN uptime INTEGER;
ALTER TABLE meta ADD COLUMN boot BLOB;
ALTER TABLE live ADD COLUMN kept_until INTEGER;
";

/// Makes room for the new tables.
const SET_ASIDE: &str = "
DROP INDEX task_id;
DROP INDEX live_ready; DROP INDEX live_delayed; DROP INDEX live_running;
DROP INDEX finished_expires; DROP INDEX finished_badly;
DROP INDEX idempotency_expires;
ALTER TABLE meta RENAME TO old_meta;
ALTER TABLE task RENAME TO old_task;
ALTER TABLE live RENAME TO old_live;
ALTER TABLE finished RENAME TO old_finished;
ALTER TABLE idempotency RENAME TO old_idempotency;
ALTER TABLE route RENAME TO old_route;
";

const REMOVE: &str = "
DROP TABLE old_meta; DROP TABLE old_task; DROP TABLE old_live;
DROP TABLE old_finished; DROP TABLE old_idempotency; DROP TABLE old_route;
";
