//! Where a command's connections end in a build without network for commands: each request is refused and recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::Audit;
use container::{Connection, Dialled, rules};
use egress::closed::{self, Asked};
use tokio::sync::mpsc;
use types::{CallId, Endpoint, Field, Kind, Record, Refusal, TurnId, Verdict};

/// Connections that wait to be taken.
const WAITING: usize = 64;

/// Refusals of one run that are recorded one by one; of more only the number is, so that no command fills the log.
const RECORDED: u64 = 1000;

/// The end that the container is given, and the end that is served.
pub fn channel() -> (mpsc::Sender<Connection>, mpsc::Receiver<Connection>) {
    mpsc::channel(WAITING)
}

/// Refuses whatever comes, until nothing can come any more.
pub async fn refuse_all(
    mut connections: mpsc::Receiver<Connection>,
    audit: Audit,
    turn: TurnId,
    run: CallId,
) {
    let refused = Refused { audit, turn, run, count: Arc::default() };
    while let Some(connection) = connections.recv().await {
        let refused = refused.clone();
        tokio::spawn(async move {
            let dialled = match connection.dialled {
                Dialled::Proxy => None,
                Dialled::Name(name, port) => match Endpoint::parse(&name, Some(port)) {
                    Ok(endpoint) => Some(endpoint),
                    Err(_) => return,
                },
            };
            closed::refuse_all(connection.stream, dialled, |asked| refused.clone().refuse(asked)).await;
        });
    }
}

/// Writes down what is refused.
#[derive(Clone)]
struct Refused {
    audit: Audit,
    turn: TurnId,
    run: CallId,
    count: Arc<AtomicU64>,
}

impl Refused {
    async fn refuse(self, asked: Asked) -> Refusal {
        let target = asked.endpoint.as_ref().map_or_else(|| "unreadable".to_owned(), Endpoint::to_string);
        let refusal = Refusal::new(&rules::NO_NETWORK, target.clone());
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        if count <= RECORDED {
            let record = Record::new(Kind::Request, Verdict::Block)
                .of_turn(self.turn)
                .with(Field::Actor, "command")
                .with(Field::Call, self.run)
                .with(
                    Field::Target,
                    match &asked.method {
                        Some(method) => format!("{method} {target}"),
                        None => target,
                    },
                )
                .with(Field::Rule, refusal.rule.id)
                .with(Field::Refusal, refusal.id)
                .with(
                    Field::Reason,
                    if count < RECORDED { refusal.rule.says } else { "and all that follow in this run" },
                );
            // It is refused whether or not it can be written down.
            let _ = self.audit.record(record).await;
        }
        refusal
    }
}
