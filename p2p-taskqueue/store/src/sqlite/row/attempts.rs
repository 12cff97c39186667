use taskqueue_api::{AttemptOutcome, PeerId};

use super::{Checksum, RowError};
use crate::engine::{Attempt, AttemptEnd, Attempts, Wall};

/// Returns the column for the attempts: one field after the other, each text with its length before it. A claim and an
/// end write it with the row of the task, so it is short and quickly made.
pub(super) fn written(attempts: &Attempts) -> Option<Vec<u8>> {
    let attempts = attempts.as_slice();
    if attempts.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(attempts.len() * USUAL_BYTES);
    for Attempt { machine, worker, started_at, end } in attempts {
        put(&mut bytes, &machine.to_bytes());
        put(&mut bytes, worker.as_bytes());
        bytes.extend(started_at.as_micros().to_le_bytes());
        bytes.push(end.as_ref().map_or(RUNS, |end| outcome_number(end.outcome)));
        if let Some(AttemptEnd { at, error, .. }) = end {
            bytes.extend(at.as_micros().to_le_bytes());
            bytes.push(u8::from(error.is_some()));
            error.iter().for_each(|error| put(&mut bytes, error.as_bytes()));
        }
    }
    Some(bytes)
}

/// Reads the column.
pub(super) fn read(column: Option<&[u8]>) -> Result<Attempts, RowError> {
    let mut bytes = Bytes(column.unwrap_or_default());
    let mut attempts = Vec::new();
    while !bytes.0.is_empty() {
        attempts.push(bytes.attempt().ok_or(RowError::Damaged)?);
    }
    Ok(Attempts::of(attempts))
}

/// Feeds the column, if there is one. Its name tells it from the fields before it, which may be absent.
pub(super) fn feed(sum: &mut Checksum, column: Option<&[u8]>) {
    if column.is_some() {
        sum.text("attempts").bytes(column);
    }
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend((field.len() as u64).to_le_bytes());
    bytes.extend(field);
}

/// The bytes that were not read yet.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn attempt(&mut self) -> Option<Attempt> {
        let machine = PeerId::from_bytes(self.field()?).ok()?;
        let (worker, started_at) = (self.text()?, self.wall()?);
        let outcome = match self.byte()? {
            RUNS => None,
            number => Some(AttemptOutcome::ALL.into_iter().find(|outcome| outcome_number(*outcome) == number)?),
        };
        let end = match outcome {
            None => None,
            Some(outcome) => {
                let (at, has_error) = (self.wall()?, self.byte()?);
                Some(AttemptEnd { at, outcome, error: if has_error == 0 { None } else { Some(self.text()?) } })
            }
        };
        Some(Attempt { machine, worker, started_at, end })
    }

    fn field(&mut self) -> Option<&[u8]> {
        let length = usize::try_from(u64::from_le_bytes(self.array()?)).ok()?;
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.field()?.to_vec()).ok()
    }

    fn wall(&mut self) -> Option<Wall> {
        Some(Wall::from_micros(i64::from_le_bytes(self.array()?)))
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

const fn outcome_number(outcome: AttemptOutcome) -> u8 {
    match outcome {
        AttemptOutcome::Completed => 1,
        AttemptOutcome::Failed => 2,
        AttemptOutcome::Released => 3,
        AttemptOutcome::LeaseExpired => 4,
        AttemptOutcome::Cancelled => 5,
        AttemptOutcome::DeadlinePassed => 6,
        AttemptOutcome::Freed => 7,
    }
}

/// Stands in the place of an outcome while the attempt runs.
const RUNS: u8 = 0;

/// The bytes of an attempt with a short name and without an error.
const USUAL_BYTES: usize = 96;
