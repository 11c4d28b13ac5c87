//! The host's end of the one socket that leads out of a container.
//!
//! The socket is a file that only the container's user can open, in a folder that only this program's user can enter.
//! Every peer is asked who it is (SO_PEERCRED): the container's user, and the one process that was there first,
//! which is the container's PID 1. What a connection says it is for is passed on as a claim.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use init::{MAX_MOUNTED, MAX_PREFACE, Mounted, OUT_OF_MEMORY, Preface, PrefaceError, START};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use types::Rule;

use crate::proof::{Agreed, Expected};
use crate::rules;

/// Connections of one run at a time, as many as PID 1 carries.
const MAX_CONNECTIONS: usize = 1024;

/// How long a peer may take to say what it is for. It is a process on the same machine.
const PREFACE_TIME: Duration = Duration::from_secs(10);

/// A connection from inside a container.
#[derive(Debug)]
pub struct Connection {
    /// What the inside says was dialled. Not believed: judge what is asked for on the stream.
    pub dialled: Dialled,
    /// The bytes.
    pub stream: UnixStream,
}

/// What a connection is for, in the words of the inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dialled {
    /// An HTTP proxy.
    Proxy,
    /// A port of a name that was looked up.
    Name(String, u16),
}

/// A socket that listens. Dropped, it is gone from the disk.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Whose processes are served.
    users: Vec<u32>,
}

/// What the first connection of a run tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifeline {
    begun: Arc<AtomicBool>,
    out_of_memory: Arc<AtomicBool>,
}

impl Lifeline {
    /// Whether the command was let start. From then on the container's first process hears signals for it.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether the kernel ended a process of the container for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.out_of_memory.load(Ordering::Acquire)
    }
}

impl Door {
    /// Listens on a socket that only `user` can open. Some runtimes open it in the container's stead, in a process of
    /// root's outside of it (gVisor's file server): `by_root` serves that too. Root could open it in any case.
    pub(crate) fn open(path: PathBuf, user: (u32, u32), by_root: bool) -> io::Result<Self> {
        let users = [user.0].into_iter().chain(by_root.then_some(0)).collect();
        let door = Self { listener: bind(&path)?, path, users };
        restrict(&door.path, user)?;
        Ok(door)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves one run: lets the command start once what is expected stands in the container, and passes its
    /// connections on. Ends with the rule that says why, when nobody takes them any more.
    pub(crate) async fn serve(
        &self,
        expected: Expected,
        outlet: &mpsc::Sender<Connection>,
        lifeline: Lifeline,
    ) -> &'static Rule {
        let pid = match self.first(expected, lifeline).await {
            Ok(pid) => pid,
            Err(rule) => return rule,
        };
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return &rules::DOOR };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = outlet.closed() => return &rules::DOOR,
            };
            let Ok((stream, _)) = accepted else { return &rules::DOOR };
            if !self.is_inside(&stream, Some(pid)) {
                continue;
            }
            let outlet = outlet.clone();
            tokio::spawn(async move {
                // A peer that does not say what it is for, or to which nobody answers, is closed.
                if let Some(connection) = greet(stream).await {
                    let _ = outlet.send(connection).await;
                }
                drop(slot);
            });
        }
    }

    /// Waits for PID 1, which comes first, and compares what it sees with what is expected.
    async fn first(&self, expected: Expected, lifeline: Lifeline) -> Result<Option<i32>, &'static Rule> {
        loop {
            let (mut stream, _) = self.listener.accept().await.map_err(|_| &rules::DOOR)?;
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            if !self.is_inside(&stream, None) {
                continue;
            }
            let Ok(Preface::Lifeline) = preface(&mut stream).await else { continue };
            let mut seen = Vec::new();
            for _ in 0..expected.count() {
                let line = line(&mut stream, MAX_MOUNTED).await;
                seen.push(line.and_then(|line| Mounted::parse(&line)).map_err(|_| &rules::SWAPPED)?);
            }
            let agreed = expected.agree(&seen)?;
            lifeline.begun.store(true, Ordering::Release);
            start(&mut stream, agreed).await.map_err(|_| &rules::DOOR)?;
            tokio::spawn(hold(stream, lifeline));
            return Ok(pid);
        }
    }

    /// Whether the peer is of the container's user and, once it is known, the container's PID 1.
    fn is_inside(&self, stream: &UnixStream, pid: Option<Option<i32>>) -> bool {
        stream
            .peer_cred()
            .is_ok_and(|peer| self.users.contains(&peer.uid()) && pid.is_none_or(|pid| pid == peer.pid()))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at a path of any length. The address of a socket holds 107 bytes (unix(7)), which a long home folder exceeds;
/// the folder held open has a short name.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd as _;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    UnixListener::bind(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

fn restrict(path: &Path, (user, group): (u32, u32)) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if rustix::process::geteuid().as_raw() != user {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
    }
    Ok(())
}

/// Says that the command may start, for which there has to be proof.
async fn start(stream: &mut UnixStream, _: Agreed) -> io::Result<()> {
    stream.write_all(START).await
}

/// Holds the lifeline for as long as the other end does. When this process ends, it breaks, and the run with it.
async fn hold(mut stream: UnixStream, lifeline: Lifeline) {
    let mut said = Vec::new();
    let mut more = (&mut stream).take(OUT_OF_MEMORY.len() as u64);
    if more.read_to_end(&mut said).await.is_ok() && said == OUT_OF_MEMORY {
        lifeline.out_of_memory.store(true, Ordering::Release);
    }
}

async fn greet(mut stream: UnixStream) -> Option<Connection> {
    let dialled = match preface(&mut stream).await.ok()? {
        Preface::Lifeline => return None,
        Preface::Proxy => Dialled::Proxy,
        Preface::Name { name, port } => Dialled::Name(name, port),
    };
    Some(Connection { dialled, stream })
}

