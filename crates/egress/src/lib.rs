//! The only door out: parse, resolve, classify, pin, inject, send, scan.
