//! Names that a command left and that were moved, in words for the person: the command chose them, so they are screened.

use container::Quarantine;
use safety::{Channel, Untrusted};
use types::{Source, ToolName, Trace};

use crate::parts::Base;

/// A sentence; none where nothing was moved. Of names that may not be shown it has the number.
pub fn told(quarantine: &Quarantine, base: &Base) -> Option<String> {
    let names = screened(&quarantine.told()?, base);
    let names = names.unwrap_or_else(|| format!("{} names that cannot be shown", quarantine.moved.len()));
    Some(format!("some program would obey {names}, so what is called so was moved to {}/", quarantine.folder))
}

/// The first names, each as it may be shown.
pub fn names(quarantine: &Quarantine, base: &Base) -> Vec<String> {
    let (names, _) = quarantine.names();
    let hidden = || "(a name that cannot be shown)".to_owned();
    names.iter().map(|name| screened(name, base).unwrap_or_else(hidden)).collect()
}

fn screened(words: &str, base: &Base) -> Option<String> {
    let source = ToolName::parse("exec").map_or(Source::Pipe, Source::Tool);
    let shown = base.safety.screen(Untrusted::new(source, words.to_owned()), Channel::Log, &Trace::off());
    Some(shown.ok()?.into_inner())
}
