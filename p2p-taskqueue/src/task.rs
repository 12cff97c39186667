use serde::{Serialize, de::DeserializeOwned};

/// A kind of work, as a type: the value is the input of one piece of work, and travels as JSON.
///
/// Programs that share a queue agree on [`TYPE`](Self::TYPE) and on the form of both values. A queue takes inputs and
/// outputs of up to 1 MiB of JSON.
///
/// # Examples
///
/// ```
/// use p2p_taskqueue::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Thumbnail {
///     url: String,
///     width: u32,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Image {
///     url: String,
/// }
///
/// impl Task for Thumbnail {
///     const TYPE: &str = "thumbnail";
///     type Output = Image;
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name by which workers claim it, up to 256 bytes.
    const TYPE: &'static str;
    /// What comes of it.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}
