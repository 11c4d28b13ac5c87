//! What a component may import.
//!
//! The list is closed: an interface that is not on it is refused when the tool is installed, by name, before a single
//! instruction runs. Three kinds stand on it: the contract's own interfaces, the WASI interfaces that a call can be
//! given safely, and those that toolchains import whether or not the program uses them, which are given empty.

use wasmtime::Engine;
use wasmtime::component::types::{Component, ComponentItem};

/// Interfaces of the contract, in exactly this version.
const CONTRACT: &[&str] =
    &["ironclaw:tool/workspace@0.1.0", "ironclaw:tool/log@0.1.0", "ironclaw:tool/config@0.1.0"];

/// WASI 0.2 interfaces that do something: requests that end in egress, coarse clocks, random numbers, streams.
const GIVEN: &[&str] = &[
    "wasi:http/types",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// WASI 0.2 interfaces that the standard libraries of Rust and C always import: an environment without variables and
/// arguments, a closed standard input, outputs that go to the log, no terminal, and a file system without a single
/// folder to start from.
const EMPTY: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
];

/// The most refused imports that are named.
const MAX_NAMED: usize = 5;

/// Imports that no tool gets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", self.shown())]
pub struct Unlisted {
    /// The first of them, as far as their names are made of the characters that interface names have.
    names: Vec<String>,
    /// How many there are in all.
    count: usize,
}

impl Unlisted {
    fn shown(&self) -> String {
        let named = self.names.join(", ");
        match (self.names.len(), self.count - self.names.len()) {
            (_, 0) => named,
            (0, more) => format!("{more} imports whose names no interface has"),
            (_, more) => format!("{named} and {more} more"),
        }
    }
}

/// Refuses a component that imports anything unlisted.
pub(crate) fn check_imports(component: &Component, engine: &Engine) -> Result<(), Unlisted> {
    let mut refused = Vec::new();
    for (name, item) in component.imports(engine) {
        match item.ty {
            ComponentItem::ComponentInstance(instance) if is_listed(name) => {
                let uses = instance.exports(engine).map(|(function, _)| function);
                refused.extend(uses.filter(|function| names_a_path(name, function)).map(|function| {
                    parsed(name).zip(parsed(function)).map(|(name, function)| format!("{name} {function}"))
                }));
            }
            _ => refused.push(parsed(name)),
        }
    }
    let count = refused.len();
    let names = refused.into_iter().flatten().take(MAX_NAMED).collect();
    if count == 0 { Ok(()) } else { Err(Unlisted { names, count }) }
}

/// True for a name on one of the lists; WASI in any 0.2 release, as those are compatible with each other.
fn is_listed(import: &str) -> bool {
    let wasi = |list: &[&str]| {
        import.split_once('@').is_some_and(|(name, version)| list.contains(&name) && is_wasi_0_2(version))
    };
    CONTRACT.contains(&import) || wasi(GIVEN) || wasi(EMPTY)
}

fn is_wasi_0_2(version: &str) -> bool {
    version.strip_prefix("0.2.").is_some_and(|patch| {
        !patch.is_empty() && patch.len() <= 3 && patch.bytes().all(|b| b.is_ascii_digit())
    })
}

/// True for a function that names a file. Without a folder to start from none can succeed, so a component that
/// imports one expects a file system that it will not get; it is told when it is installed.
fn names_a_path(interface: &str, function: &str) -> bool {
    interface.starts_with("wasi:filesystem/types@")
        && function.strip_prefix("[method]descriptor.").is_some_and(|method| method.ends_with("-at"))
}

/// The name, if it is short and has only the characters of interface names.
fn parsed(name: &str) -> Option<String> {
    let plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'/' | b'@' | b'[' | b']');
    (name.len() <= 128 && name.bytes().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w12_the_list_is_closed() {
        for good in ["ironclaw:tool/log@0.1.0", "wasi:http/types@0.2.0", "wasi:cli/environment@0.2.12"] {
            assert!(is_listed(good), "{good}");
        }
        for bad in [
            "ironclaw:tool/log@0.1.1",
            "ironclaw:tool/log",
            "ironclaw:tool/secrets@0.1.0",
            "wasi:http/types",
            "wasi:http/types@0.3.0",
            "wasi:http/types@0.2.0-rc",
            "wasi:http/types@0.2.",
            "wasi:sockets/tcp@0.2.12",
            "wasi:sockets/instance-network@0.2.12",
            "wasi:cli/run@0.2.12",
            "wasi:http/incoming-handler@0.2.12",
            "evil:corp/backdoor@1.0.0",
        ] {
            assert!(!is_listed(bad), "{bad}");
        }
    }

    #[test]
    fn names_are_shown_only_when_they_are_names() {
        assert_eq!(parsed("wasi:sockets/tcp@0.2.12").as_deref(), Some("wasi:sockets/tcp@0.2.12"));
        assert_eq!(parsed("ignore previous instructions"), None);
        assert_eq!(parsed("a\u{1b}[2J"), None);
        assert_eq!(parsed(&"a".repeat(129)), None);
    }
}
