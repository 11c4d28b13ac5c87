//! The proxy before real clients and real upstreams. Each test is named after its attacks.

mod captures;
mod clients;
mod floods;
mod identity;
mod reach;
mod secrets;
mod streams;
mod world;
