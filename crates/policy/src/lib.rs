//! Manifests, grants, Cedar, labels: decides, and mints Permit.
