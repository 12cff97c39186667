//! The demo, as a newcomer runs it.

use anyhow::Result;

use crate::harness::taskmesh;

#[test]
fn the_demo_tells_its_story_and_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let told = taskmesh(folder.path(), &["demo", "--json"])?;
    assert_eq!(told.code, Some(0), "{told:?}");
    let story = told.json()?;
    assert!(story["result"].as_u64().is_some_and(|words| words > 50), "{story}");
    assert!(story["steps"].as_array().is_some_and(|steps| steps.len() >= 6), "{story}");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "the user's data folder is not touched");
    Ok(())
}
