//! A whole installation from a file to a server: every row of every table in one transaction.

use crate::error::StoreError;
use crate::session::{Row, Session};
use crate::statement::{Value, built, placeholders, sql};
use crate::tables::{Isolation, TABLES};
use crate::writer::Writer;

/// Rows that travel in one statement.
const TOGETHER: usize = 64;

/// What a copy came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Each table with the number of its rows, counted on the server and the same in the file.
    pub tables: Vec<(&'static str, u64)>,
    /// False where the server held all of it already, as after a copy that was begun twice.
    pub written: bool,
}

/// Why nothing was copied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CopyError {
    /// It leads from a file to a server, not the other way and not between two of a kind.
    #[error("an installation moves from a file to a server only")]
    Direction,
    /// The server holds rows of another installation, or this one's and newer ones.
    #[error("the server holds another installation: its table {0} is not empty and not the same")]
    Occupied(&'static str),
    /// What was written is not what was read. Nothing of it was kept.
    #[error("the table {0} did not arrive whole")]
    Count(&'static str),
    /// One of the two could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies everything, or nothing. Both writers are used up: while this goes on neither database takes a
/// change from anyone else. `progress` is told how many more rows were copied.
///
/// # Errors
/// [`CopyError::Occupied`] where the server holds anything that the file does not.
pub async fn copy(
    mut from: Writer,
    mut to: Writer,
    mut progress: impl FnMut(u64),
) -> Result<Copied, CopyError> {
    let copied = copy_between(&mut from, &mut to, &mut progress).await;
    // In good order, so that all of the file is in the one file and none in its log.
    from.close().await;
    to.close().await;
    copied
}

async fn copy_between(
    from: &mut Writer,
    to: &mut Writer,
    progress: &mut impl FnMut(u64),
) -> Result<Copied, CopyError> {
    let mut source = from.begin().await?;
    let mut target = to.begin().await?;
    if !source.is_in_file() || target.is_in_file() {
        return Err(CopyError::Direction);
    }
    let mut tables = Vec::new();
    let mut held = 0;
    for table in copied() {
        tables.push((table, count(&mut source.session(), table).await?));
        held += count(&mut target.session(), table).await?;
    }
    if held > 0 {
        let theirs = target.head().await?;
        for (table, rows) in &tables {
            if count(&mut target.session(), table).await? != *rows || theirs != source.head().await? {
                return Err(CopyError::Occupied(table));
            }
        }
        source.commit().await?;
        return Ok(Copied { tables, written: false });
    }
    for (table, rows) in &tables {
        copy_table(&mut source.session(), &mut target.session(), table, progress).await?;
        if count(&mut target.session(), table).await? != *rows {
            return Err(CopyError::Count(table));
        }
    }
    target.commit().await?;
    source.commit().await?;
    Ok(Copied { tables, written: true })
}

/// The tables with rows of the installation; the others hold what migrations put there.
fn copied() -> impl Iterator<Item = &'static str> {
    let own =
        TABLES.iter().filter(|(table, isolation)| *isolation != Isolation::History && *table != "chain_head");
    own.map(|(table, _)| *table)
}

async fn count(session: &mut Session<'_>, table: &'static str) -> Result<u64, StoreError> {
    let count = built(format!("SELECT count(*) FROM {table}"), Vec::new());
    let count: i64 = session.scalar(count, table).await?.unwrap_or(0);
    Ok(u64::try_from(count).unwrap_or(0))
}

/// A column of the file's table.
struct Column {
    name: String,
    kind: Kind,
}

/// The three types that the migrations use.
enum Kind {
    Integer,
    Text,
    Bytes,
}

async fn copy_table(
    source: &mut Session<'_>,
    target: &mut Session<'_>,
    table: &'static str,
    progress: &mut impl FnMut(u64),
) -> Result<(), StoreError> {
    let columns = columns(source, table).await?;
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let select =
        format!("SELECT rowid, {names} FROM {table} WHERE rowid > $1 ORDER BY rowid LIMIT {TOGETHER}");
    let mut after = i64::MIN;
    loop {
        let rows = source.rows(built(select.clone(), vec![after.into()]), table).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get(0).map_err(StoreError::at(table))?;
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        for row in &rows {
            for (place, column) in columns.iter().enumerate() {
                values.push(value(row, place + 1, &column.kind).map_err(StoreError::at(table))?);
            }
        }
        let rows_sent = rows.len();
        let insert =
            format!("INSERT INTO {table} ({names}) VALUES {}", placeholders(rows_sent, columns.len()));
        target.run(built(insert, values), table).await?;
        progress(rows_sent as u64);
    }
}

async fn columns(source: &mut Session<'_>, table: &'static str) -> Result<Vec<Column>, StoreError> {
    let query = sql("SELECT name, type FROM pragma_table_info($1) ORDER BY cid").bind(table);
    let read = |row: &Row| -> Result<Column, StoreError> {
        let kind = match row.get::<String>(1).map_err(StoreError::at(table))?.as_str() {
            "BIGINT" => Kind::Integer,
            "TEXT" => Kind::Text,
            "BYTEA" => Kind::Bytes,
            _ => return Err(StoreError::Damaged(table)),
        };
        Ok(Column { name: row.get(0).map_err(StoreError::at(table))?, kind })
    };
    source.rows(query, table).await?.iter().map(read).collect()
}

fn value(row: &Row, place: usize, kind: &Kind) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        Kind::Integer => Value::Integer(row.get(place)?),
        Kind::Text => Value::Text(row.get(place)?),
        Kind::Bytes => Value::Bytes(row.get(place)?),
    })
}
