//! Writes cpio archives in the "newc" format, which the kernel unpacks as its initramfs.

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; its parents must have been added before.
    pub fn directory(&mut self, path: &str) {
        const DIRECTORY: u32 = 0o040_755;
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file that may be executed.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        const FILE: u32 = 0o100_755;
        self.entry(path, FILE, (0, 0), contents);
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        const CHARACTER: u32 = 0o020_600;
        self.entry(path, CHARACTER, (major, minor), &[]);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let fields = [
            self.entries, // inode
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time
            contents.len() as u32,
            0, // major of the containing device
            0, // and minor
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // checksum, unused in this format
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    /// Names and contents begin on multiples of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut archive = Archive::default();
        archive.file("ab", b"hello");
        let bytes = archive.finish();
        let header = "070701\
            00000001\
            000081ed\
            00000000\
            00000000\
            00000001\
            00000000\
            00000005\
            00000000\
            00000000\
            00000000\
            00000000\
            00000003\
            00000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(
            &bytes[110..121],
            b"ab\0\0\0\0hello".as_slice().get(..11).unwrap()
        );
        assert_eq!(bytes.len() % 4, 0);
        assert!(String::from_utf8_lossy(&bytes).contains("TRAILER!!!\0"));
    }

    #[test]
    fn devices_have_their_numbers() {
        let mut archive = Archive::default();
        archive.device("console", 5, 1);
        let bytes = archive.finish();
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }
}
