//! Shows everything that a backend holds, so that states before and after can be compared.

use std::{error::Error, fmt::Write};

use taskqueue_api::{Json, List, Selection, TaskStatus};

use super::fixture::{
    accept, at, cache_row, end, ended, gallery, gallery_row, id, lanes, owner, running, seqs, span, start, task,
};
use crate::{Fault, KeyRow, Meta, Reads, Rows, Timer, TypeRow};

/// Writes rows of every kind.
pub(super) fn furnish(rows: &mut dyn Rows) -> Result<(), Fault> {
    gallery(rows)?;
    rows.add_edge(1, 10)?;
    rows.add_edge(4, 10)?;
    rows.put_key("a", "k", &KeyRow { content: [1; 32], id: id(1), expires_at: span(1.0) })?;
    rows.put_type("even", &TypeRow { counts: [1, 2, 3, 4, 5], ..TypeRow::default() })?;
    rows.put_type("", &TypeRow { paused: true, ..TypeRow::default() })?;
    rows.put_key_limit("k", Some(2))?;
    rows.put_route(id(90), owner(), 2)?;
    rows.put_cached("a", &cache_row("v", Some(1.0), 0.0))?;
    rows.put_cached("b", &cache_row("v", None, 60.0))
}

/// Changes something in every kind of row that [`furnish`] wrote.
pub(super) fn change_everything(rows: &mut dyn Rows) -> Result<(), Fault> {
    let meta = rows.meta()?;
    rows.save_meta(&Meta { batch: meta.batch + 1, next_seq: 40, ..meta })?;
    accept(rows, &task(30))?;
    let started = gallery_row(6);
    start(rows, &started, &running(&started, 9))?;
    end(rows, &gallery_row(12), &ended(TaskStatus::Failed, 50.0), Some(&Json::null()))?;
    rows.remove_edge(1, 10)?;
    rows.add_edge(6, 30)?;
    for (seq, timer) in [(3, Timer::Removal), (5, Timer::Deadline)] {
        if let Some((due, seq)) = rows.due(timer.at(i64::MAX), 99)?.into_iter().find(|(_, of)| *of == seq) {
            rows.clear_timer(due, seq)?;
        }
    }
    rows.remove_ended(3, id(3))?;
    rows.remove_task(3, id(3))?;
    rows.remove_keys(span(1.0), 9)?;
    rows.put_key("b", "k", &KeyRow { content: [2; 32], id: id(2), expires_at: span(2.0) })?;
    rows.put_type("even", &TypeRow { counts: [5, 4, 3, 2, 1], ..TypeRow::default() })?;
    rows.put_type("", &TypeRow::default())?;
    rows.put_key_limit("k", None)?;
    rows.put_key_limit("l", Some(1))?;
    rows.put_route(id(91), owner(), 2)?;
    rows.put_route(id(92), owner(), 2)?;
    rows.remove_cached("a")?;
    rows.touch_cached("b", span(120.0))?;
    rows.put_cached("c", &cache_row("value", Some(3.0), 0.0))
}

/// Returns everything that the rows and the readers answer, as a text.
pub(super) fn photograph(rows: &mut dyn Rows, reads: &mut dyn Reads) -> Result<String, Box<dyn Error>> {
    Ok(photograph_reads(reads)? + &photograph_rows(rows)?)
}

pub(super) fn photograph_rows(rows: &mut dyn Rows) -> Result<String, Box<dyn Error>> {
    let mut shown = String::new();
    let mut show = |answer: &dyn std::fmt::Debug| writeln!(shown, "{answer:?}");
    // Opening the rows may raise the epoch.
    show(&Meta { epoch: 0, ..rows.meta()? })?;
    for seq in 0..=40_u8 {
        show(&(rows.seq_of(id(seq))?, rows.task(seq.into())?, rows.live(seq.into())?, rows.ended(seq.into())?))?;
        show(&sorted(rows.children(seq.into(), 99)?))?;
    }
    show(&sorted(rows.running()?.into_iter().map(|(seq, ..)| seq).collect()))?;
    for lane in lanes(rows)? {
        show(&(rows.line(&lane, None, 99)?, lane))?;
    }
    for timer in Timer::ALL {
        show(&(rows.due(timer.at(i64::MAX), 99)?, rows.first_due(timer)?))?;
    }
    show(&sorted(rows.unsettled()?))?;
    show(&(rows.key("a", "k")?, rows.key("b", "k")?, rows.first_key_expiry()?))?;
    show(&(rows.types()?.len(), sorted(rows.key_limits()?)))?;
    show(&(rows.cache_bytes()?, ["a", "b", "c"].map(|key| rows.cache_size(key))))?;
    show(&(rows.cache_least_used(99)?, rows.cache_expired(span(1e9), 99)?, rows.first_cache_expiry()?))?;
    Ok(shown)
}

pub(super) fn photograph_reads(reads: &mut dyn Reads) -> Result<String, Box<dyn Error>> {
    let mut shown = String::new();
    let mut show = |answer: &dyn std::fmt::Debug| writeln!(shown, "{answer:?}");
    show(&reads.get(&(0..=40).map(id).collect::<Vec<_>>())?)?;
    show(&reads.list(&List { limit: 100, ..List::default() })?)?;
    for status in TaskStatus::ALL {
        show(&seqs(&reads.list(&List { status: Some(status), ..List::default() })?))?;
    }
    show(&reads.select(&Selection::ended(TaskStatus::Failed), at(1e9))?)?;
    show(&(reads.types(None, 1_000)?, reads.oldest_ready()?))?;
    show(&[90, 91, 92].map(|number| reads.route(id(number))))?;
    show(&["a", "b", "c"].map(|key| reads.cached(key)))?;
    Ok(shown)
}

pub(super) fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}
