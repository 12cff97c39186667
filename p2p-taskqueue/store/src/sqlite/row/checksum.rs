use taskqueue_api::Fence;

use crate::engine::{Elapsed, Wall};

/// A checksum over fields. Each optional or long field is fed with its presence and its length, so that different
/// contents never feed the same bytes.
///
/// Short fields are collected and summed at once, which is several times as fast as one by one.
#[derive(Debug)]
pub(crate) struct Checksum {
    bytes: Vec<u8>,
}

/// Returns a real number as its column stores it, which is what the checksum covers: SQLite drops the sign of a zero.
pub(crate) fn real(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

/// Does the same as [`real`] for an optional number: SQLite stores NaN as NULL.
pub(crate) fn real_if_any(value: Option<f64>) -> Option<f64> {
    value.filter(|value| !value.is_nan()).map(real)
}

impl Checksum {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(SHORT_FIELDS_BYTES) }
    }

    pub(crate) fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        self.bytes.extend_from_slice(&value.into().to_le_bytes());
        self
    }

    pub(crate) fn unsigned(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn real(&mut self, value: f64) -> &mut Self {
        self.bytes.extend_from_slice(&real(value).to_le_bytes());
        self
    }

    pub(crate) fn real_if_any(&mut self, value: Option<f64>) -> &mut Self {
        self.bytes(real_if_any(value).map(f64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    pub(crate) fn bytes(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(bytes) => {
                self.unsigned(bytes.len() as u64);
                self.bytes.extend_from_slice(bytes);
            }
            None => _ = self.unsigned(u64::MAX),
        }
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(Some(value.as_bytes()))
    }

    pub(crate) fn text_if_any(&mut self, value: Option<&String>) -> &mut Self {
        self.bytes(value.map(String::as_bytes))
    }

    pub(crate) fn words(&mut self, words: &[String]) -> &mut Self {
        self.unsigned(words.len() as u64);
        words.iter().for_each(|word| _ = self.text(word));
        self
    }

    pub(crate) fn wall(&mut self, value: Wall) -> &mut Self {
        self.int(value.as_micros())
    }

    pub(crate) fn wall_if_any(&mut self, value: Option<Wall>) -> &mut Self {
        self.int_if_any(value.map(Wall::as_micros))
    }

    pub(crate) fn elapsed(&mut self, value: Elapsed) -> &mut Self {
        self.int(value.as_micros())
    }

    pub(crate) fn elapsed_if_any(&mut self, value: Option<Elapsed>) -> &mut Self {
        self.int_if_any(value.map(Elapsed::as_micros))
    }

    fn int_if_any(&mut self, value: Option<i64>) -> &mut Self {
        self.bytes(value.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    pub(crate) fn fence(&mut self, value: Option<Fence>) -> &mut Self {
        match value {
            Some(fence) => self.int(1).unsigned(fence.epoch).unsigned(fence.counter),
            None => self.int(0),
        }
    }

    pub(crate) fn finish(&self) -> u32 {
        crc32fast::hash(&self.bytes)
    }

    /// Returns the checksum with a long field at the end, which is not copied.
    pub(crate) fn finish_with(&self, last: Option<&str>) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.bytes);
        match last {
            Some(text) => {
                hasher.update(&[1]);
                hasher.update(text.as_bytes());
            }
            None => hasher.update(&[0]),
        }
        hasher.finalize()
    }
}

/// The bytes of the fields of a usual row.
const SHORT_FIELDS_BYTES: usize = 384;
