//! What the host and the guest's init say to each other. Both programs include this file.
//!
//! The host hands over one [`Job`] as a file in the initramfs. The guest answers with frames on
//! one virtio-serial port: everything in one stream, so that the exit frame cannot overtake the
//! output that was written before it.

#![allow(dead_code, reason = "each side uses its half")]

use std::io::{self, Read, Write};

/// The name of the guest's virtio-serial port.
pub const PORT: &str = "injector.frames";

/// The tag of the virtiofs share with the host's files.
pub const SHARE: &str = "hostroot";

/// Where in the initramfs the job is.
pub const JOB_PATH: &str = "job";

/// Where in the initramfs the modules are.
pub const MODULES_PATH: &str = "modules";

/// Frames longer than this are nobody's: the stream is broken.
const MAX_FRAME: u32 = 1 << 20;

/// What the guest is to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The directory to run in.
    pub cwd: String,
    /// `NAME=VALUE` for the command; it gets no other variables.
    pub env: Vec<String>,
    /// The command and its arguments.
    pub argv: Vec<String>,
}

impl Job {
    /// The job as a file: strings that end with NUL, which none of them can contain.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tagged = [('d', std::slice::from_ref(&self.cwd))]
            .into_iter()
            .chain([('e', self.env.as_slice()), ('a', self.argv.as_slice())]);
        for (tag, values) in tagged {
            for value in values {
                bytes.extend(format!("{tag}{value}\0").bytes());
            }
        }
        bytes
    }

    /// Reads what [`Job::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut job = Self::default();
        for field in std::str::from_utf8(bytes).ok()?.split_terminator('\0') {
            let mut rest = field.chars();
            match (rest.next()?, rest.as_str().to_owned()) {
                ('d', value) => job.cwd = value,
                ('e', value) => job.env.push(value),
                ('a', value) => job.argv.push(value),
                _ => return None,
            }
        }
        Some(job)
    }
}

/// One message from the guest.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// The command is about to start.
    Started,
    /// The command wrote to its stdout.
    Stdout(Vec<u8>),
    /// The command wrote to its stderr.
    Stderr(Vec<u8>),
    /// Something is missing in the guest, and the command runs all the same.
    Warning(String),
    /// The command could not be run.
    Failed(String),
    /// The command ended; signal N counts as 128 + N.
    Exited(i32),
}

impl Frame {
    /// Writes the frame and flushes.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let code;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Started => (0, &[]),
            Self::Stdout(bytes) => (1, bytes),
            Self::Stderr(bytes) => (2, bytes),
            Self::Warning(text) => (3, text.as_bytes()),
            Self::Failed(text) => (4, text.as_bytes()),
            Self::Exited(status) => {
                code = status.to_le_bytes();
                (5, &code)
            }
        };
        let mut frame = vec![kind];
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend(payload);
        to.write_all(&frame)?;
        to.flush()
    }

    /// Reads one frame; the end of the stream is an error like any other.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 5];
        from.read_exact(&mut header)?;
        let [kind, length @ ..] = header;
        let length = u32::from_le_bytes(length);
        if length > MAX_FRAME {
            return Err(io::Error::other("the guest sent an impossible frame"));
        }
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        match kind {
            0 => Ok(Self::Started),
            1 => Ok(Self::Stdout(payload)),
            2 => Ok(Self::Stderr(payload)),
            3 => Ok(Self::Warning(text(&payload))),
            4 => Ok(Self::Failed(text(&payload))),
            5 if payload.len() == 4 => {
                let mut code = [0; 4];
                code.copy_from_slice(&payload);
                Ok(Self::Exited(i32::from_le_bytes(code)))
            }
            _ => Err(io::Error::other("the guest sent a frame of unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_survive_the_way() {
        let job = Job {
            cwd: "/a b".to_owned(),
            env: vec!["PATH=/bin".to_owned(), "EMPTY=".to_owned()],
            argv: vec!["echo".to_owned(), String::new(), "ä\n".to_owned()],
        };
        assert_eq!(Job::decode(&job.encode()), Some(job));
        assert_eq!(Job::decode(b"x?\0"), None);
    }

    #[test]
    fn frames_survive_the_way() {
        let frames = [
            Frame::Started,
            Frame::Stdout(b"out\0\xff".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Warning("w".to_owned()),
            Frame::Failed("f".to_owned()),
            Frame::Exited(-1),
        ];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write(&mut stream).unwrap();
        }
        let mut stream = stream.as_slice();
        for frame in &frames {
            assert_eq!(&Frame::read(&mut stream).unwrap(), frame);
        }
        assert!(Frame::read(&mut stream).is_err());
    }

    #[test]
    fn broken_streams_are_errors() {
        assert!(Frame::read(&mut [1, 255, 255, 255, 255].as_slice()).is_err());
        assert!(Frame::read(&mut [9, 0, 0, 0, 0].as_slice()).is_err());
    }
}
