use super::timeline::Timeline;
use crate::{
    StoreError,
    backend::{Fault, Log, Meta, Rows},
    engine::{EPOCH_RANDOM_BITS, Live, Now},
};

/// Does the work of opening a store, durably: raises the epoch, notes the clocks, and keeps the leases of running tasks
/// once.
pub(super) fn begin(
    rows: &mut dyn Rows,
    log: &mut Option<Box<dyn Log>>,
    timeline: &Timeline,
) -> Result<(), StoreError> {
    let random = getrandom::u32().map_err(|error| StoreError::Threads(error.into()))?;
    let now = timeline.now();
    rows.begin()?;
    let meta = rows.meta()?;
    let epoch = next_epoch(meta.epoch, random);
    let begun = Meta { epoch, batch: meta.batch + 1, clocks: Some(timeline.clocks(now)), ..meta };
    keep_leases(rows, now)?;
    rows.save_meta(&begun)?;
    rows.commit()?;
    if let Some(log) = log {
        log.sync().map_err(StoreError::Threads)?;
        log.note_synced(begun.batch);
    }
    Ok(())
}

/// Returns the next epoch: the number of openings above the random bits. So no fence is issued twice in the life of a
/// store, nor by a copy of its folder (clause T2).
const fn next_epoch(epoch: u64, random: u32) -> u64 {
    (((epoch >> EPOCH_RANDOM_BITS) + 1) << EPOCH_RANDOM_BITS) | random as u64
}

/// Keeps the lease of each running task for one more length of it, so that its worker finds the store again (clause
/// T8). That is noted, so that a store which is opened again and again does not keep a lease that nobody renews.
fn keep_leases(rows: &mut dyn Rows, now: Now) -> Result<(), Fault> {
    for (seq, id, live) in rows.running()? {
        if live.kept_until.is_none() {
            let kept_until = Some(now.elapsed.after(live.lease_s));
            rows.put_live(seq, id, &Live { kept_until, ..live })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_whatever_the_random_bits_are() {
        assert!(next_epoch(7, 0) > 7, "whatever the epoch was");
        let first = next_epoch(7, u32::MAX);
        assert!(next_epoch(first, 0) > first);
        assert_ne!(next_epoch(first, 1), next_epoch(first, 2));
    }
}
