//! `ironclaw doctor`: what is and is not protected on this machine, and the command that mends it.
//!
//! It makes nothing: where there is no installation yet it says so and checks the rest. A check is `bad`
//! when a promise cannot be kept, and then the exit code says so; `warn` is a limit that the owner should
//! know of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::Log;
use egress::{Egress, Roots};
use secrets::{KeychainState, SlotKind};
use serde_json::json;
use wasm::Sandbox;

use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::home::Home;
use crate::parts::{self, Base};
use crate::terminal::{Terminal, Tone};

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ok,
    Warn,
    Bad,
}

/// One line of the report.
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), mend: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>) -> Self {
        Self { state: State::Warn, ..Self::ok(name, detail) }
    }

    fn bad(name: &'static str, detail: impl Into<String>) -> Self {
        Self { state: State::Bad, ..Self::ok(name, detail) }
    }

    fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// Runs the command.
pub async fn run(home: &Home, terminal: &Terminal) -> Outcome {
    let mut checks = Vec::new();
    let config = configuration(home, terminal, &mut checks);
    let commands = [commands(home, &config).await, full_access(&config)];
    installation(home, config, &mut checks).await;
    checks.push(memory());
    checks.push(clock());
    checks.extend(same_user());
    checks.extend(commands);
    for check in &checks {
        print(check, terminal);
    }
    let bad = checks.iter().filter(|check| check.state == State::Bad).count();
    if bad == 0 {
        return Ok(());
    }
    if !terminal.is_json() {
        terminal
            .warn(format!("ironclaw: {bad} of {} promises cannot be kept on this machine now", checks.len()));
    }
    Err(Failure::Said(Code::Environment))
}

fn print(check: &Check, terminal: &Terminal) {
    let (word, mark, tone) = match check.state {
        State::Ok => ("ok", '\u{2713}', Tone::Good),
        State::Warn => ("warn", '!', Tone::Warn),
        State::Bad => ("bad", '\u{2717}', Tone::Bad),
    };
    if terminal.is_json() {
        return terminal.json(
            &json!({ "check": check.name, "state": word, "detail": check.detail, "mend": check.mend }),
        );
    }
    terminal.painted(&format!("{} {:<15} {}", terminal.paint(tone, mark), check.name, check.detail));
    if let Some(mend) = &check.mend {
        terminal.painted(&format!("  {:<15} {}", "", terminal.paint(Tone::Strong, format!("mend: {mend}"))));
    }
}

/// The configuration, or the shipped one where the file is wrong.
fn configuration(home: &Home, terminal: &Terminal, checks: &mut Vec<Check>) -> Config {
    let loaded = Config::load(home).and_then(|config| {
        parts::scanners(&config)?;
        policy::cedar::Engine::load(&config.policy.policies)
            .map_err(|error| parts::broken_policy(error, home))?;
        Ok(config)
    });
    match loaded {
        Ok(config) => {
            let from = if home.config_file().exists() {
                "the file parses"
            } else {
                "there is no file; the defaults hold"
            };
            checks.push(Check::ok("configuration", format!("{from}: {}", home.config_file().display())));
            checks.extend(accepted(&config));
            config
        }
        Err(failure) => {
            terminal.failure(failure);
            let broken = Check::bad("configuration", "does not load, so no command but this one starts");
            checks.push(broken.mended_by("ironclaw config validate"));
            Config::default()
        }
    }
}

/// Findings that were accepted until a day that is over.
fn accepted(config: &Config) -> Option<Check> {
    let ended: Vec<String> = config.safety.ended().map(super::config::ended).collect();
    let detail = format!("no longer, since their last day is over: {}", ended.join(", "));
    let mend = "remove these entries of [[safety.allow]], or set another day: ironclaw config explain safety.allow.until";
    (!ended.is_empty()).then(|| Check::warn("accepted", detail).mended_by(mend))
}

