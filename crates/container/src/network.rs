//! A command's connections, given to the proxy that judges them.

use std::sync::Arc;

use egress::proxy::{Client, Dialled as Toward, Proxy};
use policy::Permit;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use types::{Command, Endpoint, Scheme};

use crate::container::{Inside, OnTerminal, Outcome, RunError, Running, Sandbox, Size, Started};
use crate::door::{Connection, Dialled};

/// Connections that wait to be taken.
const WAITING: usize = 64;

impl Sandbox {
    /// Starts a permitted command. What it dials is served by `proxy`, whatever that is: each request is read and decided.
    /// The command holds a placeholder for each secret of the proxy's run, under the secret's name, and trusts the
    /// proxy's authority alone.
    pub async fn start(&self, permit: Permit<Command>, proxy: Arc<Proxy>) -> Result<Running, RunError> {
        Ok(self.running(self.join(permit, proxy, None).await?))
    }

    /// The same, on a terminal of this size.
    pub async fn start_on_terminal(
        &self,
        permit: Permit<Command>,
        proxy: Arc<Proxy>,
        size: Size,
    ) -> Result<OnTerminal, RunError> {
        Ok(self.on_terminal(self.join(permit, proxy, Some(size)).await?))
    }

    async fn join(
        &self,
        permit: Permit<Command>,
        proxy: Arc<Proxy>,
        terminal: Option<Size>,
    ) -> Result<Started, RunError> {
        let held = proxy.placeholders();
        let inside = Inside {
            variables: held.map(|(name, text)| (name.to_string(), text.to_owned())).collect(),
            authority: Some(proxy.ca_pem().to_owned()),
            terminal,
        };
        let (outlet, connections) = mpsc::channel(WAITING);
        let mut started = self.begin(permit, inside, outlet).await?;
        let serving = tokio::spawn(serve(connections, proxy));
        let ended = started.outcome;
        started.outcome = Outcome::of(tokio::spawn(async move {
            let finished = ended.wait().await;
            // Nobody is left to serve.
            let _ = serving.await;
            finished
        }));
        Ok(started)
    }
}

/// Serves what comes, until nothing can come any more; what is open then is closed, and on record.
async fn serve(mut connections: mpsc::Receiver<Connection>, proxy: Arc<Proxy>) {
    let mut open = JoinSet::new();
    while let Some(Connection { dialled, stream }) = connections.recv().await {
        let Some(toward) = toward(dialled) else { continue };
        let proxy = proxy.clone();
        open.spawn(async move { proxy.serve(stream, toward).await });
        while open.try_join_next().is_some() {}
    }
    open.shutdown().await;
    proxy.end().await;
}

/// The door has proven whose connection it is; what it is for is a claim, and judged as one.
fn toward(dialled: Dialled) -> Option<Toward> {
    match dialled {
        Dialled::Proxy => Some(Toward::Proxy(Client::Proven)),
        Dialled::Name(name, port) => {
            let scheme = if port == 80 { Scheme::Http } else { Scheme::Https };
            Some(Toward::Host(scheme, Endpoint::parse(&name, Some(port)).ok()?))
        }
    }
}
