/// The lines that were asked for.
#[derive(Debug)]
pub(crate) struct Lines(Vec<String>);

impl Lines {
    /// Selects the lines whose names contain one of the arguments; all lines when there is no such argument.
    pub(crate) fn new(arguments: Vec<String>) -> Self {
        Self(arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect())
    }

    pub(crate) fn want(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| name.contains(part))
    }
}
