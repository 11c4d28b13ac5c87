//! The command line of the container's first process.

use std::ffi::OsString;

/// What to run and how, as arguments: `[--env NAME=VALUE]... [--writable PATH]... [--mount PATH]... --dir PATH
/// -- COMMAND...`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Invocation {
    /// The whole environment of the command, each `NAME=VALUE`.
    pub env: Vec<OsString>,
    /// What the command may write below, for the second wall.
    pub writable: Vec<OsString>,
    /// Where mounts of the workspace are to be, for the report to the host.
    pub mounts: Vec<OsString>,
    /// Where the command starts.
    pub dir: OsString,
    /// The program and its arguments; at least one.
    pub command: Vec<OsString>,
}

/// Why arguments are not an invocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvocationError {
    /// A word that is none of the options.
    Unknown,
    /// An option without its value, no folder, or no command.
    Missing,
}

impl Invocation {
    /// The arguments that [`Invocation::parse`] reads back.
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        let options = [("--env", &self.env), ("--writable", &self.writable), ("--mount", &self.mounts)];
        for (name, values) in options {
            args.extend(values.iter().flat_map(|value| [OsString::from(name), value.clone()]));
        }
        args.extend(["--dir".into(), self.dir.clone(), "--".into()]);
        args.extend(self.command.iter().cloned());
        args
    }

    /// Reads arguments.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, InvocationError> {
        let mut args = args.into_iter();
        let mut parsed = Self::default();
        let mut dir = None;
        loop {
            let name = args.next().ok_or(InvocationError::Missing)?;
            let mut value = || args.next().ok_or(InvocationError::Missing);
            match name.to_str() {
                Some("--env") => parsed.env.push(value()?),
                Some("--writable") => parsed.writable.push(value()?),
                Some("--mount") => parsed.mounts.push(value()?),
                Some("--dir") => dir = Some(value()?),
                Some("--") => break,
                _ => return Err(InvocationError::Unknown),
            }
        }
        parsed.dir = dir.ok_or(InvocationError::Missing)?;
        parsed.command = args.collect();
        if parsed.command.is_empty() { Err(InvocationError::Missing) } else { Ok(parsed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(most: usize) -> impl Strategy<Value = Vec<OsString>> {
        prop::collection::vec(".{0,12}".prop_map(OsString::from), 0..most)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            env in words(4), writable in words(4), mounts in words(4), dir in ".{0,12}", rest in words(5),
        ) {
            let command = [OsString::from("--env")].into_iter().chain(rest).collect();
            let written = Invocation { env, writable, mounts, dir: dir.into(), command };
            prop_assert_eq!(Invocation::parse(written.to_args()), Ok(written));
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        let parse = |words: &[&str]| Invocation::parse(words.iter().map(OsString::from));
        assert_eq!(parse(&[]), Err(InvocationError::Missing));
        assert_eq!(parse(&["--dir", "/", "--"]), Err(InvocationError::Missing));
        assert_eq!(parse(&["--", "true"]), Err(InvocationError::Missing));
        assert_eq!(parse(&["--env"]), Err(InvocationError::Missing));
        assert_eq!(parse(&["--debug", "--dir", "/", "--", "true"]), Err(InvocationError::Unknown));
    }
}
