//! Carries what the command dials to the one socket that leads out.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use init::{PROXY_PORT, Preface, SOCKET};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::Semaphore;

use crate::names::Names;

/// Connections that are carried at a time. The command that opens more waits for its own to end.
const MAX_CONNECTIONS: usize = 1024;

/// The longest datagram to the name server (RFC 6891 recommends 1232).
const MAX_QUERY: usize = 1232;

/// How long to wait before accepting again when accepting failed, as when the command used up all files.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What the command finds on its loopback interface.
pub struct Relay {
    proxy: TcpListener,
    http: TcpListener,
    https: TcpListener,
    dns: UdpSocket,
    names: Rc<RefCell<Names>>,
}

impl Relay {
    /// Takes the ports, before the command could.
    pub async fn listen() -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a name server on loopback in a network of its own")]
        let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).await?;
        Ok(Self {
            proxy: TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT)).await?,
            // The address that was dialled tells the name.
            http: TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await?,
            https: TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await?,
            dns,
            names: Rc::default(),
        })
    }

    /// Serves until the process ends.
    pub async fn serve(self) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let names = &self.names;
        let named = |port| {
            move |stream: &TcpStream| match stream.local_addr().ok()?.ip() {
                IpAddr::V4(address) => {
                    Some(Preface::Name { name: names.borrow().name(address)?.to_owned(), port })
                }
                IpAddr::V6(_) => None,
            }
        };
        tokio::join!(
            accept(&self.proxy, &slots, |_| Some(Preface::Proxy)),
            accept(&self.http, &slots, named(80)),
            accept(&self.https, &slots, named(443)),
            answer(&self.dns, names),
        );
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    preface: impl Fn(&TcpStream) -> Option<Preface>,
) {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        if let Some(preface) = preface(&stream) {
            tokio::task::spawn_local(async move {
                // Whichever end broke: there is nobody to tell but the two ends, which know.
                let _ = carry(stream, preface).await;
                drop(slot);
            });
        }
    }
}

async fn carry(mut stream: TcpStream, preface: Preface) -> io::Result<()> {
    let mut out = connect(&preface).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut out).await?;
    Ok(())
}

/// A connection to the host that has said what it is for.
pub async fn connect(preface: &Preface) -> io::Result<UnixStream> {
    #[expect(clippy::disallowed_methods, reason = "the one socket that leads out of the container")]
    let mut out = UnixStream::connect(SOCKET).await?;
    out.write_all(format!("{preface}\n").as_bytes()).await?;
    Ok(out)
}

async fn answer(socket: &UdpSocket, names: &Rc<RefCell<Names>>) {
    let mut query = [0; MAX_QUERY];
    loop {
        match socket.recv_from(&mut query).await {
            Ok((length, from)) => {
                let answer = names.borrow_mut().answer(&query[..length]);
                if let Some(answer) = answer {
                    // A datagram may be lost; the resolver asks again.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
            Err(_) => tokio::time::sleep(BACK_OFF).await,
        }
    }
}
