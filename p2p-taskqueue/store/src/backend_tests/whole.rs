//! Tests of transactions, and of rows that are opened again.

use super::{
    Rig, TestResult,
    fixture::commit,
    snapshot::{change_everything, furnish, photograph, photograph_rows},
};
use crate::Room;

pub(crate) fn a_transaction_sees_its_own_changes(rig: Rig) -> TestResult {
    let (mut rows, _) = rig.open()?;
    commit(&mut *rows, furnish)?;
    rows.begin()?;
    change_everything(&mut *rows)?;
    let seen = photograph_rows(&mut *rows)?;
    rows.commit()?;
    assert_eq!(photograph_rows(&mut *rows)?, seen);
    Ok(())
}

pub(crate) fn a_rollback_leaves_nothing(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, furnish)?;
    let before = photograph(&mut *rows, &mut *reads)?;
    for _ in 0..2 {
        rows.begin()?;
        change_everything(&mut *rows)?;
        assert_ne!(photograph(&mut *rows, &mut *reads)?, before);
        rows.rollback()?;
        assert_eq!(photograph(&mut *rows, &mut *reads)?, before);
    }
    commit(&mut *rows, change_everything)?;
    assert_ne!(photograph(&mut *rows, &mut *reads)?, before);
    Ok(())
}

pub(crate) fn rows_that_are_dropped_roll_back(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    commit(&mut *rows, furnish)?;
    let before = photograph(&mut *rows, &mut *reads)?;
    rows.begin()?;
    change_everything(&mut *rows)?;
    drop(rows);
    let mut rows = rig.backend.open_rows()?;
    assert_eq!(photograph(&mut *rows, &mut *reads)?, before);
    commit(&mut *rows, change_everything)?;
    Ok(())
}

pub(crate) fn what_is_opened_again_is_the_same(rig: Rig) -> TestResult {
    let Rig { mut backend, reopen } = rig;
    let Some(reopen) = reopen else {
        println!("skipped: its rows end with it");
        return Ok(());
    };
    let mut expected = None;
    for change in [furnish, change_everything] {
        let (mut rows, mut reads) = (backend.open_rows()?, backend.open_reads()?);
        if let Some(expected) = expected {
            assert_eq!(photograph(&mut *rows, &mut *reads)?, expected);
        }
        commit(&mut *rows, change)?;
        expected = Some(photograph(&mut *rows, &mut *reads)?);
        rows.tidy(true)?;
        // An open transaction is forgotten when its rows are dropped.
        rows.begin()?;
        rows.put_key_limit("forgotten", Some(1))?;
        drop((rows, reads));
        backend = reopen(backend);
    }
    let (mut rows, mut reads) = (backend.open_rows()?, backend.open_reads()?);
    assert_eq!(Some(photograph(&mut *rows, &mut *reads)?), expected);
    Ok(())
}

pub(crate) fn the_log_and_the_reserve_can_be_used(rig: Rig) -> TestResult {
    let (mut rows, mut reads) = rig.open()?;
    let (first, second) = (rig.backend.open_log()?, rig.backend.open_log()?);
    commit(&mut *rows, furnish)?;
    let before = photograph(&mut *rows, &mut *reads)?;
    for mut log in [first, second].into_iter().flatten() {
        log.sync()?;
        log.note_synced(rows.meta()?.batch);
    }
    for _ in 0..2 {
        assert_eq!(rig.backend.set_aside(rows.file_room()?), Room::Ample);
        assert_eq!(rig.backend.set_aside(rows.file_room()?), Room::Ample);
        rig.backend.spend_reserve();
        rig.backend.spend_reserve();
    }
    assert_eq!(photograph(&mut *rows, &mut *reads)?, before);
    Ok(())
}
