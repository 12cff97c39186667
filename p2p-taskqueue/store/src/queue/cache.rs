use taskqueue_api::{CacheDeleted, CacheSet, CacheStored, Response};

use super::{
    chores::put_off,
    turn::{Halt, Turn, usable},
};
use crate::backend::{CacheRow, CacheTable as _};

/// Writes a value into the cache, and removes the least recently used values until it fits.
pub(super) fn set(turn: &mut Turn<'_>, set: &CacheSet, bytes_max: u64) -> Result<Response, Halt> {
    let ttl_s = set.ttl_s.filter(|ttl_s| *ttl_s > 0.0);
    let expires_at = ttl_s.map(|ttl_s| turn.now.elapsed.after(ttl_s));
    let bytes = (set.key.len() + set.value.len_bytes()) as u64;
    // A damaged value is replaced like any other.
    let before = usable(turn.rows.cache_size(&set.key))?.flatten().unwrap_or(0);
    let row = CacheRow { value: set.value.clone(), expires_at, used_at: turn.now.elapsed };
    turn.rows.put_cached(&set.key, &row)?;
    let memory = &mut *turn.memory;
    memory.cache_bytes = memory.cache_bytes.saturating_sub(before) + bytes;
    memory.cache_at = memory.cache_at.into_iter().chain(expires_at).min();
    Ok(Response::CacheStored(CacheStored { evicted: make_room(turn, &set.key, bytes_max)? }))
}

/// Removes a value.
pub(super) fn delete(turn: &mut Turn<'_>, key: &str) -> Result<Response, Halt> {
    let size = usable(turn.rows.cache_size(key))?.unwrap_or(Some(0));
    if let Some(size) = size {
        forget(turn, key, size)?;
    }
    Ok(Response::CacheDeleted(CacheDeleted { deleted: size.is_some() }))
}

/// Notes that a value was used.
pub(super) fn used(turn: &mut Turn<'_>, key: &str) -> Result<(), Halt> {
    Ok(turn.rows.touch_cached(key, turn.now.elapsed)?)
}

/// Removes values that have expired.
pub(super) fn sweep(turn: &mut Turn<'_>) -> Result<(), Halt> {
    if turn.memory.cache_at.is_none_or(|at| at > turn.now.elapsed) {
        return Ok(());
    }
    let due = expired(turn, SWEEP_MAX)?;
    for (key, size) in &due {
        forget(turn, key, *size)?;
    }
    let next = turn.rows.first_cache_expiry()?;
    let is_stuck = match expired(turn, 1)?.first() {
        Some(first) => due.contains(first),
        None => true,
    };
    turn.memory.cache_at = if is_stuck { next.map(|at| put_off(turn, at, "values of the cache")) } else { next };
    Ok(())
}

/// Returns values that have expired, or none when they cannot be read.
fn expired(turn: &mut Turn<'_>, count_max: usize) -> Result<Vec<(String, u64)>, Halt> {
    Ok(usable(turn.rows.cache_expired(turn.now.elapsed, count_max))?.unwrap_or_default())
}

fn make_room(turn: &mut Turn<'_>, keep: &str, bytes_max: u64) -> Result<u64, Halt> {
    let mut evicted = 0;
    while turn.memory.cache_bytes > bytes_max {
        let mut least_used = usable(turn.rows.cache_least_used(EVICTED_AT_ONCE))?.unwrap_or_default();
        least_used.retain(|(key, _)| key != keep);
        if least_used.is_empty() {
            break;
        }
        for (key, size) in least_used {
            if turn.memory.cache_bytes <= bytes_max {
                break;
            }
            forget(turn, &key, size)?;
            evicted += 1;
        }
    }
    Ok(evicted)
}

fn forget(turn: &mut Turn<'_>, key: &str, size: u64) -> Result<(), Halt> {
    turn.rows.remove_cached(key)?;
    turn.memory.cache_bytes = turn.memory.cache_bytes.saturating_sub(size);
    Ok(())
}

/// The number of values that are looked at together to make room.
const EVICTED_AT_ONCE: usize = 16;

/// The most values that are removed in one transaction.
const SWEEP_MAX: usize = 64;
