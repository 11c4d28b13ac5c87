//! What comes first in a tunnel: no TLS, or a handshake that is for the host that it names and for no other.
#![no_main]

use egress::proxy::identity::is_of;
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use types::{Host, HostName};

fuzz_target!(|data: &[u8]| {
    let (mut acceptor, mut rest) = (Acceptor::default(), data);
    let accepted = loop {
        if rest.is_empty() || !acceptor.read_tls(&mut rest).is_ok_and(|read| read > 0) {
            return;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) => {}
            Err(_) => return,
        }
    };
    let hello = accepted.client_hello();
    let name = hello.server_name();
    let address = Host::parse("192.0.2.1").expect("an address");
    assert_eq!(is_of(name, &address), name.is_none());
    let Some(Ok(own)) = name.map(HostName::parse) else {
        assert!(!is_of(name, &Host::parse("a.example").expect("a name")));
        return;
    };
    let other = Host::parse(&format!("x{own}"));
    assert!(is_of(name, &Host::Name(own)));
    assert!(!other.is_ok_and(|other| is_of(name, &other)));
});
