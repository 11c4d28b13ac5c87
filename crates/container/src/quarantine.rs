//! Names that a command left in its workspace and that were moved out of the way.

use std::path::PathBuf;

use workspace::Quoted;

/// Names that are told; of more the number is.
const SHOWN: usize = 8;

/// Names that appeared in a workspace during a run and that some program would obey, and the folder that they were moved to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Quarantine {
    /// The folder, inside the workspace.
    pub folder: String,
    /// Where they were. The command chose these names: they are foreign text.
    pub moved: Vec<PathBuf>,
}

impl Quarantine {
    /// The first few names, quoted and cut, with nothing in them that a terminal obeys or that hides from a reader, and how
    /// many more there are. They are still words of the command's choice, to be screened.
    fn names(&self) -> (Vec<String>, usize) {
        let quote = |path: &PathBuf| Quoted(path.clone()).to_string();
        let names: Vec<String> = self.moved.iter().take(SHOWN).map(quote).collect();
        let more = self.moved.len() - names.len();
        (names, more)
    }

    /// Names and number in a few words: `".bashrc", "a/.vscode" and 3 more`. None where nothing was moved.
    pub fn told(&self) -> Option<String> {
        let (names, more) = self.names();
        let told = names.join(", ");
        match (names.len(), more) {
            (0, _) => None,
            (_, 0) => Some(told),
            (_, more) => Some(format!("{told} and {more} more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: impl IntoIterator<Item = String>) -> Option<String> {
        let moved = names.into_iter().map(PathBuf::from).collect();
        Quarantine { folder: "q".to_owned(), moved }.told()
    }

    #[test]
    fn m12_a_few_names_are_told_and_none_drives_a_terminal() {
        assert_eq!(told([]), None);
        assert_eq!(told([".bashrc".to_owned(), "a b".to_owned()]).unwrap(), "\".bashrc\", \"a b\"");
        let many = told((0..20).map(|number| format!("{number}/.bashrc"))).unwrap();
        assert!(many.contains("\"7/.bashrc\" and 12 more") && !many.contains("8/"), "{many}");
        let hostile = "a\n\u{1b}]52;c;x\u{7}\r\u{202e}\u{200b}\"/.bashrc";
        let shown = told([hostile.to_owned()]).unwrap();
        assert!(shown.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{shown}");
        let long = told(["x".repeat(4000)]).unwrap();
        assert!(long.len() < 130 && long.ends_with("\"..."), "{long}");
    }
}
