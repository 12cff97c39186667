use std::{collections::BTreeSet, fs};

use super::*;

fn mistake(text: &str) -> String {
    ConfigFile::parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_says_nothing() {
    let config = ConfigFile::parse("# nothing yet\n").unwrap();
    assert!(config.http.listen.is_none() && config.p2p.lan.is_none() && config.worker.run.is_none());
}

#[test]
fn every_key_of_the_reference_is_read() {
    let ConfigFile { server, http, p2p, discovery, reach, store, worker } = ConfigFile::parse(example()).unwrap();
    assert!(server.mode.is_some());
    assert!(http.listen.is_some() && http.allowed_hosts.is_some() && http.allowed_origins.is_some());
    assert!(http.token_file.is_some() && http.clients.is_some() && http.allow_other_users.is_some());
    assert!(http.body_bytes_max.is_some() && http.body_timeout_s.is_some());
    assert!(http.header_timeout_s.is_some() && http.write_timeout_s.is_some());
    assert!(http.requests_max.is_some() && http.waits_max.is_some());
    assert!(http.requests_per_client_max.is_some() && http.waits_per_client_max.is_some());
    assert!(p2p.listen.is_some() && p2p.lan.is_some() && p2p.runtime.is_some());
    assert!(discovery.bootstrap.is_some() && discovery.mdns.is_some() && discovery.announce_file.is_some());
    assert!(p2p.allow.is_some() && p2p.deny.is_some());
    assert!(discovery.rendezvous.is_some() && discovery.rendezvous_server.is_some());
    assert!(discovery.kademlia.is_some() && discovery.namespace.is_some());
    assert!(reach.relays.is_some() && reach.relay_server.is_some() && reach.autonat.is_some());
    assert!(reach.hole_punching.is_some() && reach.upnp.is_some());
    assert!(store.durability.is_some());
    assert!(worker.run.is_some() && worker.labels.is_some() && worker.session.is_some());
    let tool = worker.tool.unwrap().remove(0);
    assert!(tool.description.is_some() && tool.input_schema.is_some());
}

/// Returns the example in the reference.
fn example() -> &'static str {
    let reference = include_str!("../../../docs/reference.md");
    reference.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap()
}

