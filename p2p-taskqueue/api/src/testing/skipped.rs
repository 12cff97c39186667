//! Reports tests that need something that not every machine has. `tests` has the same function.

use std::io::Write as _;

/// Reports why a test cannot run here. Where everything must be present (`TASKMESH_REQUIRE=all`), the test fails
/// instead.
pub fn skipped(why: &str) {
    let all_required = std::env::var_os("TASKMESH_REQUIRE").is_some_and(|required| required == "all");
    assert!(!all_required, "TASKMESH_REQUIRE=all, but {why}");
    // A macro would not do: its output is shown only for tests that fail.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
}
