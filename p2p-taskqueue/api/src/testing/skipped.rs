//! What tests do that need something which is not on every machine. `tests` has the same.

use std::io::Write as _;

/// Says why a test cannot be made here. Where everything has to be there (`TASKMESH_REQUIRE=all`), the test fails.
pub fn skipped(why: &str) {
    let all_required = std::env::var_os("TASKMESH_REQUIRE").is_some_and(|required| required == "all");
    assert!(!all_required, "TASKMESH_REQUIRE=all, but {why}");
    // Not by a macro, whose output is shown of tests that fail alone.
    writeln!(std::io::stderr(), "skipped: {why}").ok();
}
