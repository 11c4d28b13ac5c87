//! Whether a version of runc has the known holes.
//!
//! CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881 (November 2025) let a process in a container write to the host
//! through mounts that are swapped while it starts. Upstream closed them in 1.2.8, 1.3.3 and 1.4.0-rc.3.
//! Distributions close holes without changing the number, so their numbers prove nothing below those.

use std::fmt;

/// The holes that an old runc has.
pub(crate) const HOLES: &str = "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881";

/// What a version says about the holes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Closed upstream in this version.
    Closed,
    /// An upstream version from before.
    Open,
    /// A distribution's version from before, or one that does not parse.
    Unverifiable,
}

/// Judges a version such as `1.3.3`, `1.2.8+dev` or `1.1.5+ds1-1+deb12u1`.
pub(crate) fn judge(version: &str) -> Verdict {
    let Some(parsed) = Version::parse(version) else {
        return Verdict::Unverifiable;
    };
    let numbers = (parsed.major, parsed.minor, parsed.patch);
    let closed = match numbers {
        (1, 2, patch) => patch >= 8,
        (1, 3, patch) => patch >= 3,
        (1, 4, 0) => parsed.candidate.is_none_or(|candidate| candidate >= 3),
        newer => newer > (1, 4, 0),
    };
    match (closed, parsed.patched) {
        (true, _) => Verdict::Closed,
        (false, true) => Verdict::Unverifiable,
        (false, false) => Verdict::Open,
    }
}

/// `MAJOR.MINOR.PATCH[-rc.N]`, and whether more follows.
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    candidate: Option<u32>,
    patched: bool,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, mut rest) = text.split_at(end);
        let mut numbers = numbers.split('.').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let (major, minor, patch) = (next()?, next()?, next()?);
        let mut candidate = None;
        if let Some(after) = rest.strip_prefix("-rc.").or_else(|| rest.strip_prefix("~rc")) {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            candidate = Some(after[..end].parse().ok()?);
            rest = &after[end..];
        }
        Some(Self { major, minor, patch, candidate, patched: !rest.is_empty() })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Unverifiable => "unverifiable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r15_versions_are_judged_by_what_upstream_closed() {
        for (version, verdict) in [
            ("1.1.5+ds1-1+deb12u1", Verdict::Unverifiable),
            ("1.1.12-0ubuntu2~22.04.1", Verdict::Unverifiable),
            ("1.1.15", Verdict::Open),
            ("1.0.0-rc93", Verdict::Unverifiable),
            ("1.2.7", Verdict::Open),
            ("1.2.8", Verdict::Closed),
            ("1.2.8+dev", Verdict::Closed),
            ("1.3.2", Verdict::Open),
            ("1.3.3", Verdict::Closed),
            ("1.4.0-rc.2", Verdict::Open),
            ("1.4.0-rc.3", Verdict::Closed),
            ("1.4.0", Verdict::Closed),
            ("2.0.0", Verdict::Closed),
            ("", Verdict::Unverifiable),
            ("v1", Verdict::Unverifiable),
            ("1.2", Verdict::Unverifiable),
        ] {
            assert_eq!(judge(version), verdict, "{version}");
        }
    }
}
