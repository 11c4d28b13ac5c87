//! Every rule of this layer that can refuse.

use types::{Layer, Rule};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::Agent, says: $says };)*
        /// All of them, for `ironclaw policy check` and the documentation.
        pub static ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    /// The turn went round the loop of model and tools [`types::limits::MAX_STEPS`] times.
    STEPS = "agent.steps", "the turn took more steps than a turn may take";
    /// No shell is configured, or no engine could run it when this program started.
    NO_SHELL = "shell.off", "there is no shell";
    /// The turn that wanted the command is over.
    ABANDONED = "shell.abandoned", "nobody waits for the command any more, so it was ended";
    /// No folder is configured for the file tools.
    NO_WORKSPACE = "files.no-workspace", "no folder is set for the file tools";
    /// The folder would give an agent what its walls are meant to keep.
    UNSAFE_WORKSPACE = "files.unsafe-workspace", "this folder is not one that an agent may work in";
    /// The path is absolute, has `..` or another form that could lead out.
    OUTSIDE = "files.outside", "the path does not lie inside the workspace";
    /// The file holds credentials.
    CREDENTIAL_FILE = "files.credential-file", "the file holds credentials, which an agent does not read";
    /// Some program obeys the file.
    GUARDED = "files.guarded", "some program obeys this file, so an agent does not write it";
}
