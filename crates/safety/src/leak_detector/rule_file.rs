//! Rule files (`rules/*.toml`) as they are written, and what is made of each rule when the program is built.

use serde::Deserialize;

use super::compiler::{self, Compiled, NAME_GAP};
use super::lane::CREDENTIALS;

/// The rule files, in the order in which their rules are tried.
#[cfg_attr(fuzzing, allow(dead_code, reason = "fuzz targets bring rules of their own"))]
pub(super) const FILES: [&str; 15] = [
    "standards.toml",
    "cloud.toml",
    "source.toml",
    "ai.toml",
    "payments.toml",
    "messaging.toml",
    "observability.toml",
    "databases.toml",
    "identity.toml",
    "crypto.toml",
    "saas.toml",
    "data.toml",
    "connections.toml",
    "commands.toml",
    "passwords.toml",
];

/// A rule as it is written.
///
/// Either `pattern` is the whole expression, or `name` and `value` are the two sides of an
/// assignment. The group `secret` is what is redacted; without it, the whole match. Where `literals` are
/// given, the rule holds only on a line that has one of them, in any case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) id: String,
    pub(super) description: String,
    /// Words of closed sets: a wrong one is an error of the program that is generated.
    pub(super) severity: String,
    pub(super) checksum: Option<String>,
    #[serde(default = "token")]
    pub(super) filter: String,
    #[serde(default)]
    pub(super) literals: Vec<String>,
    pattern: Option<String>,
    name: Option<String>,
    value: Option<String>,
    /// Bits per character that a secret must have.
    #[serde(default)]
    pub(super) entropy: f32,
    /// What it must find.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests read the examples"))]
    pub(super) positive: Vec<String>,
    /// What it must leave.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "tests read the examples"))]
    pub(super) negative: Vec<String>,
}

fn token() -> String {
    "token".to_owned()
}

/// The rules of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    pub(super) kind: String,
    pub(super) rule: Vec<Written>,
}

/// What a rule becomes.
pub(super) struct Ready {
    /// Its expression.
    pub(super) source: String,
    pub(super) compiled: Compiled,
    /// A value without a form of its own that has no digit is a word.
    pub(super) needs_digit: bool,
}

impl RuleFile {
    /// Reads a file.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }
}

impl Written {
    /// Compiles a rule of a kind.
    pub(super) fn compile(&self, kind: &str) -> Result<Ready, String> {
        let is_password = kind == "password";
        let sides = self.name.as_deref().zip(self.value.as_deref());
        let source = match (&self.pattern, sides) {
            (Some(pattern), None) => pattern.clone(),
            (None, Some((name, value))) => assignment(is_password, name, value),
            _ => return Err(format!("{}: wants either a pattern or a name and a value", self.id)),
        };
        if self.literals.iter().any(|literal| literal.len() < 3) {
            return Err(format!("{}: wants literals of three bytes or more", self.id));
        }
        let mut compiled = compiler::compile(&source, self.name.as_deref(), &self.literals)
            .map_err(|error| format!("{}: {error}", self.id))?;
        let needs_digit = !is_password && sides.is_some();
        compiled.behind.digit = needs_digit && compiled.lane.before() == 0;
        Ok(Ready { source, compiled, needs_digit })
    }
}

/// Joins the two sides of an assignment as the common languages and formats write it:
/// `name: value`, `"name" = "value"`, `name => 'value'`, `--name value`, `name("value")`.
///
/// A vendor's name alone says too little (a commit of its repository looks like its key), so a word for
/// a credential has to follow it; the name of a password is such a word already.
fn assignment(is_password: bool, name: &str, value: &str) -> String {
    let credential = match is_password {
        true => r"[\w\-]{0,24}".to_owned(),
        false => format!(r"[\w.\- ]{{0,{NAME_GAP}}}?(?i:{})[\w.\-]{{0,16}}", CREDENTIALS.join("|")),
    };
    // Tables are written in columns; of a vendor's name more is asked.
    let spaces = if is_password { r"[ \t]{0,16}" } else { r"[ \t]{0,4}" };
    let opening = format!(r#"{spaces}(?:[rbuf@$]?\\?["'`(]){{0,3}}(?:(?i:bearer|basic|token)[ \t])?"#);
    let between = match is_password {
        true => {
            format!(r#"(?:(?:[:?.+|]{{0,3}}=>?|:{{1,2}}|=>|>){opening}|[,(][ \t]?[rbu@]?["'])"#)
        }
        false => format!(r"(?:[:?.+|]{{0,3}}=>?|:{{1,2}}|=>|[,(>]|[ \t]){opening}"),
    };
    // `token: &str = "..."`, `var token string = "..."`.
    let declared = r"(?:[ \t]{0,2}:?[ \t]{0,2}&?(?:'static )?(?i:string|str)\b)?";
    format!(r#"(?i:{name}){credential}["'`\]\\]{{0,3}}{declared}{spaces}{between}(?P<secret>{value})"#)
}
