//! Every table, and whose rows are whose in it: what row-level security on a server is made from, and
//! what is copied when an installation moves.

use crate::scope::SETTING;

/// Who sees and writes the rows of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isolation {
    /// Each tenant its own, by the column `tenant`; the installation all of them.
    Tenant,
    /// The installation alone.
    Installation,
    /// Everyone adds to it, the installation reads it, and nobody changes what is written.
    Log,
    /// The history of the schema, which its owner writes and everyone reads.
    History,
}

/// All tables, in an order in which they can be filled. A migration that adds a table adds its line.
pub(crate) const TABLES: &[(&str, Isolation)] = &[
    ("schema_step", Isolation::History),
    ("chain_head", Isolation::Installation),
    ("audit_record", Isolation::Log),
    ("key_slot", Isolation::Installation),
    ("tenant_key", Isolation::Tenant),
    ("rotation", Isolation::Installation),
    ("rotation_wrap", Isolation::Tenant),
    ("secret", Isolation::Tenant),
    ("tool", Isolation::Tenant),
    ("tool_grant", Isolation::Tenant),
    ("approval", Isolation::Tenant),
    ("spending", Isolation::Tenant),
];

/// What the owner of a table says about it to PostgreSQL, for the role that reads and writes rows. Saying
/// it again changes nothing.
pub(crate) fn isolate(table: &str, isolation: Isolation, role: &str) -> String {
    let scope = format!("current_setting('{SETTING}', true)");
    let policy = |name: &str, rule: &str| {
        format!("DROP POLICY IF EXISTS {name} ON {table}; CREATE POLICY {name} ON {table} {rule};\n")
    };
    let (policies, rights) = match isolation {
        Isolation::Tenant => (
            policy("scope", &format!("USING (tenant = {scope} OR {scope} = '*')")),
            "SELECT, INSERT, UPDATE, DELETE",
        ),
        Isolation::Installation => {
            (policy("scope", &format!("USING ({scope} = '*')")), "SELECT, INSERT, UPDATE, DELETE")
        }
        Isolation::Log => (
            policy("scope", &format!("FOR SELECT USING ({scope} = '*')"))
                + &policy("append", &format!("FOR INSERT WITH CHECK ({scope} <> '')")),
            "SELECT, INSERT",
        ),
        Isolation::History => (String::new(), "SELECT"),
    };
    let security = match isolation {
        Isolation::History => String::new(),
        _ => format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n"),
    };
    format!("{security}{policies}REVOKE ALL ON {table} FROM {role}; GRANT {rights} ON {table} TO {role};\n")
}

impl Isolation {
    /// How many policies [`isolate`] gives a table. Each one more would show rows that these hide.
    pub(crate) fn policies(self) -> i64 {
        match self {
            Self::Tenant | Self::Installation => 1,
            Self::Log => 2,
            Self::History => 0,
        }
    }
}
