//! Characters that do not belong in text: terminal controls, direction overrides, and characters
//! that a person does not see.
//!
//! Terminal sequences are those of ECMA-48; overrides are the subject of CVE-2021-42574; hidden
//! text in tag characters (U+E0020 to U+E007E) is read by language models and shown by no font.

use std::borrow::Cow;
use std::ops::Range;

use super::hidden;
use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};

/// A text without such characters, and the way back to the original offsets.
pub(crate) struct Cleaned<'a> {
    /// What a person or a model may read.
    pub(crate) text: Cow<'a, str>,
    /// Offset here and offset in the original, at each place where they begin to differ anew.
    anchors: Vec<(usize, usize)>,
    original: usize,
    /// Text that no person sees, with its span in the original and how it was hidden. No longer in all than
    /// the original.
    pub(crate) hidden: Vec<(Range<usize>, String, &'static str)>,
}

impl<'a> Cleaned<'a> {
    /// A text as it is.
    pub(crate) fn whole(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), anchors: Vec::new(), original: text.len(), hidden: Vec::new() }
    }

    /// Where a span of the cleaned text stands in the original.
    pub(crate) fn original(&self, span: Range<usize>) -> Range<usize> {
        if self.anchors.is_empty() {
            return span;
        }
        let back = |at: usize| {
            let next = self.anchors.partition_point(|(here, _)| *here <= at);
            let (here, there) = next.checked_sub(1).map_or((0, 0), |index| self.anchors[index]);
            there + at - here
        };
        let start = back(span.start);
        // The end is found from the last byte inside, so that what was removed behind it stays out.
        let end = if span.is_empty() { start } else { back(span.end - 1) + 1 };
        start..end.min(self.original)
    }
}

impl Cleaned<'_> {
    /// Where a span of the original stands in the cleaned text, on character boundaries; empty where all of
    /// it was removed.
    pub(crate) fn here(&self, span: &Range<usize>) -> Range<usize> {
        let forth = |at: usize| {
            let next = self.anchors.partition_point(|(_, there)| *there <= at);
            let (here, there) = next.checked_sub(1).map_or((0, 0), |index| self.anchors[index]);
            let end = self.anchors.get(next).map_or(self.text.len(), |(here, _)| *here);
            (here + at - there).min(end)
        };
        let (start, end) = (forth(span.start), forth(span.end));
        self.text.floor_char_boundary(start)..self.text.ceil_char_boundary(end)
    }
}

/// What every rule of this module is called and says.
const RULES: [(&str, Kind, Severity, &str); 9] = [
    ("terminal-colour", Kind::Control, Severity::Low, "terminal sequences that change how text looks"),
    ("terminal-control", Kind::Control, Severity::Medium, "terminal sequences that do more than colour"),
    (
        "concealed-text",
        Kind::HiddenChannel,
        Severity::Critical,
        "a terminal sequence that hides the text behind it from a person",
    ),
    ("control-character", Kind::Control, Severity::Low, "control characters"),
    ("overprint", Kind::Control, Severity::Medium, "backspaces that print one character over another"),
    ("direction-override", Kind::Control, Severity::Medium, "characters that reverse the direction of text"),
    ("zero-width", Kind::Control, Severity::Medium, "characters without width inside a word"),
    (
        "invisible-run",
        Kind::HiddenChannel,
        Severity::Critical,
        "a run of invisible characters long enough for a message",
    ),
    (
        "tag-characters",
        Kind::HiddenChannel,
        Severity::Critical,
        "text in tag characters, which no font shows",
    ),
];

/// The ids of the rules.
pub(crate) fn ids() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(id, ..)| *id)
}

/// The most signals of one rule; a million colour changes are one fact.
const MOST_SIGNALS: usize = 16;
/// Invisible characters in a row that honest text never needs.
const LONG_RUN: usize = 10;

