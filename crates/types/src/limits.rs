//! Every quantity that someone else controls, each with its bound and the reason for it.

use std::time::Duration;

/// A number of bytes that something may not exceed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }

    /// As an index type; saturates on machines with narrower pointers.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} bytes"),
        }
    }
}

/// What one tool call may use. A manifest may ask for less or, within the `MAX_` constants, more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ToolLimits {
    /// Linear memory over all memories of the instance.
    pub memory: Bytes,
    /// Units of WebAssembly fuel, about one an instruction.
    pub fuel: u64,
    /// Wall-clock time for instantiation, call and every host call in it.
    pub time: Duration,
    /// The longest result, success or error.
    pub output: Bytes,
    /// The total of all log lines.
    pub log: Bytes,
    /// Calls of the guest into the host.
    pub host_calls: u32,
    /// Requests to the network.
    pub requests: u32,
    /// Bytes of one response body after decoding.
    pub response: Bytes,
    /// Bytes kept in the tool's workspace.
    pub workspace: Bytes,
    /// Files kept in the tool's workspace.
    pub files: u32,
}

impl ToolLimits {
    /// What a tool gets when its manifest is silent.
    pub const DEFAULT: Self = Self {
        memory: Bytes::mib(10),
        fuel: 500_000_000,
        time: Duration::from_secs(10),
        output: Bytes::kib(256),
        log: Bytes::kib(64),
        host_calls: 10_000,
        requests: 20,
        response: Bytes::mib(4),
        workspace: Bytes::mib(16),
        files: 1_000,
    };

    /// The most a manifest may ask for.
    pub const MAX: Self = Self {
        memory: Bytes::mib(64),
        fuel: 20_000_000_000,
        time: Duration::from_secs(120),
        output: Bytes::mib(1),
        log: Bytes::mib(1),
        host_calls: 100_000,
        requests: 200,
        response: Bytes::mib(32),
        workspace: Bytes::mib(256),
        files: 10_000,
    };

    /// True when no quantity is above that of `other`.
    pub fn within(&self, other: &Self) -> bool {
        self.memory <= other.memory
            && self.fuel <= other.fuel
            && self.time <= other.time
            && self.output <= other.output
            && self.log <= other.log
            && self.host_calls <= other.host_calls
            && self.requests <= other.requests
            && self.response <= other.response
            && self.workspace <= other.workspace
            && self.files <= other.files
    }
}

/// The longest text one turn of the agent takes from a person, a paste or a pipe. Longer than any
/// message a person writes, short enough to screen in milliseconds.
pub const MAX_INPUT: Bytes = Bytes::kib(256);

/// The largest tool manifest. The longest of ours is 2 KiB.
pub const MAX_MANIFEST: Bytes = Bytes::kib(64);

/// The largest component that may be installed. A componentised Python program is 18 MB.
pub const MAX_COMPONENT: Bytes = Bytes::mib(64);

/// The largest body a tool may send.
pub const MAX_REQUEST_BODY: Bytes = Bytes::mib(4);

/// Levels of nesting in JSON or XML that a parser may enter. Honest documents stay under 32.
pub const MAX_DEPTH: usize = 64;

/// How long a permit may wait between its record and its use.
pub const PERMIT_LIFETIME: Duration = Duration::from_secs(60);

/// How many times a turn may go round the loop of model and tools.
pub const MAX_STEPS: u32 = 16;
