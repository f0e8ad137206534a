//! The few messages of the FUSE protocol that one file of unanswered reads
//! needs (`include/uapi/linux/fuse.h`, 7.31; checked with Linux 6.1 to 7.3).
//!
//! By hand, because the crates for it answer a request in the call that
//! delivers it, or have no INTERRUPT.

/// The version that is spoken: any later kernel falls back to it.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;

/// `sizeof(struct fuse_in_header)` and `sizeof(struct fuse_out_header)`.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;

/// `FUSE_MIN_READ_BUFFER`: the kernel refuses reads into less.
pub const READ_BUFFER: usize = 8192;

/// `S_IFREG | 0444`: the root of the file system is the file itself.
pub const FILE_MODE: u32 = 0o100_444;

/// Attributes and names stay valid for a year.
const VALID_SECONDS: u64 = 365 * 86_400;

/// Opcodes.
mod opcode {
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const RELEASE: u32 = 18;
    pub const INIT: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}

/// A message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start of the conversation; the kernel's version.
    Init {
        /// Answer to this.
        unique: u64,
        /// Major version of the kernel's protocol.
        major: u32,
    },
    /// Attributes of the file.
    GetAttr {
        /// Answer to this.
        unique: u64,
    },
    /// Somebody opens the file.
    Open {
        /// Answer to this.
        unique: u64,
    },
    /// Somebody closes the file.
    Release {
        /// Answer to this.
        unique: u64,
    },
    /// A thread wants a byte.
    Read {
        /// Answer to this.
        unique: u64,
        /// Where in the file.
        offset: u64,
        /// Who: a thread id.
        tid: u32,
    },
    /// A signal has come for the thread behind an earlier request.
    Interrupt {
        /// The earlier request.
        unique: u64,
    },
    /// Nothing is expected back.
    Silent,
    /// Something that this file does not do.
    Unknown {
        /// Answer to this.
        unique: u64,
    },
}

/// Reads a message; none if it is too short for what it says it is.
pub fn parse(message: &[u8]) -> Option<Request> {
    if message.len() < IN_HEADER || word(message, 0)? as usize != message.len() {
        return None;
    }
    let unique = long(message, 8)?;
    let body = message.get(IN_HEADER..)?;
    Some(match word(message, 4)? {
        opcode::INIT => Request::Init {
            unique,
            major: word(body, 0)?,
        },
        opcode::GETATTR => Request::GetAttr { unique },
        opcode::OPEN => Request::Open { unique },
        opcode::RELEASE => Request::Release { unique },
        opcode::READ => Request::Read {
            unique,
            offset: long(body, 8)?,
            tid: word(message, 32)?,
        },
        opcode::INTERRUPT => Request::Interrupt {
            unique: long(body, 0)?,
        },
        opcode::FORGET | opcode::BATCH_FORGET => Request::Silent,
        _ => Request::Unknown { unique },
    })
}

/// An answer that is only an error number (0: done).
pub fn error(unique: u64, errno: i32) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    header[..4].copy_from_slice(&(OUT_HEADER as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&errno.wrapping_neg().to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// `struct fuse_init_out`: no read-ahead, because every page is a sleeper.
pub fn init(unique: u64) -> Vec<u8> {
    let mut body = [0u32; 16];
    body[0] = MAJOR;
    body[1] = MINOR;
    // max_write, which nobody uses but the kernel wants at least a page.
    body[5] = 4096;
    answer(unique, body.iter().flat_map(|word| word.to_ne_bytes()))
}

/// `struct fuse_attr_out` of a file of `size` bytes.
pub fn attributes(unique: u64, size: u64) -> Vec<u8> {
    let longs = [VALID_SECONDS, 0, 1, size, size / 512, 0, 0, 0];
    // Nanoseconds, mode, links, owner, device, block size, flags.
    let words = [0, 0, 0, FILE_MODE, 1, 0, 0, 0, 4096, 0];
    answer(
        unique,
        longs
            .into_iter()
            .flat_map(u64::to_ne_bytes)
            .chain(words.into_iter().flat_map(u32::to_ne_bytes)),
    )
}

/// `struct fuse_open_out` without a handle.
pub fn opened(unique: u64) -> Vec<u8> {
    answer(unique, [0; 16])
}

fn answer(unique: u64, body: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut message = error(unique, 0).to_vec();
    message.extend(body);
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(opcode: u32, unique: u64, tid: u32, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; IN_HEADER];
        message[..4].copy_from_slice(&((IN_HEADER + body.len()) as u32).to_ne_bytes());
        message[4..8].copy_from_slice(&opcode.to_ne_bytes());
        message[8..16].copy_from_slice(&unique.to_ne_bytes());
        message[32..36].copy_from_slice(&tid.to_ne_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn reads_and_interrupts_are_understood() {
        let mut body = [0; 40];
        body[8..16].copy_from_slice(&0x5000u64.to_ne_bytes());
        assert_eq!(
            parse(&message(opcode::READ, 9, 77, &body)),
            Some(Request::Read {
                unique: 9,
                offset: 0x5000,
                tid: 77
            })
        );
        assert_eq!(
            parse(&message(opcode::INTERRUPT, 10, 0, &9u64.to_ne_bytes())),
            Some(Request::Interrupt { unique: 9 })
        );
        assert_eq!(
            parse(&message(99, 11, 0, &[])),
            Some(Request::Unknown { unique: 11 })
        );
    }

    #[test]
    fn answers_have_the_sizes_that_the_kernel_checks() {
        for (message, size) in [
            (init(1), 64),
            (attributes(1, 1 << 26), 104),
            (opened(1), 16),
        ] {
            assert_eq!(message.len(), OUT_HEADER + size);
            assert_eq!(word(&message, 0), Some(message.len() as u32));
        }
        assert_eq!(error(3, libc::EIO)[4..8], (-libc::EIO).to_ne_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            opcode in 0u32..60,
        ) {
            let _ = parse(&bytes);
            if let Some(Request::Read { offset, .. }) = parse(&message(opcode, 1, 2, &bytes)) {
                prop_assert_eq!(offset, long(&bytes, 8).unwrap());
            }
        }
    }
}
