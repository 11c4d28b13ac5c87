//! Why a request did not come to an answer: refused by us, or failed on the way.
//!
//! Everything here is a fixed word. What a name server, a peer or a library wrote about a failure is
//! never quoted: the text would travel to a guest, a model and a log unscreened (attack C09).

use std::fmt;

use types::Refusal;

/// What [`crate::Egress::send`] answers when there is no response.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// A rule said no. Where the detail says so, nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request was allowed and could not be carried out.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A failure, by whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Failure {
    /// The name has no usable address.
    #[error("the name was not resolved: {0}")]
    Dns(DnsFault),
    /// Nobody took the connection.
    #[error("no connection: {0}")]
    Connect(ConnectFault),
    /// The peer could not prove who it is.
    #[error("no secure connection: {0}")]
    Tls(TlsFault),
    /// The time for the whole exchange ran out.
    #[error("the time for the request ran out")]
    Timeout,
    /// The sender went away before its request was complete.
    #[error("the request ended before its end")]
    Sender,
    /// The peer did not answer as HTTP asks.
    #[error("no usable answer: {0}")]
    Upstream(UpstreamFault),
}

impl Failure {
    /// Whose failure it was, in one word for metrics.
    pub fn blame(self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Sender => "sender",
            Self::Upstream(_) => "upstream",
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    )*};
}

faults! {
    /// What went wrong with a name.
    DnsFault {
        /// The zone says that there is no such name.
        NoSuchName = "there is no such name",
        /// The name exists and has neither an A nor an AAAA record.
        NoAddress = "the name has no address",
        /// No name server answered usefully.
        NoAnswer = "no name server answered",
        /// This machine has no name server configured.
        NoServer = "no name server is configured",
    }

    /// What went wrong with a connection.
    ConnectFault {
        /// The peer sent a reset.
        Refused = "the peer refused",
        /// There is no route.
        Unreachable = "the address is not reachable",
        /// No answer in time.
        TimedOut = "the peer did not answer in time",
        /// Anything else.
        Other = "the connection failed",
    }

    /// What was wrong with the peer's proof.
    TlsFault {
        /// Its time is over.
        Expired = "the certificate has expired",
        /// Its time has not come.
        NotYetValid = "the certificate is not valid yet",
        /// It is someone else's.
        WrongName = "the certificate is for another name",
        /// It leads to no authority that is trusted here.
        UnknownIssuer = "the certificate's issuer is not trusted",
        /// It was taken back.
        Revoked = "the certificate was revoked",
        /// It is broken in another way.
        BadCertificate = "the certificate is not acceptable",
        /// What came was not TLS, or the two sides share no parameters.
        Handshake = "the handshake failed",
        /// The connection ended during the handshake.
        Closed = "the peer closed the connection during the handshake",
    }

    /// What was wrong with an answer.
    UpstreamFault {
        /// The connection ended before the answer did.
        ClosedEarly = "the connection ended before the answer did",
        /// Not HTTP, or HTTP that two programs could read differently.
        Malformed = "the answer is not valid HTTP",
        /// More header fields or bytes than [`crate::limits`] allows.
        HeadTooLarge = "the answer's header is too large",
        /// A switch of protocols, which was not asked for.
        Switched = "the answer changes the protocol",
        /// A content encoding that cannot be decoded, and so not be scanned.
        Encoding = "the answer's encoding is not one that can be scanned",
        /// More bytes than such an answer can have.
        BodyTooLarge = "the answer is longer than such an answer can be",
    }
}
