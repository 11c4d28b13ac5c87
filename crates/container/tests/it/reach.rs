//! R01 to R14: there is no way out but the one socket, whatever a command ignores, rewrites or asks the kernel for.

use std::net::TcpListener;

use container::{Dialled, Ended, rules};
use tokio::sync::mpsc;
use types::Confinement;

use crate::world::World;

/// Tries every address given as `family kind protocol address port`, and prints what came of each.
const DIAL: &str = r#"
import socket, sys
for line in sys.argv[1].split(";"):
    family, kind, proto, address, port = line.split()
    try:
        s = socket.socket(getattr(socket, family), getattr(socket, kind), int(proto))
        s.settimeout(3)
        s.connect((address, int(port)))
        s.send(b"x")
        print("REACHED", line)
    except OSError as error:
        print("no", error.errno, line)
"#;

async fn dial(world: &World, targets: &[String]) -> String {
    let targets = targets.join(";");
    world.run(&["python3", "-c", DIAL, &targets], Confinement::ReadOnly).await.unwrap().ok()
}

#[tokio::test]
async fn r01_r02_r05_r06_r07_no_address_is_reached_by_any_kind_of_socket() {
    let world = World::new().await;
    let mut targets = Vec::new();
    for (address, ports) in [
        ("1.1.1.1", &[443, 22, 8080, 53][..]),
        ("169.254.169.254", &[80][..]),
        ("224.0.0.251", &[5353][..]),
        ("255.255.255.255", &[67][..]),
    ] {
        for port in ports {
            targets.push(format!("AF_INET SOCK_STREAM 0 {address} {port}"));
            targets.push(format!("AF_INET SOCK_DGRAM 0 {address} {port}"));
            targets.push(format!("AF_INET SOCK_STREAM 132 {address} {port}"));
            targets.push(format!("AF_INET SOCK_RAW 1 {address} {port}"));
            targets.push(format!("AF_INET SOCK_DGRAM 1 {address} {port}"));
        }
    }
    for address in ["fd00:ec2::254", "fe80::1", "fd00::1", "2606:4700::1111", "ff02::1", "64:ff9b::101:101"] {
        targets.push(format!("AF_INET6 SOCK_STREAM 0 {address} 443"));
        targets.push(format!("AF_INET6 SOCK_DGRAM 0 {address} 443"));
        targets.push(format!("AF_INET6 SOCK_RAW 58 {address} 0"));
    }
    let said = dial(&world, &targets).await;
    assert!(!said.contains("REACHED"), "{said}");
    assert_eq!(said.lines().count(), targets.len(), "{said}");

    let script = "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; curl -sS --max-time 5 --noproxy '*' https://1.1.1.1; echo $?";
    let ran = world.read_only(script).await;
    assert_eq!(ran.out.trim(), "7", "{ran:?}");
    assert_eq!(ran.dialled, []);
}

