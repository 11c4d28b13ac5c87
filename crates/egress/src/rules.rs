//! The rules that refuse a request in this crate. Each stands in records and traces by its id.

use types::{Layer, Rule};

/// A name or address that leads to anywhere but the public internet.
pub static ADDRESS: Rule =
    Rule { id: "egress.address", layer: Layer::Egress, says: "the host does not lead to a public address" };

/// An address inside that the owner opened to programs of this machine, asked for from a container.
pub static NOT_FROM_CONTAINER: Rule = Rule {
    id: "egress.not-from-container",
    layer: Layer::Egress,
    says: "the host leads to an address inside, which programs in containers do not reach",
};

/// A connection that would end on this very machine.
pub static SELF: Rule =
    Rule { id: "egress.self", layer: Layer::Egress, says: "the host leads back to this machine" };

/// A secret toward a connection that anyone on the way can read.
pub static CLEAR_TEXT: Rule = Rule {
    id: "egress.clear-text",
    layer: Layer::Egress,
    says: "a secret is never sent over a connection without TLS",
};

/// A `Host` that is not the host of the permitted target.
pub static HOST: Rule = Rule {
    id: "egress.host",
    layer: Layer::Egress,
    says: "the request names another host than the one it is permitted for",
};

/// `Authorization`, `Cookie` and their kind, set by the sender itself.
pub static OWN_CREDENTIAL: Rule = Rule {
    id: "egress.own-credential",
    layer: Layer::Egress,
    says: "the request carries a credential of its own; credentials come from the vault only",
};

/// A header by which some servers read another host, path or method than was judged.
pub static ROUTING_HEADER: Rule = Rule {
    id: "egress.routing-header",
    layer: Layer::Egress,
    says: "the request carries a header that can change its host, path, method or protocol",
};

/// A body that is compressed in a way that cannot be undone within bounds, and so cannot be scanned on its way out.
pub static ENCODED_BODY: Rule = Rule {
    id: "egress.encoded-body",
    layer: Layer::Egress,
    says: "the request is compressed in a way that cannot be scanned",
};

/// A request beyond the bounds of [`crate::limits`] or [`types::limits::MAX_REQUEST_BODY`].
pub static TOO_LARGE: Rule =
    Rule { id: "egress.too-large", layer: Layer::Egress, says: "the request is too large" };

/// A permit for a secret where no vault is open.
pub static NO_VAULT: Rule = Rule {
    id: "egress.no-vault",
    layer: Layer::Egress,
    says: "the request needs a secret and the vault is not open",
};

/// A compressed answer that claims not to be, toward a request that held a secret, or a message in one that is
/// compressed by itself.
pub static DISGUISED_BODY: Rule = Rule {
    id: "egress.disguised-body",
    layer: Layer::Egress,
    says: "the answer is compressed without saying so and cannot be scanned",
};

/// A part of an answer, or what would make a server keep a part of one as something of its own, where a key could be in the whole.
pub static PARTIAL: Rule = Rule {
    id: "egress.partial",
    layer: Layer::Egress,
    says: "of a host that a key is granted for only whole answers are read, and this is a part of one",
};

/// An answer that brings tokens, from a place other than those of its host whose tokens the owner has captured.
pub static UNCAPTURED_TOKEN: Rule = Rule {
    id: "egress.uncaptured-token",
    layer: Layer::Egress,
    says: "the answer brings a token, and the tokens of this host are captured at another path",
};

/// A request that two programs could read differently, or that is no request to a proxy.
pub static MALFORMED: Rule = Rule {
    id: "egress.malformed",
    layer: Layer::Egress,
    says: "the request is not one that has a single reading",
};

/// `CONNECT`, the TLS handshake and the request do not name one host.
pub static NAMES_DISAGREE: Rule = Rule {
    id: "egress.names-disagree",
    layer: Layer::Egress,
    says: "the tunnel, the TLS handshake and the request do not name one host",
};

/// Bytes in a tunnel that are no TLS, or a handshake that the client did not finish.
pub static NOT_TLS: Rule = Rule {
    id: "egress.not-tls",
    layer: Layer::Egress,
    says: "there was no TLS handshake in the tunnel; only HTTPS leaves through one",
};

/// `CONNECT` inside a tunnel.
pub static NESTED_TUNNEL: Rule =
    Rule { id: "egress.nested-tunnel", layer: Layer::Egress, says: "a tunnel inside a tunnel is not opened" };

/// A placeholder where no secret can stand.
pub static PLACEHOLDER: Rule = Rule {
    id: "egress.placeholder",
    layer: Layer::Egress,
    says: "the stand-in of a key stands where no key may be put in",
};

/// A client without the token.
pub static CLIENT_UNKNOWN: Rule = Rule {
    id: "egress.client-unknown",
    layer: Layer::Egress,
    says: "the proxy serves only clients that show its token",
};

/// A client that takes longer than it may.
pub static TOO_SLOW: Rule = Rule {
    id: "egress.too-slow",
    layer: Layer::Egress,
    says: "the client took too long to send its request",
};

/// A conversation in which neither side says anything.
pub static SILENT: Rule = Rule {
    id: "egress.silent",
    layer: Layer::Egress,
    says: "neither side has said anything for too long; keep a conversation open with pings",
};

/// Trailers of a request, which come when it was decided and may have left.
pub static REQUEST_TRAILERS: Rule = Rule {
    id: "egress.request-trailers",
    layer: Layer::Egress,
    says: "the request ends with trailers, which come after it was decided; say it in headers",
};

/// More bytes than are held for one run at a time.
pub static MEMORY: Rule = Rule {
    id: "egress.memory",
    layer: Layer::Egress,
    says: "the proxy holds as many bytes for this run as it may; wait for what is under way and ask again",
};

/// More tunnels than one proxy opens.
pub static BUSY: Rule =
    Rule { id: "egress.busy", layer: Layer::Egress, says: "the proxy serves as many tunnels as it may" };
