//! Information-flow labels (Denning's lattice): how far a value is trusted and who may read it.

/// Whether a value was made by the owner alone or touched by anyone else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Integrity {
    /// Typed by the owner or written by this program.
    Trusted,
    /// Read from a tool, a file, the web, a paste, a pipe, a model or the store.
    Untrusted,
}

/// Who may read a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Confidentiality {
    /// Anyone: it came from a public place.
    Public,
    /// The owner and the endpoints the owner granted.
    Private,
}

/// Both halves of a value's label. Labels join as values combine: the result is as little trusted
/// and as private as its least trusted and most private part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Label {
    /// How far the value is trusted.
    pub integrity: Integrity,
    /// Who may read it.
    pub confidentiality: Confidentiality,
}

impl Label {
    /// The bottom of the lattice: joining it with any label gives that label.
    pub const CLEAN: Self = Self { integrity: Integrity::Trusted, confidentiality: Confidentiality::Public };

    /// The least label that covers both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            integrity: self.integrity.max(other.integrity),
            confidentiality: self.confidentiality.max(other.confidentiality),
        }
    }

    /// True when a value of this label may flow to where `other` is accepted.
    pub fn flows_to(self, other: Self) -> bool {
        self.join(other) == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Label; 4] = [
        Label { integrity: Integrity::Trusted, confidentiality: Confidentiality::Public },
        Label { integrity: Integrity::Trusted, confidentiality: Confidentiality::Private },
        Label { integrity: Integrity::Untrusted, confidentiality: Confidentiality::Public },
        Label { integrity: Integrity::Untrusted, confidentiality: Confidentiality::Private },
    ];

    #[test]
    fn join_is_a_least_upper_bound() {
        for a in ALL {
            assert_eq!(a.join(Label::CLEAN), a);
            assert_eq!(a.join(a), a);
            for b in ALL {
                assert_eq!(a.join(b), b.join(a));
                assert!(a.flows_to(a.join(b)));
                for c in ALL {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)));
                }
            }
        }
    }

    #[test]
    fn nothing_flows_down() {
        let private = ALL[1];
        let untrusted = ALL[2];
        assert!(!private.flows_to(Label::CLEAN));
        assert!(!untrusted.flows_to(Label::CLEAN));
        assert!(!private.flows_to(untrusted));
    }
}
