//! A mistake in a configuration file, for the person who wrote it.

use std::fmt;

/// A mistake, shown as `LINE: KEY: PROBLEM` after the file's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    line: Option<usize>,
    key: String,
    problem: String,
}

impl Mistake {
    pub(super) fn of(text: &str, key: &str, error: &toml::de::Error) -> Self {
        let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        let problem = error.message().trim();
        // A mistake outside all keys has a dot as its path.
        let key = if key == "." { String::new() } else { key.to_owned() };
        Self { line, key, problem: near_key(problem).unwrap_or_else(|| problem.replace('\n', "; ")) }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)
    }
}

/// Rewrites the problem of an unknown key: names the most similar one of the keys that the parser lists as known, or
/// all of them.
fn near_key(problem: &str) -> Option<String> {
    let rest = problem.strip_prefix("unknown field ")?;
    // The names are between backticks, so they are every second part.
    let mut named = rest.split('`').skip(1).step_by(2);
    let unknown = named.next()?;
    let known: Vec<_> = named.collect();
    Some(match p2p_taskqueue::api::nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; known are {}", known.join(", ")),
    })
}
