//! How a rule is found without running its expression.
//!
//! From the syntax tree of a rule's expression follow *keys*, three or four bytes of which one stands at the
//! same distance in every match ([`super::compiler`]). The engine looks for keys and runs an expression only
//! where one stands.

use std::borrow::Cow;

/// Bytes of a key: a literal is looked for by its first four, or by all of its three.
pub(super) const KEY: usize = 4;
/// A run of this many token characters holds a candidate.
pub(super) const RUN: usize = 16;
/// The longest match of a rule: pieces of long lines overlap by this.
pub(super) const LONGEST: usize = 8 * 1024;
/// What stands in the place of the fourth byte of a key of three. No key of four folded bytes ends in it.
pub(super) const NO_FOURTH: u8 = 0xff;

/// Folded bytes: a letter stands for both of its cases.
pub(super) type Key = [u8; KEY];
/// In order, each once.
pub(super) type Keys = Cow<'static, [Key]>;

/// Where the engine looks for a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// At the beginning of a word, with a run of at least [`RUN`] token characters behind it.
    Run(Keys),
    /// At the beginning of a word.
    Word(Keys),
    /// Anywhere, the match beginning at most `before` bytes earlier.
    Anywhere { keys: Keys, before: usize },
    /// A name, with an assigned run of at least `run` token characters at most `within` bytes later.
    Assigned { keys: Keys, within: usize, run: usize },
    /// The expression has no key of its own; one of the rule's literals stands on the line.
    Line(Keys),
}

/// A letter in its lower case; other bytes in a form of their own that is the same for a key and a text.
pub(super) const fn fold(byte: u8) -> u8 {
    byte | 0x20
}
