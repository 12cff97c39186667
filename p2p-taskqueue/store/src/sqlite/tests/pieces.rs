//! Tests what one piece of a long read costs.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use taskqueue_api::{List, Order, Selection, TaskStatus};

use super::{
    super::{OpenFile, readings::Readings, reads::SqliteReads},
    sample::{TestResult, completed, file, id, open, running, task},
};
use crate::{
    Reads, Seq,
    engine::{Ended, Wall},
    paging::{Choosing, Filling},
};

/// With filters that no task passes, the most expensive piece must not cost more with ten times the tasks.
#[test]
fn a_piece_costs_the_same_however_many_tasks_there_are() -> TestResult {
    let (few, many) = (dearest_pieces(FEW)?, dearest_pieces(10 * FEW)?);
    for ((what, few), (_, many)) in few.iter().zip(&many) {
        assert!(many <= &(few * 2), "{what}: {few} steps of SQLite with {FEW} tasks, {many} with ten times as many");
    }
    Ok(())
}

/// Returns the steps of SQLite's virtual machine in the most expensive piece of each kind of read.
fn dearest_pieces(tasks: Seq) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let OpenFile { mut rows, .. } = open(&directory)?;
    rows.begin()?;
    for seq in 1..=tasks {
        let row = task(seq);
        rows.insert_task(&row)?;
        let status = if seq % 2 == 0 { TaskStatus::Completed } else { TaskStatus::Failed };
        let ended = Ended { status, ..completed(&running(&row)) };
        rows.insert_ended(seq, id(seq), &ended, None)?;
    }
    rows.commit()?;
    let mut reads = SqliteReads::new(Readings::new(&file(&directory)).open()?);
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    reads.with(|connection| Ok(connection.progress_handler(STEPS_COUNTED, Some(count))))??;
    let mut dearest = Vec::new();
    let label = Some("nobody has it".to_owned());
    for status in [TaskStatus::Completed, TaskStatus::Failed, TaskStatus::Cancelled] {
        for label in [None, label.clone()] {
            // No task ended before this time, so none passes the filter.
            let selection = Selection { label, ..Selection::ended(status) };
            let mut choosing = Choosing::new(selection.clone(), Wall::from_micros(0));
            let cost = dearest_piece(&steps, || reads.select_on(&mut choosing))?;
            dearest.push((format!("{selection:?}"), cost));
        }
    }
    for status in TaskStatus::ALL.into_iter().map(Some).chain([None]) {
        for order in [Order::Oldest, Order::Newest] {
            let query = List { status, order, label: label.clone(), ..List::default() };
            let mut page = Filling::new(query.clone())?;
            let cost = dearest_piece(&steps, || reads.list_on(&mut page))?;
            assert!(page.into_page().records.is_empty());
            dearest.push((format!("{query:?}"), cost));
        }
    }
    Ok(dearest)
}

fn dearest_piece<E>(steps: &AtomicU64, mut piece: impl FnMut() -> Result<bool, E>) -> Result<u64, E> {
    let mut dearest = 0;
    loop {
        let before = steps.load(Ordering::Relaxed);
        let is_done = piece()?;
        dearest = dearest.max(steps.load(Ordering::Relaxed) - before);
        if is_done {
            // Costs next to nothing are not compared.
            return Ok(dearest.max(10));
        }
    }
}

const FEW: Seq = 2_000;

/// The number of steps that count as one.
const STEPS_COUNTED: i32 = 10;
