//! The tests that every backend must pass: each test runs on each backend.

pub(super) mod fixture;
#[expect(clippy::needless_pass_by_value, reason = "a test has its rig to itself, and may give it away")]
pub(crate) mod pieces;
#[expect(clippy::needless_pass_by_value, reason = "a test has its rig to itself, and may give it away")]
pub(crate) mod reads;
#[expect(clippy::needless_pass_by_value, reason = "a test has its rig to itself, and may give it away")]
pub(crate) mod rows;
mod snapshot;
#[expect(clippy::needless_pass_by_value, reason = "a test has its rig to itself, and may give it away")]
pub(crate) mod whole;

use std::error::Error;

use super::{Backend, Reads, Rows};

pub(crate) type TestResult = Result<(), Box<dyn Error>>;

/// Drops a backend and opens what it left.
type Reopen = Box<dyn Fn(Box<dyn Backend>) -> Box<dyn Backend>>;

/// A backend under test. None of its rows are open yet, and it has no tasks.
pub(crate) struct Rig {
    pub(crate) backend: Box<dyn Backend>,
    /// `None` when the rows end with the backend.
    pub(crate) reopen: Option<Reopen>,
}

/// The two handles of a backend.
type Handles = (Box<dyn Rows>, Box<dyn Reads>);

impl Rig {
    fn open(&self) -> Result<Handles, Box<dyn Error>> {
        let rows = self.backend.open_rows()?;
        Ok((rows, self.backend.open_reads()?))
    }
}

/// Runs the suite. `$rig` creates a [`Rig`] and whatever must live as long.
macro_rules! backend_tests {
    ($rig:expr) => {
        crate::backend_tests::backend_tests! { $rig;
            rows:
                a_task_is_kept_to_the_letter
                odd_texts_are_kept
                large_values_are_kept
                a_task_stands_as_it_was_last_written
                running_tasks_are_found
                a_removed_task_leaves_nothing
                t6_a_line_is_ordered_by_priority_then_time_then_id
                lanes_follow_each_other_in_a_fixed_order
                timers_of_a_kind_end_in_their_order
                edges_lead_to_the_children
                a_key_is_kept_until_its_time_ends
                types_keep_their_numbers
                limits_of_keys_are_kept
                the_oldest_routes_go
                the_cache_knows_its_bytes_and_its_order
                the_running_numbers_are_kept
            ;
            reads:
                readers_see_what_is_committed
                an_answer_is_as_of_one_moment
                records_come_in_the_order_of_the_ids
                a_list_passes_its_filters
                a_list_is_read_page_by_page
                a_page_ends_at_its_bytes
                a_foreign_cursor_is_refused
                a_selection_passes_its_filters
                the_oldest_ready_task_is_found
            ;
            pieces:
                a_selection_is_the_same_over_any_number_of_pieces
                a_list_is_the_same_over_any_number_of_pieces
                tasks_come_and_go_between_two_pieces
                types_are_read_some_at_a_time
            ;
            whole:
                a_transaction_sees_its_own_changes
                a_rollback_leaves_nothing
                rows_that_are_dropped_roll_back
                what_is_opened_again_is_the_same
                the_log_and_the_reserve_can_be_used
            ;
        }
    };
    ($rig:expr; $($part:ident: $($test:ident)*;)*) => {
        $($(#[test]
        fn $test() -> crate::backend_tests::TestResult {
            let (rig, _keep) = $rig?;
            crate::backend_tests::$part::$test(rig)
        })*)*
    };
}
pub(crate) use backend_tests;