#[tokio::test]
async fn r03_no_address_of_the_host_is_reached() {
    let world = World::new().await;
    // The test listens on every address of the host; nothing may arrive.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let interfaces = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    let mut addresses: Vec<&str> = interfaces
        .lines()
        .zip(interfaces.lines().skip(1))
        .filter(|(_, next)| next.contains("host LOCAL"))
        .filter_map(|(line, _)| line.split("-- ").nth(1))
        .collect();
    addresses.extend(["172.17.0.1", "127.0.0.1"]);
    let targets: Vec<String> =
        addresses.iter().map(|address| format!("AF_INET SOCK_STREAM 0 {address} {port}")).collect();
    let said = dial(&world, &targets).await;
    assert!(!said.contains("REACHED"), "{said}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    // Names of the host are names like any other: they lead to the judge.
    let ran = world.read_only("curl -s --max-time 5 --noproxy '*' http://host.docker.internal/; true").await;
    assert_eq!(ran.dialled, [Dialled::Name("host.docker.internal".to_owned(), 80)]);
}

#[tokio::test]
async fn r04_the_socket_of_another_run_is_not_there() {
    let world = World::new().await;
    let (outlet, _connections) = mpsc::channel(1);
    let other = world.start(&["sleep", "600"], Confinement::ReadOnly, outlet).await.unwrap();
    let ran =
        world.read_only("ls /.ironclaw; find / -xdev -type s 2>/dev/null; ls /proc | grep -c '^[0-9]'").await;
    // PID 1, the shell, ls, and grep where it has begun by then: no process of the other run.
    let seen = ran.ok();
    assert!(matches!(seen.as_str(), "init\nsocket\n3\n" | "init\nsocket\n4\n"), "{seen}");
    other.control.stop(&rules::TIME);
    assert_eq!(other.finished().await.unwrap().ended, Ended::Stopped(&rules::TIME));
}

#[tokio::test]
async fn r08_r09_r13_no_family_call_or_namespace_that_leads_around_the_filter() {
    let world = World::new().await;
    // Numbers of x86_64; elsewhere other calls, which are refused as well.
    let script = r#"
        $| = 1;
        for my $family (1, 16, 17, 31, 38, 40, 44) {
            for my $kind (1, 2, 3) {
                my $proto = $family == 16 ? 15 : 0;
                my $fd = syscall(41, $family, $kind, $proto);
                print "socket $family $kind: ", $fd < 0 ? 0 + $! : "OPEN", "\n";
            }
        }
        my %calls = (io_uring_setup => 425, bpf => 321, userfaultfd => 323, keyctl => 250, add_key => 248,
            request_key => 249, mount => 165, umount2 => 166, pivot_root => 155, unshare => 272, setns => 308,
            ptrace => 101, process_vm_readv => 310, pidfd_getfd => 438, perf_event_open => 298, open_tree => 428,
            fsopen => 430, move_mount => 429, mount_setattr => 442, open_by_handle_at => 304, chroot => 161, kcmp => 312,
            quotactl => 179, init_module => 175, kexec_load => 246, syslog => 103, swapon => 167, reboot => 169);
        for my $name (sort keys %calls) {
            my $done = syscall($calls{$name}, 0, 0, 0, 0, 0);
            print "$name: ", $done < 0 ? 0 + $! : "DONE", "\n";
        }
        # CLONE_NEWUSER | CLONE_NEWNET | SIGCHLD
        my $done = syscall(56, 0x50000011, 0, 0, 0, 0);
        print "clone: ", $done < 0 ? 0 + $! : "DONE", "\n";
        # The same numbers through the entrance for 32-bit programs that x32 has.
        $done = syscall(41 | 0x40000000, 1, 1, 0);
        print "x32: ", $done < 0 ? 0 + $! : "DONE", "\n";
    "#;
    let ran = world.run(&["perl", "-e", script], Confinement::ReadOnly).await.unwrap();
    // A call of another machine's entrance may end the process instead.
    let ended = ran.ended;
    assert!(ended == Ended::Exited(0) || ended == Ended::Exited(128 + 31), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines.len() >= 50, "{ran:?}");
    for line in lines {
        let (call, errno) = line.split_once(": ").unwrap();
        assert!(matches!(errno, "1" | "38"), "{call} gave {errno}");
    }

    let ran = world
        .read_only("unshare -Urn true; echo $?; unshare -m true; echo $?; nsenter -t 1 -n true; echo $?")
        .await;
    assert!(ran.out.split_whitespace().all(|code| code == "1"), "{ran:?}");
}

#[tokio::test]
async fn r10_r11_m02_no_unix_socket_leads_anywhere() {
    let world = World::new().await;
    let script = r#"
import os, socket
for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/.ironclaw/socket", "\0abstract"]:
    try:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(path)
        print("REACHED", repr(path))
    except OSError as error:
        print(error.errno)
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    try:
        socket.socket(socket.AF_UNIX, kind)
        print("OPEN")
    except OSError as error:
        print(error.errno)
a, b = socket.socketpair()
a.send(b"pair")
print(b.recv(4).decode(), [k for k in os.environ if "SOCK" in k or "DOCKER" in k])
a.close(); b.close()
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:3], len(os.listdir("/proc/self/fd")))
"#;
    // The three streams and the listing of the folder: nothing of PID 1's was inherited.
    assert_eq!(world.python(script).await.ok(), "1\n1\n1\n1\n1\n1\n1\npair []\n[0, 1, 2] 4\n");
}

