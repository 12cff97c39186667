use serde::{Serialize, de::DeserializeOwned};

/// A kind of work, as a type. A value of the type is the input of one task, and travels as JSON.
///
/// Programs that share a queue must agree on [`TYPE`](Self::TYPE) and on the form of input and output. Each may have up
/// to 1 MiB of JSON.
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
    /// The task type by which workers claim such tasks, up to 256 bytes.
    const TYPE: &'static str;
    /// The output of such a task.
    type Output: Serialize + DeserializeOwned + Send + 'static;
}
