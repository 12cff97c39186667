use std::collections::HashSet;

/// Removes repeated entries and keeps the first of each. The lists are sets, so a repeat says nothing more.
pub(super) fn once(mut values: Vec<String>) -> Vec<String> {
    if values.len() > 1 {
        let mut known = HashSet::with_capacity(values.len());
        values.retain(|value| known.insert(value.clone()));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stands_where_it_comes_first() {
        let twice = ["gpu", "ssd", "gpu"].map(str::to_owned).to_vec();
        assert_eq!(once(twice), ["gpu", "ssd"]);
    }
}
