//! The reference's two tools for containers: tasks of a fixed type for workers that run them.

use std::collections::BTreeMap;

use p2p_taskqueue::{
    Json, QueueError,
    api::{Submit, Submitted, Target},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{arguments::Arguments, verb::Verb};
use crate::call::Asker;

/// Runs a published image.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub(super) struct DockerHub {
    /// The image, such as `alpine:3`.
    image: String,
    #[serde(flatten)]
    run: Run,
}

/// Builds a repository's image and runs it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub(super) struct DockerGithub {
    /// Where the repository is, such as `https://github.com/OWNER/NAME`.
    repo_url: String,
    /// Which branch of it.
    #[serde(default = "default_branch")]
    branch: String,
    /// The Dockerfile's path in the repository.
    #[serde(default = "default_dockerfile")]
    dockerfile_path: String,
    /// The folder that is built, in the repository.
    #[serde(default = "default_context")]
    context_path: String,
    /// Arguments of the build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    build_args: BTreeMap<String, String>,
    #[serde(flatten)]
    run: Run,
}

/// How a container runs.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
struct Run {
    /// The command and its arguments, as a text or as a list of words; without, the image's own.
    #[serde(default, skip_serializing_if = "Words::is_none")]
    #[schemars(with = "Value")]
    command: Words,
    /// In place of the image's entry point, as a text or as a list of words.
    #[serde(default, skip_serializing_if = "Words::is_none")]
    #[schemars(with = "Value")]
    entrypoint: Words,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    /// Volumes, as the worker's own rules allow them: host path to path in the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, String>,
    /// More that the worker understands, such as `memory_limit`, `timeout` or `working_dir`.
    #[serde(default)]
    extra: Map<String, Value>,
}

/// A command line: one text, or its words.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(untagged, expecting = "must be a text or a list of texts")]
enum Words {
    #[default]
    None,
    Line(String),
    List(Vec<String>),
}

impl Words {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl Verb for DockerHub {
    type Answer = Submitted;

    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError> {
        arguments.into_type()
    }

    async fn run(self, asker: Asker<'_>, target: Target) -> Result<Submitted, QueueError> {
        asker.ask(target, submit(HUB_TYPE, &self)?).await
    }
}

impl Verb for DockerGithub {
    type Answer = Submitted;

    fn read(arguments: Arguments<'_>) -> Result<Self, QueueError> {
        arguments.into_type()
    }

    async fn run(self, asker: Asker<'_>, target: Target) -> Result<Submitted, QueueError> {
        asker.ask(target, submit(GITHUB_TYPE, &self)?).await
    }
}

/// The task: what was named goes over what `extra` says.
fn submit(task_type: &str, arguments: &impl Serialize) -> Result<Submit, QueueError> {
    let invalid = |error: &dyn std::fmt::Display| QueueError::invalid("extra", error);
    let mut payload = serde_json::to_value(arguments).map_err(|error| invalid(&error))?;
    if let Value::Object(named) = &mut payload
        && let Some(Value::Object(mut extra)) = named.remove("extra")
    {
        extra.append(named);
        *named = extra;
    }
    Ok(Submit::new(task_type, Json::from_value(&payload).map_err(|error| invalid(&error))?))
}

fn default_branch() -> String {
    "main".to_owned()
}

fn default_dockerfile() -> String {
    "Dockerfile".to_owned()
}

fn default_context() -> String {
    ".".to_owned()
}

/// As workers of the reference call them.
const HUB_TYPE: &str = "docker.execute";
const GITHUB_TYPE: &str = "docker.github";
