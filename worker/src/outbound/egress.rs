//! Which hosts calls may go to: those of the settings and those of the open internet. What an event or an answer names
//! must not lead into the network that the fleet runs in. Names are judged by the addresses that the call then connects
//! to, so that a name that changes its mind between two questions gains nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use shared::address::is_public;
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

#[cfg(test)]
mod tests;
