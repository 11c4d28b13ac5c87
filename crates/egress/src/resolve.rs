//! From a name to addresses that were classified, once: what is dialled is what was judged.
//!
//! Names go to the machine's name servers as they are: no search list, no hosts file, no multicast.
//! If any address of an answer is not public, the whole answer is refused, so that nobody gains by
//! mixing addresses or by changing them between the check and the use.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use types::{Caller, Endpoint, Host, HostName, Port, Refusal, Site};

use crate::address::{Class, classify};
use crate::config::{ConfigError, Exception};
use crate::error::{DnsFault, Failure, SendError};
use crate::{limits, rules};

/// Resolves names and holds the owner's exceptions.
pub(crate) struct Resolver {
    /// `None` where the machine has no name server: then only exceptions and addresses lead anywhere.
    dns: Option<TokioResolver>,
    exceptions: HashMap<(HostName, Port), Excepted>,
}

/// Where an exception leads, and whether it leads there from a container.
struct Excepted {
    address: SocketAddr,
    containers: bool,
}

/// Addresses that passed the check. Only [`Resolver::pin`] makes one, and only its addresses are
/// ever dialled.
#[derive(Debug)]
pub(crate) struct Pinned {
    sockets: Vec<SocketAddr>,
    excepted: bool,
}

impl Resolver {
    /// Reads the machine's resolver configuration, or takes the given name servers instead.
    pub(crate) fn new(servers: &[SocketAddr], exceptions: &[Exception]) -> Result<Self, ConfigError> {
        let mut table = HashMap::new();
        for exception in exceptions {
            let class = classify(exception.address.ip());
            if !class.may_be_excepted() {
                return Err(ConfigError::Exception { host: exception.host.clone(), class });
            }
            let place = (exception.host.clone(), exception.port);
            let address = SocketAddr::new(exception.address.ip().to_canonical(), exception.address.port());
            let containers = exception.containers || class.is_public();
            if table.insert(place, Excepted { address, containers }).is_some() {
                return Err(ConfigError::Twice { host: exception.host.clone(), port: exception.port });
            }
        }
        Ok(Self { dns: dns(servers)?, exceptions: table })
    }

    /// Finds and judges the addresses of an endpoint for whoever asks.
    pub(crate) async fn pin(&self, endpoint: &Endpoint, caller: &Caller) -> Result<Pinned, SendError> {
        let addrs = match &endpoint.host {
            Host::Addr(addr) => vec![*addr],
            Host::Name(name) => {
                if let Some(excepted) = self.exceptions.get(&(name.clone(), endpoint.port)) {
                    return excepted.pin(endpoint, caller).map_err(SendError::Refused);
                }
                self.lookup(name).await?
            }
        };
        judge(endpoint, addrs).map_err(SendError::Refused)
    }

    async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, Failure> {
        let dns = self.dns.as_ref().ok_or(Failure::Dns(DnsFault::NoServer))?;
        // With the final dot a name is complete: no search list applies.
        let answer = dns.lookup_ip(format!("{name}.")).await.map_err(|error| fault(&error))?;
        let addrs: Vec<IpAddr> = answer.iter().take(limits::MAX_ADDRESSES + 1).collect();
        match addrs.len() {
            0 => Err(Failure::Dns(DnsFault::NoAddress)),
            n if n > limits::MAX_ADDRESSES => Err(Failure::Dns(DnsFault::NoAnswer)),
            _ => Ok(addrs),
        }
    }
}

impl Excepted {
    /// What the owner opened to programs of this machine is not thereby open to one in a container (attack S12).
    fn pin(&self, endpoint: &Endpoint, caller: &Caller) -> Result<Pinned, Refusal> {
        let is_contained = match caller {
            Caller::Client { site: Site::Container, .. } => true,
            Caller::Client { site: Site::Machine, .. }
            | Caller::Tool { .. }
            | Caller::Agent
            | Caller::Vault
            | Caller::Log => false,
        };
        if !is_contained || self.containers {
            return Ok(Pinned { sockets: vec![self.address], excepted: true });
        }
        let class = classify(self.address.ip());
        let address = self.address.ip();
        let why = "by an exception that is not for programs in containers; nothing was sent";
        let detail = format!("{endpoint} leads to {address} ({class}) {why}");
        Err(Refusal::new(&rules::NOT_FROM_CONTAINER, detail).widened_by(format!(
            "if commands in containers may reach it, add containers = true to the [[egress.exception]] for {endpoint} \
             in the configuration: ironclaw config explain egress.exception.containers"
        )))
    }
}

