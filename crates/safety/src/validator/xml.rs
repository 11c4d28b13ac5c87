//! Well-formed XML 1.0 without document types: no DTD, so no entity but the five predefined ones.

use quick_xml::Reader;
use quick_xml::events::Event;
use types::limits;

/// Why a text is not acceptable XML. Quotes nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, after this many bytes.
    #[error("not well-formed XML after {0} bytes")]
    Syntax(u64),
    /// A document type declaration, which can define entities and name files.
    #[error("a document type declaration is not accepted")]
    DocType,
    /// A reference to an entity that is not predefined.
    #[error("a reference to an entity that is not one of the five predefined")]
    Entity,
    /// Nested more deeply than [`limits::MAX_DEPTH`].
    #[error("nested more deeply than {} levels", limits::MAX_DEPTH)]
    Depth,
    /// No element, or more than one at the top.
    #[error("the text does not have exactly one root element")]
    Root,
    /// More bytes than were allowed.
    #[error("longer than {0} bytes")]
    TooLong(usize),
}

/// Checks a text of at most `max` bytes.
pub fn check(text: &str, max: usize) -> Result<(), XmlError> {
    if text.len() > max {
        return Err(XmlError::TooLong(max));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let mut depth = 0usize;
    let mut roots = 0usize;
    loop {
        let at = reader.buffer_position();
        match reader.read_event().map_err(|_| XmlError::Syntax(at))? {
            Event::Start(tag) => {
                attributes(&tag, at)?;
                roots += usize::from(depth == 0);
                depth += 1;
                if depth > limits::MAX_DEPTH {
                    return Err(XmlError::Depth);
                }
            }
            Event::Empty(tag) => {
                attributes(&tag, at)?;
                roots += usize::from(depth == 0);
            }
            Event::End(_) => depth = depth.checked_sub(1).ok_or(XmlError::Syntax(at))?,
            Event::DocType(_) => return Err(XmlError::DocType),
            Event::GeneralRef(reference) => known_reference(reference.as_bytes())?,
            Event::Text(text) if depth == 0 && !text.trim().is_empty() => return Err(XmlError::Root),
            Event::Eof if depth > 0 => return Err(XmlError::Syntax(at)),
            Event::Eof if roots != 1 => return Err(XmlError::Root),
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

fn attributes(tag: &quick_xml::events::BytesStart<'_>, at: u64) -> Result<(), XmlError> {
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| XmlError::Syntax(at))?;
        let mut rest: &[u8] = attribute.value.as_bytes();
        while let Some(start) = memchr::memchr(b'&', rest) {
            let name = &rest[start + 1..];
            let end = memchr::memchr(b';', name).ok_or(XmlError::Syntax(at))?;
            known_reference(&name[..end])?;
            rest = &name[end..];
        }
        if memchr::memchr(b'<', attribute.value.as_bytes()).is_some() {
            return Err(XmlError::Syntax(at));
        }
    }
    Ok(())
}

fn known_reference(name: &[u8]) -> Result<(), XmlError> {
    let number = name.strip_prefix(b"#").is_some_and(|number| {
        let digits = number.strip_prefix(b"x");
        digits.map_or(number.iter().all(u8::is_ascii_digit), |hex| hex.iter().all(u8::is_ascii_hexdigit))
    });
    match name {
        b"amp" | b"lt" | b"gt" | b"quot" | b"apos" => Ok(()),
        _ if number => Ok(()),
        _ => Err(XmlError::Entity),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_well_formed_documents_only() {
        for good in [
            "<a/>",
            "<?xml version=\"1.0\"?><a b='1'>x &amp; &#65;<c/><!-- n --></a>\n",
            "<a><![CDATA[<]]></a>",
        ] {
            assert_eq!(check(good, 1000), Ok(()), "{good}");
        }
        for bad in ["", "x", "<a>", "<a></b>", "<a b='1' b='2'/>", "<a/><b/>", "<a b=1/>", "<a/>x", "</a>"] {
            assert!(check(bad, 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn entities_and_document_types_are_refused() {
        let laughs = "<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
        assert_eq!(check(laughs, 1000), Err(XmlError::DocType));
        let file = "<!DOCTYPE d SYSTEM \"file:///etc/passwd\"><d/>";
        assert_eq!(check(file, 1000), Err(XmlError::DocType));
        assert_eq!(check("<a>&b;</a>", 1000), Err(XmlError::Entity));
        assert_eq!(check("<a b='&x;'/>", 1000), Err(XmlError::Entity));
        assert_eq!(check(&("<a>".repeat(65) + &"</a>".repeat(65)), 1000), Err(XmlError::Depth));
        assert_eq!(check("<a/>", 3), Err(XmlError::TooLong(3)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[<>/a-c&;=\"'!?\\[\\]# -]{0,60}") {
            let _ = check(&text, 1000);
        }
    }
}
