//! Untrusted in, Screened out: sanitizer, validator, rulebook, leak detector.
