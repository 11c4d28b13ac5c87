//! One line of input, edited in place, in which a paste stays told apart from typing.
//!
//! [`Editor`] is a state machine without a terminal: keys and pastes go in, a picture of the line
//! comes out, and at the end an [`Entry`] that knows which characters were typed. A paste is one
//! cell of the line: it is shown as `[pasted N bytes]`, moves and is deleted as a whole, and comes
//! back from the history as what it was. [`tty`] connects the machine to a real terminal.

pub mod tty;

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Lines that the arrow keys bring back.
const MAX_HISTORY: usize = 200;

/// A line that was entered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// What was typed, with `[pasted text N]` where paste number N stands.
    pub typed: String,
    /// The pastes, in their order in the line.
    pub pasted: Vec<String>,
}

impl Entry {
    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.pasted.is_empty() && self.typed.trim().is_empty()
    }

    /// True for a typed yes. A paste never says yes, whatever it holds.
    pub fn is_yes(&self) -> bool {
        self.pasted.is_empty() && matches!(self.typed.trim(), "y" | "Y" | "yes")
    }
}

/// What a key led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The line goes on.
    Going,
    /// Return: this is the line.
    Entered(Entry),
    /// Ctrl-C: the line is thrown away.
    Cancelled,
    /// Ctrl-D on an empty line: there is no more input.
    Ended,
    /// Ctrl-L: the screen should be drawn anew.
    Redraw,
}

/// A picture of the line that fits in one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The visible part, without controls.
    pub text: String,
    /// The column of the cursor in it.
    pub cursor: usize,
}

/// The line, the cursor and the history.
#[derive(Default)]
pub struct Editor {
    cells: Vec<Cell>,
    /// Between which cells the next one goes; from 0 to the number of cells.
    cursor: usize,
    history: Vec<Vec<Cell>>,
    /// Which entry of the history is shown, and the line that it covers.
    recalled: Option<(usize, Vec<Cell>)>,
}

/// One place of the line.
#[derive(Clone, PartialEq, Debug)]
enum Cell {
    Typed(char),
    Pasted(Arc<str>),
}

impl Editor {
    /// An empty line and no history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a key of the keyboard.
    pub fn key(&mut self, key: KeyEvent) -> Step {
        if key.kind == KeyEventKind::Release {
            return Step::Going;
        }
        let held = key.modifiers.difference(KeyModifiers::SHIFT);
        match (held, key.code) {
            (KeyModifiers::NONE, KeyCode::Enter) => return Step::Entered(self.enter()),
            (KeyModifiers::NONE, code) => self.plain(code),
            (KeyModifiers::CONTROL, KeyCode::Char(c)) => return self.control(c.to_ascii_lowercase()),
            (KeyModifiers::CONTROL | KeyModifiers::ALT, KeyCode::Left) => self.cursor = self.word_start(),
            (KeyModifiers::CONTROL | KeyModifiers::ALT, KeyCode::Right) => self.cursor = self.word_end(),
            (KeyModifiers::ALT, KeyCode::Backspace) => self.delete_to(self.word_start()),
            (KeyModifiers::ALT, KeyCode::Char('b')) => self.cursor = self.word_start(),
            (KeyModifiers::ALT, KeyCode::Char('f')) => self.cursor = self.word_end(),
            // Some layouts reach characters with AltGr, which terminals report as both.
            (held, KeyCode::Char(c)) if held == KeyModifiers::CONTROL | KeyModifiers::ALT => self.insert(c),
            _ => {}
        }
        Step::Going
    }

    /// Takes text that arrived as a paste. Line breaks become line feeds.
    pub fn paste(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        if !text.is_empty() {
            self.put(Cell::Pasted(text.into()));
        }
    }

    /// Adds text to the paste before the cursor; what arrives in one breath with a paste is part of it.
    pub fn extend_paste(&mut self, text: &str) {
        match self.cursor.checked_sub(1).and_then(|before| self.cells.get_mut(before)) {
            Some(Cell::Pasted(pasted)) => *pasted = format!("{pasted}{text}").into(),
            _ => self.paste(text),
        }
    }

    /// The part of the line around the cursor that fits in `columns`.
    pub fn view(&self, columns: usize) -> View {
        let shown: Vec<String> = self.cells.iter().map(Cell::shown).collect();
        let widths: Vec<usize> = shown.iter().map(|text| text.width()).collect();
        let room = columns.saturating_sub(1);
        let mut first = self.cursor;
        let mut cursor = 0;
        while first > 0 && cursor + widths[first - 1] <= room {
            first -= 1;
            cursor += widths[first];
        }
        let mut end = self.cursor;
        let mut used = cursor;
        while end < shown.len() && used + widths[end] <= room {
            used += widths[end];
            end += 1;
        }
        View { text: shown[first..end].concat(), cursor }
    }

