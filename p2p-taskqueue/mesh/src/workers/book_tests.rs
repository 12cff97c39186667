use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use taskqueue_api::{
    Claim, ErrorCode, Grants, Json, Role, TellWorkers, ToolOffer, WorkerOffer, limits::WORKERS_TOLD_MAX,
};

use super::{Demand, WorkerBook};
use crate::node::Moment;

/// A moment so many seconds after the beginning.
fn at(start: Instant, seconds: u64) -> Moment {
    Moment { instant: start + Duration::from_secs(seconds), unix_s: 1_000.0 + seconds as f64 }
}

fn offer(instance: &str, task_type: &str) -> WorkerOffer {
    let tool = ToolOffer { name: task_type.to_owned(), description: String::new(), input_schema: Json::null() };
    WorkerOffer {
        instance: instance.to_owned(),
        worker_id: format!("worker {instance}"),
        takes: vec![tool],
        labels: Vec::new(),
        session: None,
        slots: 1,
        busy: 0,
        since: 1.0,
    }
}

fn tell(offers: Vec<WorkerOffer>) -> TellWorkers {
    TellWorkers { workers: offers, ..TellWorkers::default() }
}

fn grants(role: Role) -> Option<Arc<Grants>> {
    Some(Arc::new(Grants::of(role)))
}

fn demand(task_type: &str) -> Demand<'_> {
    Demand { task_type, pin_to: None, session: None, requires: &[] }
}

/// Whether a worker is free for the type, with all machines there.
fn serves(book: &WorkerBook, task_type: &str, now: Moment) -> bool {
    book.serves(&demand(task_type), |_| true, now)
}

#[test]
fn an_own_worker_counts_until_it_is_silent_or_stops_and_is_still_known_then() {
    let (own, start) = (PeerId::random(), Instant::now());
    let book = WorkerBook::new(own);
    let changes = book.offers();
    book.tell(own, None, tell(vec![offer("a", "x"), offer("b", "y")]), at(start, 0)).unwrap();
    assert!(changes.has_changed().unwrap());
    assert!(serves(&book, "x", at(start, 59)) && !serves(&book, "x", at(start, 61)));
    // A sign of life of one of them.
    let busy = TellWorkers { busy: [("a".to_owned(), 0)].into(), ..TellWorkers::default() };
    book.tell(own, None, busy, at(start, 50)).unwrap();
    book.expire(at(start, 61));
    assert!(serves(&book, "x", at(start, 61)) && !serves(&book, "y", at(start, 61)));
    assert_eq!(book.own_workers().len(), 1);
    let stopped = TellWorkers { stopped: vec!["a".to_owned()], ..TellWorkers::default() };
    book.tell(own, None, stopped, at(start, 62)).unwrap();
    assert!(book.own_workers().is_empty() && book.own_tools().is_empty());
    let mut seen: Vec<_> = book.known(at(start, 63)).iter().map(|one| (one.stands, one.last_seen.unwrap())).collect();
    seen.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(seen, [(false, 1_000.0), (false, 1_062.0)]);
}

#[test]
fn a_full_worker_serves_nobody_and_a_free_slot_serves_again() {
    let (own, start) = (PeerId::random(), Instant::now());
    let book = WorkerBook::new(own);
    book.tell(own, None, tell(vec![WorkerOffer { slots: 2, busy: 1, ..offer("a", "x") }]), at(start, 0)).unwrap();
    assert!(serves(&book, "x", at(start, 1)));
    for (busy, is_free) in [(2, false), (1, true)] {
        let busy = TellWorkers { busy: [("a".to_owned(), busy)].into(), ..TellWorkers::default() };
        assert_eq!(book.tell(own, None, busy, at(start, 1)).unwrap().unknown, Vec::<String>::new());
        assert_eq!(serves(&book, "x", at(start, 1)), is_free);
    }
    let unknown = TellWorkers { busy: [("z".to_owned(), 1)].into(), ..TellWorkers::default() };
    assert_eq!(book.tell(own, None, unknown, at(start, 1)).unwrap().unknown, ["z"]);
}

#[test]
fn what_a_peer_tells_stands_and_is_replaced_by_all_of_a_new_session() {
    let (peer, start) = (PeerId::random(), Instant::now());
    let book = WorkerBook::new(PeerId::random());
    book.tell(peer, grants(Role::Member), TellWorkers { all: true, ..tell(vec![offer("a", "x")]) }, at(start, 0))
        .unwrap();
    book.tell(peer, grants(Role::Member), tell(vec![offer("b", "y")]), at(start, 1)).unwrap();
    let later = at(start, 1_000_000);
    assert!(serves(&book, "x", later) && serves(&book, "y", later));
    assert!(!book.serves(&demand("x"), |machine| *machine != peer, later), "its machine is away");
    book.tell(peer, grants(Role::Member), TellWorkers { all: true, ..tell(vec![offer("c", "x")]) }, later).unwrap();
    assert!(serves(&book, "x", later) && !serves(&book, "y", later));
    assert_eq!(book.known(later).len(), 1);
    assert!(book.own_workers().is_empty());
}

