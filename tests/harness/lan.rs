use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use super::skipped;

/// A separate local network: its hosts are network namespaces, joined by a bridge in one more namespace. Dropping it
/// removes them all, and with them every interface that was made.
pub(crate) struct Lan {
    name: String,
    hosts: u8,
}

impl Lan {
    /// Makes a network of `hosts` hosts. Where this process may not do so, it says why and returns `None`.
    pub(crate) fn new(hosts: u8) -> Result<Option<Self>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tm{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // From here on, everything that is made is removed again by dropping this.
        let lan = Self { name, hosts };
        let switch = lan.switch();
        let bridge = format!("-n {switch} link add br0 type bridge mcast_snooping 0 forward_delay 0");
        for allowed in [format!("netns add {switch}"), bridge] {
            if let Err(error) = ip(&allowed) {
                skipped(&format!("this process cannot make a network of its own: {error:#}"));
                return Ok(None);
            }
        }
        ip(&format!("-n {switch} link set br0 up"))?;
        (1..=hosts).try_for_each(|number| lan.add_host(number))?;
        Ok(Some(lan))
    }

    fn add_host(&self, number: u8) -> Result<()> {
        let (switch, host) = (self.switch(), self.host(number));
        ip(&format!("netns add {host}"))?;
        ip(&format!("-n {switch} link add p{number} type veth peer name eth0 netns {host}"))?;
        ip(&format!("-n {switch} link set p{number} master br0 up"))?;
        ip(&format!("-n {host} addr add {}/24 dev eth0", Self::address(number)))?;
        ip(&format!("-n {host} link set lo up"))?;
        ip(&format!("-n {host} link set eth0 up"))?;
        // The rule for the host's own addresses is moved back, so that rules of a test come before it.
        ip(&format!("-n {host} rule add pref 100 lookup local"))?;
        ip(&format!("-n {host} rule del pref 0"))
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }

    /// Returns the namespace of a host; the first host has the number 1.
    pub(crate) fn host(&self, number: u8) -> String {
        format!("{}-h{number}", self.name)
    }

    fn address(number: u8) -> String {
        format!("10.77.0.{number}")
    }

    /// Unplugs a host's cable from the switch, or plugs it in again.
    pub(crate) fn set_cable(&self, host: u8, is_in: bool) -> Result<()> {
        let state = if is_in { "up" } else { "down" };
        ip(&format!("-n {} link set p{host} {state}", self.switch()))
    }

    /// Makes a host silently drop everything that the host `to` sends to it, or ends this. The other direction still
    /// works.
    pub(crate) fn set_deaf(&self, host: u8, to: u8, is_deaf: bool) -> Result<()> {
        let change = if is_deaf { "add" } else { "del" };
        ip(&format!("-n {} rule {change} pref 10 from {} blackhole", self.host(host), Self::address(to)))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in (1..=self.hosts).map(|number| self.host(number)).chain([self.switch()]) {
            // It fails for a namespace that was never made.
            ip(&format!("netns del {name}")).ok();
        }
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output().context("there is no `ip` (iproute2)")?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
