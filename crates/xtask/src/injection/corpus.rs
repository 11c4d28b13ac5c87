//! The labelled files that may be trained on, and what of them.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest as _, Sha256};

use super::train::Example;
use safety::rulebook::{Config, Thresholds};
use safety::{Channel, Finding, Safety, Severity, Untrusted};

/// One file.
pub(super) struct Source {
    /// Its name without `.jsonl` or `.jsonl.gz`.
    pub(super) name: &'static str,
    /// The licence of the rows that are taken.
    pub(super) licence: &'static str,
    /// Rows of other kinds are under other licences and are not taken.
    only: Option<&'static str>,
}

const fn source(name: &'static str, licence: &'static str) -> Source {
    Source { name, licence, only: None }
}

/// Everything that is trained on. PIArena's documents are under share-alike licences; its instructions alone
/// are taken.
pub(super) const SOURCES: [Source; 13] = [
    source("bipia", "MIT"),
    source("deepset", "Apache-2.0"),
    source("fabric_patterns", "MIT"),
    source("garak", "Apache-2.0"),
    source("gsm8k", "MIT"),
    source("injecagent", "MIT"),
    source("jackhhao_jailbreak", "MIT"),
    Source { name: "piarena", licence: "MIT", only: Some("plain-task/") },
    source("repo_agent_files", "MIT or Apache-2.0"),
    source("repo_code", "MIT or Apache-2.0"),
    source("repo_docs", "MIT or Apache-2.0"),
    source("selfinstruct_seed", "Apache-2.0"),
    source("spikee", "Apache-2.0"),
];

/// All rows that are trained on.
pub(super) struct Corpus {
    pub(super) examples: Vec<Example>,
    /// The files with the digests of their bytes.
    pub(super) files: Vec<(&'static Source, String)>,
}

impl Corpus {
    /// Reads every file of [`SOURCES`] in a folder.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut corpus = Self { examples: Vec::new(), files: Vec::new() };
        let rules = rules_alone()?;
        for source in &SOURCES {
            let plain = folder.join(format!("{}.jsonl", source.name));
            let path = if plain.exists() { plain } else { folder.join(format!("{}.jsonl.gz", source.name)) };
            let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let mut text = String::new();
            if bytes.starts_with(&[0x1f, 0x8b]) {
                flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
            } else {
                text = String::from_utf8(bytes.clone())?;
            }
            for (number, line) in (1..).zip(text.lines()) {
                let row =
                    row(source, line, &rules).with_context(|| format!("{} line {number}", path.display()))?;
                corpus.examples.extend(row);
            }
            corpus.files.push((source, digest(&bytes)));
        }
        Ok(corpus)
    }
}

/// The scanners with a model that never speaks.
fn rules_alone() -> anyhow::Result<Safety> {
    let thresholds = Thresholds { model_margin: i32::MAX, ..Thresholds::default() };
    Ok(Safety::new(Config { thresholds, ..Config::default() })?)
}

/// One line; none when its kind is not taken.
fn row(source: &Source, line: &str, rules: &Safety) -> anyhow::Result<Option<Example>> {
    let row: serde_json::Value = serde_json::from_str(line)?;
    let word = |key: &str| row[key].as_str().with_context(|| format!("no text `{key}`"));
    let kind = word("kind")?.to_owned();
    if source.only.is_some_and(|only| !kind.starts_with(only)) {
        return Ok(None);
    }
    let attack = match word("label")? {
        "injection" => true,
        "benign" => false,
        _ => anyhow::bail!("the label is neither `injection` nor `benign`"),
    };
    let text = word("text")?;
    let safety::model::Features { slots, ends } = safety::model::features(text);
    let report = rules.inspect(&Untrusted::new(types::Source::Pipe, text.to_owned()), Channel::Result);
    let attack_found = |finding: &Finding| finding.severity >= Severity::Medium && !finding.kind.is_leak();
    let by_rules = report.findings.iter().any(attack_found);
    let embedded = kind.contains("in-document") || kind.starts_with("tool-output");
    let hash = Sha256::digest(word("id")?);
    let group = hash.iter().take(8).fold(0, |group, byte| group << 8 | u64::from(*byte));
    Ok(Some(Example { source: source.name.into(), kind, attack, by_rules, embedded, group, slots, ends }))
}

/// The SHA-256 of bytes in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
