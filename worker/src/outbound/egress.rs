//! Which hosts calls may go to: those of the settings and those of the open internet. What an event or an answer names
//! must not lead into the network that the fleet runs in. Names are judged by the addresses that the call then connects
//! to, so that a name that changes its mind between two questions gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

/// The code of a call that was refused for its address.
pub const REFUSED: &str = "egress";
/// The setting that allows more.
pub const SETTING: &str = "WEIR_WORKER_PRIVATE_HOSTS";

/// An entry of [`SETTING`]: a host's name, or addresses as `10.1.0.0/16` or `10.1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// A host by its name, whatever its addresses.
    Host(String),
    /// Addresses, whatever the name.
    Net(IpNet),
}

impl FromStr for Allowed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::Net(ip.into()));
        }
        match Host::parse(text) {
            Ok(Host::Domain(name)) if !text.contains(['*', '/', ':', '@']) => Ok(Self::Host(plain(&name))),
            _ => Err("is no host, no address and no range of addresses like 10.0.0.0/8"),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

/// Where the calls of one service may go.
#[derive(Debug, Clone, Default)]
pub struct Egress(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    allowed: Vec<Allowed>,
    /// Hosts and ports of the service's own settings.
    own: Vec<(String, u16)>,
}

/// A call that must not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} {why}; {SETTING} allows hosts and ranges of addresses")]
pub struct Refused {
    host: String,
    why: &'static str,
}

impl Egress {
    /// Besides the open internet: what the settings allow, and the hosts of a service's own URLs at their ports.
    pub fn new<'a>(allowed: &[Allowed], own: impl IntoIterator<Item = &'a str>) -> Self {
        let own = own.into_iter().filter_map(|url| {
            let url = Url::parse(url).ok()?;
            Some((plain(url.host_str()?), url.port_or_known_default()?))
        });
        Self(Arc::new(Rules {
            allowed: allowed.to_vec(),
            own: own.collect(),
        }))
    }

    /// Judges a URL as far as that can be done without asking for addresses.
    ///
    /// # Errors
    /// Another scheme than HTTP, an address that is not of the open internet, another port of one of our own hosts.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let refused = |why| {
            let host = url.host_str().unwrap_or("a URL without a host").to_owned();
            Err(Refused { host, why })
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refused("is to be called by another protocol than HTTP");
        }
        let host = plain(url.host_str().unwrap_or_default());
        let port = url.port_or_known_default().unwrap_or_default();
        if self.0.own.iter().any(|own| *own == (host.clone(), port)) {
            return Ok(());
        }
        match url.host() {
            None => refused("is missing"),
            Some(Host::Ipv4(ip)) if self.may(ip.into()) => Ok(()),
            Some(Host::Ipv6(ip)) if self.may(ip.into()) => Ok(()),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => refused("is no address of the open internet"),
            // The resolver knows names without ports: it lets our own hosts through.
            Some(Host::Domain(_)) if self.is_own(&host) && !self.is_named(&host) => {
                refused("is to be called at another port than the settings say")
            }
            Some(Host::Domain(_)) => Ok(()),
        }
    }

    fn may(&self, ip: IpAddr) -> bool {
        is_public(ip)
            || self
                .0
                .allowed
                .iter()
                .any(|allowed| matches!(allowed, Allowed::Net(net) if net.contains(&ip.to_canonical())))
    }

    fn is_own(&self, host: &str) -> bool {
        self.0.own.iter().any(|(own, _)| own == host)
    }

    fn is_named(&self, host: &str) -> bool {
        self.0
            .allowed
            .iter()
            .any(|allowed| matches!(allowed, Allowed::Host(name) if name == host))
    }

    /// Of the addresses of a name, those that may be called.
    fn of_name(&self, host: &str, all: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let host = plain(host);
        if self.is_own(&host) || self.is_named(&host) {
            return Ok(all);
        }
        let may: Vec<_> = all.into_iter().filter(|address| self.may(address.ip())).collect();
        if may.is_empty() {
            let why = "has no address of the open internet";
            return Err(Refused { host, why });
        }
        Ok(may)
    }
}

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.clone();
        Box::pin(async move {
            let all: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let may = egress.of_name(name.as_str(), all)?;
            Ok(Box::new(may.into_iter()) as Addrs)
        })
    }
}

/// A host as it is compared.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether an address is one of the open internet. Sources: IANA's registries of special-purpose addresses for IPv4 and
/// IPv6; 168.63.129.16 is what Azure's machines ask about themselves, and public by its look only.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, d] = ip.octets();
    !matches!(
        (a, b, c, d),
        // This network, private use, loopback, multicast and beyond.
        (0 | 10 | 127 | 224..=255, ..)
            // Carriers' shared addresses, 100.64.0.0/10.
            | (100, 64..=127, ..)
            // Link-local: also where clouds' machines ask for credentials.
            | (169, 254, ..)
            | (172, 16..=31, ..)
            | (192, 168, ..)
            // Protocol assignments, documentation, 6to4 relays.
            | (192, 0, 0 | 2, _)
            | (192, 88, 99, _)
            | (198, 51, 100, _)
            | (203, 0, 113, _)
            // Benchmarks.
            | (198, 18 | 19, ..)
            | (168, 63, 129, 16)
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        // ::ffff:0:0/96, IPv4 in other clothes; 64:ff9b::/96, IPv4 behind a translator, of which 64:ff9b:1::/48 is a
        // network's own; 6to4 leads to the IPv4 address within.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // Teredo and other assignments of 2001::/23, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All that is given out lies here: unique local, link-local, site-local and multicast do not.
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests;