impl Pinned {
    /// What may be dialled, in the order in which to try.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().take(limits::MAX_ATTEMPTS).copied()
    }

    /// True where the owner named this address in an exception.
    pub(crate) fn is_excepted(&self) -> bool {
        self.excepted
    }

    /// How the addresses were found fit, for the trace.
    pub(crate) fn verdict(&self) -> String {
        let source = if self.excepted { "by exception" } else { "all public" };
        match self.sockets.as_slice() {
            [] => "no address".to_owned(),
            [one] => format!("{} ({}), {source}", one.ip(), classify(one.ip())),
            [first, rest @ ..] => {
                format!("{} ({}) and {} more, {source}", first.ip(), classify(first.ip()), rest.len())
            }
        }
    }
}

/// Passes a set of addresses only when every one is public.
fn judge(endpoint: &Endpoint, addrs: Vec<IpAddr>) -> Result<Pinned, Refusal> {
    let offender = addrs.iter().map(|addr| (addr, classify(*addr))).find(|(_, class)| !class.is_public());
    if let Some((addr, class)) = offender {
        return Err(refuse(endpoint, *addr, class));
    }
    // The kernel reads a mapped address as the IPv4 address it maps.
    let port = endpoint.port.get();
    let sockets = addrs.into_iter().map(|addr| SocketAddr::new(addr.to_canonical(), port)).collect();
    Ok(Pinned { sockets, excepted: false })
}

fn refuse(endpoint: &Endpoint, addr: IpAddr, class: Class) -> Refusal {
    match &endpoint.host {
        Host::Addr(_) => Refusal::new(&rules::ADDRESS, format!("{addr} is {class}; nothing was sent")),
        Host::Name(name) => {
            let refusal = Refusal::new(
                &rules::ADDRESS,
                format!("{name} resolves to {addr} ({class}); nothing was sent"),
            );
            if !class.may_be_excepted() {
                return refusal;
            }
            refusal.widened_by(format!(
                "if {addr} is right, add an [[egress.exception]] with host \"{name}\", port {port} and address \
                 \"{}\" to the configuration: ironclaw config explain egress.exception",
                SocketAddr::new(addr, endpoint.port.get()),
                port = endpoint.port,
            ))
        }
    }
}

/// A resolver over the given servers, or over the machine's when none are given.
fn dns(servers: &[SocketAddr]) -> Result<Option<TokioResolver>, ConfigError> {
    let servers = if servers.is_empty() {
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, _)) => config.name_servers().to_vec(),
            Err(_) => return Ok(None),
        }
    } else {
        servers.iter().map(|server| name_server(*server)).collect()
    };
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = limits::DNS_TIME;
    options.cache_size = limits::DNS_CACHE;
    // A forged answer has to guess the port, the id and the case of the name.
    options.case_randomization = true;
    // A server that garbles the case or cuts the answer is asked again over TCP.
    options.try_tcp_on_error = true;
    let config = ResolverConfig::from_name_servers(servers);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build().map(Some).map_err(|_| ConfigError::Resolver)
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

fn fault(error: &NetError) -> Failure {
    Failure::Dns(if error.is_nx_domain() {
        DnsFault::NoSuchName
    } else if error.is_no_records_found() {
        DnsFault::NoAddress
    } else {
        DnsFault::NoAnswer
    })
}

