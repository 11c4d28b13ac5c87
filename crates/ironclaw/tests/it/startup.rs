//! Signals to `ironclaw exec` while it prepares a command: nothing starts, and nothing stays.
//!
//! The program reaches the real Docker Engine through a socket of the test's, which sees what it asks for and sends the
//! signal at that very moment.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::{containers, dial};
use crate::exec::{ready, workspace};

/// A moment of the preparation, by what the engine is asked for then.
#[derive(Clone, Copy, Debug)]
struct Moment(&'static str);

/// Whom to send what, and when. Once.
type Order = Arc<Mutex<Option<(Moment, Pid, Signal)>>>;

/// Carries everything between the program and the engine, and carries out the order before the request goes on.
fn relay(at: &Path, order: &Order) {
    let listener = UnixListener::bind(at).unwrap();
    let order = order.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, order) = (client.unwrap(), order.clone());
            let engine = dial();
            let (back, forth) = (engine.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || carry(back, forth, |_| {}));
            std::thread::spawn(move || {
                carry(client, engine, |bytes| {
                    let mut order = order.lock().unwrap();
                    let asked = String::from_utf8_lossy(bytes);
                    if let Some((_, program, signal)) = order.take_if(|(moment, ..)| asked.contains(moment.0))
                    {
                        kill_process(program, signal).unwrap();
                    }
                });
            });
        }
    });
}

fn carry(mut from: UnixStream, mut to: UnixStream, see: impl Fn(&[u8])) {
    let mut piece = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        see(&piece[..length]);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn is_own(name: &str) -> bool {
    ["image", "installation"].contains(&name) || name.starts_with("init-")
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the program under test is a process that gets a signal")]
fn r14_a_signal_before_the_command_starts_leaves_neither_a_run_nor_anything_of_it() {
    let installation = ready("");
    let (socket, order) = (installation.folder.path().join("engine.sock"), Order::default());
    relay(&socket, &order);
    installation.configure(&format!(
        "[sandbox]\ndowngrades = [\"unverifiable-runtime\"]\nengine = \"{}\"\n",
        socket.display()
    ));
    let folder = workspace(&installation);
    let moments = ["/images/", "/containers/create", "/attach", "/start"].map(Moment);
    for (number, moment) in moments.into_iter().enumerate() {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            // Whatever the engine is asked for waits until the order is given.
            let mut given = order.lock().unwrap();
            let program = std::process::Command::new(env!("CARGO_BIN_EXE_ironclaw"))
                .arg("--home")
                .arg(installation.home())
                .args(["exec", "--policy", "workspace-write", "--workspace", folder.to_str().unwrap()])
                .args(["--", "sh", "-c", &format!("touch ran-{number}")])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            *given = Some((moment, Pid::from_child(&program), signal));
            drop(given);
            let ended = program.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(order.lock().unwrap().is_none(), "{moment:?} did not come: {said}");
            assert_eq!(ended.status.code(), Some(code), "{moment:?} {signal:?}: {:?} {said}", ended.status);
            assert!(!folder.join(format!("ran-{number}")).exists(), "{moment:?} {signal:?}");
            let left = std::fs::read_dir(installation.home().join("data/sandbox")).unwrap();
            let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let left: Vec<_> = left.filter(|name| !is_own(name)).collect();
            assert!(left.is_empty(), "{moment:?} {signal:?}: {left:?}");
            assert!(containers(&installation).is_empty(), "{moment:?} {signal:?}");
        }
    }
}