/// Returns the keys that a table of this form may have, as the refusal of an unknown key lists them.
fn known_keys(text: &str) -> BTreeSet<String> {
    let mistake = mistake(text);
    let (_, known) = mistake.split_once("unknown key; known are ").unwrap_or_else(|| panic!("{mistake}"));
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_there_is_stands_in_the_reference() {
    let example: toml::Table = example().parse().unwrap();
    let keys = |table: &toml::Table| table.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(known_keys("qqqqqqqqqqqqqqqqqqqq = 1"), keys(&example));
    for (section, table) in &example {
        let text = format!("[{section}]\nqqqqqqqqqqqqqqqqqqqq = 1");
        assert_eq!(known_keys(&text), keys(table.as_table().unwrap()), "{section}");
    }
    let tool = "[[worker.tool]]\nqqqqqqqqqqqqqqqqqqqq = 1";
    assert_eq!(known_keys(tool), keys(example["worker"]["tool"][0].as_table().unwrap()));
}

/// The example sets every number of `[http]` to its default.
#[test]
fn the_times_and_bounds_of_the_reference_are_the_defaults() {
    let config = |text: &str| HttpConfig::new(HttpGiven::default(), ConfigFile::parse(text).unwrap().http).unwrap();
    let example: toml::Table = example().parse().unwrap();
    let number = |(key, value): (&String, &toml::Value)| value.as_integer().map(|value| format!("{key} = {value}"));
    let numbers: Vec<_> = example["http"].as_table().unwrap().iter().filter_map(number).collect();
    assert!(numbers.len() >= 8, "{numbers:?}");
    let set = config(&format!("[http]\n{}", numbers.join("\n")));
    assert_eq!(format!("{set:?}"), format!("{:?}", config("")));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_right_one() {
    assert_eq!(mistake("[p2p]\nlan = true\nlisen = []\n"), "3: p2p.lisen: unknown key; did you mean listen?");
    assert_eq!(
        mistake("[p2p]\nfrequency = 3\n"),
        "2: p2p.frequency: unknown key; known are listen, lan, runtime, allow, deny"
    );
    assert_eq!(mistake("\n[discvery]\n"), "2: discvery: unknown key; did you mean discovery?");
}

#[test]
fn a_value_that_makes_no_sense_is_named_with_its_line() {
    let named = |text: &str, words: &[&str]| {
        let mistake = mistake(text);
        assert!(words.iter().all(|word| mistake.contains(word)), "{mistake:?} has not all of {words:?}");
    };
    named("[p2p]\nlan = \"yes\"", &["2: p2p.lan:", "yes"]);
    named("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\", \"tcp://here\"]", &["2: p2p.listen[1]:", "tcp://here"]);
    named("[discovery]\nbootstrap = [\"/ip4/192.0.2.7/tcp/1\"]", &["2: discovery.bootstrap[0]:", "/p2p/PEER_ID"]);
    named("[p2p]\nruntime = \"tokyo\"", &["2: p2p.runtime:", "tokyo", "tokio"]);
    named("[discovery]\nannounce_file = \"here.json\"", &["2: discovery.announce_file:", "absolute"]);
    named("[worker]\nrun = [\"wordcount\"]", &["2: worker.run[0]:", "TYPE=COMMAND"]);
    named("[[worker.tool]]\nname = \"a\"\ncommand = \"b\"\nschema = {}", &["schema", "unknown key"]);
    named("[server]\nmode = \"daemon\"", &["2: server.mode", "bridge", "native"]);
    named("[store]\ndurability = \"sync\"", &["2: store.durability", "synced"]);
    named("[http]\nrequests_max = 0", &["2: http.requests_max:", "nonzero"]);
    named("[http]\nbody_timeout_s = -1", &["2: http.body_timeout_s:", "seconds"]);
    for key in ["body_timeout_s", "header_timeout_s", "write_timeout_s"] {
        for odd in ["nan", "-nan", "inf", "-inf", "1e400", "-1", "0", "-0.0", "0.0009", "3600.1"] {
            let text = format!("[http]\n{key} = {odd}");
            let mistake = mistake(&text);
            // A text that TOML does not read as a number is reported without a key.
            let is_named = mistake.contains(&format!("{key}: write seconds from 0.001 to 3600, such as 30 or 1.5"));
            assert!(mistake.starts_with("2:") && (is_named || odd == "1e400"), "{text}: {mistake}");
        }
    }
    named("[http]\ntoken_file = \"token\"", &["2: http.token_file:", "absolute"]);
    named("[http.clients]\nlaptop = \"token\"", &["2: http.clients.laptop:", "absolute"]);
    named("[http.clients]\nlaptop = 7", &["2: http.clients.laptop:", "token_file", "grants"]);
    let client = |table: &str| format!("[http.clients]\nlaptop = {{ token_file = \"/token\", {table} }}");
    let roles = &["2: http.clients.laptop.grants:", "\"boss\"", "admin, member, agent, worker"];
    named(&client("grants = \"boss\""), roles);
    named(&client("grants = \"agent:render\""), &["2: http.clients.laptop.grants:", "worker:TYPE"]);
    named(&client("grants = \"worker:a*b\""), &["2: http.clients.laptop.grants:", "render.*"]);
    named(&client("grant = \"agent\""), &["2: http.clients.laptop.grant:", "did you mean grants?"]);
    named("[http.clients]\nlaptop = { grants = \"agent\" }", &["2: http.clients.laptop:", "token_file"]);
    named("[http]\nallow_other_users = \"yes\"", &["2: http.allow_other_users:", "yes"]);
    named("[p2p]\nlan = ", &["2:"]);
    named("[p2p]\nlan = true\nlan = true", &["3:", "duplicate"]);
}

#[test]
fn a_file_that_is_named_has_to_be_there_and_the_usual_one_not() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.toml");
    assert!(ConfigFile::load(None, &missing).is_ok());
    let error = ConfigFile::load(Some(&missing), &missing).unwrap_err().to_string();
    assert!(error.contains("missing.toml"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1)).unwrap();
    let error = ConfigFile::load(None, &path).unwrap_err().to_string();
    assert!(error.contains("config.toml") && error.contains("limit"), "{error}");
}
