//! Every quantity that a guest, a name server or a peer controls, with its bound and the reason.

use std::time::Duration;

use types::limits::Bytes;

/// Header fields of a request or a response. Honest APIs stay under 40.
pub const MAX_HEADERS: usize = 100;

/// Bytes of a request's header, the target included. Most servers refuse beyond 8 or 16 KiB.
pub const MAX_REQUEST_HEAD: usize = 32 * 1024;

/// Bytes of a response's header or trailer. Real ones with long policies reach 16 KiB.
pub const MAX_RESPONSE_HEAD: usize = 64 * 1024;

/// Bytes buffered between the socket and the scanner. A body of any length passes through this.
pub const READ_BUFFER: usize = 64 * 1024;

/// Bytes of a body that an HTTP/2 upstream may send ahead of being read, and so what one exchange holds at most: 20 MB a
/// second where an answer takes 50 ms.
pub const HTTP2_WINDOW: u32 = 1024 * 1024;

/// Bytes of one HTTP/2 frame: the least that RFC 9113, 4.2 lets a receiver take.
pub const HTTP2_FRAME: u32 = 16 * 1024;

/// Bytes of a request body that are read before any is sent. Calls of APIs are shorter, and nothing at all leaves of a
/// short one that may not.
pub const WHOLE_BODY: usize = 256 * 1024;

/// Bytes that one exchange may make this program hold: what an upstream sends ahead, a request that was read whole, and
/// for each way what is read and what is released at a time.
pub const EXCHANGE_MEMORY: usize = HTTP2_WINDOW as usize + WHOLE_BODY + 12 * READ_BUFFER;

/// Bytes that the programs of one run may make this program hold: 256 exchanges, as many as there are connections, or
/// 20 WebSockets on which both sides have said the longest message.
pub const RUN_MEMORY: Bytes = Bytes::mib(512);

/// The longest request body that is sent while it arrives. A build pushes images of some gigabytes.
pub const MAX_UPLOAD: Bytes = Bytes::mib(64 * 1024);

/// The longest message of a WebSocket, which is read whole. Python's websockets takes 1 MiB unless told otherwise.
pub const MAX_SOCKET_MESSAGE: usize = 4 * 1024 * 1024;

/// What an encoded body that is read whole may stand for.
pub const MAX_DECODED: Bytes = Bytes::mib(16);

/// Addresses of one name that are looked at. A larger answer is refused: nobody needs it, and the
/// whole set has to be classified.
pub const MAX_ADDRESSES: usize = 64;

/// Addresses of one name that are tried, one after the other.
pub const MAX_ATTEMPTS: usize = 3;

/// How long one address may take to accept a connection and prove who it is.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long neither side of a WebSocket, or of an exchange whose request streams, may say anything. Gateways take ten
/// minutes at most, and those who mean to stay send pings every minute or so.
pub const SILENCE: Duration = Duration::from_secs(10 * 60);

/// How long a connection waits for its next request. Servers that close early do so after five seconds, and what
/// waits holds the last request in its buffers.
pub const IDLE_TIME: Duration = Duration::from_secs(4);

/// How many connections wait at a time.
pub const IDLE_CONNECTIONS: usize = 64;

/// How long a connection is used: a certificate and an address are looked at again after that.
pub const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// How long one name server may take; two attempts are made.
pub const DNS_TIME: Duration = Duration::from_secs(2);

/// Answers of name servers that are kept for their time to live.
pub const DNS_CACHE: u64 = 1024;
