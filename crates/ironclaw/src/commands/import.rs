//! `ironclaw secret import`: the values of a `.env` file, each as a secret, none of them shown.
//!
//! The file is read as other tools read it, with one exception: a dollar sign outside of single quotes is
//! refused, since the value would depend on the environment of this process.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use secrets::{Plain, Vault};
use serde_json::json;
use types::{SecretName, Tenant};
use zeroize::Zeroizing;

use crate::exit::{Code, Failure, Outcome};
use crate::parts::{Base, database};
use crate::terminal::Terminal;

/// The largest file that is read.
const MAX: u64 = 1024 * 1024;

/// How a file is imported.
#[derive(Clone, Copy)]
pub struct How {
    /// Only say what would be done.
    pub dry: bool,
    /// Put a new version where a secret of that name exists.
    pub replace: bool,
}

/// What became of one entry.
enum Fate {
    Stored(i64),
    WouldStore,
    Exists,
    Refused(String),
}

/// Runs the command.
pub async fn run(file: &Path, how: How, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let text = read(file)?;
    if let Some(line) = dollar(&text) {
        return Err(Failure::usage(format!(
            "line {line}: a dollar sign would be taken for a variable; write the value in single quotes"
        )));
    }
    let (mut stored, mut refused) = (0, 0);
    for entry in dotenvy::from_read_iter(text.as_bytes()) {
        // The library's error quotes the line.
        let (name, value) = entry.map_err(|_| {
            Failure::usage(format!(
                "{} is no .env file: the entry after {stored} stored ones does not parse",
                file.display()
            ))
        })?;
        let fate = one(&name, Plain::new(value.into_bytes()), how, base, &vault).await?;
        match &fate {
            Fate::Stored(_) | Fate::WouldStore => stored += 1,
            Fate::Refused(_) => refused += 1,
            Fate::Exists => {}
        }
        say(&name, &fate, terminal);
    }
    if terminal.is_json() {
        terminal.json(&json!({ "dry_run": how.dry, "stored": stored, "refused": refused }));
    } else {
        let verb = if how.dry { "would be stored" } else { "stored" };
        terminal.say(format!("{stored} secrets {verb}, {refused} refused."));
        if stored > 0 && !how.dry {
            terminal.say(format!(
                "Nobody can use them yet (ironclaw secret grant). Delete {} when you no longer need it.",
                file.display()
            ));
        }
    }
    if refused > 0 { Err(Failure::Said(Code::Failed)) } else { Ok(()) }
}

async fn one(name: &str, value: Plain, how: How, base: &Base, vault: &Vault) -> Result<Fate, Failure> {
    let name = match SecretName::parse(name) {
        Ok(name) => name,
        Err(error) => return Ok(Fate::Refused(error.to_string())),
    };
    let row = base.reader.secret(&Tenant::local(), &name).await.map_err(database)?;
    let expected = row.map(|row| row.version);
    if expected.is_some() && !how.replace {
        return Ok(Fate::Exists);
    }
    if how.dry {
        return Ok(value
            .check()
            .map_or_else(|error| Fate::Refused(error.to_string()), |()| Fate::WouldStore));
    }
    match vault.put(&name, value, expected).await {
        Ok(_) => {
            let version = base.reader.last_secret_version(&Tenant::local(), &name).await.map_err(database)?;
            Ok(Fate::Stored(version))
        }
        Err(error @ secrets::VaultError::Value(_)) => Ok(Fate::Refused(error.to_string())),
        Err(error) => Err(Failure::failed(error)),
    }
}

fn say(name: &str, fate: &Fate, terminal: &Terminal) {
    let (word, more) = match fate {
        Fate::Stored(version) => ("stored", format!("version {version}")),
        Fate::WouldStore => ("would be stored", String::new()),
        Fate::Exists => ("exists", "left alone; to store a new version: --replace".to_owned()),
        Fate::Refused(why) => ("refused", why.clone()),
    };
    if terminal.is_json() {
        terminal.json(&json!({ "secret": name, "state": word, "detail": more }));
    } else {
        terminal.say(format!("{name:<32} {word:<16} {more}"));
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Failure::not_found(format!("there is no file {}", file.display())),
        kind => Failure::failed(format!("{} cannot be read: {kind}", file.display())),
    };
    let mut text = Zeroizing::new(String::new());
    match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MAX).read_to_string(&mut text).map_err(unreadable)?,
        false => {
            let file = std::fs::File::open(file).map_err(unreadable)?;
            file.take(MAX).read_to_string(&mut text).map_err(unreadable)?
        }
    };
    Ok(text)
}

/// The line of the first dollar sign that the library would take for a variable: one outside of single
/// quotes, not escaped, and not in a comment.
fn dollar(text: &str) -> Option<usize> {
    let (mut line, mut is_single, mut is_double, mut is_comment) = (1, false, false, false);
    let mut before = '\n';
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\n' => {
                line += 1;
                is_comment = false;
            }
            _ if is_comment => {}
            '\'' if !is_double => is_single = !is_single,
            _ if is_single => {}
            '"' => is_double = !is_double,
            '\\' => line += usize::from(characters.next() == Some('\n')),
            '#' if !is_double && before.is_whitespace() => is_comment = true,
            '$' => return Some(line),
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_that_would_be_a_variable_is_found() {
        for (text, line) in [
            ("A=x$HOME", Some(1)),
            ("# it's\nA=1\nB=\"a${X}\"", Some(3)),
            ("A='x$HOME'\nB=x\\$HOME\n# $HOME\nC=1 # $x", None),
            ("A=\"it's $x\"", Some(1)),
            ("A=a#$x", Some(1)),
        ] {
            assert_eq!(dollar(text), line, "{text}");
        }
    }
}
