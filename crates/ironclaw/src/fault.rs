//! What is said when this program, or a library in it, panics.
//!
//! The message of a panic quotes what the code was working on: an index error shows the text that it indexed.
//! That text was screened by nobody, so a person is told the place in the code and nothing else.

use std::io::Write as _;
use std::panic::{Location, PanicHookInfo};

/// The hook of the whole process.
pub fn report(panic: &PanicHookInfo<'_>) {
    // Where standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}", words(panic.location()));
}

fn words(place: Option<&Location<'_>>) -> String {
    let place =
        place.map_or("an unknown place".to_owned(), |place| format!("{}:{}", place.file(), place.line()));
    format!(
        "ironclaw: a fault in this program, at {place}; please report it. What it was working on is not shown."
    )
}

#[cfg(test)]
mod tests {
    use std::panic;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_panic_does_not_show_what_it_was_working_on() {
        let (sender, said) = mpsc::channel();
        panic::set_hook(Box::new(move |panic| {
            sender.send((words(panic.location()), panic.to_string())).unwrap()
        }));
        let page = "the password is hunter2";
        assert!(panic::catch_unwind(|| panic!("read {page}")).is_err());
        drop(panic::take_hook());
        let (shown, whole) = said.recv().unwrap();
        assert!(whole.contains("hunter2"), "the default message would have shown it: {whole}");
        assert!(!shown.contains("hunter2") && shown.contains("fault.rs:"), "{shown}");
    }
}
