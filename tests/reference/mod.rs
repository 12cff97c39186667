//! Checks that `docs/reference.md` and the program agree, in both directions.
//!
//! A row of a table may name the constants whose values it shows, in a comment that a reader does not see:
//! `| payload | 1 MiB <!-- api::limits::JSON_BYTES_MAX --> |`. The table of arguments is generated. When it has to
//! change, run these tests with `TASKMESH_WRITE_REFERENCE=1` and check what the difference breaks for users.

mod arguments;
mod bounds;
mod constants;
mod internal;
mod names;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");

/// The text of the reference.
struct Reference(String);

impl Reference {
    fn read() -> Result<Self> {
        Ok(Self(fs::read_to_string(PATH)?))
    }

    /// Returns the text below a heading, up to the next heading.
    fn section(&self, heading: &str) -> Result<&str> {
        let (_, text) = self.0.split_once(&format!("\n{heading}\n")).with_context(|| format!("no {heading:?}"))?;
        Ok(text.split("\n#").next().unwrap_or_default())
    }

    /// Returns the rows of the tables below a heading, without the header rows.
    fn rows(&self, heading: &str) -> Result<Vec<Vec<&str>>> {
        let mut rows = Vec::new();
        let mut is_body = false;
        for line in self.section(heading)?.lines() {
            let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
                is_body = false;
                continue;
            };
            if is_body {
                rows.push(cells.split('|').map(str::trim).collect());
            }
            is_body |= cells.starts_with("---");
        }
        ensure!(!rows.is_empty(), "no table under {heading:?}");
        Ok(rows)
    }

    /// Compares a marked block with the generated text, or rewrites it.
    fn check_block(&self, name: &str, generated: &str) -> Result<()> {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let (before, rest) = self.0.split_once(&begin).with_context(|| format!("no block {name}"))?;
        let (written, after) = rest.split_once(&end).with_context(|| format!("no end of the block {name}"))?;
        if written == generated {
            return Ok(());
        }
        ensure!(
            std::env::var_os("TASKMESH_WRITE_REFERENCE").is_some(),
            "the block {name} of docs/reference.md should be:\n{generated}"
        );
        Ok(fs::write(PATH, format!("{before}{begin}{generated}{end}{after}"))?)
    }
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the folder of the workspace.
fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
