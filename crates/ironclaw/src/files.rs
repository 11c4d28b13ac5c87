//! Files that a person names, read whole and never further than they may be long.
//!
//! A size that the file system tells says nothing about a device or a pipe: `/dev/zero` is 0 bytes long and has no end.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use types::limits::Bytes;

use crate::exit::Failure;

/// The content of a file, a device or a pipe that is at most `longest` long.
pub fn read(path: &Path, longest: Bytes) -> Result<Vec<u8>, Failure> {
    let content = read_start(path, Bytes(longest.0 + 1))?;
    if content.len() as u64 > longest.0 {
        return Err(Failure::usage(format!("{} is longer than {longest}", path.display())));
    }
    Ok(content)
}

/// The first bytes of a file, a device or a pipe.
pub fn read_start(path: &Path, most: Bytes) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(path, error.kind()))?;
    file.take(most.0).read_to_end(&mut content).map_err(|error| unreadable(path, error.kind()))?;
    Ok(content)
}

/// The same for a file that others made: a link in it may lead to a pipe, which to open waits for its other end.
pub fn read_regular(path: &Path, longest: Bytes) -> Result<Vec<u8>, Failure> {
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, error.kind()))?;
    match kind.is_file() {
        true => read(path, longest),
        false => Err(Failure::usage(format!("{} is not a regular file", path.display()))),
    }
}

/// A file that is not there is told from one that does not read.
pub fn unreadable(path: &Path, kind: ErrorKind) -> Failure {
    match kind {
        ErrorKind::NotFound => Failure::not_found(format!("there is no file {}", path.display())),
        kind => Failure::failed(format!("{} cannot be read: {kind}", path.display())),
    }
}