/// Takes out of a text what does not belong in it, with a signal for each kind of thing.
pub(crate) fn clean<'a>(text: &'a str, prints: &Fingerprinter, signals: &mut Vec<Signal>) -> Cleaned<'a> {
    let mut cleaned = Cleaned::whole(text);
    if is_plain(text.as_bytes()) {
        return cleaned;
    }
    let mut sweep = Sweep {
        text,
        out: String::new(),
        copied: 0,
        turned: 0,
        cleaned: &mut cleaned,
        prints,
        signals,
        counts: [0; RULES.len()],
    };
    sweep.run();
    let Sweep { mut out, copied, .. } = sweep;
    if copied > 0 {
        out.push_str(&text[copied..]);
        cleaned.text = Cow::Owned(out);
    }
    cleaned
}

/// True for printable ASCII with line feeds and tabs.
fn is_plain(bytes: &[u8]) -> bool {
    let odd = |byte: &u8| !matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    // Without a branch for each byte, so that the loop is vectorised.
    bytes.chunks(64).all(|chunk| !chunk.iter().fold(false, |any, byte| any | odd(byte)))
}

struct Sweep<'a, 'b> {
    text: &'a str,
    out: String,
    /// Bytes of the original that are in `out` or were left out.
    copied: usize,
    /// Up to here the original was read as overrides turn it round.
    turned: usize,
    cleaned: &'b mut Cleaned<'a>,
    prints: &'b Fingerprinter,
    signals: &'b mut Vec<Signal>,
    counts: [usize; RULES.len()],
}

impl Sweep<'_, '_> {
    fn run(&mut self) {
        let mut at = 0;
        while let Some(c) = self.text[at..].chars().next() {
            let after = at + c.len_utf8();
            at = match c {
                '\n' | '\t' | ' '..='~' => after,
                '\r' if self.text[after..].starts_with('\n') => after,
                // A lone carriage return would write over the line.
                '\r' => self.replace(at..after, "\n"),
                '\u{1b}' | '\u{80}'..='\u{9f}' => self.escape(at, c),
                '\u{8}' => self.overprint(at),
                '\0'..='\u{1f}' | '\u{7f}' => self.note("control-character", at..after),
                '\u{202d}' | '\u{202e}' => {
                    if at >= self.turned {
                        let (length, turned) = hidden::turned(&self.text[after..]);
                        self.turned = after + length;
                        self.cleaned.hidden.push((at..after, turned, "direction override"));
                    }
                    self.note("direction-override", at..after)
                }
                '\u{202a}'..='\u{202c}' | '\u{2066}'..='\u{2069}' => self.cut(at..after),
                '\u{e0000}'..='\u{e007f}' => self.tags(at),
                c if is_invisible(c) => self.invisible(at),
                _ => after,
            };
        }
    }

    /// Leaves a span out and goes on after it.
    fn cut(&mut self, span: Range<usize>) -> usize {
        self.replace(span, "")
    }

    fn replace(&mut self, span: Range<usize>, with: &str) -> usize {
        let start = span.start.max(self.copied);
        self.out.push_str(&self.text[self.copied..start]);
        self.out.push_str(with);
        self.copied = span.end;
        self.cleaned.anchors.push((self.out.len(), span.end));
        span.end
    }

    /// Leaves a span out with a signal.
    fn note(&mut self, rule: &str, span: Range<usize>) -> usize {
        self.signal(rule, span.clone());
        self.cut(span)
    }

    fn signal(&mut self, rule: &str, span: Range<usize>) {
        let Some(index) = RULES.iter().position(|(id, ..)| *id == rule) else { return };
        self.counts[index] += 1;
        if self.counts[index] > MOST_SIGNALS {
            return;
        }
        let (id, kind, severity, reason) = RULES[index];
        self.signals.push(Signal {
            rule: id.into(),
            reason: reason.into(),
            kind,
            severity,
            fingerprint: self.prints.of(id, &self.text.as_bytes()[span.clone()]),
            span,
            view: "characters",
            secret: None,
        });
    }

