use super::tables::Seen;
use crate::{CacheRow, engine::Elapsed};

/// Returns the bytes of all values with their keys.
pub(super) fn bytes(seen: &Seen<'_>) -> u64 {
    seen.cache_bytes.get(&()).copied().unwrap_or(0)
}

/// Returns the bytes of one value with its key.
pub(super) fn size(key: &str, row: &CacheRow) -> u64 {
    (key.len() + row.value.len_bytes()) as u64
}

/// Returns the first values of an order by time that are due at `by` or before, with their bytes.
pub(super) fn first<'a>(
    seen: &Seen<'_>,
    order: impl Iterator<Item = (&'a (Elapsed, String), &'a ())>,
    by: Elapsed,
    count_max: usize,
) -> Vec<(String, u64)> {
    let keys = order.map(|(entry, ())| entry).take_while(|(at, _)| *at <= by).take(count_max);
    keys.filter_map(|(_, key)| Some((key.clone(), size(key, seen.cache.get(key)?)))).collect()
}
