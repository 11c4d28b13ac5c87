//! Development only: loopback upstreams, fixtures, the attack runner.
