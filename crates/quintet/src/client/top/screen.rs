//! The terminal while it is ours.

use std::io::{self, Stdout};

use crossterm::{
    cursor::Show,
    event::{Event, KeyCode, KeyModifiers},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};
use tokio::signal::unix::{SignalKind, signal};

use super::view::{self, State};

/// The alternate screen, in raw mode. The terminal is as before when this is dropped, also by an error or a panic.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    _restore: Restore,
}

struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // Whatever fails here, there is nothing else to try.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        enable_raw_mode()?;
        let restore = Restore;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(io::stdout()))?, _restore: restore })
    }

    /// Shows a state.
    pub(super) fn draw(&mut self, address: &str, state: &State) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(frame, address, state)).map(drop)
    }
}

/// Whether this asks to quit: q, Esc or Ctrl-C, which raw mode makes a key.
pub(super) fn quits(event: &Event) -> bool {
    event.as_key_press_event().is_some_and(|key| match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    })
}

/// Waits until another process asks this one to end.
pub(super) async fn asked_to_end() -> io::Result<()> {
    let (mut terminate, mut interrupt, mut hangup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => (), _ = hangup.recv() => () }
    Ok(())
}
