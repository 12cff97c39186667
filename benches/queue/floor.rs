use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use super::Error;

/// About as much as a small commit writes.
const BLOCK: [u8; 512] = [7; 512];

/// The length of a log that is overwritten from its start again and again.
const PREWRITTEN_BYTES: u64 = 4 * 1024 * 1024;

/// Appends and syncs for a time, and returns how often per second. No log that grows can commit more often.
pub(crate) fn append(path: &Path, during: Duration) -> Result<f64, Error> {
    let file = File::options().create(true).append(true).open(path)?;
    repeat(during, || (&file).write_all(&BLOCK).and_then(|()| file.sync_data()))
}

/// Overwrites an existing file and syncs it, and returns how often per second. The file's length and place stay the
/// same, so the file system has less to do.
pub(crate) fn overwrite(path: &Path, during: Duration) -> Result<f64, Error> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    if file.metadata()?.len() < PREWRITTEN_BYTES {
        (&file).write_all(&vec![1; usize::try_from(PREWRITTEN_BYTES)?])?;
        file.sync_all()?;
    }
    (&file).seek(SeekFrom::Start(0))?;
    repeat(during, || {
        if (&file).stream_position()? >= PREWRITTEN_BYTES {
            (&file).seek(SeekFrom::Start(0))?;
        }
        (&file).write_all(&BLOCK).and_then(|()| file.sync_data())
    })
}

fn repeat(during: Duration, mut work: impl FnMut() -> std::io::Result<()>) -> Result<f64, Error> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < during {
        work()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}
