//! Error codes and metrics: names that programs rely on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Reference, quoted};
use crate::harness::{Era, HttpConnection, Node, at};

#[test]
fn the_reference_has_the_codes_that_there_are() -> Result<()> {
    let node = Node::start(&[])?;
    let listed = Era::Legacy.request("tools/list", json!({})).ask(node.http()?)?.message()?;
    let code = at(&listed, "/result/tools/0/outputSchema/properties/error/properties/code/enum");
    let known: BTreeSet<&str> = code.as_array().context("no codes")?.iter().filter_map(|code| code.as_str()).collect();
    let reference = Reference::read()?;
    let rows = reference.rows("## Answers and errors")?;
    let documented: BTreeSet<&str> = rows.iter().filter_map(|row| row.first()).flat_map(|cell| quoted(cell)).collect();
    println!("{} codes compared", known.len());
    ensure!(documented == known, "documented: {documented:?}, known: {known:?}");
    Ok(())
}

#[test]
fn the_reference_has_the_metrics_that_there_are_with_their_labels() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN)?;
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let node = Node::start(&["--http-token-file", token.to_str().context("a path that is no text")?])?;
    let bearer = format!("authorization: Bearer {TOKEN}");
    let status = Era::Legacy.call("p2p_taskqueue_status", json!({}));
    ensure!(status.with("authorization", &format!("Bearer {TOKEN}")).ask(node.http()?)?.status == 200);
    let scraped = HttpConnection::open(node.http()?)?.get("/metrics", &[&bearer, "connection: close"])?;
    ensure!(scraped.status == 200, "{scraped:?}");
    let known = series(&scraped.body);
    let documented = documented_series(&Reference::read()?)?;
    println!("{} metrics compared", known.len());
    ensure!(documented == known, "documented: {documented:#?}, known: {known:#?}");
    Ok(())
}

/// Returns the labels of each metric in a scrape.
fn series(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let histograms: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap_or((line, ""));
        let family = histograms.iter().find(|family| name.starts_with(**family)).copied().unwrap_or(name);
        let labels = series.entry(family.to_owned()).or_default();
        if line.as_bytes().get(name.len()) == Some(&b'{') {
            let names = rest.split('}').next().unwrap_or_default().split(',').filter_map(|label| label.split_once('='));
            labels.extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    series
}

/// Returns the labels of each metric in the reference. In a row such as `taskmesh_bridge_calls_total`,
/// `_cancelled_total`, the names share their first part.
fn documented_series(reference: &Reference) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut series = BTreeMap::new();
    for row in reference.rows("## HTTP")? {
        let [names, labels, _] = row[..] else { continue };
        let labels: BTreeSet<String> =
            quoted(labels).filter(|label| !label.starts_with(char::is_numeric)).map(str::to_owned).collect();
        let mut whole = "";
        for name in quoted(names).filter(|name| !name.contains(['/', ' '])) {
            let name = if name.starts_with('_') {
                let (family, _) = whole
                    .rsplit_once("_calls")
                    .or_else(|| whole.rsplit_once("_in_flight"))
                    .context("an end of what?")?;
                format!("{family}{name}")
            } else {
                whole = name;
                name.to_owned()
            };
            ensure!(series.insert(name.clone(), labels.clone()).is_none(), "{name} stands there twice");
        }
    }
    Ok(series)
}

const TOKEN: &str = "a-token-of-more-than-sixteen-bytes";