#[tokio::test]
async fn r12_the_first_process_cannot_be_ended_read_or_replaced() {
    let world = World::new().await;
    let script = r#"
import os, socket, signal
def tried(name, act):
    try:
        act(); print(name, "DONE")
    except OSError as error:
        print(name, error.errno)
tried("kill", lambda: os.kill(1, signal.SIGKILL))
tried("term", lambda: os.kill(1, signal.SIGTERM))
tried("mem", lambda: open("/proc/1/mem", "r+b"))
tried("environ", lambda: open("/proc/1/environ", "rb").read())
tried("fd", lambda: os.listdir("/proc/1/fd"))
tried("exe", lambda: open("/proc/1/exe", "rb"))
for port in (3128, 80, 443):
    for address in ("127.0.0.1", "0.0.0.0"):
        s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        tried("bind", lambda: s.bind((address, port)))
        tried("listen", lambda: (s.bind((address, port)), s.listen()))
s = socket.create_connection(("127.0.0.1", 3128), 5)
s.sendall(b"CONNECT unlisted.example:443 HTTP/1.1\r\n\r\n")
print(s.recv(100))
"#;
    let ran = world.python(script).await;
    assert_eq!(ran.ended, Ended::Exited(0), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    for line in &lines[..6] {
        assert!(line.ends_with(" 1") || line.ends_with(" 13"), "{line}");
    }
    assert!(
        lines.iter().filter(|line| line.starts_with("listen")).all(|line| !line.ends_with("DONE")),
        "{ran:?}"
    );
    // The host is asked, and it alone answers: here with nothing.
    assert_eq!(lines.last(), Some(&"b''"));
    assert_eq!(ran.dialled, [Dialled::Proxy]);
}

#[tokio::test]
async fn r14_when_the_judge_is_gone_the_run_ends() {
    let world = World::new().await;
    let (outlet, connections) = mpsc::channel(1);
    let running =
        world.start(&["sh", "-c", "echo up; exec sleep 600"], Confinement::ReadOnly, outlet).await.unwrap();
    drop(connections);
    assert_eq!(running.finished().await.unwrap().ended, Ended::Stopped(&rules::DOOR));
    let records = world.records().await;
    let settled = records.iter().find(|entry| entry.record.kind == types::Kind::Settle).unwrap();
    assert_eq!(settled.record.verdict, types::Verdict::Block);
    assert_eq!(settled.record.field(types::Field::Rule), Some(rules::DOOR.id));
}

#[tokio::test]
async fn x01_x03_no_lookup_leaves_and_every_name_leads_to_the_judge() {
    let world = World::new().await;
    let script = r#"
import socket
print(open("/etc/resolv.conf").read().strip())
for name in ("secret.evil.com", "metadata.google.internal", "a.example"):
    print(name, socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)[0][4][0].startswith("127."))
for server in ("127.0.0.11", "8.8.8.8"):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
    try:
        s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", (server, 53)); s.recv(100); print("ANSWERED", server)
    except OSError as error:
        print(server)
s = socket.create_connection(("a.example", 443), 5); s.sendall(b"x"); s.recv(1)
"#;
    let ran = world.python(script).await;
    assert_eq!(ran.ended, Ended::Exited(0), "{ran:?}");
    assert!(!ran.out.contains("ANSWERED") && !ran.out.contains("False"), "{ran:?}");
    assert!(ran.out.contains("nameserver 127.0.0.1"), "{ran:?}");
    assert_eq!(ran.dialled, [Dialled::Name("a.example".to_owned(), 443)]);
}
