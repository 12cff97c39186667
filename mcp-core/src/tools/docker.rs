//! The two tools for containers: tasks of a fixed type for workers that run them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use taskqueue_api::{Facts, Json, Operation as _, QueueError, Submit, Submitted, Target};

use super::{arguments::Arguments, names::MadeOf, verb::Verb};
use crate::call::Asker;

/// Runs a published image.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DockerHub {
    /// The image, such as `alpine:3`.
    image: String,
    #[serde(flatten)]
    run: Run,
}

/// Builds a repository's image and runs it.
#[derive(Debug, Serialize, JsonSchema)]
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
#[derive(Debug, Serialize, JsonSchema)]
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
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "Map<String, Value>")]
    extra: BTreeMap<String, Json>,
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
    fn is_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Line(line) => line.is_empty(),
            Self::List(_) => false,
        }
    }
}

impl Run {
    fn take(arguments: &mut Arguments<'_>) -> Result<Self, QueueError> {
        Ok(Self {
            command: arguments.take("command")?.unwrap_or_default(),
            entrypoint: arguments.take("entrypoint")?.unwrap_or_default(),
            environment: arguments.take("environment")?.unwrap_or_default(),
            volumes: arguments.take("volumes")?.unwrap_or_default(),
            extra: arguments.take("extra")?.unwrap_or_default(),
        })
    }
}

impl Verb for DockerHub {
    type Answer = Submitted;

    const NEEDS: Facts = Submit::FACTS;

    const MADE_OF: &'static [MadeOf] =
        &[("payload", &["image", "command", "entrypoint", "environment", "volumes", "extra"])];

    fn read(mut arguments: Arguments<'_>) -> Result<Self, QueueError> {
        Ok(Self { image: arguments.take("image")?.unwrap_or_default(), run: Run::take(&mut arguments)? })
    }

    async fn run(mut self, asker: Asker<'_>, target: Target) -> Result<Submitted, QueueError> {
        let extra = std::mem::take(&mut self.run.extra);
        asker.ask(target, submit(HUB_TYPE, extra, &self)?).await
    }
}

impl Verb for DockerGithub {
    type Answer = Submitted;

    const NEEDS: Facts = Submit::FACTS;

    const MADE_OF: &'static [MadeOf] = &[(
        "payload",
        &[
            "repo_url",
            "branch",
            "dockerfile_path",
            "context_path",
            "build_args",
            "command",
            "entrypoint",
            "environment",
            "volumes",
            "extra",
        ],
    )];

    fn read(mut arguments: Arguments<'_>) -> Result<Self, QueueError> {
        Ok(Self {
            repo_url: arguments.take("repo_url")?.unwrap_or_default(),
            branch: arguments.take("branch")?.unwrap_or_else(default_branch),
            dockerfile_path: arguments.take("dockerfile_path")?.unwrap_or_else(default_dockerfile),
            context_path: arguments.take("context_path")?.unwrap_or_else(default_context),
            build_args: arguments.take("build_args")?.unwrap_or_default(),
            run: Run::take(&mut arguments)?,
        })
    }

    async fn run(mut self, asker: Asker<'_>, target: Target) -> Result<Submitted, QueueError> {
        let extra = std::mem::take(&mut self.run.extra);
        asker.ask(target, submit(GITHUB_TYPE, extra, &self)?).await
    }
}

/// Makes the task. Its payload has the members of `extra` as given. A named argument replaces a member of the same
/// name.
fn submit(task_type: &str, extra: BTreeMap<String, Json>, named: &impl Serialize) -> Result<Submit, QueueError> {
    let invalid = |error: &dyn std::fmt::Display| QueueError::invalid("payload", error);
    let named = Json::from_value(named).map_err(|error| invalid(&error))?;
    let mut payload = extra;
    payload.extend(named.to::<BTreeMap<String, Json>>().map_err(|error| invalid(&error))?);
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

/// The types that workers for containers take.
const HUB_TYPE: &str = "docker.execute";
const GITHUB_TYPE: &str = "docker.github";
