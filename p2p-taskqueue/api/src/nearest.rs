/// Returns the name that is most like the text, if one is like it at all: what a person probably meant.
#[must_use]
pub fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::damerau_levenshtein(text, name), name));
    near.filter(|(distance, name)| *distance <= name.len() / 3 + 1).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_found_and_another_word_is_not() {
        let names = ["wordcount", "transcribe"];
        assert_eq!(nearest("wordcuont", names), Some("wordcount"));
        assert_eq!(nearest("transcribe", names), Some("transcribe"));
        assert_eq!(nearest("render", names), None);
    }
}
