//! What came from outside, before any scanner has read it.
//!
//! The value has no accessor outside this crate: a colleague's code can carry it, transform it by
//! a function that captures nothing, or hand it to [`crate::Safety`].
//!
//! ```compile_fail
//! # use safety::Untrusted;
//! # use types::Source;
//! let page = Untrusted::new(Source::Pipe, String::from("text"));
//! let text: &str = page.value.as_str();
//! # let _ = text;
//! ```
//! The twin that compiles asks only where it came from:
//! ```
//! # use safety::Untrusted;
//! # use types::Source;
//! let page = Untrusted::new(Source::Pipe, String::from("text"));
//! let text: &str = page.source().kind();
//! # let _ = text;
//! ```

use std::fmt;

use bytes::Bytes;
use types::Source;

/// A value from outside with its origin. `Debug` shows the origin only.
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted<T> {
    source: Source,
    value: T,
}

/// Why untrusted bytes were not understood, in fixed words: the error quotes no input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StaticFault(pub &'static str);

impl<T> Untrusted<T> {
    /// Marks a value as coming from `source`.
    pub fn new(source: Source, value: T) -> Self {
        Self { source, value }
    }

    /// Where it came from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// A projection. A function pointer can capture nothing, so the value cannot leak out of it
    /// except as its result, which stays untrusted.
    pub fn map<U>(self, f: fn(T) -> U) -> Untrusted<U> {
        Untrusted { source: self.source, value: f(self.value) }
    }

    /// A projection that may fail with fixed words.
    pub fn try_map<U>(self, f: fn(T) -> Result<U, StaticFault>) -> Result<Untrusted<U>, StaticFault> {
        Ok(Untrusted { source: self.source, value: f(self.value)? })
    }

    /// The value, for this crate's scanners.
    pub(crate) fn expose(&self) -> &T {
        &self.value
    }

    /// Both parts, for this crate's scanners.
    pub(crate) fn into_parts(self) -> (Source, T) {
        (self.source, self.value)
    }
}

impl<T: AsRef<[u8]>> Untrusted<T> {
    /// Reads bytes with a parser that can capture nothing; what it makes stays untrusted.
    pub fn parse<U>(self, f: fn(&[u8]) -> Result<U, StaticFault>) -> Result<Untrusted<U>, StaticFault> {
        Ok(Untrusted { source: self.source, value: f(self.value.as_ref())? })
    }

    /// How many bytes there are: a length is no content.
    pub fn len(&self) -> usize {
        self.value.as_ref().len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Untrusted<Vec<u8>> {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    pub fn into_text(self) -> Untrusted<String> {
        self.map(|bytes| match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(bad) => String::from_utf8_lossy(bad.as_bytes()).into_owned(),
        })
    }
}

impl Untrusted<Bytes> {
    /// The bytes as text; what is not UTF-8 becomes U+FFFD.
    pub fn into_text(self) -> Untrusted<String> {
        self.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl<T> Untrusted<Untrusted<T>> {
    /// One marking from two. The outer origin stays unless it is the owner: wrapping a foreign
    /// value makes it no more trusted.
    pub fn flatten(self) -> Untrusted<T> {
        let inner = self.value;
        let source = if self.source == Source::Owner { inner.source } else { self.source };
        Untrusted { source, value: inner.value }
    }
}

impl<T> Untrusted<Option<T>> {
    /// Moves the marking inside.
    pub fn transpose(self) -> Option<Untrusted<T>> {
        let Self { source, value } = self;
        value.map(|value| Untrusted { source, value })
    }
}

impl<T> Untrusted<Vec<T>> {
    /// One marked value for each element.
    pub fn into_each(self) -> impl Iterator<Item = Untrusted<T>> {
        let Self { source, value } = self;
        value.into_iter().map(move |value| Untrusted { source: source.clone(), value })
    }
}

impl<T> fmt::Debug for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted({})", self.source)
    }
}
