use rusqlite::{Row, types::FromSql};
use taskqueue_api::{Fence, Json, TaskId};

use super::Checksum;
use crate::{
    Fault,
    engine::{Elapsed, Policy, Wall},
};

/// The reason why a row cannot be used.
#[derive(Debug)]
pub(crate) enum RowError {
    /// The content is not the content that was written.
    Damaged,
    /// SQLite could not read the row.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, _) if code.code == rusqlite::ErrorCode::DatabaseCorrupt => {
                Self::Damaged
            }
            rusqlite::Error::SqliteFailure(..) => Self::Sqlite(error),
            // This store never writes a value of another type or out of its range.
            _ => Self::Damaged,
        }
    }
}

impl From<RowError> for Fault {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Damaged => Self::Damaged,
            RowError::Sqlite(error) => error.into(),
        }
    }
}

/// Takes the columns of a row one after the other.
pub(crate) struct Columns<'a, 'stmt> {
    row: &'a Row<'stmt>,
    at: usize,
}

impl<'a, 'stmt> Columns<'a, 'stmt> {
    pub(crate) const fn new(row: &'a Row<'stmt>) -> Self {
        Self { row, at: 0 }
    }

    pub(crate) fn take<T: FromSql>(&mut self) -> Result<T, RowError> {
        let value = self.row.get(self.at)?;
        self.at += 1;
        Ok(value)
    }

    /// Takes a column that a later schema version has added. A repair also reads files of earlier versions as they are,
    /// and such a file does not have the column.
    pub(crate) fn added<T: FromSql>(&mut self) -> Result<Option<T>, RowError> {
        if self.at >= self.row.as_ref().column_count() { Ok(None) } else { self.take() }
    }

    pub(crate) fn id(&mut self) -> Result<TaskId, RowError> {
        self.take().map(TaskId::from_bytes)
    }

    pub(crate) fn wall(&mut self) -> Result<Wall, RowError> {
        self.take().map(Wall::from_micros)
    }

    pub(crate) fn wall_if_any(&mut self) -> Result<Option<Wall>, RowError> {
        Ok(self.take::<Option<i64>>()?.map(Wall::from_micros))
    }

    pub(crate) fn elapsed(&mut self) -> Result<Elapsed, RowError> {
        self.take().map(Elapsed::from_micros)
    }

    pub(crate) fn elapsed_if_any(&mut self) -> Result<Option<Elapsed>, RowError> {
        Ok(self.take::<Option<i64>>()?.map(Elapsed::from_micros))
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, RowError> {
        u64::try_from(self.take::<i64>()?).map_err(|_| RowError::Damaged)
    }

    pub(crate) fn fence(&mut self) -> Result<Option<Fence>, RowError> {
        let (epoch, counter) = (self.take::<Option<i64>>()?, self.take::<Option<i64>>()?);
        match (epoch, counter) {
            (Some(epoch), Some(counter)) => {
                Ok(Some(Fence { epoch: epoch.cast_unsigned(), counter: counter.cast_unsigned() }))
            }
            (None, None) => Ok(None),
            _ => Err(RowError::Damaged),
        }
    }

    pub(crate) fn words(&mut self) -> Result<Vec<String>, RowError> {
        match self.take::<Option<String>>()? {
            Some(text) => serde_json::from_str(&text).map_err(|_| RowError::Damaged),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn policy(&mut self) -> Result<Policy, RowError> {
        Ok(Policy { max_attempts: self.take()?, backoff_s: self.take()?, result_ttl_s: self.take()? })
    }

    pub(crate) fn json(&mut self) -> Result<Json, RowError> {
        Json::parse(self.take()?).map_err(|_| RowError::Damaged)
    }

    pub(super) fn json_if_any(&mut self) -> Result<Option<Json>, RowError> {
        self.take::<Option<String>>()?.map(Json::parse).transpose().map_err(|_| RowError::Damaged)
    }

    /// Takes an unsigned number, whose column has the same bits.
    pub(crate) fn bits(&mut self) -> Result<u64, RowError> {
        Ok(self.take::<i64>()?.cast_unsigned())
    }

    /// Compares the stored checksum with the checksum of the content that was read.
    pub(crate) fn checked(&mut self, sum: u32) -> Result<(), RowError> {
        if self.take::<i64>()? == i64::from(sum) { Ok(()) } else { Err(RowError::Damaged) }
    }

    /// Takes the stored checksum of a row whose checked content ends with a column behind it. The caller compares it.
    pub(crate) fn sum(&mut self) -> Result<i64, RowError> {
        self.take()
    }
}

/// Returns the two columns of a fence. They have the same bits, because columns are signed.
pub(super) fn fence_columns(fence: Option<Fence>) -> (Option<i64>, Option<i64>) {
    (fence.map(|fence| fence.epoch.cast_signed()), fence.map(|fence| fence.counter.cast_signed()))
}

pub(super) fn feed_policy(sum: &mut Checksum, policy: Policy) {
    sum.int(policy.max_attempts).real(policy.backoff_s).real(policy.result_ttl_s);
}
