//! Append-only hash chain: mints Seq for a durable record.
