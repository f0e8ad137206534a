//! The control socket: one line per request, one line per answer.
//!
//! ```text
//! probability 30%        ok: probability 30%
//! delay 0..200ms         ok: delay 0..200ms
//! mode shadow            ok: mode shadow
//! pause                  ok: paused
//! resume                 ok: resumed
//! status                 ok: {"type":"status",…}
//! stop                   ok: stopping
//! ```

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use injector_ebpf::Mode;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::plan::{Delay, Probability};

/// What a line accepts.
pub const GRAMMAR: &str =
    "probability P | delay DELAY | mode shadow|enforce | pause | resume | status | stop";

/// Longest line that is read.
const MAX_LINE: u64 = 4096;

/// A change that a person asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A new probability for the rule.
    Probability(Probability),
    /// A new delay for the rule.
    Delay(Delay),
    /// Shadow or enforce.
    Mode(Mode),
    /// Every send is let through until [`Self::Resume`].
    Pause,
    /// The end of a pause.
    Resume,
    /// The counters.
    Status,
    /// The end of the run.
    Stop,
}

impl std::str::FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = rest.trim();
        match (word, rest) {
            ("probability", value) => value
                .parse()
                .map(Self::Probability)
                .map_err(|error: crate::plan::Malformed| error.to_string()),
            ("delay", value) => value
                .parse()
                .map(Self::Delay)
                .map_err(|error: crate::plan::Malformed| error.to_string()),
            ("mode", "shadow") => Ok(Self::Mode(Mode::Shadow)),
            ("mode", "enforce") => Ok(Self::Mode(Mode::Enforce)),
            ("pause", "") => Ok(Self::Pause),
            ("resume", "") => Ok(Self::Resume),
            ("status", "") => Ok(Self::Status),
            ("stop", "") => Ok(Self::Stop),
            _ => Err(format!(
                "'{}' is no request; accepted: {GRAMMAR}",
                line.trim()
            )),
        }
    }
}

/// A request with the way back to who asked.
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// User id of who asks, for the audit line.
    pub uid: u32,
    /// Process id of who asks.
    pub pid: Option<i32>,
    /// Where the answer goes: the text after `ok: ` or `error: `.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// A listening socket that is removed when the run ends.
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Listens at `path` and sends requests to `requests`. Only root and the
    /// user that runs injector are answered.
    pub fn listen(path: &Path, requests: mpsc::Sender<Asked>) -> Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen on the control socket {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, requests.clone()));
            }
        });
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A socket that nobody listens on any more is in the way; anything else there
/// is not ours to remove.
fn remove_stale(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        bail!(
            "{} exists and is no socket; choose another path for --control",
            path.display()
        );
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another injector listens on {}; choose another path for --control",
            path.display()
        );
    }
    Ok(fs::remove_file(path)?)
}

async fn serve(stream: UnixStream, requests: mpsc::Sender<Asked>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(reader, MAX_LINE)).lines();
    while let Some(line) = lines.next_line().await? {
        if line.trim().is_empty() {
            continue;
        }
        let answer = match line.parse() {
            Ok(request) => {
                let (answer, answered) = oneshot::channel();
                let asked = Asked {
                    request,
                    uid: peer.uid(),
                    pid: peer.pid(),
                    answer,
                };
                if requests.send(asked).await.is_err() {
                    break;
                }
                answered
                    .await
                    .unwrap_or_else(|_| Err("the run is ending".to_owned()))
            }
            Err(reason) => Err(reason),
        };
        let text = match answer {
            Ok(text) => format!("ok: {text}\n"),
            Err(reason) => format!("error: {reason}\n"),
        };
        writer.write_all(text.as_bytes()).await?;
        lines.get_mut().get_mut().set_limit(MAX_LINE);
    }
    Ok(())
}

/// Sends one request line to a running injector and returns its answer.
pub fn ask(path: &Path, line: &str) -> Result<String> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path).with_context(|| {
        format!(
            "no injector listens on {}; start one with --control {0}",
            path.display()
        )
    })?;
    writeln!(stream, "{line}").context("cannot send the request")?;
    let mut answer = String::new();
    io::BufReader::new(stream)
        .read_line(&mut answer)
        .context("no answer")?;
    match answer.trim_end().split_once(": ") {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", reason)) => bail!("{reason}"),
        _ => bail!("the injector closed the connection; are you its user or root?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_parsed_or_explained() {
        assert_eq!(
            "probability 30%".parse(),
            Ok(Request::Probability("30%".parse().unwrap()))
        );
        assert_eq!(" mode  shadow ".parse(), Ok(Request::Mode(Mode::Shadow)));
        assert_eq!("stop".parse(), Ok(Request::Stop));
        let error = "explode".parse::<Request>().unwrap_err();
        assert!(error.contains(GRAMMAR), "{error}");
        assert!(
            "delay soon"
                .parse::<Request>()
                .unwrap_err()
                .contains("soon")
        );
    }
}
