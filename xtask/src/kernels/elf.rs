//! The two questions we ask of ELF files: what is in a section, and is there a certain note.
//! 64-bit little-endian files only; anything else has no answer.

/// The contents of the section called `name`.
pub fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    check(file)?;
    let table = read(file, 0x28, 8)?;
    let size = read(file, 0x3a, 2)?;
    let count = read(file, 0x3c, 2)?;
    let names = read(file, 0x3e, 2)?;
    let header = |index: usize| file.get(table + index * size..);
    let contents = |header: &[u8]| -> Option<&'a [u8]> {
        let start = read(header, 0x18, 8)?;
        file.get(start..start.checked_add(read(header, 0x20, 8)?)?)
    };
    let names = contents(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        let text = names.get(read(header, 0, 4)?..)?;
        (text.strip_prefix(name.as_bytes())?.first() == Some(&0)).then(|| contents(header))?
    })
}

/// True when a program header's notes have one of this `owner` and `kind`.
pub fn has_note(file: &[u8], owner: &str, kind: usize) -> bool {
    notes(file).is_some_and(|segments| {
        segments
            .into_iter()
            .any(|notes| find_note(notes, owner, kind).is_some())
    })
}

fn notes(file: &[u8]) -> Option<Vec<&[u8]>> {
    const PT_NOTE: usize = 4;

    check(file)?;
    let table = read(file, 0x20, 8)?;
    let size = read(file, 0x36, 2)?;
    let count = read(file, 0x38, 2)?;
    Some(
        (0..count)
            .filter_map(|index| {
                let header = file.get(table + index * size..)?;
                let start = read(header, 0x08, 8)?;
                let length = read(header, 0x20, 8)?;
                (read(header, 0, 4)? == PT_NOTE).then(|| file.get(start..start + length))?
            })
            .collect(),
    )
}

fn find_note(mut notes: &[u8], owner: &str, kind: usize) -> Option<()> {
    loop {
        let owner_length = read(notes, 0, 4)?;
        let length = read(notes, 4, 4)?;
        let name = notes.get(12..12 + owner_length)?;
        if read(notes, 8, 4)? == kind && name.strip_suffix(b"\0") == Some(owner.as_bytes()) {
            return Some(());
        }
        let next = 12 + owner_length.next_multiple_of(4) + length.next_multiple_of(4);
        notes = notes.get(next..)?;
    }
}

fn check(file: &[u8]) -> Option<()> {
    // Magic, 64 bits, little-endian.
    file.starts_with(b"\x7fELF\x02\x01").then_some(())
}

/// A little-endian number of `size` bytes.
fn read(bytes: &[u8], offset: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    let mut number = [0; 8];
    number[..size].copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_section_of_this_program() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let interpreter = section(&file, ".interp").unwrap();
        assert!(interpreter.starts_with(b"/lib"));
        assert!(section(&file, ".no-such-section").is_none());
    }

    #[test]
    fn finds_a_note_of_this_program() {
        const NT_GNU_BUILD_ID: usize = 3;
        let file = std::fs::read("/proc/self/exe").unwrap();
        assert!(has_note(&file, "GNU", NT_GNU_BUILD_ID));
        assert!(!has_note(&file, "Xen", 18));
    }

    #[test]
    fn rubbish_has_nothing() {
        assert!(section(b"\x7fELF\x02\x01", ".text").is_none());
        assert!(!has_note(b"#!/bin/sh\n", "GNU", 3));
    }
}
