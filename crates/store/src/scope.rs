//! On whose behalf a transaction acts. PostgreSQL enforces it by row-level security: each transaction
//! says its scope first, and one that says none sees no row and writes none. In a file, the person who
//! owns the file is the only tenant there is.

use types::Tenant;

/// The setting that the policies of PostgreSQL read.
pub(crate) const SETTING: &str = "ironclaw.tenant";

/// Whose rows may be seen and changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// Those of one tenant.
    Tenant(Tenant),
    /// Those of the installation: key slots, the audit chain, and every tenant's where a change is about
    /// all of them.
    Installation,
}

impl Scope {
    /// The statement that says it, for the transaction it stands in. A tenant's name has no character
    /// that could end a literal (`types::Tenant`), and `*` is no tenant's name.
    pub(crate) fn declaration(&self) -> String {
        let name = match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Installation => "*",
        };
        format!("SET LOCAL {SETTING} TO '{name}'")
    }
}

impl From<&Tenant> for Scope {
    fn from(tenant: &Tenant) -> Self {
        Self::Tenant(tenant.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k17_no_tenant_is_more_than_a_word_in_the_declaration() {
        for hostile in ["*", "", "a'; DROP TABLE tool; --", "a\\", "a b", "A", "\u{ff07}", "a\0"] {
            assert!(Tenant::parse(hostile).is_err(), "{hostile:?}");
        }
        assert_eq!(Scope::from(&Tenant::local()).declaration(), "SET LOCAL ironclaw.tenant TO 'local'");
        assert_eq!(Scope::Installation.declaration(), "SET LOCAL ironclaw.tenant TO '*'");
    }
}