async fn preface(stream: &mut UnixStream) -> Result<Preface, PrefaceError> {
    Preface::parse(&line(stream, MAX_PREFACE).await?)
}

/// Reads one line, byte by byte: what follows belongs to whoever takes the connection.
async fn line(stream: &mut UnixStream, longest: usize) -> Result<Vec<u8>, PrefaceError> {
    let read = async {
        let mut line = Vec::new();
        loop {
            match stream.read_u8().await {
                Ok(b'\n') => return Ok(line),
                Ok(byte) if line.len() < longest => line.push(byte),
                _ => return Err(PrefaceError),
            }
        }
    };
    tokio::time::timeout(PREFACE_TIME, read).await.unwrap_or(Err(PrefaceError))
}

#[cfg(test)]
mod tests {
    use workspace::{Held, SafeFolder, Surroundings};

    use super::*;
    use crate::proof::Numbers;

    #[expect(clippy::disallowed_methods, reason = "the test stands in for the container's PID 1")]
    async fn dial(door: &Door, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(door.path()).await.unwrap();
        // One that is not served may be closed before it has spoken.
        let _ = stream.write_all(line.as_bytes()).await;
        stream
    }

    /// A folder as a workspace that can only be read, and the line that an honest first process tells of it.
    fn expected(folder: &Path, numbers: Numbers) -> (Expected, String) {
        let safe = SafeFolder::check(folder, &Surroundings::default()).unwrap();
        let held = Held::open(&safe, None).unwrap();
        let (device, inode) = held.parts()[0].identity();
        (Expected::new(held, numbers), format!("{device} {inode} 7 ro\n"))
    }

    fn door(folder: &Path) -> Door {
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Door::open(folder.join("s"), me, false).unwrap()
    }

    #[tokio::test]
    async fn f01_a_folder_other_than_the_checked_one_never_starts() {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let told = expected(work.path(), Numbers::Host).1;
        for (told, starts) in [
            (told.clone(), true),
            (told.replace(" 7 ro", " 7 rw"), false),
            (told.replacen(' ', " 1", 1), false),
            ("none\n".to_owned(), false),
            ("start\n".to_owned(), false),
            ("1".repeat(MAX_MOUNTED + 1), false),
        ] {
            let door = door(folder.path());
            let (outlet, connections) = mpsc::channel(1);
            let serve = door.serve(expected(work.path(), Numbers::Host).0, &outlet, Lifeline::default());
            let dial = async {
                let mut stream = dial(&door, &format!("IRONCLAW/1 lifeline\n{told}")).await;
                let mut said = vec![0; START.len()];
                let read = stream.read(&mut said).await.unwrap_or(0);
                drop(connections);
                said.truncate(read);
                said
            };
            let (rule, said) = tokio::join!(serve, dial);
            let (expected, word) = if starts { (&rules::DOOR, START) } else { (&rules::SWAPPED, &[][..]) };
            assert_eq!((rule.id, &said[..]), (expected.id, word), "{told}");
        }
    }

    #[tokio::test]
    async fn connections_are_passed_on_with_what_they_claim_until_nobody_takes_them() {
        let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let door = door(folder.path());
        let (outlet, mut connections) = mpsc::channel(1);
        let (expected, told) = expected(work.path(), Numbers::Host);
        let serve = door.serve(expected, &outlet, Lifeline::default());
        let dial = async {
            let mut lifeline = dial(&door, &format!("IRONCLAW/1 lifeline\n{told}")).await;
            let mut word = [0; START.len()];
            lifeline.read_exact(&mut word).await.unwrap();
            assert_eq!(word, *START);
            let _closed = dial(&door, "GET / HTTP/1.1\n").await;
            let mut stream = dial(&door, "IRONCLAW/1 name a.example 443\nrest").await;
            let connection = connections.recv().await.unwrap();
            assert_eq!(connection.dialled, Dialled::Name("a.example".to_owned(), 443));
            let (mut rest, mut inner) = ([0; 4], connection.stream);
            inner.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"rest");
            inner.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            drop(connections);
        };
        let (rule, ()) = tokio::join!(serve, dial);
        assert_eq!(rule.id, rules::DOOR.id);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the test stands in for the container's PID 1")]
    async fn a_socket_can_lie_as_deep_as_a_file() {
        use std::os::fd::AsRawFd as _;
        let base = tempfile::tempdir().unwrap();
        let deep = base.path().join("n".repeat(200)).join("m".repeat(200));
        std::fs::create_dir_all(&deep).unwrap();
        let door = door(&deep);
        assert_eq!(door.path(), deep.join("s"));
        let folder = std::fs::File::open(&deep).unwrap();
        let (dialled, accepted) = tokio::join!(
            UnixStream::connect(format!("/proc/self/fd/{}/s", folder.as_raw_fd())),
            door.listener.accept(),
        );
        assert!(dialled.is_ok() && accepted.is_ok());
        drop(door);
        assert!(!deep.join("s").exists());
    }

    #[tokio::test]
    async fn m06_a_peer_of_another_user_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let other = Door { listener: UnixListener::bind(&path).unwrap(), path, users: vec![4_000_000_000] };
        let (outlet, connections) = mpsc::channel::<Connection>(1);
        let work = tempfile::tempdir().unwrap();
        let (expected, told) = expected(work.path(), Numbers::Runtime);
        let serve = other.serve(expected, &outlet, Lifeline::default());
        let dial = async {
            let mut stream = dial(&other, &format!("IRONCLAW/1 lifeline\n{told}")).await;
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said).await;
            assert_eq!(said, b"");
        };
        tokio::select! {
            _ = serve => panic!("it was served"),
            () = dial => drop(connections),
        }
    }
}
