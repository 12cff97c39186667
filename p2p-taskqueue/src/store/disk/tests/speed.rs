//! How fast the rows are by themselves: run with
//! `cargo test --release --workspace --lib disk::tests::speed -- --ignored --nocapture`.

use std::{error::Error, fs, sync::Arc, time::Instant};

use super::{
    super::scrub,
    sample::{TestResult, completed, file, id, lane, open, place, running, task},
};
use crate::{
    api::List,
    store::{Backend, Meta, Rows, Seq, TaskRow, Timer, TypeRow},
    task::{Json, TaskStatus},
};

#[test]
#[ignore = "a measurement"]
fn whole_cycles_in_a_second() -> TestResult {
    for (waiting, cycles) in [(0, 100_000), (1_000_000, 100_000)] {
        let directory = tempfile::tempdir()?;
        let mut store = Store {
            rows: open(&directory)?.rows,
            meta: Meta { next_seq: 1 << 30, ..Meta::default() },
            next: 1,
            first: 1,
        };
        for _ in 0..waiting / BATCH {
            store.transaction(Store::submit)?;
        }
        println!("{waiting} tasks wait; microseconds each, of the clock and of the processor:");
        let mut all = (0.0, 0.0);
        for (name, step) in STEPS {
            store.place(waiting);
            let (clock, processor) = (Instant::now(), processor_s()?);
            for _ in 0..cycles / BATCH {
                store.transaction(step)?;
            }
            let each = |seconds: f64| seconds * 1e6 / f64::from(cycles);
            let (clock, processor) = (each(clock.elapsed().as_secs_f64()), each(processor_s()? - processor));
            all = (all.0 + clock, all.1 + processor);
            println!("  {name:<9} {clock:6.2} {processor:6.2}   {:8.0} a second", 1e6 / clock);
        }
        println!("  {:<9} {:6.2} {:6.2}   {:8.0} a second", "cycle", all.0, all.1, 1e6 / all.0);
        let clock = Instant::now();
        store.rows.tidy(true)?;
        println!("  the last copy of the log: {:?}", clock.elapsed());
    }
    Ok(())
}

#[test]
#[ignore = "a measurement"]
fn starting_and_listing() -> TestResult {
    let directory = tempfile::tempdir()?;
    for ended in [0, 1_000_000] {
        let mut store = Store {
            rows: open(&directory)?.rows,
            meta: Meta { next_seq: 1 << 30, ..Meta::default() },
            next: 1,
            first: 1,
        };
        for _ in 0..ended / BATCH {
            store.transaction(Store::pass)?;
        }
        for _ in 0..10 {
            store.transaction(if ended == 0 { Store::pass } else { Store::submit })?;
        }
        drop(store);
        for _ in 0..2 {
            let clock = Instant::now();
            let opened = open(&directory)?;
            println!("{ended} ended: opened in {:?}", clock.elapsed());
            let mut reads = opened.backend.open_reads()?;
            for status in TaskStatus::ALL {
                let clock = Instant::now();
                let page = reads.list(&List { status: Some(status), ..List::default() })?;
                println!("  {} {status}: {:?}", page.records.len(), clock.elapsed());
            }
        }
        let clock = Instant::now();
        let report = scrub(&file(&directory), &Arc::default())?;
        println!("  looked over: {:?}, {} problems", clock.elapsed(), report.problem_count);
        fs::remove_dir_all(directory.path())?;
        fs::create_dir(directory.path())?;
    }
    Ok(())
}

type Step = fn(&mut Store) -> TestResult;

const STEPS: [(&str, Step); 3] = [("submit", Store::submit), ("claim", Store::claim), ("complete", Store::complete)];

/// As many as the writer puts into one transaction under load.
const BATCH: i32 = 64;

struct Store {
    rows: Box<dyn Rows>,
    meta: Meta,
    /// The next one to accept.
    next: Seq,
    /// The first one that the step is for.
    first: Seq,
}

impl Store {
    /// Starts a step at the tasks that it is for.
    fn place(&mut self, waiting: i32) {
        self.first = Seq::from(waiting / BATCH * BATCH) + 1;
    }

    fn transaction(&mut self, step: Step) -> TestResult {
        self.rows.begin()?;
        for _ in 0..BATCH {
            step(self)?;
        }
        self.meta.batch += 1;
        self.rows.save_meta(&self.meta)?;
        self.rows.put_type("echo", &TypeRow { counts: [self.meta.batch; 5], ..TypeRow::default() })?;
        Ok(self.rows.commit()?)
    }

    fn submit(&mut self) -> TestResult {
        let row = task(self.next);
        self.next += 1;
        self.rows.insert_task(&row)?;
        Ok(self.rows.join_line(&lane(&row), &place(&row))?)
    }

    /// Accepts a task that has ended.
    fn pass(&mut self) -> TestResult {
        let row = task(self.next);
        self.next += 1;
        let ended = completed(&running(&row));
        self.rows.insert_task(&row)?;
        self.rows.insert_ended(row.seq, row.spec.id, &ended, None)?;
        Ok(self.rows.set_timer(Timer::Removal, ended.expires_at, row.seq)?)
    }

    fn claim(&mut self) -> TestResult {
        let row = self.take()?;
        assert!(self.rows.live(row.seq)?.is_none());
        self.rows.leave_line(&lane(&row), &place(&row))?;
        Ok(self.rows.put_live(row.seq, row.spec.id, &running(&row))?)
    }

    fn complete(&mut self) -> TestResult {
        let (seq, id) = (self.first, id(self.first));
        self.first += 1;
        // The writer has what runs in memory.
        let ended = completed(&running(&task(seq)));
        self.rows.remove_live(seq)?;
        self.rows.insert_ended(seq, id, &ended, Some(&Json::from_text("done")))?;
        Ok(self.rows.set_timer(Timer::Removal, ended.expires_at, seq)?)
    }

    fn take(&mut self) -> Result<TaskRow, Box<dyn Error>> {
        let row = self.rows.task(self.first)?.ok_or("there are enough")?;
        self.first += 1;
        Ok(row)
    }
}

/// How long this thread has had a processor.
fn processor_s() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().ok_or("a number")?.parse()?;
    Ok(nanoseconds / 1e9)
}
