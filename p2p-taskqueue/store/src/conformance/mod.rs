//! The tests that every store must pass, whatever keeps its tasks: each test runs on each store.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures::FutureExt;
use taskqueue_api::{
    CacheDelete, CacheGet, CacheGot, CacheHas, CacheSet, Caller, Cancel, Claim, ClaimMany, Complete, CompletedStatus,
    ErrorCode, Fail, FailedBy, Fence, Get, GetMany, Json, Limit, List, OnParentFailure, Order, Pause, PeerId, Purge,
    QueueError, Release, Renew, Resume, Retry, Selection, Stats, StatsQuery, Submit, SubmitMany, Submitted, TaskId,
    TaskQueueExt as _, TaskRecord, TaskStatus, WaitReason, WaitingFor,
    limits::{CLAIMED_BYTES_MAX, JSON_BYTES_MAX, LIST_PAGE_BYTES},
};

use super::{ManualClock, TaskStore};
use crate::engine::Wall;

pub(super) mod bystanders;
pub(super) mod cached;
pub(super) mod clocks;
pub(super) mod ends;
pub(super) mod flow;
pub(super) mod gates;
pub(super) mod inputs;
pub(super) mod keys;
pub(super) mod lease;
pub(super) mod machines;
pub(super) mod many;
pub(super) mod order;
pub(super) mod polls;
pub(super) mod reads;
pub(super) mod reasons;

const ME: Caller = Caller::Local;

pub(super) type TestResult = Result<(), Box<dyn Error>>;

type Reopen = Box<dyn Fn(Arc<dyn TaskStore>) -> Arc<dyn TaskStore>>;

/// A store under test, with its clock.
pub(super) struct Rig {
    pub(super) store: Arc<dyn TaskStore>,
    pub(super) clock: Arc<ManualClock>,
    /// Closes the store and opens what it left.
    pub(super) reopen: Reopen,
}

impl Rig {
    fn reopened(self) -> Self {
        let Self { store, clock, reopen } = self;
        let store = reopen(store);
        Self { store, clock, reopen }
    }

    /// Moves the clock, and returns when the store has done what was due.
    async fn pass(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
        // Any change is done after the timer has had its turn.
        let (task_id, fence) = (TaskId::from_bytes([0; 16]), Fence { epoch: 0, counter: 0 });
        let probe = Renew::new(task_id, fence, 1.0);
        assert_eq!(code(soon(self.store.renew(&ME, probe)).await), ErrorCode::NotFound);
    }

    async fn submit(&self, task_type: &str) -> Result<TaskId, QueueError> {
        Ok(self.submit_as(Submit::new(task_type, Json::null())).await?.task_id)
    }

    async fn submit_as(&self, submit: Submit) -> Result<Submitted, QueueError> {
        soon(self.store.submit(&ME, submit)).await
    }

    /// Claims without a wait.
    async fn claim(&self) -> Result<Option<TaskRecord>, QueueError> {
        self.claim_as(Claim::new("w")).await
    }

    async fn claim_as(&self, claim: Claim) -> Result<Option<TaskRecord>, QueueError> {
        Ok(soon(self.store.claim(&ME, claim)).await?.task)
    }

    async fn claim_now(&self) -> Result<TaskRecord, Box<dyn Error>> {
        Ok(self.claim().await?.ok_or("nothing to claim")?)
    }

    async fn get(&self, task_id: TaskId) -> Result<TaskRecord, QueueError> {
        Ok(soon(self.store.get(&ME, Get { task_id })).await?.task)
    }

    /// Returns why a task waits, as its record says it with what the store adds.
    async fn why(&self, id: TaskId) -> Result<Option<WaitingFor>, QueueError> {
        let mut task = self.get(id).await?;
        soon(self.store.explain(std::slice::from_mut(&mut task))).await;
        Ok(task.waiting_for)
    }

    async fn status_of(&self, id: TaskId) -> Result<TaskStatus, QueueError> {
        Ok(self.get(id).await?.status)
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        soon(self.store.stats(&ME, StatsQuery {})).await
    }

    async fn list(&self, query: List) -> Result<(Vec<TaskId>, Option<String>), QueueError> {
        let page = soon(self.store.list(&ME, query)).await?;
        Ok((page.tasks.iter().map(id).collect(), page.next_cursor))
    }
}

/// Waits for a limited time: an answer that has not come by then does not come.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer in time")
}

/// The peer that keeps the tasks.
pub(super) fn peer() -> PeerId {
    static PEER: std::sync::LazyLock<PeerId> = std::sync::LazyLock::new(PeerId::random);
    *PEER
}

fn waiting() -> Claim {
    Claim { wait_s: 100.0, ..Claim::new("waiter") }
}

fn complete(leased: &TaskRecord, result: &str) -> Complete {
    let result = Some(Json::from_text(result));
    Complete::new(leased.task_id, fence(leased), result)
}

fn fail(leased: &TaskRecord) -> Fail {
    Fail { task_id: leased.task_id, fence: fence(leased), error: "broken".to_owned(), retryable: true, delay_s: None }
}

fn release(leased: &TaskRecord, delay_s: f64) -> Release {
    Release { task_id: leased.task_id, fence: fence(leased), delay_s, reason: String::new() }
}

fn renew(leased: &TaskRecord, lease_s: f64) -> Renew {
    let (task_id, fence) = (leased.task_id, fence(leased));
    Renew::new(task_id, fence, lease_s)
}

fn id(task: &TaskRecord) -> TaskId {
    task.task_id
}

