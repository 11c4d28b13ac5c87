//! What the scanners let through, with the proof that they ran.
//!
//! The name says that a scan ran under some generation of the rules, not that the text is good.
//! Only this module and its children make a `Screened`: [`Safety::screen`] and its siblings, the end
//! of a [`body::ScreenedBody`], [`fence::Fence::wrap`], and the program's own words.
//!
//! None is built from parts:
//! ```compile_fail
//! let text = safety::Screened { value: String::from("text") };
//! ```
//! ```
//! let text = safety::Screened::<String>::from_static("text");
//! # let _ = text;
//! ```
//! None is converted from a plain value:
//! ```compile_fail
//! let text: safety::Screened<String> = String::from("text").into();
//! ```
//! ```
//! let text: String = safety::Screened::<String>::from_static("text").into_inner();
//! # let _ = text;
//! ```
//! None comes from nothing:
//! ```compile_fail
//! let text: safety::Screened<String> = Default::default();
//! ```
//! ```
//! let text: String = Default::default();
//! # let _ = text;
//! ```
//! None is read from the store or the wire:
//! ```compile_fail
//! let text: safety::Screened<String> = serde_json::from_str("\"text\"").unwrap();
//! ```
//! ```
//! let text: String = serde_json::from_str("\"text\"").unwrap();
//! # let _ = text;
//! ```
//! And a plain text is none where one is wanted:
//! ```compile_fail
//! fn show(line: &safety::Screened<String>) {}
//! show(&String::from("text"));
//! ```
//! ```
//! fn show(line: &safety::Screened<String>) {}
//! show(&safety::Screened::<String>::from_static("text"));
//! ```

pub mod body;
mod fence;
pub use fence::Fence;
mod release;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use types::{Label, Source};

use crate::Untrusted;

/// A value that was screened. `Debug` shows where it came from, not what it is.
#[derive(Clone, PartialEq)]
pub struct Screened<T> {
    value: T,
    source: Source,
    label: Label,
    generation: u64,
    flagged: bool,
}

impl<T> Screened<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The value without its proof.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// How far it is trusted and who may read it.
    pub fn label(&self) -> Label {
        self.label
    }

    /// Where it came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The rules that it was screened by ([`crate::Safety::generation`]); 0 for the program's own words.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True when something was found that a person should look at.
    pub fn is_flagged(&self) -> bool {
        self.flagged
    }

    /// A projection. Its result was never screened (decoding can make new text), so it is
    /// untrusted again.
    pub fn map<U>(self, f: fn(T) -> U) -> Untrusted<U> {
        Untrusted::new(self.source, f(self.value))
    }

    /// The same value, untrusted again.
    pub fn into_untrusted(self) -> Untrusted<T> {
        Untrusted::new(self.source, self.value)
    }
}

impl Screened<String> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The program's own words. Being `'static`, they hold nothing from outside.
    pub fn from_static(words: &'static str) -> Self {
        Self {
            value: words.to_owned(),
            source: Source::Owner,
            label: Label::CLEAN,
            generation: 0,
            flagged: false,
        }
    }
}

impl<T> fmt::Debug for Screened<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Screened({}, generation {:016x})", self.source, self.generation)
    }
}

/// What stands in the place of a redacted span. No rule takes it for a secret.
pub(crate) fn redaction(rule: &Arc<str>) -> String {
    format!("[redacted:{rule}]")
}
