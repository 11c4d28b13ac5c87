//! S12: what this machine listens on, our own proxy and a real PostgreSQL among it, is not reached from a container.

use std::io::ErrorKind;
use std::net::TcpListener;

use testkit::Postgres;

use crate::exec::{exec, ready};
use crate::proxy::Running;

/// Dials each place by itself, asks the run's proxy for it, and asks that for a tunnel. What answers is printed.
const DIAL: &str = r#"
import socket, sys
for place in sys.argv[1:]:
    host, port = place.rsplit(":", 1)
    for way, toward in [
        ("direct", (host, int(port))),
        ("GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (place, place), ("127.0.0.1", 3128)),
        ("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (place, place), ("127.0.0.1", 3128)),
    ]:
        try:
            dialled = socket.create_connection(toward, 10)
            dialled.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" if way == "direct" else way.encode())
            answer = dialled.recv(4096).split(b"\r\n")[0].decode("latin-1")
        except OSError as error:
            answer = "none"
        print(place, way.split(" ")[0], answer)
"#;

/// An address of this machine that is not loopback, where it has one.
fn own_address() -> Option<String> {
    let known = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    let lines = known.lines().zip(known.lines().skip(1));
    let mut own = lines
        .filter(|(_, next)| next.contains("host LOCAL"))
        .filter_map(|(line, _)| line.split("-- ").nth(1));
    own.find(|address| !address.starts_with("127.")).map(str::to_owned)
}

#[test]
fn s12_what_this_machine_listens_on_is_not_reached_from_a_container() {
    let installation = ready("");
    // It takes connections from every address of this machine.
    let anything = TcpListener::bind("0.0.0.0:0").unwrap();
    anything.set_nonblocking(true).unwrap();
    let port = anything.local_addr().unwrap().port();
    let ca = installation.folder.path().join("ca.pem");
    let proxy = Running::start(&installation, &["--ca", ca.to_str().unwrap()]);
    let at = proxy.environment.iter().find(|(name, _)| name == "http_proxy").unwrap().1.clone();
    let at = at.rsplit('@').next().unwrap().trim_end_matches('/').to_owned();
    let (server, [address, _]) = Postgres::start_over_tls(&["-c", "log_connections=on"]);
    let mut places =
        vec![at, format!("{address}:5432"), format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    places.extend(own_address().map(|own| format!("{own}:{port}")));
    let log = installation.folder.path().join("project/dial.py");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, DIAL).unwrap();
    let script = format!("python3 dial.py {}", places.join(" "));

    // Also where the owner's rules name them: a rule is no exception.
    let rules: Vec<String> = places.iter().map(|place| format!("http://{place}")).collect();
    let allowed: Vec<&str> = rules.iter().flat_map(|rule| ["--allow", rule]).collect();
    for options in [&[][..], &allowed] {
        let ran = exec(&installation, options, &script).ok();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines.len(), 3 * places.len(), "{ran:?}");
        for line in lines {
            let is_refused = match line.contains(" direct ") {
                true => line.ends_with(" none"),
                false => line.ends_with("HTTP/1.1 403 Forbidden"),
            };
            assert!(is_refused, "{line} {ran:?}");
        }
    }
    assert_eq!(anything.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let log = server.database().log();
    assert!(!log.contains("connection received: host=127."), "{log}");
    let records = installation.run(&["audit", "tail", "-n", "200", "--json"]).ok().json();
    let by_address = records.iter().filter(|record| record["fields"]["rule"] == "egress.address");
    assert!(by_address.count() >= places.len(), "{records:#?}");
    drop(proxy);
}