#[cfg(test)]
mod tests {
    use types::CallId;

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::parse(text, Some(443)).unwrap()
    }

    fn exception(host: &str, port: u16, addr: &str) -> Exception {
        let host = HostName::parse(host).unwrap();
        let address = SocketAddr::new(addr.parse().unwrap(), port);
        Exception { host, port: Port::new(port).unwrap(), address, ca: None, containers: false }
    }

    fn contained() -> Caller {
        Caller::Client { run: CallId::new(), site: Site::Container }
    }

    fn rule(result: Result<Pinned, SendError>) -> &'static str {
        match result {
            Err(SendError::Refused(refusal)) => refusal.rule.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn s02_one_private_address_spoils_the_whole_answer() {
        let addrs = |list: &[&str]| list.iter().map(|addr| addr.parse().unwrap()).collect::<Vec<IpAddr>>();
        let place = endpoint("api.example");
        assert!(judge(&place, addrs(&["93.184.216.34", "2606:4700::1"])).is_ok());
        for mixed in [&["93.184.216.34", "10.0.0.1"], &["::ffff:169.254.169.254", "93.184.216.34"]] {
            assert_eq!(judge(&place, addrs(mixed)).unwrap_err().rule.id, "egress.address");
        }
    }

    #[tokio::test]
    async fn s01_w18_literal_addresses_are_judged_too() {
        let resolver = Resolver::new(&[], &[]).unwrap();
        for literal in ["127.0.0.1", "[::1]", "0x7f.1", "169.254.169.254", "[::ffff:10.0.0.1]", "0"] {
            assert_eq!(
                rule(resolver.pin(&endpoint(literal), &Caller::Agent).await),
                "egress.address",
                "{literal}"
            );
        }
        let pinned = resolver.pin(&endpoint("[::ffff:93.184.216.34]:8443"), &Caller::Agent).await.unwrap();
        assert_eq!(pinned.sockets().collect::<Vec<_>>(), ["93.184.216.34:8443".parse().unwrap()]);
    }

    #[tokio::test]
    async fn s12_an_exception_is_one_host_one_port_one_address() {
        let list = [exception("internal.example", 8443, "10.1.2.3")];
        let resolver = Resolver::new(&["127.0.0.1:9".parse().unwrap()], &list).unwrap();
        let pinned = resolver.pin(&endpoint("INTERNAL.example.:8443"), &Caller::Agent).await.unwrap();
        assert_eq!(pinned.sockets().collect::<Vec<_>>(), ["10.1.2.3:8443".parse().unwrap()]);
        assert!(pinned.is_excepted());
        assert_eq!(rule(resolver.pin(&endpoint("10.1.2.3:8443"), &Caller::Agent).await), "egress.address");
    }

    /// Where the owner says so it does, and where the address is public it says nothing about the inside.
    #[tokio::test]
    async fn s12_an_exception_that_leads_inside_holds_for_no_container_unless_it_says_so() {
        let opened = Exception { containers: true, ..exception("opened.example", 443, "10.0.0.3") };
        let list = [
            exception("local.example", 443, "127.0.0.1"),
            exception("inside.example", 443, "fd12::1"),
            opened,
            exception("pinned.example", 443, "93.184.216.34"),
        ];
        let resolver = Resolver::new(&["127.0.0.1:9".parse().unwrap()], &list).unwrap();
        for name in ["local.example", "inside.example"] {
            let Err(SendError::Refused(refusal)) = resolver.pin(&endpoint(name), &contained()).await else {
                panic!("{name} was reached");
            };
            assert_eq!(refusal.rule.id, "egress.not-from-container");
            assert!(refusal.widen.unwrap().contains(&format!("[[egress.exception]] for {name}:443")));
            let outside = Caller::Client { run: CallId::new(), site: Site::Machine };
            assert!(resolver.pin(&endpoint(name), &outside).await.unwrap().is_excepted());
        }
        for name in ["opened.example", "pinned.example"] {
            assert!(resolver.pin(&endpoint(name), &contained()).await.unwrap().is_excepted(), "{name}");
        }
    }

    #[test]
    fn s12_what_no_exception_may_name() {
        for addr in
            ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "fd00:ec2::254"]
        {
            let refused = Resolver::new(&[], &[exception("a.example", 80, addr)]);
            assert!(matches!(refused, Err(ConfigError::Exception { .. })), "{addr}");
        }
        let twice = [exception("a.example", 80, "10.0.0.1"), exception("A.example.", 80, "10.0.0.2")];
        assert!(matches!(Resolver::new(&[], &twice), Err(ConfigError::Twice { .. })));
    }

    #[test]
    fn the_widening_is_offered_only_where_it_would_be_accepted() {
        let place = endpoint("api.example");
        let widen = |addr: &str| judge(&place, vec![addr.parse().unwrap()]).unwrap_err().widen;
        assert!(widen("10.0.0.1").unwrap().contains("port 443 and address \"10.0.0.1:443\""));
        assert_eq!(widen("169.254.169.254"), None);
    }
}
