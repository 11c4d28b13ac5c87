//! Every rule of this layer that can stop a call or refuse a component.

use types::{Layer, Rule};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::Wasm, says: $says };)*
        /// All of them, for `ironclaw policy check` and the documentation.
        pub static ALL: &[&Rule] = &[$(&$name,)*];
    };
}

rules! {
    /// The fuel of the call ran out: too many instructions.
    FUEL = "wasm.fuel", "the tool computed more than it may in one call";
    /// Memory was asked for beyond the limit, over all memories of the instance.
    MEMORY = "wasm.memory", "the tool wanted more memory than it may use";
    /// Tables or instances were asked for beyond the limit.
    TABLES = "wasm.tables", "the tool wanted more tables or instances than it may use";
    /// The call took too long, host calls included.
    TIME = "wasm.time", "the tool took longer than it may";
    /// The guest's call stack was used up.
    STACK = "wasm.stack", "the tool nested its calls too deeply";
    /// The result or error was too long or nested too deeply.
    OUTPUT = "wasm.output", "the tool answered with more than it may";
    /// The guest called the host too often.
    HOST_CALLS = "wasm.host-calls", "the tool called the host more often than it may";
    /// More was logged than the limit; the rest was dropped.
    LOG = "wasm.log", "the tool logged more than it may";
    /// Strings, lists or handles on the interface were malformed or too large.
    INTERFACE = "wasm.interface", "the tool passed data to the host that is malformed or too large";
    /// A request without one unambiguous address or with a body beyond the limit.
    REQUEST = "wasm.request", "the tool made a request that has no single meaning or is too large";
    /// The component imports something that no tool gets.
    IMPORT = "wasm.import", "the tool wants an interface that no tool gets";
    /// The component does not export the contract's function.
    EXPORT = "wasm.export", "the tool does not offer the function that a tool has";
    /// The bytes are no component, or use a proposal that is off.
    MALFORMED = "wasm.malformed", "the tool is not a component that this program accepts";
    /// Compiling took more time or memory than an installation gets.
    COMPILE = "wasm.compile-budget", "the tool takes too much time or memory to compile";
    /// The compiled code is missing, was changed or was made by another version.
    COMPILED = "wasm.compiled", "the compiled tool is missing or is not the one that was approved";
    /// The tool's own folder cannot be opened.
    WORKSPACE = "wasm.workspace", "the tool's workspace cannot be opened";
    /// Every slot stayed busy for too long.
    BUSY = "wasm.busy", "too many tools are running at once";
}
