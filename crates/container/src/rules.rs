//! Every rule of this layer that can refuse.

use types::{Layer, Rule};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::Container, says: $says };)*
    };
}

rules! {
    /// The engine cannot hold what is promised.
    UNFIT = "container.unfit", "commands cannot be confined on this machine now, so none runs";
    /// The folder is no workspace.
    WORKSPACE = "container.workspace", "the folder cannot be lent to a command";
    /// The command's time is over.
    TIME = "container.time", "the command took longer than it may";
    /// It printed more than it may.
    OUTPUT = "container.output", "the command printed more than it may";
    /// It used more memory than it may.
    MEMORY = "container.memory", "the command used more memory than it may";
    /// What it printed holds a secret.
    LEAK = "container.leak", "the output of the command held a secret, so the run was ended";
    /// The host's end of its socket is gone.
    DOOR = "container.door", "what judges the command's connections is gone, so the run was ended";
    /// Another command has the folder.
    BUSY = "container.busy", "another command is at work in the workspace, in a folder of it or around it, and one that changes something is there alone";
    /// What an earlier command left cannot be put away.
    LEFTOVER = "container.leftover", "an earlier command was cut off, and what it left in its workspace is not put away yet";
    /// What a registry sent, or what the engine made of it, has another digest.
    IMAGE_DIGEST = "container.image-digest", "the image that came is not the one of the digest that was asked for";
    /// Something else than what was checked stands in the container, or is about to.
    SWAPPED = "container.swapped", "the workspace, or something in it, was replaced between check and use";
}
