//! Compiles the rules of the leak detector into a table of the program: lanes, keys, expressions. A rule that does
//! not compile stops the build.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

#[path = "src/leak_detector/behind.rs"]
mod behind;
#[path = "src/leak_detector/buckets.rs"]
mod buckets;
#[path = "src/leak_detector/compiler.rs"]
mod compiler;
#[path = "src/leak_detector/filter.rs"]
mod filter;
#[path = "src/leak_detector/lane.rs"]
mod lane;
#[path = "src/leak_detector/rule_file.rs"]
mod rule_file;

use lane::{Keys, Lane};
use rule_file::{FILES, RuleFile, Written};

#[expect(clippy::disallowed_macros, reason = "cargo listens on standard output")]
fn main() -> Result<(), Box<dyn Error>> {
    let detector = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("src/leak_detector");
    for part in ["rules", "behind.rs", "buckets.rs", "compiler.rs", "filter.rs", "lane.rs", "rule_file.rs"] {
        println!("cargo::rerun-if-changed={}", detector.join(part).display());
    }
    let table = table(&detector.join("rules"))?;
    std::fs::write(PathBuf::from(variable("OUT_DIR")?).join("leak_rules.rs"), table)?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn variable(name: &str) -> Result<String, std::env::VarError> {
    std::env::var(name)
}

/// The rules as Rust.
fn table(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut digest = Sha256::new();
    let (mut rules, mut lanes) = (String::new(), Vec::new());
    for name in FILES {
        let text = std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        digest.update(&text);
        let file = RuleFile::read(&text).map_err(|error| format!("{name}: {error}"))?;
        for rule in &file.rule {
            let lane =
                write_rule(&mut rules, &file.kind, rule).map_err(|error| format!("{name}: {error}"))?;
            lanes.push(lane);
        }
    }
    let digest: [u8; 32] = digest.finalize().into();
    let (count, filters) = (lanes.len(), buckets::filters(lanes.iter()));
    Ok(format!(
        "/// The shipped rules, in the order in which they are tried.\n\
         pub(super) static SHIPPED: [LeakRule; {count}] = [\n{rules}];\n\
         /// Where their keys may be.\n\
         pub(super) static FILTERS: [Filter; 2] = {filters:?};\n\
         /// SHA-256 of the rule files.\n\
         pub(super) const DIGEST: [u8; 32] = {digest:?};\n"
    ))
}

fn write_rule(out: &mut String, kind: &str, rule: &Written) -> Result<Lane, Box<dyn Error>> {
    let made = rule.compile(kind)?;
    let literals: Vec<String> = rule.literals.iter().map(|literal| borrowed(literal)).collect();
    writeln!(out, "LeakRule {{ id: {}, description: {},", borrowed(&rule.id), borrowed(&rule.description))?;
    writeln!(out, "kind: Kind::{}, severity: Severity::{},", variant(kind), variant(&rule.severity))?;
    writeln!(out, "literals: Cow::Borrowed(&[{}]),", literals.join(", "))?;
    writeln!(out, "lane: {}, longest: {},", lane(&made.compiled.lane), made.compiled.longest)?;
    writeln!(out, "operators: Cow::Borrowed(&{:?}),", made.compiled.operators)?;
    writeln!(out, "behind: {:?}, needs_digit: {},", made.compiled.behind, made.needs_digit)?;
    writeln!(out, "is_whole: {},", made.compiled.is_whole)?;
    writeln!(out, "expression: {},", lazy(&made.source))?;
    writeln!(out, "tail: {},", option(made.compiled.tail.as_deref().map(lazy)))?;
    let checksum = rule.checksum.as_deref().map(|name| format!("Checksum::{}", variant(name)));
    writeln!(out, "checksum: {},", option(checksum))?;
    writeln!(out, "filter: context::Filter::{}, entropy: {:?} }},", variant(&rule.filter), rule.entropy)?;
    Ok(made.compiled.lane)
}

fn borrowed(text: &str) -> String {
    format!("Cow::Borrowed({text:?})")
}

fn lazy(source: &str) -> String {
    format!("Lazy::new({})", borrowed(source))
}

fn option(value: Option<String>) -> String {
    value.map_or("None".to_owned(), |value| format!("Some({value})"))
}

/// `vendor-token` is `VendorToken`.
fn variant(word: &str) -> String {
    let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
    word.split('-').filter(|part| !part.is_empty()).map(capital).collect()
}

fn lane(lane: &Lane) -> String {
    let keys = |keys: &Keys| format!("Cow::Borrowed(&{keys:?})");
    match lane {
        Lane::Run(found) => format!("Lane::Run({})", keys(found)),
        Lane::Line(found) => format!("Lane::Line({})", keys(found)),
        Lane::Word { keys: found, before } => {
            format!("Lane::Word {{ keys: {}, before: {before} }}", keys(found))
        }
        Lane::Named { keys: found, within, assigned } => {
            format!("Lane::Named {{ keys: {}, within: {within}, assigned: {assigned} }}", keys(found))
        }
        Lane::Near { keys: found, before, within } => {
            format!("Lane::Near {{ keys: {}, before: {before}, within: {within} }}", keys(found))
        }
        Lane::Anywhere { keys: found, before } => {
            format!("Lane::Anywhere {{ keys: {}, before: {before} }}", keys(found))
        }
    }
}