    /// A control sequence of a terminal, from its introducer to its end.
    fn escape(&mut self, at: usize, introducer: char) -> usize {
        let after = at + introducer.len_utf8();
        let rest = &self.text[after..];
        let (kind, body) = match introducer {
            '\u{1b}' => match rest.chars().next() {
                Some(c) => (c, after + c.len_utf8()),
                None => return self.note("control-character", at..after),
            },
            // The eight-bit forms of the same introducers.
            '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                (char::from(introducer as u8 - 0x40), after)
            }
            _ => return self.note("control-character", at..after),
        };
        let sequence = &self.text[body..];
        match kind {
            '[' => {
                let length = sequence.bytes().take_while(|byte| matches!(byte, b' '..=b'?')).count();
                let last = sequence[length..].chars().next();
                let end = body + length + last.filter(|c| matches!(c, '@'..='~')).map_or(0, char::len_utf8);
                // Concealed text (8) is a colour that hides.
                let hides = sequence[..length].split(';').any(|part| part == "8");
                let rule = match last {
                    Some('m') if hides => "concealed-text",
                    Some('m') => "terminal-colour",
                    _ => "terminal-control",
                };
                self.note(rule, at..end)
            }
            ']' | 'P' | 'X' | '^' | '_' => self.note("terminal-control", at..body + string(sequence)),
            ' '..='~' => self.note("terminal-control", at..body),
            _ => self.note("control-character", at..after),
        }
    }

    /// A backspace takes the character before it along, as a terminal shows it.
    fn overprint(&mut self, at: usize) -> usize {
        let previous = self.text[self.copied..at].chars().next_back();
        let start = match previous {
            Some(c) if c != '\n' => at - c.len_utf8(),
            _ => at,
        };
        self.note("overprint", start..at + 1)
    }

    /// Tag characters: fine in the flags of England, Scotland and Wales, hidden text elsewhere.
    fn tags(&mut self, at: usize) -> usize {
        let length: usize = self.text[at..]
            .chars()
            .take_while(|c| matches!(c, '\u{e0000}'..='\u{e007f}'))
            .map(char::len_utf8)
            .sum();
        let span = at..at + length;
        let tags = &self.text[span.clone()];
        let flag = self.text[..at].ends_with('\u{1f3f4}')
            && tags.ends_with('\u{e007f}')
            && tags.chars().count() <= 7;
        if flag {
            return span.end;
        }
        let hidden =
            tags.chars().filter_map(|c| char::from_u32(c as u32 - 0xe0000)).filter(|c| !c.is_control());
        self.cleaned.hidden.push((span.clone(), hidden.collect(), "tag characters"));
        self.note("tag-characters", span)
    }

    /// Characters without a glyph: fine alone between letters of scripts that join and in emoji.
    fn invisible(&mut self, at: usize) -> usize {
        let run: Vec<char> = self.text[at..].chars().take_while(|c| is_invisible(*c)).collect();
        let end = at + run.iter().map(|c| c.len_utf8()).sum::<usize>();
        let coded = run.iter().filter(|c| matches!(c, '\u{e0100}'..='\u{e01ef}')).count();
        if run.len() >= LONG_RUN || coded >= 4 {
            if let Some((text, how)) = hidden::spelt(&run) {
                self.cleaned.hidden.push((at..end, text, how));
            }
            return self.note("invisible-run", at..end);
        }
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inside = letter(self.text[..at].chars().next_back()) && letter(self.text[end..].chars().next());
        if inside && !run.iter().all(|c| *c == '\u{ad}') {
            return self.note("zero-width", at..end);
        }
        if run.iter().all(|c| matches!(c, '\u{feff}' | '\u{200b}' | '\u{2060}')) {
            return self.cut(at..end);
        }
        end
    }
}

/// The length of the string of a control sequence with its end. Without an end before the next control
/// sequence only the introducer goes: the text after it must be seen.
fn string(sequence: &str) -> usize {
    let control = |c: char| matches!(c, '\u{7}' | '\u{1b}' | '\u{80}'..='\u{9f}');
    let Some(end) = sequence.find(control) else { return 0 };
    ["\u{7}", "\u{9c}", "\u{1b}\\"]
        .into_iter()
        .find(|closing| sequence[end..].starts_with(closing))
        .map_or(0, |closing| end + closing.len())
}

/// Format characters and fillers that take no space.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0100}'..='\u{e01ef}')
}
