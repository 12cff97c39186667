//! loom models of our own synchronisation, two or three threads and one property each.
//!
//! Run by `cargo loom`. What is modelled is the mutex-guarded state of `answer` and `intake`; wakers are counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use loom::{future::block_on, model, thread};

use crate::{
    answer::{Answer, Delivery, Failure, Stop},
    intake::{Buffers, Intake, Pushed, Submission},
    work::Ending,
};

/// Counts its wake-ups.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

async fn outcome<T>(answer: &Answer<T>) -> Result<T, Failure> {
    std::future::poll_fn(|cx| answer.poll_outcome(cx)).await
}

/// A call whose work counts its polls and answers when dropped unfinished, as `Work` does.
fn submission(polls: &Arc<AtomicUsize>, answer: &Arc<Answer<()>>) -> Submission {
    struct TellsWhenDropped(Arc<Answer<()>>);
    impl Drop for TellsWhenDropped {
        fn drop(&mut self) {
            let _late = self.0.settle(Err(Failure::ShutDown));
        }
    }
    let (polls, tells) = (Arc::clone(polls), TellsWhenDropped(Arc::clone(answer)));
    let work = Box::pin(async move {
        polls.fetch_add(1, Ordering::SeqCst);
        let _late = tells.0.settle(Ok(()));
        Ending::Finished
    });
    Submission { work, stop: Arc::<Answer<()>>::clone(answer) }
}

/// The driver's loop, with nothing around it.
fn drive(intake: &Intake, buffers: Box<Buffers>) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut awake = Some(buffers);
    while let Some(mut buffers) = awake.take() {
        while let Some(mut call) = buffers.batch.pop() {
            assert_eq!(call.work.as_mut().poll(&mut cx), Poll::Ready(Ending::Finished));
            buffers.ended.push(call.key);
        }
        awake = intake.take(buffers);
    }
}

/// Pushes, and plays the executor when the driver has to be started.
fn call(intake: &Intake, submission: Submission) -> Result<(), Failure> {
    match intake.push(submission, false) {
        Pushed::Queued => Ok(()),
        Pushed::Wake(buffers) => {
            drive(intake, buffers);
            Ok(())
        }
        Pushed::Refused(failure) => Err(failure),
        Pushed::Full(_) => panic!("there was room"),
    }
}

#[test]
fn no_call_is_left_behind_while_the_driver_goes_to_sleep() {
    model(|| {
        let intake = Arc::new(Intake::new(8));
        let polls = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (intake, polls) = (Arc::clone(&intake), Arc::clone(&polls));
                thread::spawn(move || {
                    let answer = Arc::new(Answer::new());
                    call(&intake, submission(&polls, &answer)).unwrap();
                    // Ends, or loom reports a deadlock.
                    block_on(outcome(&answer)).unwrap();
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        assert_eq!(polls.load(Ordering::SeqCst), 2);
        assert_eq!(intake.gauges(), (2, 0, 0));
    });
}

#[test]
fn a_call_that_races_with_the_end_is_answered_one_way_or_the_other() {
    model(|| {
        let intake = Arc::new(Intake::new(8));
        let polls = Arc::new(AtomicUsize::new(0));
        let ending = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                intake.request_stop(std::time::Instant::now());
                intake.drop_queued();
                intake.end(&Failure::ShutDown);
                intake.drop_queued();
            })
        };
        let answer = Arc::new(Answer::new());
        if call(&intake, submission(&polls, &answer)).is_ok() {
            let _either = block_on(outcome(&answer));
        }
        ending.join().unwrap();
        assert_eq!(intake.gauges().1, 0, "its slot is free again");
    });
}

#[test]
fn a_slot_is_handed_on_or_freed_never_lost() {
    model(|| {
        let intake = Arc::new(Intake::new(1));
        let polls = Arc::new(AtomicUsize::new(0));
        let first = Arc::new(Answer::new());
        let Pushed::Wake(buffers) = intake.push(submission(&polls, &first), false) else {
            panic!("there was room");
        };
        // One leaves while the slot comes free; another waits for it.
        let (ticket, left) = intake.wait_for_slot();
        let leaver = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || intake.leave(ticket, &left))
        };
        let waiter = {
            let intake = Arc::clone(&intake);
            thread::spawn(move || {
                let (_ticket, slot) = intake.wait_for_slot();
                block_on(outcome(&slot)).unwrap();
            })
        };
        drive(&intake, buffers);
        leaver.join().unwrap();
        waiter.join().unwrap();
        assert_eq!(intake.gauges().1, 1, "the waiter's");
    });
}

#[test]
fn an_outcome_reaches_the_asker_or_comes_back() {
    model(|| {
        let answer = Arc::new(Answer::new());
        let worker = {
            let answer = Arc::clone(&answer);
            thread::spawn(move || match answer.settle(Ok(7)) {
                Delivery::Delivered => None,
                Delivery::Detached(outcome) | Delivery::Late(outcome) => Some(outcome.unwrap()),
            })
        };
        let taken = answer.abandon().map(Result::unwrap);
        let back = worker.join().unwrap();
        assert_eq!(taken.or(back), Some(7));
        assert!(taken.is_none() || back.is_none(), "exactly one of them");
    });
}

#[test]
fn a_worker_that_goes_to_sleep_hears_of_the_cancellation() {
    model(|| {
        let answer = Arc::new(Answer::<()>::new());
        let woken = Arc::new(Counter::default());
        let worker = {
            let (answer, waker) = (Arc::clone(&answer), Waker::from(Arc::clone(&woken)));
            thread::spawn(move || answer.watch(&waker))
        };
        answer.stop(Failure::ShutDown);
        let asleep = worker.join().unwrap();
        assert_eq!(woken.count(), usize::from(asleep));
        assert!(matches!(block_on(outcome(&answer)), Err(Failure::ShutDown)));
    });
}

#[test]
fn an_asker_that_goes_to_sleep_is_woken_once() {
    model(|| {
        let answer = Arc::new(Answer::new());
        let woken = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&woken));
        let worker = {
            let answer = Arc::clone(&answer);
            thread::spawn(move || matches!(answer.settle(Ok(1)), Delivery::Delivered))
        };
        let early = answer.poll_outcome(&Context::from_waker(&waker)).is_ready();
        assert!(worker.join().unwrap());
        assert_eq!(woken.count(), usize::from(!early));
    });
}
