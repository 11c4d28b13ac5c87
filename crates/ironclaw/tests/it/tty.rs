//! `ironclaw exec -t` on a real terminal: a pseudoterminal whose other end the test holds.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::exec::{ready, workspace};
use crate::installation::{Installation, random_key};

/// A program on a terminal.
struct OnTerminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    printed: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl OnTerminal {
    #[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
    fn exec(installation: &Installation, script: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let folder = workspace(installation);
        // A session of its own, which the terminal controls: so the kernel tells it of another size.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_ironclaw"), "--home"])
            .arg(installation.home())
            .args(["exec", "-t", "--workspace", folder.to_str().unwrap(), "--", "sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", installation.folder.path())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let (to, printed) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if to.send(piece[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, master, slave: slave.into(), printed, seen: Vec::new() }
    }

    /// Waits until this was printed, and forgets what came up to its end.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let at = self.seen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = at {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.printed.recv_timeout(left) {
                Ok(piece) => self.seen.extend(piece),
                Err(_) => panic!("no {text:?} in {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// The exit code, everything else that was printed, and whether the terminal is as it was.
    fn end(mut self) -> (i32, String, bool) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let restored = !self.is_raw();
        while let Ok(piece) = self.printed.recv_timeout(Duration::from_millis(200)) {
            self.seen.extend(piece);
        }
        (code, String::from_utf8_lossy(&self.seen).into_owned(), restored)
    }
}

#[test]
fn a_command_on_a_terminal_has_its_size_its_keys_and_its_exit_code() {
    let installation = ready("");
    let script = "trap 'stty size; exit 7' WINCH; tty; stty size; printf 'name? '; read name; echo \"hello $name\"; \
                  stty -echo; echo ready; while :; do sleep 0.05; done";
    let mut terminal = OnTerminal::exec(&installation, script);
    terminal.expect("/dev/");
    terminal.expect("33 101");
    // A prompt without an end of line is shown, and what is typed is echoed by the command's terminal alone.
    terminal.expect("name? ");
    assert!(terminal.is_raw());
    terminal.type_in("world\r");
    terminal.expect("world\r\nhello world\r\n");
    terminal.expect("ready");
    let size = Winsize { ws_row: 40, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.master, size).unwrap();
    terminal.expect("40 90");
    let (code, _, restored) = terminal.end();
    assert_eq!((code, restored), (7, true));
}

#[test]
fn ctrl_c_is_the_commands_and_the_terminal_is_given_back_however_it_ends() {
    let installation = ready("");
    let mut terminal = OnTerminal::exec(
        &installation,
        "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done",
    );
    terminal.expect("ready");
    terminal.type_in("\x03");
    terminal.expect("caught");
    let (code, _, restored) = terminal.end();
    assert_eq!((code, restored), (9, true));

    let mut terminal = OnTerminal::exec(&installation, "echo ready; exec sleep 600");
    terminal.expect("ready");
    assert!(terminal.is_raw());
    let program = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(program, rustix::process::Signal::TERM).unwrap();
    let (code, _, restored) = terminal.end();
    assert_eq!((code, restored), (143, true));
}

#[test]
fn m12_a_value_of_the_vault_and_what_drives_a_terminal_do_not_reach_it() {
    let installation = ready("");
    let key = random_key();
    installation.run_with(&["secret", "set", "A_KEY"], &key).ok();
    let (first, rest) = key.split_at(10);
    let script = format!(
        "printf 'a\\033]52;c;cm0gLXJm\\007b\\033[6nc\\033[1md\\n'; printf {first}; sleep 0.3; printf {rest}; sleep 600"
    );
    // The value is not written out in the command line, which is screened too.
    std::fs::write(workspace(&installation).join("script"), script).unwrap();
    let mut terminal = OnTerminal::exec(&installation, ". ./script");
    terminal.expect("abc\x1b[1md\r\n");
    let (code, printed, restored) = terminal.end();
    assert_eq!((code, restored), (3, true), "{printed}");
    assert!(printed.contains("leaks.known-value") && !printed.contains(rest), "{printed}");
}

#[test]
fn without_a_terminal_there_is_none_to_give() {
    let installation = Installation::initialised();
    let folder = workspace(&installation);
    let ran = installation.run(&["exec", "-t", "--workspace", folder.to_str().unwrap(), "--", "true"]);
    assert!(ran.code == 2 && ran.stderr.contains("-t"), "{ran:#?}");
}
