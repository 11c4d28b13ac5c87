//! Development only: tidy, break, guests.
fn main() {}