    fn plain(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(c) => self.insert(c),
            KeyCode::Tab => self.insert(' '),
            KeyCode::Backspace => self.delete_to(self.left()),
            KeyCode::Delete => self.delete_to(self.right()),
            KeyCode::Left => self.cursor = self.left(),
            KeyCode::Right => self.cursor = self.right(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.cells.len(),
            KeyCode::Up => self.older(),
            KeyCode::Down => self.newer(),
            _ => {}
        }
    }

    fn control(&mut self, letter: char) -> Step {
        match letter {
            'a' => self.cursor = 0,
            'b' => self.cursor = self.left(),
            'c' => {
                self.clear();
                return Step::Cancelled;
            }
            'd' if self.cells.is_empty() => return Step::Ended,
            'd' => self.delete_to(self.right()),
            'e' => self.cursor = self.cells.len(),
            'f' => self.cursor = self.right(),
            'h' => self.delete_to(self.left()),
            'j' | 'm' => return Step::Entered(self.enter()),
            'k' => self.delete_to(self.cells.len()),
            'l' => return Step::Redraw,
            'n' => self.newer(),
            'p' => self.older(),
            'u' => self.delete_to(0),
            'w' => self.delete_to(self.word_start()),
            _ => {}
        }
        Step::Going
    }

    fn insert(&mut self, c: char) {
        if !c.is_control() {
            self.put(Cell::Typed(c));
        }
    }

    fn put(&mut self, cell: Cell) {
        self.cells.insert(self.cursor, cell);
        self.cursor += 1;
    }

    /// Deletes everything between the cursor and another place.
    fn delete_to(&mut self, other: usize) {
        let (from, to) = (self.cursor.min(other), self.cursor.max(other));
        self.cells.drain(from..to);
        self.cursor = from;
    }

    /// One step to the left; a mark without width goes with the character that it stands on.
    fn left(&self) -> usize {
        let mut at = self.cursor.saturating_sub(1);
        while at > 0 && self.cells[at].is_mark() {
            at -= 1;
        }
        at
    }

    fn right(&self) -> usize {
        let mut at = (self.cursor + 1).min(self.cells.len());
        while self.cells.get(at).is_some_and(Cell::is_mark) {
            at += 1;
        }
        at
    }

    fn word_start(&self) -> usize {
        let before = &self.cells[..self.cursor];
        let in_word = before.iter().rposition(|cell| !cell.is_space()).map_or(0, |at| at + 1);
        before[..in_word].iter().rposition(Cell::is_space).map_or(0, |at| at + 1)
    }

    fn word_end(&self) -> usize {
        let after = &self.cells[self.cursor..];
        let in_word = after.iter().position(|cell| !cell.is_space()).unwrap_or(after.len());
        let word = after[in_word..].iter().position(Cell::is_space).unwrap_or(after.len() - in_word);
        self.cursor + in_word + word
    }

    fn older(&mut self) {
        let (index, covered) = match self.recalled.take() {
            Some((0, covered)) => (0, covered),
            Some((index, covered)) => (index - 1, covered),
            None if self.history.is_empty() => return,
            None => (self.history.len() - 1, std::mem::take(&mut self.cells)),
        };
        self.show(self.history[index].clone());
        self.recalled = Some((index, covered));
    }

    fn newer(&mut self) {
        match self.recalled.take() {
            None => {}
            Some((index, covered)) if index + 1 == self.history.len() => self.show(covered),
            Some((index, covered)) => {
                self.show(self.history[index + 1].clone());
                self.recalled = Some((index + 1, covered));
            }
        }
    }

    fn show(&mut self, cells: Vec<Cell>) {
        self.cursor = cells.len();
        self.cells = cells;
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.cursor = 0;
        self.recalled = None;
    }

    fn enter(&mut self) -> Entry {
        let mut entry = Entry::default();
        for cell in &self.cells {
            match cell {
                Cell::Typed(c) => entry.typed.push(*c),
                Cell::Pasted(text) => {
                    entry.pasted.push(text.to_string());
                    entry.typed.push_str(&format!("[pasted text {}]", entry.pasted.len()));
                }
            }
        }
        if !entry.is_empty() && self.history.last() != Some(&self.cells) {
            self.history.push(self.cells.clone());
            if self.history.len() > MAX_HISTORY {
                self.history.remove(0);
            }
        }
        self.clear();
        entry
    }
}

impl Cell {
    /// What stands for it on the screen. A paste is never echoed, and neither is a character that
    /// would turn the direction of the line.
    fn shown(&self) -> String {
        match self {
            Self::Pasted(text) => format!("[pasted {} bytes]", text.len()),
            Self::Typed('\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}') => {
                '\u{fffd}'.to_string()
            }
            Self::Typed(c) => c.to_string(),
        }
    }

    fn is_mark(&self) -> bool {
        matches!(self, Self::Typed(c) if c.width() == Some(0))
    }

    fn is_space(&self) -> bool {
        matches!(self, Self::Typed(c) if c.is_whitespace())
    }
}

#[cfg(test)]
mod tests;
