//! The proxy before real clients and real upstreams. Each test is named after its attacks.

mod asks;
mod captures;
mod clients;
mod encoded;
mod floods;
mod framing;
mod grpc;
mod held;
mod identity;
mod leaving;
mod reach;
mod secrets;
mod sockets;
mod streams;
mod world;
