//! Reads a node's list of operations without a copy of each name: a node of the same version sends this version's, in
//! order, and a list that is read with every `status` was a fifth of its cost.

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::Request;

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cow<'static, str>>, D::Error> {
    deserializer.deserialize_seq(Names)
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<Cow<'static, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::with_capacity(Request::NAMES.len());
        while let Some(name) = seq.next_element_seed(Name { expected: Request::NAMES.get(names.len()).copied() })? {
            names.push(name);
        }
        Ok(names)
    }
}

struct Name {
    expected: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'static, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Cow<'static, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.expected.filter(|expected| *expected == name);
        Ok(known.map_or_else(|| Cow::Owned(name.to_owned()), Cow::Borrowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> serde_json::Result<Vec<Cow<'static, str>>> {
        deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn names_of_other_versions_are_read_too() {
        let mut names: Vec<&str> = Request::NAMES.to_vec();
        names.insert(1, "of_a_newer_one");
        names.push("another");
        assert_eq!(read(&serde_json::to_string(&names).unwrap()).unwrap(), names);
        assert!(read(r#"["submit",1]"#).is_err() && read("[]").unwrap().is_empty());
    }

    #[test]
    fn names_of_this_version_are_not_copied() {
        let names = read(&serde_json::to_string(Request::NAMES).unwrap()).unwrap();
        assert!(names.iter().all(|name| matches!(name, Cow::Borrowed(_))));
    }
}
