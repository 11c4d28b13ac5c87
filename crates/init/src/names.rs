//! A name server that knows every name: each gets a loopback address of its own, on which ports 80 and 443 are
//! relayed. Nothing is asked of anyone, so no lookup leaves the container (RFC 1035, RFC 6761).

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Names that are remembered. Enough for the longest honest build; beyond it a lookup fails.
const MAX_NAMES: usize = 16_384;

/// The first address that is given out, 127.64.0.1; all are inside 127.0.0.0/8.
const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 1]);

/// Seconds for which an answer may be kept. The address stays the same for the whole run.
const TTL: u32 = 60;

const A: u16 = 1;
const INTERNET: u16 = 1;

/// Which name has which address.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

/// Answers of a name server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Code {
    Done = 0,
    Malformed = 1,
    Failed = 2,
    NotHere = 4,
}

/// One question.
struct Question<'a> {
    name: String,
    kind: u16,
    /// Its bytes in the message, to be repeated.
    bytes: &'a [u8],
}

impl Names {
    /// The name that was given this address.
    pub fn name(&self, address: Ipv4Addr) -> Option<&str> {
        let number = u32::from(address).checked_sub(FIRST)?;
        self.names.get(number as usize).map(String::as_str)
    }

    /// The answer to a datagram, if it is a query at all.
    pub fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let header: &[u8; 12] = query.first_chunk()?;
        let is_response = header[2] & 0x80 != 0;
        if is_response {
            return None;
        }
        let opcode = header[2] & 0x78;
        let Some(question) = question(query).filter(|_| header[4..6] == [0, 1]) else {
            return Some(message(header, Code::Malformed, None, None));
        };
        if opcode != 0 {
            return Some(message(header, Code::NotHere, Some(&question), None));
        }
        // Every name exists, with one IPv4 address and nothing else.
        let (code, address) = match question.kind {
            A => match self.address(&question.name) {
                Some(address) => (Code::Done, Some(address)),
                None => (Code::Failed, None),
            },
            _ => (Code::Done, None),
        };
        Some(message(header, code, Some(&question), address))
    }

    /// The address of a name, given to it now if it has none yet.
    fn address(&mut self, name: &str) -> Option<Ipv4Addr> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(Ipv4Addr::LOCALHOST);
        }
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None if self.names.len() >= MAX_NAMES => return None,
            None => {
                let number = self.names.len() as u32;
                self.names.push(name.to_owned());
                self.numbers.insert(name.to_owned(), number);
                number
            }
        };
        Some(Ipv4Addr::from(FIRST + number))
    }
}

/// Reads the one question of a query. Names are lower-cased; a name that could not stand in a preface is none.
fn question(query: &[u8]) -> Option<Question<'_>> {
    let mut at = 12;
    let mut name = String::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => {
                let label = query.get(at..at + length)?;
                if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                    return None;
                }
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                at += length;
            }
            // A query has nothing to point back to.
            _ => return None,
        }
        if name.len() > 253 {
            return None;
        }
    }
    let [kind_high, kind_low, class_high, class_low] = *query.get(at..)?.first_chunk()?;
    let bytes = &query[12..at + 4];
    let plausible = !name.is_empty() && u16::from_be_bytes([class_high, class_low]) == INTERNET;
    plausible.then(|| Question { name, kind: u16::from_be_bytes([kind_high, kind_low]), bytes })
}

/// Header, question and at most one address.
fn message(
    header: &[u8; 12],
    code: Code,
    question: Option<&Question<'_>>,
    address: Option<Ipv4Addr>,
) -> Vec<u8> {
    let recursion_desired = header[2] & 0x01;
    let mut out = vec![header[0], header[1], 0x84 | header[2] & 0x78 | recursion_desired, 0x80 | code as u8];
    let count = |present: bool| [0, u8::from(present)];
    out.extend(count(question.is_some()));
    out.extend(count(address.is_some()));
    out.extend([0; 4]);
    out.extend(question.map_or(&[][..], |question| question.bytes));
    if let Some(address) = address {
        // The name of the question, by its offset.
        out.extend([0xc0, 12]);
        out.extend(A.to_be_bytes());
        out.extend(INTERNET.to_be_bytes());
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out
    }

    fn address_of(answer: &[u8]) -> Option<Ipv4Addr> {
        (answer[7] == 1).then(|| Ipv4Addr::from(*answer.last_chunk::<4>().unwrap()))
    }

    #[test]
    fn x01_every_name_is_a_loopback_address_of_its_own() {
        let mut names = Names::default();
        let first = address_of(&names.answer(&query("Secret.evil.com", A)).unwrap()).unwrap();
        let again = address_of(&names.answer(&query("secret.EVIL.com", A)).unwrap()).unwrap();
        let other = address_of(&names.answer(&query("example.com", A)).unwrap()).unwrap();
        assert!(first.is_loopback() && other.is_loopback());
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(names.name(first), Some("secret.evil.com"));
        assert_eq!(names.name(Ipv4Addr::LOCALHOST), None);
        assert_eq!(address_of(&names.answer(&query("localhost", A)).unwrap()), Some(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn other_kinds_exist_and_are_empty() {
        for kind in [28, 15, 16, 65, 255] {
            let answer = Names::default().answer(&query("example.com", kind)).unwrap();
            assert_eq!((answer[3] & 0x0f, answer[7]), (Code::Done as u8, 0), "{kind}");
        }
    }

    #[test]
    fn the_table_is_bounded() {
        let mut names = Names::default();
        for number in 0..MAX_NAMES {
            assert!(names.address(&format!("n{number}.example")).is_some());
        }
        let answer = names.answer(&query("one.more.example", A)).unwrap();
        assert_eq!((answer[3] & 0x0f, answer[7]), (Code::Failed as u8, 0));
        assert!(names.address("n0.example").is_some());
    }

    #[test]
    fn what_is_no_query_is_not_answered_and_what_is_no_question_is_refused() {
        let mut names = Names::default();
        assert_eq!(names.answer(b"short"), None);
        let mut response = query("a.example", A);
        response[2] |= 0x80;
        assert_eq!(names.answer(&response), None);
        for name in ["a\0b.example", "a b.example", "a\nb"] {
            let answer = names.answer(&query(name, A)).unwrap();
            assert_eq!(answer[3] & 0x0f, Code::Malformed as u8, "{name:?}");
        }
        assert!(names.names.is_empty());
    }

    proptest! {
        #[test]
        fn no_datagram_panics_or_is_answered_at_length(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(answer) = Names::default().answer(&bytes) {
                prop_assert!(answer.len() <= bytes.len() + 16);
            }
        }
    }
}