/// Everything that needs the database, where there is one.
async fn installation(home: &Home, config: Config, checks: &mut Vec<Check>) {
    if config.store.is_none() && !home.database().exists() {
        let none = Check::warn("data folder", format!("there is none yet at {}", home.data.display()));
        checks.push(none.mended_by("ironclaw init"));
        checks.push(keychain_alone().await);
        network(&config, checks);
        checks.push(engine());
        return;
    }
    match Base::open(home.clone(), config).await {
        Ok(base) => {
            checks.push(data_folder(home));
            checks.push(database(&base));
            checks.push(vault(&base).await);
            checks.push(chain(&base).await);
            network(&base.config, checks);
            checks.push(sandbox(&base));
            base.close().await;
        }
        // The store says what is wrong with the place and names the command that repairs it.
        Err(failure) => checks.push(unopened(failure)),
    }
}

/// What the start has made sure of: it is refused where any of this does not hold.
fn database(base: &Base) -> Check {
    let name = "database";
    let Some(server) = &base.config.store else {
        return Check::ok(name, "a file; every commit waits for the disk (WAL, synchronous=FULL)");
    };
    if base.home.database().exists() {
        let both = format!("{server}, but an installation is still in a file and not on the server");
        return Check::bad(name, both).mended_by("ironclaw db move");
    }
    Check::ok(
        name,
        format!("{server}: commits wait for the disk, row-level security is forced, the role owns nothing"),
    )
}

/// The store refuses a folder or file that others could touch, a server that does not keep its promises and
/// a schema that is not this program's, and names the command that mends it.
fn unopened(failure: Failure) -> Check {
    match failure {
        Failure::Plain(_, words) => match words.split_once("; repair it with: ") {
            Some((fault, repair)) => Check::bad("data folder", fault).mended_by(repair),
            None => match words.rsplit_once(": ").filter(|(_, command)| command.starts_with("ironclaw ")) {
                Some((fault, command)) => Check::bad("database", fault).mended_by(command),
                None => Check::bad("database", words),
            },
        },
        _ => Check::bad("data folder", "the database does not open"),
    }
}

/// The database was opened, so its own folder and files are closed; what stands beside them is looked at here:
/// nobody else may write what is believed, or read what holds keys and code.
fn data_folder(home: &Home) -> Check {
    let owned = [home.config.clone(), home.config_file(), home.policies()].map(|path| (path, 0o022));
    let secret = [home.key_folder(), home.components(), home.tool_files()].map(|path| (path, 0o077));
    let exposed = |(path, bits): (PathBuf, u32)| open_to_others(&path, bits).map(|mode| (path, mode));
    match owned.into_iter().chain(secret).find_map(exposed) {
        None => Check::ok("data folder", format!("only you can read {}", home.data.display())),
        Some((path, mode)) => Check::bad("data folder", format!("others can reach {}", path.display()))
            .mended_by(format!("chmod {mode} '{}'", path.display().to_string().replace('\'', r"'\''"))),
    }
}

/// The mode that closes a path of which others have one of these permissions; `None` where none has.
#[cfg(unix)]
fn open_to_others(path: &Path, bits: u32) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::symlink_metadata(path).ok().filter(|found| found.mode() & bits != 0)?;
    Some(if found.is_dir() { "700" } else { "600" })
}

#[cfg(not(unix))]
fn open_to_others(_: &Path, _: u32) -> Option<&'static str> {
    None
}

/// Which slot holds the master key, and what it is worth.
async fn vault(base: &Base) -> Check {
    let slots = match secrets::slots(&base.reader).await {
        Ok(slots) => slots,
        Err(error) => return Check::bad("vault", error.to_string()),
    };
    let weakest = slots.iter().map(|slot| slot.kind).max_by_key(|kind| match kind {
        SlotKind::Keychain => 0,
        SlotKind::Systemd => 1,
        SlotKind::Recovery => 2,
        SlotKind::Passphrase => 3,
        SlotKind::File => 4,
    });
    let Some(kind) = weakest else {
        return Check::warn("vault", "there is none yet").mended_by("ironclaw init");
    };
    let worth = super::vault::worth(kind.as_str());
    match kind {
        SlotKind::Keychain => match secrets::keychain::probe().await {
            KeychainState::Ready => Check::ok("vault", worth),
            KeychainState::Locked => Check::bad("vault", "the keychain that holds the master key is locked")
                .mended_by("unlock it: log in to the desktop, or open Passwords and Keys"),
            KeychainState::Unused | KeychainState::Absent => {
                Check::bad("vault", "the keychain that holds the master key does not answer")
                    .mended_by("log in to the desktop session in which the vault was made")
            }
        },
        SlotKind::Systemd | SlotKind::Recovery | SlotKind::Passphrase => Check::ok("vault", worth),
        SlotKind::File => Check::warn("vault", worth)
            .mended_by("on a machine with a keychain, in a new home: ironclaw init --slot keychain"),
    }
}