#[test]
fn what_peers_told_is_known_after_a_restart_but_does_not_count_as_there() {
    let (start, own) = (Instant::now(), PeerId::random());
    let (peer, stranger) = (PeerId::random(), PeerId::random());
    let book = WorkerBook::new(own);
    let before = book.others();
    for machine in [peer, stranger] {
        let told = TellWorkers { all: true, ..tell(vec![offer("a", "x")]) };
        book.tell(machine, grants(Role::Member), told, at(start, 0)).unwrap();
    }
    assert_ne!(book.others(), before);
    book.tell(own, None, tell(vec![offer("own", "y")]), at(start, 0)).unwrap();
    let text = book.to_text(at(start, 7));
    let again = WorkerBook::new(own);
    again.remember(&text, |machine| grants(Role::Member).filter(|_| *machine == peer));
    let known = again.known(at(start, 8));
    assert_eq!(known.len(), 1, "the stranger and the own worker are not taken in");
    assert_eq!((known[0].machine, known[0].stands, known[0].last_seen), (peer, false, Some(1_007.0)));
    assert!(known[0].takes("x") && !serves(&again, "x", at(start, 8)));
    // The machine comes with another worker.
    again
        .tell(peer, grants(Role::Member), TellWorkers { all: true, ..tell(vec![offer("b", "z")]) }, at(start, 9))
        .unwrap();
    assert_eq!(again.known(at(start, 9)).len(), 1);
    again.remember("not what was written", |_| grants(Role::Member));
}

#[test]
fn what_a_machine_may_not_work_on_its_workers_do_not_take() {
    let (start, book) = (Instant::now(), WorkerBook::new(PeerId::random()));
    let machines: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
    let narrow: Grants = "worker:y".parse().unwrap();
    for (machine, grants) in
        machines.iter().zip([Arc::new(Grants::of(Role::Agent)), Arc::new(narrow), Arc::new(Grants::of(Role::Worker))])
    {
        let told = TellWorkers { all: true, ..tell(vec![offer("a", "x")]) };
        book.tell(*machine, Some(grants), told, at(start, 0)).unwrap();
    }
    let takes: Vec<_> = book.known(at(start, 1)).into_iter().filter(|one| one.takes("x")).collect();
    assert_eq!(takes.iter().map(|one| one.machine).collect::<Vec<_>>(), [machines[2]]);
    book.forget(&machines[2]);
    assert!(!serves(&book, "x", at(start, 1)));
}

#[test]
fn who_claims_is_a_worker_too_for_a_while_and_one_that_tells_counts_once() {
    let (own, start) = (PeerId::random(), Instant::now());
    let book = WorkerBook::new(own);
    let claim = |wait_s| Claim { supported_task_types: vec!["x".to_owned()], wait_s, ..Claim::new("worker a") };
    book.claimed(own, None, &claim(20.0), at(start, 0));
    assert!(serves(&book, "x", at(start, 109)) && !serves(&book, "x", at(start, 111)));
    assert_eq!(book.known(at(start, 1))[0].busy, None);
    // It claims something else from now on.
    let other = Claim { supported_task_types: vec!["y".to_owned()], ..claim(0.0) };
    book.claimed(own, None, &other, at(start, 1));
    assert!(!serves(&book, "x", at(start, 2)) && serves(&book, "y", at(start, 2)));
    book.tell(own, None, tell(vec![offer("a", "x")]), at(start, 3)).unwrap();
    book.claimed(own, None, &claim(20.0), at(start, 4));
    assert_eq!(book.known(at(start, 5)).len(), 1);
}

#[test]
fn one_machine_cannot_fill_the_book_of_others() {
    let (start, book) = (Instant::now(), WorkerBook::new(PeerId::random()));
    let (greedy, other) = (PeerId::random(), PeerId::random());
    for number in 0..WORKERS_TOLD_MAX {
        book.tell(greedy, grants(Role::Member), tell(vec![offer(&number.to_string(), "x")]), at(start, 0)).unwrap();
    }
    let refused = book.tell(greedy, grants(Role::Member), tell(vec![offer("more", "x")]), at(start, 0)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitExceeded);
    // One that has stopped makes room.
    let stopped = TellWorkers { stopped: vec!["7".to_owned()], ..TellWorkers::default() };
    book.tell(greedy, grants(Role::Member), stopped, at(start, 1)).unwrap();
    book.tell(greedy, grants(Role::Member), tell(vec![offer("more", "x")]), at(start, 2)).unwrap();
    for number in 0..10 * WORKERS_TOLD_MAX {
        book.claimed(greedy, grants(Role::Member).as_ref(), &Claim::new(format!("claims {number}")), at(start, 2));
    }
    assert_eq!(book.known(at(start, 2)).len(), 2 * WORKERS_TOLD_MAX);
    book.tell(other, grants(Role::Member), tell(vec![offer("a", "y")]), at(start, 3)).unwrap();
    assert!(serves(&book, "y", at(start, 3)));
}
