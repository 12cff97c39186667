use std::time::Duration;

use taskqueue_api::{Json, Submit};

use super::*;
use crate::engine::{self, Elapsed, Now, Standing, Wall};

fn id(number: u16) -> TaskId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    TaskId::from_bytes(bytes)
}

fn record(number: u16, payload_bytes: usize) -> Record {
    let wall = Wall::from_secs(1.0);
    let now = Now { monotonic: Duration::ZERO, elapsed: Elapsed::from_micros(0), wall, wall_ahead: wall.as_micros() };
    let submit = Submit::new("echo", Json::from_text(&"x".repeat(payload_bytes)));
    let admission = engine::admit(&taskqueue_api::Caller::Local, submit, id(number), now);
    Record { spec: admission.spec, payload: admission.payload, standing: Standing::Live(admission.live), result: None }
}

fn ticket(recent: &Recent, number: u16) -> Ticket {
    match recent.look_now(id(number)) {
        Look::Read(Some(ticket)) => ticket,
        look => panic!("{look:?}"),
    }
}

fn is_known(recent: &Recent, number: u16) -> bool {
    matches!(recent.look_now(id(number)), Look::Known(record) if record.spec.id == id(number))
}

fn keep(recent: &Recent, number: u16, payload_bytes: usize) {
    recent.keep(&ticket(recent, number), Some(&record(number, payload_bytes)));
}

#[test]
fn what_was_read_is_known() {
    let recent = Recent::default();
    keep(&recent, 1, 10);
    assert!(is_known(&recent, 1));
    assert!(!is_known(&recent, 2));
}

#[test]
fn readers_side_by_side_share_a_ticket() {
    let recent = Recent::default();
    let (first, second) = (ticket(&recent, 1), ticket(&recent, 1));
    recent.keep(&second, Some(&record(1, 10)));
    recent.keep(&first, Some(&record(1, 20)));
    let Look::Known(known) = recent.look_now(id(1)) else { panic!("not kept") };
    assert_eq!(*known, record(1, 10));
}

#[test]
fn a_change_takes_a_record_out_and_leaves_the_others() {
    let recent = Recent::default();
    keep(&recent, 1, 10);
    keep(&recent, 2, 10);
    recent.hold(&[id(1)]);
    assert!(matches!(recent.look_now(id(2)), Look::Read(None)));
    recent.release();
    assert!(!is_known(&recent, 1));
    assert!(is_known(&recent, 2));
}

#[test]
fn what_was_read_before_a_change_is_not_kept_after_it() {
    let recent = Recent::default();
    let before = ticket(&recent, 1);
    recent.hold(&[id(1)]);
    recent.release();
    recent.keep(&before, Some(&record(1, 10)));
    assert!(!is_known(&recent, 1));
    let after = ticket(&recent, 1);
    recent.keep(&before, Some(&record(1, 10)));
    assert!(!is_known(&recent, 1));
    recent.keep(&after, Some(&record(1, 10)));
    assert!(is_known(&recent, 1));
}

#[test]
fn what_was_read_before_a_failure_is_not_kept_after_it() {
    let recent = Recent::default();
    keep(&recent, 1, 10);
    let before = ticket(&recent, 2);
    recent.hold_all();
    recent.keep(&before, Some(&record(2, 10)));
    recent.release();
    assert!(!is_known(&recent, 1));
    assert!(!is_known(&recent, 2));
}

#[test]
fn a_task_that_is_not_there_takes_no_place() {
    let recent = Recent::default();
    recent.keep(&ticket(&recent, 1), None);
    assert_eq!(recent.lock().slots.len(), 0);
}

#[test]
fn both_bounds_hold_and_what_is_asked_for_stays() {
    let recent = Recent::default();
    keep(&recent, 0, 10);
    for number in 1..=2_000 {
        keep(&recent, number, 10);
        assert!(is_known(&recent, 0));
    }
    assert_eq!(recent.lock().slots.len(), RECENT_MAX);
    for number in 2_001..2_020 {
        keep(&recent, number, 1_000_000);
        assert!(recent.lock().bytes <= RECENT_BYTES_MAX);
    }
    assert!(is_known(&recent, 2_019));
    assert!(!is_known(&recent, 2_000));
}
