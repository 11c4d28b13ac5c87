//! Names that a command left and that were moved, in words for the person: the command chose them, so they are screened.

use container::Quarantine;
use safety::{Channel, Untrusted};
use types::{Source, ToolName, Trace};

use crate::parts::Base;

/// A sentence; none where nothing was moved. Of names that may not be shown it has the number.
pub fn told(quarantine: &Quarantine, base: &Base) -> Option<String> {
    let names = screened(&quarantine.told()?, base);
    let names = names.unwrap_or_else(|| format!("{} names that cannot be shown", quarantine.moved.len()));
    let folder = &quarantine.folder;
    Some(format!(
        "some program would obey {names}, so what is called so was moved to {folder}/ \
         (where all of it was, and the way back: {folder}/origins)"
    ))
}

/// So many names, for a program, each as it may be shown.
pub fn names(quarantine: &Quarantine, most: usize, base: &Base) -> Vec<String> {
    let hidden = || "(a name that cannot be shown)".to_owned();
    let names = quarantine.moved.iter().take(most).map(|path| path.to_string_lossy());
    names.map(|name| screened(&name, base).unwrap_or_else(hidden)).collect()
}

fn screened(words: &str, base: &Base) -> Option<String> {
    let source = ToolName::parse("exec").map_or(Source::Pipe, Source::Tool);
    let shown = base.safety.screen(Untrusted::new(source, words.to_owned()), Channel::Log, &Trace::off());
    Some(shown.ok()?.into_inner())
}
