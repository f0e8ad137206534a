//! Takes the uncompressed kernel out of a bzImage, which saves the guest from doing it.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    thread,
};

use super::elf;

/// The note by which QEMU knows where to enter an uncompressed kernel (PVH).
const PVH_NOTE: (&str, usize) = ("Xen", 18);

/// How each compression begins, and the command that undoes it.
const COMPRESSIONS: &[(&[u8], &[&str])] = &[
    (b"\x28\xb5\x2f\xfd", &["zstd", "-dc"]),
    (b"\x02\x21\x4c\x18", &["lz4", "-dc"]),
    (b"\xfd7zXZ\0", &["xz", "-dc", "--single-stream"]),
    (b"\x1f\x8b\x08", &["gzip", "-dc"]),
];

/// The `vmlinux` inside of a bzImage, if QEMU can boot it and its decompressor is installed.
pub fn vmlinux(image: &[u8]) -> Option<Vec<u8>> {
    let payload = payload(image)?;
    let (_, command) = COMPRESSIONS
        .iter()
        .find(|(magic, _)| payload.starts_with(magic))?;
    let vmlinux = filter(command, payload)?;
    elf::has_note(&vmlinux, PVH_NOTE.0, PVH_NOTE.1).then_some(vmlinux)
}

/// The compressed kernel, found by the boot protocol's header (Documentation/arch/x86/boot.rst).
fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |offset: usize| -> Option<usize> {
        let bytes = image.get(offset..offset + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    // Zero means four sectors, for historical reasons.
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the uncompressed size, added by the kernel's build.
    image.get(start..start + word(0x24c)?.checked_sub(4)?)
}

fn filter(command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let (program, arguments) = command.split_first()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let output = thread::scope(|scope| {
        // An early end of the child shows in its output, which has no PVH note then.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    });
    // gzip calls the bytes after its end an error; what counts is what came out.
    Some(output.ok()?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(setup_sectors: u8, payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x250];
        image[0x1f1] = setup_sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
        image.resize((usize::from(setup_sectors.max(1)) + 1) * 512 + 16, 0);
        if setup_sectors == 0 {
            image.resize(5 * 512 + 16, 0);
        }
        image.extend(payload);
        image.extend([1, 2, 3, 4]);
        image
    }

    #[test]
    fn finds_the_payload() {
        assert_eq!(payload(&image(1, b"kernel")), Some(b"kernel".as_slice()));
        assert_eq!(payload(&image(0, b"kernel")), Some(b"kernel".as_slice()));
    }

    #[test]
    fn rubbish_has_no_payload() {
        assert_eq!(payload(b"MZ"), None);
        assert_eq!(payload(&vec![0; 4096]), None);
    }
}
