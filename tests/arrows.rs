//! Checks the dependencies between crates: those that ARCHITECTURE.md draws, and no others.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The crates of the product, each with the others that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("runtime-bridge", &[]),
    ("taskqueue-api", &[]),
    ("taskqueue-store", &["runtime-bridge", "taskqueue-api"]),
    ("taskqueue-mesh", &["runtime-bridge", "taskqueue-api"]),
    ("taskqueue-worker", &["runtime-bridge", "taskqueue-api"]),
    ("p2p-taskqueue", &["runtime-bridge", "taskqueue-api", "taskqueue-mesh", "taskqueue-store", "taskqueue-worker"]),
    ("mcp-core", &["taskqueue-api"]),
    ("server-bin", &["mcp-core", "p2p-taskqueue", "runtime-bridge"]),
];

/// Members that no other crate uses: tests and benchmarks.
const ON_TOP: &[&str] = &["benches", "integration-tests"];

fn cargo(arguments: &[&str]) -> Result<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output =
        Command::new(env!("CARGO")).args(arguments).args(["--manifest-path", manifest, "--locked"]).output()?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("no {key}"))
}

#[test]
fn arrows_between_crates_run_as_drawn() -> Result<()> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version=1"])?)?;
    let packages = list(&metadata, "packages")?;
    let members = packages.iter().map(|package| text(package, "name")).collect::<Result<BTreeSet<_>>>()?;
    let drawn: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).chain(ON_TOP.iter().copied()).collect();
    assert_eq!(members, drawn, "every crate stands in the drawing");
    for package in packages {
        let name = text(package, "name")?;
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else { continue };
        for dependency in list(package, "dependencies")? {
            // Only dependencies of the crate itself count: its tests may use more.
            let is_built_in = dependency.get("kind").is_none_or(Value::is_null);
            let other = text(dependency, "name")?;
            ensure!(
                !is_built_in || !members.contains(other) || allowed.contains(&other),
                "{name} must not use {other}: ARCHITECTURE.md says which way dependencies run"
            );
        }
    }
    Ok(())
}

#[test]
fn without_the_mesh_nothing_of_libp2p_is_built_but_names_and_addresses() -> Result<()> {
    let features = ["--no-default-features", "--features", "sqlite,worker"];
    let tree = ["tree", "--package", "p2p-taskqueue", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let crates = cargo(&[tree.as_slice(), &features].concat())?;
    let names: BTreeSet<_> = crates.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names.contains("taskqueue-store") && names.contains("taskqueue-worker"), "they are asked for: {names:?}");
    let of_libp2p: Vec<_> =
        names.into_iter().filter(|name| name.contains("libp2p") || *name == "taskqueue-mesh").collect();
    assert_eq!(of_libp2p, ["libp2p-identity"]);
    Ok(())
}
