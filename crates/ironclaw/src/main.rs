//! The binary: read configuration, build each part once, run, drain.
fn main() {}
