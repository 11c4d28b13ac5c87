//! Sealed secrets, key slots, leases: unseals into one permitted request.