fn fence(leased: &TaskRecord) -> Fence {
    leased.fence.unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, QueueError>) -> ErrorCode {
    result.unwrap_err().code
}

/// Runs every test on a store. `$rig` creates a [`Rig`] and whatever must live as long.
macro_rules! conformance {
    ($rig:expr) => {
        crate::conformance::conformance! { $rig;
            bystanders: reads_of_what_is_held_back_hold_up_no_submit t10_a_crowd_that_is_retried_again_and_again_holds_up_no_other_dependant
                idle_workers_hold_none_of_the_room_that_their_results_took;
            order: a_repeated_entry_counts_once t6_order_is_priority_then_time_then_acceptance t6_what_a_worker_may_not_take_hides_nothing scheduled_tasks_come_when_the_wall_clock_says;
            keys: a_zero_has_no_sign t7_a_key_answers_the_first_task_or_a_conflict t7_repeats_in_one_batch_make_one_task
                t7_an_id_answers_the_first_task_or_a_conflict t7_keys_and_ids_of_two_submitters_do_not_meet t7_a_key_goes_with_its_record;
            inputs: a_question_is_answered_and_its_worker_is_told an_answer_outlives_the_attempt_and_a_question_does_not
                what_a_task_asks_in_all_is_bounded;
            lease: t2_a_task_has_one_holder t3_a_fence_that_is_not_current_changes_nothing t4_a_dead_worker_costs_its_task_its_attempts t4_a_lease_ends_when_nothing_else_happens t5_setting_the_wall_clock_ends_no_lease t8_a_restart_keeps_what_was_acknowledged;
            clocks: t5_spans_hold_when_the_clock_was_set_and_the_store_opened_again t5_spans_end_though_the_clock_that_they_began_on_was_set_back
                t5_a_delay_is_a_span_and_a_date_a_moment t5_a_machine_that_sleeps_ends_spans_and_no_lease t8_a_lease_that_nobody_renews_is_kept_by_one_opening_only;
            ends: t5_setting_the_wall_clock_removes_no_result_and_no_key t11_results_are_removed_after_their_time t11_a_result_is_kept_for_a_minute_at_least cancelling_is_at_once_or_by_the_worker a_failed_attempt_waits_for_its_backoff
                a_failed_task_says_whether_its_worker_or_the_queue_ended_it;
            polls: a_long_poll_is_woken_by_whatever_makes_a_task_claimable a_dropped_long_poll_loses_no_task waiting_claims_are_served_in_turn_and_by_what_they_take
                a_waiting_claim_is_not_passed_over_by_one_that_came_later a_completion_that_waits_stands_when_the_store_is_closed;
            reads: pages_are_stable_while_tasks_come lists_are_filtered_and_bounded_in_bytes the_status_counts_and_knows_the_longest_wait a_closed_store_turns_everybody_away who_asks_without_a_pause_lets_others_run;
            reasons: a_queued_record_says_when_it_may_start a_lost_attempt_is_a_backoff_and_one_given_back_a_delay
                a_queued_record_names_the_pause_or_the_limit a_submit_says_why_its_task_waits
                a_closed_store_gives_no_reasons_and_fails_no_read;
            flow: t10_a_task_comes_after_all_that_it_names t10_a_failed_parent_fails_what_comes_after_it t10_nothing_comes_after_what_is_not_there t10_no_retry_runs_what_comes_after_a_task_that_did_not_complete
                t10_a_retry_counts_what_has_completed_and_gone a_deadline_ends_a_task_wherever_it_stands t5_setting_the_wall_clock_moves_no_deadline;
            gates: a_key_runs_one_task_at_a_time a_type_runs_as_many_as_its_limit_says a_paused_type_is_held_and_a_drained_one_takes_nothing_new
                what_is_limited_already_can_be_limited_otherwise_at_the_cap names_that_nobody_set_anything_for_take_no_room;
            many: a_batch_is_taken_one_by_one a_claim_of_many_takes_what_there_is a_completion_brings_its_children_and_the_next_task
                a_completion_that_comes_again_with_other_children_is_refused a_refused_child_leaves_the_completion_undone
                a_child_that_contradicts_the_one_before_it_leaves_the_completion_undone
                children_that_open_more_lines_than_there_may_be_are_refused_together dead_letters_are_queued_again_or_removed ten_thousand_waiting_claims_cost_a_submit_nothing;
            machines: a_record_names_the_machine_that_submitted_it the_same_id_of_another_machine_is_another_task
                a_record_shows_what_it_demands a_record_shows_who_tried_and_how_that_ended
                an_attempt_ends_with_the_deadline_and_with_a_failure_for_good
                a_record_shows_the_last_attempts_and_short_errors a_claim_that_nobody_received_is_no_attempt
                a_freed_lease_goes_to_another_machine_at_once a_freed_lease_ends_as_an_expired_one
                thousands_of_leases_end_while_others_renew;
            cached: a_stored_null_is_a_hit values_go_after_their_time_or_when_room_is_needed;
        }
    };
    ($rig:expr; $($file:ident: $($test:ident)*;)*) => {
        $($(#[tokio::test]
        async fn $test() -> crate::conformance::TestResult {
            let (rig, _keep) = $rig?;
            crate::conformance::$file::$test(rig).await
        })*)*
    };
}
pub(super) use conformance;

/// The bound on the cache of the stores under test.
pub(super) const CACHE_BYTES: usize = 64 * 1024;

/// The wall time at which the tests' clocks start.
pub(super) const START: Wall = Wall::from_micros(1_700_000_000_000_000);
