//! One permitted tool call in a fresh sandbox.
