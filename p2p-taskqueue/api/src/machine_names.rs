//! Which machine of the mesh a text means.

use std::collections::BTreeMap;

use super::{ErrorCode, MembersListed, PeerId, QueueError, nearest, parse_peer_id, place::PEER_TEXT_BYTES_MAX};

/// The machines of a mesh by their names and peer ids.
///
/// Making it costs some microseconds for each machine, because the texts of all peer ids are written. A look-up is then
/// short, however many machines there are.
#[derive(Debug, Clone, Default)]
pub struct MachineNames {
    by_name: BTreeMap<String, PeerId>,
    by_id: BTreeMap<String, (PeerId, String)>,
}

impl MachineNames {
    /// Makes it of the peer id and the name of each machine. Names are in lower case.
    pub fn new<'a>(machines: impl IntoIterator<Item = (PeerId, &'a str)>) -> Self {
        let mut names = Self::default();
        for (peer, name) in machines {
            names.by_name.insert(name.to_owned(), peer);
            names.by_id.insert(peer.to_base58(), (peer, name.to_owned()));
        }
        names
    }

    /// Returns the machine that the text means: by its name in upper or lower case, its peer id, or the beginning of its
    /// peer id, ten characters or more. A [whole peer id](whole_peer_id) is returned as it is, also when no machine here
    /// has it.
    ///
    /// # Errors
    ///
    /// `not_found` when no machine is meant, with the name that is most like the text. `invalid_argument` when the peer
    /// ids of several machines begin so.
    pub fn find(&self, text: &str) -> Result<PeerId, QueueError> {
        if let Some(peer) = whole_peer_id(text) {
            return Ok(peer);
        }
        let wanted = text.to_ascii_lowercase();
        if let Some(peer) = self.by_name.get(&wanted) {
            return Ok(*peer);
        }
        let mut named: Vec<&(PeerId, String)> = self.beginning(text).collect();
        match named.as_slice() {
            [] => Err(self.nobody(text, &wanted)),
            _ if text.len() < PREFIX_CHARS_LEAST => {
                let message =
                    format!("give {PREFIX_CHARS_LEAST} characters of a peer id or more, or the name of the machine");
                Err(QueueError::new(ErrorCode::InvalidArgument, message))
            }
            [(peer, _)] => Ok(*peer),
            several => {
                let count = several.len();
                named.truncate(NAMES_SHOWN);
                let names: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
                let more = if count > names.len() { ", …" } else { "" };
                let message = format!(
                    "the peer ids of {count} machines begin with {text:?} ({}{more}): give more of it, or a name",
                    names.join(", ")
                );
                Err(QueueError::new(ErrorCode::InvalidArgument, message))
            }
        }
    }

    fn beginning(&self, text: &str) -> impl Iterator<Item = &(PeerId, String)> {
        let from = self.by_id.range::<str, _>((std::ops::Bound::Included(text), std::ops::Bound::Unbounded));
        from.take_while(move |(id, _)| !text.is_empty() && id.starts_with(text)).map(|(_, machine)| machine)
    }

    fn nobody(&self, text: &str, wanted: &str) -> QueueError {
        // To compare takes time in proportion to the length, and no name is as long.
        let nearest = match wanted.len() {
            0..=PEER_TEXT_BYTES_MAX => nearest(wanted, self.by_name.keys().map(String::as_str)),
            _ => None,
        };
        let meant = nearest.map(|name| format!("did you mean {name}? ")).unwrap_or_default();
        let shown: String = text.chars().take(TEXT_CHARS_SHOWN).collect();
        let message = format!("no machine of the mesh is called {shown:?}: {meant}`taskmesh members` lists them");
        QueueError::new(ErrorCode::NotFound, message)
    }
}

impl From<&MembersListed> for MachineNames {
    fn from(listed: &MembersListed) -> Self {
        Self::new(listed.members.iter().map(|machine| (machine.peer_id, machine.name.as_str())))
    }
}

