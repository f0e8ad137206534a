//! Writes a recording while a run lasts.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use injector_ebpf::go::EventRecord;
use prost::Message as _;

use super::{
    HEADER, MARK,
    events::Packer,
    schema::{Content, Item, Named, NamedFrame},
};
use crate::{explain::maps::Symbols, go::Frame};

/// Bytes of items that are put into one chunk: what a crash can cost.
const CHUNK: usize = 256 << 10;
/// Stacks that are known to be in the file, at most 16 MB of them. With more,
/// those that come again are written again.
const NAMED: usize = 1 << 16;

/// An open recording. What cannot be written is told by the next
/// [`Self::flush`], and nothing is written from then on.
pub struct Recorder {
    file: File,
    items: Vec<u8>,
    /// What each chunk begins with, and how much of it this one began with.
    head: Vec<u8>,
    head_written: usize,
    packer: Packer,
    /// Those since the last other item.
    events: Vec<u8>,
    /// Stacks that are in the file: the program's index, and addresses.
    named: HashSet<(u32, Box<[u64]>)>,
    written: u64,
    failed: Option<io::Error>,
    is_broken: bool,
}

impl Recorder {
    /// Begins a new file; one that is there already is left alone.
    ///
    /// # Errors
    ///
    /// There is such a file, or it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create_new(path)?;
        file.write_all(&HEADER)?;
        Ok(Self {
            file,
            items: Vec::with_capacity(2 * CHUNK),
            head: Vec::new(),
            head_written: 0,
            packer: Packer::default(),
            events: Vec::with_capacity(2 * CHUNK),
            named: HashSet::new(),
            written: HEADER.len() as u64,
            failed: None,
            is_broken: false,
        })
    }

    /// Records what nothing can be understood without: every chunk begins with it.
    pub fn add_to_all(&mut self, content: Content) {
        self.put_events();
        let before = self.items.len();
        self.put(content);
        self.head.extend_from_slice(&self.items[before..]);
    }

    /// Records something; it is in the file after the next [`Self::flush`].
    pub fn add(&mut self, content: Content) {
        self.put_events();
        self.put(content);
        if self.items.len() >= CHUNK {
            self.write_chunk();
        }
    }

    /// Records an event.
    pub fn event(&mut self, event: &EventRecord) {
        self.packer.pack(event, &mut self.events);
        if self.items.len() + self.events.len() >= CHUNK {
            self.write_chunk();
        }
    }

    /// Records what a stack is, unless that is recorded already. Its frames are
    /// asked for only then.
    pub fn name(
        &mut self,
        program: u32,
        stack: &[u64],
        frames: impl FnOnce() -> Vec<Frame>,
        shows: impl Fn(&str) -> bool,
    ) {
        let key = (program, Box::from(stack));
        if self.named.contains(&key) {
            return;
        }
        if self.named.len() == NAMED {
            self.named.clear();
        }
        self.named.insert(key);
        let frames = frames();
        let frames = frames
            .iter()
            .map(|frame| NamedFrame::new(frame, shows(&frame.function)));
        self.add(Content::Named(Named {
            program,
            addresses: stack.to_vec(),
            frames: frames.collect(),
        }));
    }

    /// Hands back what was put, whose memory can be used again.
    fn put(&mut self, content: Content) -> Option<Content> {
        let item = Item {
            content: Some(content),
        };
        // A vector has always room.
        let _ = item.encode_length_delimited(&mut self.items);
        item.content
    }

    fn put_events(&mut self) {
        if !self.events.is_empty() {
            let packed = Content::Events(std::mem::take(&mut self.events));
            self.events = match self.put(packed) {
                Some(Content::Events(mut events)) => {
                    events.clear();
                    events
                }
                _ => Vec::new(),
            };
        }
    }

    fn write_chunk(&mut self) {
        self.put_events();
        if self.items.len() > self.head_written && !self.is_broken {
            let chunk = chunk(&self.items);
            match self.file.write_all(&chunk) {
                Ok(()) => self.written += chunk.len() as u64,
                Err(error) => {
                    self.failed = Some(error);
                    self.is_broken = true;
                }
            }
        }
        self.items.clear();
        self.items.extend_from_slice(&self.head);
        self.head_written = self.head.len();
        // A chunk can be read without those before.
        self.packer.begin_afresh();
    }

    /// Puts what was recorded so far into the file, so that it survives us.
    ///
    /// # Errors
    ///
    /// This, or something before, cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.write_chunk();
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The last [`Self::flush`], and waits until the disk has it; how many bytes
    /// the file has.
    ///
    /// # Errors
    ///
    /// As those of [`Self::flush`].
    pub fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_all()?;
        Ok(self.written)
    }
}

/// The symbols of a program that is traced, each of which is recorded when it is
/// asked for the first time.
pub struct Naming<'a> {
    recorder: RefCell<&'a mut Recorder>,
    program: u32,
    symbols: &'a dyn Symbols,
}

impl<'a> Naming<'a> {
    /// Of the program with this index.
    pub fn new(recorder: &'a mut Recorder, program: u32, symbols: &'a dyn Symbols) -> Self {
        Self {
            recorder: RefCell::new(recorder),
            program,
            symbols,
        }
    }
}

impl Symbols for Naming<'_> {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        let frames = self.symbols.frames(stack);
        let shows = |function: &str| self.symbols.shows(function);
        let mut recorder = self.recorder.borrow_mut();
        recorder.name(self.program, stack, || frames.clone(), shows);
        frames
    }

    fn shows(&self, function: &str) -> bool {
        self.symbols.shows(function)
    }
}

/// A mark, length and checksum of what follows, and the compressed items.
pub(super) fn chunk(items: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::compress_prepend_size(items);
    let mut chunk = Vec::with_capacity(MARK.len() + 8 + packed.len());
    chunk.extend_from_slice(&MARK);
    chunk.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    chunk.extend_from_slice(&packed);
    chunk
}
