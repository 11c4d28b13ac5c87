//! A name server on 127.0.0.1 that answers as a test wants.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// One answer: an alias, if any, and the addresses that it or the name leads to.
#[derive(Clone, Default)]
pub(crate) struct Zone {
    pub(crate) alias: Option<&'static str>,
    pub(crate) addrs: Vec<IpAddr>,
    pub(crate) missing: bool,
}

impl Zone {
    pub(crate) fn of(addrs: &[&str]) -> Self {
        Self { addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(), ..Self::default() }
    }
}

pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    queries: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// The first query for an IPv4 address gets the first zone, the second the second, and so on; the
    /// last one stays.
    pub(crate) async fn start(zones: Vec<Zone>) -> Self {
        #[allow(clippy::disallowed_methods, reason = "a name server of the test's own")]
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = socket.local_addr().unwrap();
        let queries = Arc::new(AtomicUsize::new(0));
        let count = queries.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let nth = match query.queries[0].query_type() {
                    RecordType::A => count.fetch_add(1, Ordering::SeqCst),
                    _ => count.load(Ordering::SeqCst).saturating_sub(1),
                };
                let zone = &zones[nth.min(zones.len() - 1)];
                socket.send_to(&answer(query, zone), peer).await.unwrap();
            }
        });
        Self { addr, queries, task }
    }

    /// Names that were asked for.
    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every record has no time to live: nothing may be kept.
fn answer(query: Message, zone: &Zone) -> Vec<u8> {
    let mut message = query.clone().into_response();
    let asked = query.queries[0].clone();
    let mut owner = asked.name().clone();
    if zone.missing {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    if let Some(alias) = zone.alias {
        let target = Name::from_ascii(alias).unwrap();
        message.add_answer(Record::from_rdata(owner, 0, RData::CNAME(CNAME(target.clone()))));
        owner = target;
    }
    for addr in &zone.addrs {
        let data = RData::from(*addr);
        if data.record_type() == asked.query_type() {
            message.add_answer(Record::from_rdata(owner.clone(), 0, data));
        }
    }
    message.to_vec().unwrap()
}
