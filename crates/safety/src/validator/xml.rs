//! Documents that say they are XML: entities that one defines for itself, and how deeply it is nested.
//!
//! Whoever reads such a document expands the entities: into gigabytes (CVE-2003-1564), into a file of the
//! machine that reads (CWE-611), or into words that stand nowhere in the text. Nothing here expands one.

use quick_xml::Reader;
use quick_xml::events::Event;
use types::limits;

use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};

/// What is wrong with a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// Its document type defines entities.
    Entities,
    /// Nested more deeply than [`limits::MAX_DEPTH`].
    Depth,
}

impl Fault {
    const ALL: [Self; 2] = [Self::Entities, Self::Depth];

    fn rule(self) -> &'static str {
        match self {
            Self::Entities => "xml-entities",
            Self::Depth => "xml-depth",
        }
    }
}

/// The ids of the rules.
pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    Fault::ALL.into_iter().map(Fault::rule)
}

/// Adds a signal for a text that says it is XML and has such a fault.
pub(crate) fn check(text: &str, prints: &Fingerprinter, signals: &mut Vec<Signal>) {
    let Some((fault, end)) = fault(text) else { return };
    let (severity, reason) = match fault {
        Fault::Entities => (Severity::Medium, "an XML document that defines entities".to_owned()),
        Fault::Depth => {
            (Severity::Low, format!("an XML document nested more deeply than {} levels", limits::MAX_DEPTH))
        }
    };
    signals.push(Signal {
        rule: fault.rule().into(),
        reason: reason.into(),
        kind: Kind::Control,
        severity,
        fingerprint: prints.of(fault.rule(), &text.as_bytes()[..end]),
        span: 0..end,
        view: "xml",
        secret: None,
    });
}

/// The first fault, and where in the text it ends. What is not well-formed is read up to there: an output that
/// was cut is honest.
fn fault(text: &str) -> Option<(Fault, usize)> {
    let begin = text.trim_start_matches('\u{feff}').trim_start();
    if !begin.starts_with("<?xml") && !begin.starts_with("<!DOCTYPE") {
        return None;
    }
    let mut reader = Reader::from_str(begin);
    reader.config_mut().check_end_names = false;
    let mut depth = 0usize;
    loop {
        let event = reader.read_event().ok()?;
        let end = text.len() - begin.len() + usize::try_from(reader.buffer_position()).ok()?;
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::DocType(kind) if memchr::memmem::find(kind.as_bytes(), b"<!ENTITY").is_some() => {
                return Some((Fault::Entities, end));
            }
            Event::Eof => return None,
            _ => {}
        }
        // HTML does not close every tag.
        if depth > limits::MAX_DEPTH && begin.starts_with("<?xml") {
            return Some((Fault::Depth, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_document_that_defines_entities_is_found() {
        for text in [
            "<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!DOCTYPE d [ <!ENTITY f SYSTEM \"file:///etc/passwd\"> ]><d>&f;</d>",
        ] {
            let (fault, end) = fault(text).expect(text);
            assert_eq!((fault, &text[..end]), (Fault::Entities, &text[..text.find("]>").unwrap() + 2]));
        }
    }

    #[test]
    fn depth_is_bounded_in_what_says_it_is_xml() {
        let nested = |levels: usize| "<?xml version='1.0'?>".to_owned() + &"<a>".repeat(levels);
        assert_eq!(fault(&nested(limits::MAX_DEPTH)), None);
        assert_eq!(fault(&nested(limits::MAX_DEPTH + 1)).unwrap().0, Fault::Depth);
        assert_eq!(fault(&"<a>".repeat(100)), None);
    }

    #[test]
    fn honest_documents_pass() {
        for text in [
            "<!DOCTYPE html><html><head><meta charset=utf-8></head><body><p>x<br>&nbsp;</body>",
            "<?xml version=\"1.0\"?><a b='1'>x &amp; &#65;<c/><!-- n --></a>\n",
            "<?xml version=\"1.0\"?><!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"http://www.w3.org/a.dtd\"><svg/>",
            "An <!DOCTYPE l [<!ENTITY a \"lol\">]> in a sentence.",
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
        assert_eq!(fault(&("<!DOCTYPE html>".to_owned() + &"<p>a<br>".repeat(100))), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(<\\?xml |<!DOCTYPE )?[<>/a-c&;=\"'!?\\[\\]# -]{0,60}") {
            let _ = fault(&text);
        }
    }
}