/// Before there is a vault: where its key could be kept.
async fn keychain_alone() -> Check {
    match secrets::keychain::probe().await {
        KeychainState::Ready => {
            Check::ok("vault", "there is none yet; the keychain is ready to hold its key")
        }
        KeychainState::Locked => Check::warn("vault", "there is none yet; the keychain is locked")
            .mended_by("unlock it: log in to the desktop, or open Passwords and Keys"),
        KeychainState::Unused | KeychainState::Absent => {
            Check::warn("vault", "there is none yet, and no keychain answers")
                .mended_by("ironclaw init --slot passphrase")
        }
    }
}

async fn chain(base: &Base) -> Check {
    match Log::new(base.reader.clone()).verify().await {
        Ok(_) if base.home.signing_key().exists() => {
            let file = base.home.signing_key();
            let said =
                format!("the key that seals the log lies in {}, until the vault is opened", file.display());
            Check::warn("audit", said).mended_by("ironclaw vault check")
        }
        Ok(verified) => {
            let sealed = verified.sealed.map_or(0, |seal| seal.size);
            let said =
                format!("{} records, each as it was written, {sealed} of them sealed", verified.records);
            Check::ok("audit", said)
        }
        Err(broken) => Check::bad("audit", broken.to_string())
            .mended_by("ironclaw audit verify, and restore the database from a backup"),
    }
}

/// Name servers, trust store and exceptions.
fn network(config: &Config, checks: &mut Vec<Check>) {
    checks.push(match (config.egress.nameservers.len(), system_name_servers()) {
        (0, 0) => {
            Check::warn("name servers", "none is configured; only [[egress.exception]] names lead anywhere")
                .mended_by("ironclaw config explain egress.nameservers")
        }
        (0, n) => Check::ok(
            "name servers",
            format!("{n} of the system's; no hosts file and no search list is used"),
        ),
        (n, _) => Check::ok("name servers", format!("{n} from the configuration")),
    });
    let made = parts::scanners(config).and_then(|safety| {
        Egress::new(parts::egress_config(config), Arc::new(safety), None).map_err(Failure::usage)
    });
    checks.push(match made.as_ref().map(Egress::roots) {
        Ok(Ok(Roots::Platform)) => {
            Check::ok("trust store", "the machine's own decides which hosts are believed")
        }
        Ok(Ok(Roots::BuiltIn)) => Check::warn(
            "trust store",
            "the machine has none; the list built into this program is used, which ages with it",
        )
        .mended_by("install your system's ca-certificates"),
        Ok(Err(_)) => Check::bad("trust store", "TLS does not start"),
        Err(Failure::Plain(_, words)) => {
            Check::bad("trust store", words.clone()).mended_by("ironclaw config explain egress.exception")
        }
        Err(_) => Check::bad("trust store", "the door to the network does not open"),
    });
    for exception in &config.egress.exceptions {
        checks.push(Check::warn(
            "exception",
            format!(
                "{}:{} is dialled at {}, by the configuration{}",
                exception.host,
                exception.port,
                exception.address,
                if exception.containers { ", also for commands in containers" } else { "" }
            ),
        ));
    }
}

/// How many the machine's resolver configuration lists.
fn system_name_servers() -> usize {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    text.lines().filter(server).count()
}

/// The smallest component there is: magic, version, layer.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The compiler, where there is no installation for the rest.
fn engine() -> Check {
    match wasm::compile_in_this_process(EMPTY_COMPONENT) {
        Ok(_) => Check::ok("wasm", "the engine compiles"),
        Err(_) => Check::bad("wasm", "the engine does not compile on this machine, so no tool can run"),
    }
}

