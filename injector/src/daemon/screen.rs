//! The terminal, while the UI has it: raw, on its other screen, and given back
//! whatever ends the run. What is written to stderr meanwhile would be written
//! over the UI; it is kept, shown by the UI, and written when the UI is gone.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Stdout, Write as _, stderr, stdin, stdout},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    pin::Pin,
    sync::{Mutex, Once, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use crossterm::{
    cursor::Show,
    event::{Event, EventStream},
    execute,
    terminal::{
        Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use futures_core::Stream as _;
use ratatui::{Terminal, backend::CrosstermBackend, buffer::Buffer, layout::Rect};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::{Errno, fcntl_dupfd_cloexec},
    stdio::dup2_stderr,
};

/// Where stderr went before, while a UI has the terminal.
static STDERR: Mutex<Option<OwnedFd>> = Mutex::new(None);
/// The hook for panics is set once.
static HOOK: Once = Once::new();

/// The terminal, which is given back when this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    events: EventStream,
    written: File,
    /// Bytes of it that were read.
    read: u64,
}

impl Screen {
    /// Takes the terminal that is stdin and stdout.
    pub fn enter() -> Result<Self> {
        ensure!(
            stdin().is_terminal() && stdout().is_terminal(),
            "--tui needs a terminal as its input and output; leave it out"
        );
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                next(panic);
            }));
        });
        let written = memfd_create("injector-stderr", MemfdFlags::CLOEXEC)
            .context("cannot make a file for what is written to stderr")?;
        let before = fcntl_dupfd_cloexec(stderr(), 3).context("cannot keep stderr")?;
        // From here on dropping it gives everything back.
        let screen = Self {
            terminal: Terminal::new(CrosstermBackend::new(stdout()))
                .context("cannot use the terminal")?,
            events: EventStream::new(),
            written: File::from(written),
            read: 0,
        };
        *lock() = Some(before);
        dup2_stderr(&screen.written).context("cannot redirect stderr")?;
        enable_raw_mode().context("cannot change the mode of the terminal")?;
        execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All))
            .context("cannot write to the terminal")?;
        Ok(screen)
    }

    /// Draws all of it anew; only what is different is written. A terminal that
    /// went away is a closed output.
    pub fn draw(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        let drawn = self
            .terminal
            .draw(|frame| draw(frame.area(), frame.buffer_mut()));
        drawn.map(|_| ()).map_err(closed)
    }

    /// The next key, or another size.
    pub async fn event(&mut self) -> io::Result<Event> {
        let next = std::future::poll_fn(|context| Pin::new(&mut self.events).poll_next(context));
        match next.await {
            Some(event) => event.map_err(closed),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// What was written to stderr since this was last asked.
    pub fn news(&mut self) -> io::Result<String> {
        let length = self.written.metadata()?.len();
        let mut bytes = vec![0; length.saturating_sub(self.read) as usize];
        self.written.read_exact_at(&mut bytes, self.read)?;
        self.read = length;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
        self.read = 0;
        if let Ok(written) = self.news() {
            // A closed stderr is no reason for anything.
            let _ = stderr().write_all(written.as_bytes());
        }
    }
}

/// Puts the terminal and stderr back; a second time it does nothing.
fn give_back() {
    let Some(before) = lock().take() else {
        return;
    };
    // If the terminal is gone there is nothing to put back.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = dup2_stderr(before);
}

fn lock() -> std::sync::MutexGuard<'static, Option<OwnedFd>> {
    STDERR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal that was hung up answers EIO.
fn closed(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
        io::ErrorKind::BrokenPipe.into()
    } else {
        error
    }
}
