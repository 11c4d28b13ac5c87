//! The editor on a real terminal. Raw mode is on only while a line is read, and is taken back on
//! every way out: return, error, panic and a signal that ends the program. The line is drawn where the
//! caller says, never on standard output, which holds replies only.

use std::io;
use std::time::Duration;

use crossterm::cursor::MoveToColumn;
use crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, EventStream, KeyCode, KeyEvent, KeyModifiers,
};
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{execute, queue};
use futures_util::StreamExt as _;
use unicode_width::UnicodeWidthStr as _;

use super::{Editor, Entry, Step};

/// How long after a paste a key still counts as part of it. No hand is quicker; a paste that forges
/// its own end (`ESC [ 201 ~`) in order to go on as typing is slower than nothing.
const BREATH: Duration = Duration::from_millis(40);

/// Keys and pastes that are dropped before a line; more than a terminal's buffer holds.
const MAX_TYPED_AHEAD: usize = 65_536;

/// What a person did at the prompt.
#[derive(Debug)]
pub enum Line {
    /// Entered a line.
    Entered(Entry),
    /// Threw the line away.
    Cancelled,
    /// Ended the conversation.
    Ended,
}

/// Reads one line. What was typed before the prompt stood there is dropped: it was not an answer
/// to it, and outside raw mode a paste looks like typing.
pub async fn read_line(editor: &mut Editor, out: impl io::Write, prompt: &str) -> io::Result<Line> {
    let mut raw = Raw::enter(out)?;
    let out = &mut raw.0;
    drain()?;
    draw(editor, out, prompt)?;
    let mut events = EventStream::new();
    let mut ended = std::pin::pin!(end_signal());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut ended => None,
        };
        let step = match event {
            None => Step::Ended,
            Some(Err(error)) => return Err(error),
            Some(Ok(Event::Key(key))) => editor.key(key),
            Some(Ok(Event::Paste(text))) => {
                editor.paste(&text);
                rest_of_paste(editor, &mut events).await?;
                Step::Going
            }
            Some(Ok(_)) => Step::Going,
        };
        match step {
            Step::Going => draw(editor, out, prompt)?,
            Step::Redraw => {
                execute!(out, Clear(ClearType::All), crossterm::cursor::MoveTo(0, 0))?;
                draw(editor, out, prompt)?;
            }
            Step::Entered(entry) => return leave(out, Line::Entered(entry)),
            Step::Cancelled => return leave(out, Line::Cancelled),
            Step::Ended => return leave(out, Line::Ended),
        }
    }
}

/// Drops what waits to be read, as much as a person or a paste can have put there.
fn drain() -> io::Result<()> {
    for _ in 0..MAX_TYPED_AHEAD {
        if !event::poll(Duration::ZERO)? {
            break;
        }
        event::read()?;
    }
    Ok(())
}

/// Reads a value that is not shown, with all of its lines where it is pasted: none of them stays for whoever reads the
/// terminal next. `None` after Ctrl-C, Ctrl-D on nothing, or a signal that ends the program.
pub async fn read_hidden(out: impl io::Write, prompt: &str) -> io::Result<Option<String>> {
    let mut raw = Raw::enter(out)?;
    execute!(raw.0, Print(prompt))?;
    let mut events = EventStream::new();
    let mut ended = std::pin::pin!(end_signal());
    let mut value = String::new();
    let read = loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut ended => None,
        };
        match event.transpose()? {
            None => break None,
            Some(Event::Paste(text)) => value.push_str(&text.replace('\r', "\n")),
            Some(Event::Key(key)) if key.modifiers.contains(KeyModifiers::CONTROL) => match key.code {
                KeyCode::Char('c') => break None,
                KeyCode::Char('d') if value.is_empty() => break None,
                KeyCode::Char('u') => value.clear(),
                _ => {}
            },
            Some(Event::Key(KeyEvent { code: KeyCode::Char(c), .. })) => value.push(c),
            Some(Event::Key(KeyEvent { code: KeyCode::Backspace, .. })) => _ = value.pop(),
            Some(Event::Key(KeyEvent { code: KeyCode::Enter, .. })) => {
                // On a terminal without bracketed paste the other lines of one are keys.
                value.push_str(&rest_of_lines(&mut events).await?);
                break Some(value);
            }
            Some(_) => {}
        }
    };
    execute!(raw.0, Print("\r\n"))?;
    Ok(read)
}

/// What comes in the same breath after the end of a line. Empty where nothing but ends of lines comes.
async fn rest_of_lines(events: &mut EventStream) -> io::Result<String> {
    let mut rest = String::from('\n');
    while let Ok(Some(event)) = tokio::time::timeout(BREATH, events.next()).await {
        match event? {
            Event::Paste(text) => rest.push_str(&text),
            Event::Key(KeyEvent { code: KeyCode::Char(c), .. }) => rest.push(c),
            Event::Key(KeyEvent { code: KeyCode::Enter, .. }) => rest.push('\n'),
            _ => {}
        }
    }
    Ok(if rest.trim().is_empty() { String::new() } else { rest })
}

/// Adds to the paste whatever comes in the same breath.
async fn rest_of_paste(editor: &mut Editor, events: &mut EventStream) -> io::Result<()> {
    while let Ok(Some(event)) = tokio::time::timeout(BREATH, events.next()).await {
        match event? {
            Event::Paste(text) => editor.extend_paste(&text),
            Event::Key(KeyEvent { code: KeyCode::Char(c), .. }) => {
                editor.extend_paste(c.encode_utf8(&mut [0; 4]))
            }
            Event::Key(KeyEvent { code: KeyCode::Enter, .. }) => editor.extend_paste("\n"),
            Event::Key(KeyEvent { code: KeyCode::Tab, .. }) => editor.extend_paste("\t"),
            _ => {}
        }
    }
    Ok(())
}

/// Leaves the line as it stands and goes to the next row.
fn leave(out: &mut impl io::Write, line: Line) -> io::Result<Line> {
    execute!(out, Print("\r\n"))?;
    Ok(line)
}

fn draw(editor: &Editor, out: &mut impl io::Write, prompt: &str) -> io::Result<()> {
    let (columns, _) = terminal::size().unwrap_or((80, 24));
    let view = editor.view(usize::from(columns).saturating_sub(prompt.width()));
    let column = u16::try_from(prompt.width() + view.cursor).unwrap_or(columns);
    queue!(
        out,
        MoveToColumn(0),
        Clear(ClearType::UntilNewLine),
        Print(prompt),
        Print(&view.text),
        MoveToColumn(column)
    )?;
    out.flush()
}

/// Resolves when the process is asked to end.
#[cfg(unix)]
pub async fn end_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
}

/// Resolves when the process is asked to end, which no signal does here.
#[cfg(not(unix))]
pub async fn end_signal() {
    std::future::pending().await
}

/// Raw mode with bracketed paste, for as long as it lives, and where the line is drawn.
struct Raw<W: io::Write>(W);

impl<W: io::Write> Raw<W> {
    fn enter(out: W) -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let mut raw = Self(out);
        execute!(raw.0, EnableBracketedPaste)?;
        Ok(raw)
    }
}

impl<W: io::Write> Drop for Raw<W> {
    fn drop(&mut self) {
        // There is nobody left to tell when even this fails.
        let _ = execute!(self.0, DisableBracketedPaste);
        let _ = terminal::disable_raw_mode();
    }
}