/// The compiler, and a sandbox ready for calls with its memory reserved.
fn sandbox(base: &Base) -> Check {
    let compiled = engine();
    if compiled.state != State::Ok {
        return compiled;
    }
    let made = parts::policy(base, parts::catalog(base, Vec::new())).and_then(|policy| {
        let egress = Egress::new(parts::egress_config(&base.config), base.safety.clone(), None)
            .map_err(Failure::usage)?;
        Sandbox::new(parts::sandbox_config(&base.home), Arc::new(egress), policy, base.safety.clone())
            .map_err(Failure::environment)
    });
    match made {
        Ok(_) => Check::ok(
            "wasm",
            "the engine compiles and runs; each call gets a fresh instance with no file system",
        ),
        Err(Failure::Plain(_, words)) => Check::bad("wasm", words).mended_by("ulimit -v unlimited"),
        Err(_) => Check::bad("wasm", "the sandbox does not start, so no tool can run"),
    }
}

/// Whether commands can be confined.
async fn commands(home: &Home, config: &Config) -> Check {
    match super::sandbox::ready(home, config).await {
        Ok((engine, _)) => {
            let standing = engine.standing();
            let with =
                format!("run in fresh containers of Docker Engine {}, without network", standing.version);
            match standing.accepted.first() {
                None => Check::ok("commands", with),
                Some((downgrade, fault)) => {
                    Check::warn("commands", format!("{with}; {} is accepted: {fault}", downgrade.as_str()))
                        .mended_by(fault.remedy())
                }
            }
        }
        // A machine on which no command runs breaks no promise.
        Err(unfit) => Check::warn("commands", format!("cannot be run: {unfit}"))
            .mended_by(unfit.mend(&home.config_file())),
    }
}

/// The configuration's half of what takes every wall away.
fn full_access(config: &Config) -> Check {
    if config.policy.full_access {
        let detail =
            "FULL ACCESS IS ALLOWED: a command may run outside any container, with everything that you have";
        return Check::warn("full access", detail)
            .mended_by("remove full_access from [sandbox] in the configuration");
    }
    Check::ok("full access", "no command may run outside a container")
}

/// A clock that is plainly wrong makes certificates, expiries and records wrong.
fn clock() -> Check {
    /// 2026-01-01, before this program was written.
    const BUILT_AFTER_MS: u64 = 1_767_225_600_000;
    let now = audit::now_ms();
    let shown = super::audit::utc(now);
    if now < BUILT_AFTER_MS {
        return Check::bad("clock", format!("says {shown}, which is before this program was written"))
            .mended_by("sudo timedatectl set-ntp true");
    }
    Check::ok("clock", format!("says {shown}"))
}

/// What no check can mend, so that nobody takes it for promised.
/// Keys in memory.
fn memory() -> Check {
    if secrets::can_lock() {
        Check::ok("memory", "keys are locked in memory, core dumps are off, and what is freed is wiped")
    } else {
        Check::warn("memory", "keys may be written to swap: this process may not lock memory")
            .mended_by("ulimit -l 1024")
    }
}

fn same_user() -> Vec<Check> {
    let mut checks = vec![Check::warn(
        "same user",
        "any program that runs as you, outside a sandbox, can reach your keychain and these files; nothing here stops it",
    )];
    if let Ok(scope) = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope") {
        checks.push(match scope.trim() {
            // This process forbids it for itself; a tool of yours that it starts cannot.
            "0" => Check::ok(
                "ptrace",
                "other programs of yours cannot attach to this one, but to those that do not forbid it",
            )
            .mended_by("sudo sysctl kernel.yama.ptrace_scope=1"),
            _ => Check::ok("ptrace", "other programs of yours cannot attach to this one"),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repair_that_the_store_names_is_the_one_to_type() {
        let words = "/x/data can be entered by others; repair it with: chmod 700 /x/data";
        let check = unopened(Failure::environment(words));
        assert_eq!((check.state, check.detail.as_str()), (State::Bad, "/x/data can be entered by others"));
        assert_eq!(check.mend.as_deref(), Some("chmod 700 /x/data"));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_enter_is_found() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let set =
            |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o755);
        assert_eq!(open_to_others(folder.path(), 0o077), Some("700"));
        assert_eq!(open_to_others(folder.path(), 0o022), None);
        set(0o700);
        assert_eq!(open_to_others(folder.path(), 0o077), None);
        assert_eq!(open_to_others(&folder.path().join("absent"), 0o077), None);
    }
}