/// Returns the peer id that the text is. `None` when it is no peer id, or shorter than those of machines.
///
/// The beginning of a peer id may be a valid one itself: the first twelve characters of every Ed25519 id are.
#[must_use]
pub fn whole_peer_id(text: &str) -> Option<PeerId> {
    if text.len() < PEER_ID_CHARS_LEAST { None } else { parse_peer_id(text).ok() }
}

/// The length of a peer id that is a SHA-256 hash. Ids that contain a key are longer.
const PEER_ID_CHARS_LEAST: usize = 46;

/// How much of a peer id is enough. All ids of Ed25519 keys begin with the same eight characters.
const PREFIX_CHARS_LEAST: usize = 10;

/// How many machines are named when several are meant.
const NAMES_SHOWN: usize = 8;

/// How much of a name that nobody has is shown again.
const TEXT_CHARS_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The peer ids of three machines. Those of the first two have this beginning in common.
    const COMMON: &str = "12D3KooWD";
    const FIRST: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const THIRD: &str = "12D3KooWHHzSeKaY8xuZVzkLbKFfvNgPPeKhFBGrMbNzbm5akpqu";

    fn id(text: &str) -> PeerId {
        text.parse().unwrap()
    }

    fn names() -> MachineNames {
        MachineNames::new([(id(FIRST), "gpu-box"), (id(THIRD), "laptop")])
    }

    fn refused(names: &MachineNames, text: &str) -> (ErrorCode, String) {
        let error = names.find(text).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn a_machine_is_found_by_its_name_its_id_and_the_beginning_of_its_id() {
        let names = names();
        for text in ["gpu-box", "GPU-Box", FIRST] {
            assert_eq!(names.find(text), Ok(id(FIRST)), "{text}");
        }
        for length in 10..FIRST.len() {
            assert_eq!(names.find(&FIRST[..length]), Ok(id(FIRST)), "{length} characters");
        }
        let stranger = PeerId::random();
        assert_eq!(names.find(&stranger.to_string()), Ok(stranger), "an id needs no member");
    }

    #[test]
    fn a_text_that_means_nobody_is_answered_with_the_nearest_name() {
        let names = names();
        let (code, message) = refused(&names, "Gpu-bxo");
        assert_eq!(code, ErrorCode::NotFound);
        assert_eq!(
            message,
            "no machine of the mesh is called \"Gpu-bxo\": did you mean gpu-box? `taskmesh members` lists them"
        );
        for text in ["", " ", "render", "12d3koowdpj7as", "\u{0}", "é"] {
            let (code, message) = refused(&names, text);
            assert!(code == ErrorCode::NotFound && !message.contains("mean"), "{text}: {message}");
        }
        assert_eq!(refused(&MachineNames::default(), "gpu-box").0, ErrorCode::NotFound);
    }

    #[test]
    fn a_beginning_that_is_short_or_that_several_have_is_refused() {
        let (code, message) = refused(&names(), COMMON);
        assert!(code == ErrorCode::InvalidArgument && message.contains("10 characters"), "{message}");
        // Random ids differ behind the beginning that all have, so these are made from one of them.
        let same = format!("{}{}", &FIRST[..20], &THIRD[20..]);
        let Ok(twin) = same.parse::<PeerId>() else {
            panic!("no peer id: {same}");
        };
        let names = MachineNames::new([(id(FIRST), "gpu-box"), (twin, "gpu-box-2"), (id(THIRD), "laptop")]);
        let (code, message) = refused(&names, &FIRST[..12]);
        assert_eq!(code, ErrorCode::InvalidArgument);
        assert!(message.contains("2 machines") && message.contains("gpu-box, gpu-box-2"), "{message}");
        assert_eq!(names.find(&FIRST[..21]), Ok(id(FIRST)));
        assert_eq!(names.find("gpu-box-2"), Ok(twin));
    }

    #[test]
    fn a_text_of_any_length_is_answered_at_once() {
        let text = "x".repeat(1024 * 1024);
        let since = std::time::Instant::now();
        let (code, message) = refused(&names(), &text);
        assert!(code == ErrorCode::NotFound && message.len() < 200, "{message}");
        assert!(since.elapsed() < std::time::Duration::from_secs(5));
    }
}
