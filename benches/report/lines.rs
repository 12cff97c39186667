/// Which lines were asked for.
#[derive(Debug)]
pub(crate) struct Lines(Vec<String>);

impl Lines {
    /// Those that one of the arguments is part of; all without such an argument.
    pub(crate) fn new(arguments: Vec<String>) -> Self {
        Self(arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect())
    }

    pub(crate) fn want(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| name.contains(part))
    }
}
