//! A terminal with injector in it: a real one to injector, and a screen that can be
//! read here.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use super::{eventually, programs};

/// Longer than any start, end or change takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Lines that have scrolled away and can still be read.
const SCROLLBACK: usize = 1000;

/// A terminal with a running injector. Dropping it kills it.
pub struct Terminal {
    child: Child,
    keys: File,
    line: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts injector with these arguments in a terminal of this size.
    pub fn start(arguments: &str, rows: u16, columns: u16) -> Self {
        let size = winsize(rows, columns);
        let pair = openpty(Some(&size), None).expect("a pseudo-terminal");
        let before = tcgetattr(&pair.slave).expect("the mode of a terminal");
        let end = || pair.slave.try_clone().expect("another descriptor");
        let mut command = Command::new(programs::INJECTOR);
        command
            .args(arguments.split_whitespace())
            .env("TERM", "xterm-256color")
            .stdin(end())
            .stdout(end())
            .stderr(end());
        // SAFETY: both calls may be made between fork and exec; stdin is the
        // terminal by then.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        let child = command.spawn().expect("injector itself");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            some(rows),
            some(columns),
            SCROLLBACK,
        )));
        let written = Arc::new(Mutex::new(Vec::new()));
        let master = File::from(pair.master);
        let mut output = master.try_clone().expect("another descriptor");
        let (to_screen, to_written) = (Arc::clone(&screen), Arc::clone(&written));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&to_screen).process(&bytes[..count]);
                lock(&to_written).extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            keys: master,
            line: pair.slave,
            before,
            screen,
            written,
        }
    }

    /// What is on the screen.
    pub fn contents(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub fn expect(&self, words: &str) {
        let shown = eventually(PATIENCE, || self.contents().contains(words));
        assert!(
            shown,
            "'{words}' is not on the screen:\n{}",
            self.contents()
        );
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Gives it another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        lock(&self.screen)
            .screen_mut()
            .set_size(some(rows), some(columns));
        let size = winsize(rows, columns);
        // SAFETY: the descriptor is ours, and the kernel reads one struct. It sends
        // SIGWINCH by itself.
        let result =
            unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(result, 0, "a size of a terminal");
    }

    /// Sends injector a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Waits for its end, and that the terminal is as it was: the exit code, and
    /// all that was written, escapes and all.
    #[track_caller]
    pub fn finish(mut self) -> (Option<i32>, String) {
        let ended = eventually(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "injector does not end:\n{}", self.contents());
        let status = self.child.wait().expect("its exit status");
        // What it has written last may still be on its way.
        let back = || !lock(&self.screen).screen().alternate_screen();
        assert!(
            eventually(PATIENCE, back),
            "the other screen is still shown"
        );
        assert!(!lock(&self.screen).screen().hide_cursor(), "no cursor");
        let after = tcgetattr(self.line.as_fd()).expect("the mode of a terminal");
        assert_eq!(
            after, self.before,
            "the mode of the terminal is not restored"
        );
        let done = || String::from_utf8_lossy(&lock(&self.written)).contains("ended");
        eventually(Duration::from_secs(5), done);
        let written = String::from_utf8_lossy(&lock(&self.written)).into_owned();
        (status.code(), written)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn some(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("a terminal of some size")
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
