//! A statement as data: one SQL text for both databases, and the values for its `$1`, `$2`, ... in
//! order. The text is part of the program; what a person, a tool or a model chose is only ever a value.

/// A text and its values.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) values: Vec<Value>,
}

/// What can stand in a column.
#[derive(Clone)]
pub(crate) enum Value {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    MaybeBytes(Option<Vec<u8>>),
}

/// The largest value that is sent to a database, far above the largest that is ever meant. PostgreSQL
/// ends the connection over a message it finds too long, and with it everybody's transaction.
pub(crate) const MAX_VALUE: usize = 64 * 1024 * 1024;

/// A statement without values yet.
pub(crate) fn sql(sql: &'static str) -> Statement {
    Statement { sql, values: Vec::new() }
}

impl Statement {
    /// Adds the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Whether every value is one that both databases take.
    pub(crate) fn fits(&self) -> bool {
        self.values.iter().all(|value| match value {
            Value::Integer(_) => true,
            Value::Text(text) => text.len() <= MAX_VALUE && !text.contains('\0'),
            Value::Bytes(bytes) => bytes.len() <= MAX_VALUE,
            Value::MaybeBytes(bytes) => bytes.as_ref().is_none_or(|bytes| bytes.len() <= MAX_VALUE),
        })
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(value: Option<&[u8]>) -> Self {
        Self::MaybeBytes(value.map(<[u8]>::to_vec))
    }
}
