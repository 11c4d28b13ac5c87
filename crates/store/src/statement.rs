//! A statement as data: one SQL text for both databases, and the values for its `$1`, `$2`, ... in
//! order. The text is part of the program; what a person, a tool or a model chose is only ever a value.

use std::borrow::Cow;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

/// A text and its values.
#[derive(Clone)]
pub(crate) struct Statement {
    text: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
}

/// What can stand in a column.
#[derive(Clone)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// The largest value that is sent to a database, far above the largest that is ever meant. PostgreSQL
/// ends the connection over a message it finds too long, and with it everybody's transaction.
pub(crate) const MAX_VALUE: usize = 64 * 1024 * 1024;

/// A statement without values yet.
pub(crate) fn sql(text: &'static str) -> Statement {
    Statement { text: Cow::Borrowed(text), values: Vec::new() }
}

/// A statement that this program put together from its own words: names of its tables and columns, and
/// as many placeholders as there are values.
pub(crate) fn built(text: String, values: Vec<Value>) -> Statement {
    Statement { text: Cow::Owned(text), values }
}

/// `($1, $2), ($3, $4)` for so many rows of so many columns.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let of_row: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", of_row.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
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
            Value::Text(Some(text)) => text.len() <= MAX_VALUE && !text.contains('\0'),
            Value::Bytes(Some(bytes)) => bytes.len() <= MAX_VALUE,
            _ => true,
        })
    }

    /// The text with its values in it, for a server: statements without values travel together in one message. Of a
    /// value nothing stands in the text but the digits of a number.
    pub(crate) fn written_out(self) -> String {
        let mut out = String::with_capacity(self.text.len() * 2);
        let mut rest = &*self.text;
        while let Some((before, after)) = rest.split_once('$') {
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            out.push_str(before);
            // Every placeholder of ours has its value; a text that lacked one would be none to a server either.
            let place = after[..end].parse::<usize>().unwrap_or(0);
            match place.checked_sub(1).and_then(|place| self.values.get(place)) {
                Some(value) => value.write_out(&mut out),
                None => out.push('$'),
            }
            rest = &after[end..];
        }
        out.push_str(rest);
        out
    }

    /// The text and the values, apart.
    pub(crate) fn parts(self) -> (SqlStr, Vec<Value>) {
        let text = match self.text {
            Cow::Borrowed(text) => text.into_sql_str(),
            Cow::Owned(text) => AssertSqlSafe(text).into_sql_str(),
        };
        (text, self.values)
    }
}

impl Value {
    /// As an expression of PostgreSQL, whatever the session takes for the end of a quotation.
    fn write_out(&self, out: &mut String) {
        let hex = |bytes: &[u8], out: &mut String| {
            out.push_str("decode('");
            for byte in bytes {
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
            out.push_str("', 'hex')");
        };
        match self {
            Self::Integer(Some(value)) => out.push_str(&format!("CAST({value} AS BIGINT)")),
            Self::Text(Some(value)) => {
                out.push_str("convert_from(");
                hex(value.as_bytes(), out);
                out.push_str(", 'UTF8')");
            }
            Self::Bytes(Some(value)) => hex(value, out),
            Self::Integer(None) => out.push_str("CAST(NULL AS BIGINT)"),
            Self::Text(None) => out.push_str("CAST(NULL AS TEXT)"),
            Self::Bytes(None) => out.push_str("CAST(NULL AS BYTEA)"),
        }
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(value: Option<&[u8]>) -> Self {
        Self::Bytes(value.map(<[u8]>::to_vec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k17_of_a_value_nothing_stands_in_a_message_but_digits() {
        let hostile = "'); DROP TABLE tool; --\\ $1 $2";
        let statement = sql("SELECT $2, $1, $10, $3, $4")
            .bind(hostile)
            .bind(-7)
            .bind(hostile.as_bytes())
            .bind(None::<&[u8]>);
        let digits: String = hostile.bytes().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!(
            "SELECT CAST(-7 AS BIGINT), convert_from(decode('{digits}', 'hex'), 'UTF8'), $, \
             decode('{digits}', 'hex'), CAST(NULL AS BYTEA)"
        );
        assert_eq!(statement.written_out(), expected);
    }
}
