//! Go's table of functions, files and lines, `.gopclntab`, in the formats of Go
//! 1.18 (also 1.19) and Go 1.20 (until at least 1.27). It is there in stripped
//! programs, too, because the runtime itself needs it.
//!
//! Sources: Go's runtime/symtab.go (`pcHeader`, `funcdata`, `step`),
//! runtime/runtime2.go (`_func`), runtime/symtabinl.go (`inlinedCall`; before
//! 1.20 in runtime/symtab.go) and debug/gosym/pclntab.go.
//!
//! Nothing is indexed or copied: each question reads what it needs. The bytes
//! are those of a program that need not be honest, so every read is bounded and
//! every loop ends.

use super::bytes::{i32, u32, u64, until_nul, varint};

/// `abi.Go118PCLnTabMagic` and `abi.Go120PCLnTabMagic`, internal/abi/symtab.go.
pub const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Magic numbers of the formats before: Go 1.16 and Go 1.2.
const OLD_MAGICS: [u32; 2] = [0xffff_fffa, 0xffff_fffb];

/// Where `pcHeader` ends, in bytes.
const HEADER: usize = 72;
/// Bytes of an entry of the function table: two 32-bit numbers.
const ENTRY: usize = 8;
/// `PCDATA_InlTreeIndex`, internal/abi/symtab.go.
const PCDATA_INLINE_INDEX: usize = 2;
/// `FUNCDATA_InlTree`, internal/abi/symtab.go.
const FUNCDATA_INLINE_TREE: usize = 3;
/// Longest name of a function or file that is believed; instances of generic
/// functions have long ones.
const LONGEST_NAME: usize = 1 << 16;
/// More calls inlined into each other than the compiler makes.
const DEEPEST_INLINING: usize = 256;
/// More steps than the table of one function has.
const MOST_STEPS: usize = 1 << 20;

/// Why a table cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has the format of a Go before 1.18.
    Old,
    /// It breaks the format.
    Damaged(&'static str),
}

/// What differs between the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    /// Bytes of `_func` before its lists.
    function: usize,
    /// Bytes of `inlinedCall`.
    inlined_call: usize,
    /// Where `inlinedCall` has the name and the position of the call.
    inlined_name: usize,
    inlined_position: usize,
}

/// `_func` without `startLine`; `inlinedCall` with parent, file and line.
const GO_1_18: Format = Format {
    function: 40,
    inlined_call: 20,
    inlined_name: 12,
    inlined_position: 16,
};
const GO_1_20: Format = Format {
    function: 44,
    inlined_call: 16,
    inlined_name: 4,
    inlined_position: 8,
};

/// A function table.
#[derive(Clone, Copy, Debug)]
pub struct Pclntab<'a> {
    format: Format,
    /// Bytes of the smallest instruction.
    quantum: u64,
    count: usize,
    /// What the header has for the address of the text; 0 since Go 1.26, and
    /// in position-independent programs.
    pub text_start: u64,
    /// Where the names begin, from the header: a second witness for moduledata.
    pub names_at: u64,
    names: &'a [u8],
    units: &'a [u8],
    files: &'a [u8],
    tables: &'a [u8],
    functions: &'a [u8],
}

/// A function: a row of the table. Offsets are from the start of the text.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    table: Pclntab<'a>,
    /// Its `_func` and what follows.
    data: &'a [u8],
    /// Where it begins.
    pub start: u64,
    /// Where the next function begins; padding counts to this one.
    pub end: u64,
}

/// One function of the source at one place in the code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Full name, such as `main.(*Store).Put`.
    pub function: String,
    /// Source file, as the compiler was told; `?` when unknown.
    pub file: String,
    /// Line in it, 0 when unknown.
    pub line: u32,
}

impl<'a> Pclntab<'a> {
    /// Whether a table may begin here; cheap, for a search.
    pub fn begins(bytes: &'a [u8]) -> bool {
        Self::parse(bytes).is_ok()
    }

    /// Reads the header. `data` begins with it and may go on behind the table.
    pub fn parse(data: &'a [u8]) -> Result<Self, Unfit> {
        const CUT: Unfit = Unfit::Damaged("it is cut off");
        let magic = u32(data, 0).ok_or(CUT)?;
        if OLD_MAGICS.contains(&magic) {
            return Err(Unfit::Old);
        }
        let format = match MAGICS.iter().position(|known| *known == magic) {
            Some(0) => GO_1_18,
            Some(_) => GO_1_20,
            None => return Err(Unfit::Damaged("it has an unknown magic number")),
        };
        let &[_, _, _, _, 0, 0, quantum @ (1 | 2 | 4), 8] = data.first_chunk().ok_or(CUT)? else {
            return Err(Unfit::Damaged("its header is not that of a 64-bit program"));
        };
        if data.len() < HEADER {
            return Err(CUT);
        }
        let word = |index: usize| u64(data, 8 * index).ok_or(CUT);
        let part = |index: usize| {
            let start = usize::try_from(word(index)?).ok();
            start.and_then(|start| data.get(start..)).ok_or(CUT)
        };
        let count = usize::try_from(word(1)?).map_err(|_| CUT)?;
        let functions = part(8)?;
        // An entry for each function, and the end of the last one.
        let size = count
            .checked_mul(ENTRY)
            .and_then(|size| size.checked_add(4));
        if count == 0 || size.is_none_or(|size| size > functions.len()) {
            return Err(Unfit::Damaged("it has fewer functions than it says"));
        }
        Ok(Self {
            format,
            quantum: u64::from(quantum),
            count,
            text_start: word(3)?,
            names_at: word(4)?,
            names: part(4)?,
            units: part(5)?,
            files: part(6)?,
            tables: part(7)?,
            functions,
        })
    }

    /// How many functions it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// All functions, by address. Rows that break the format are left out.
    pub fn functions(self) -> impl Iterator<Item = Function<'a>> {
        (0..self.count).filter_map(move |index| self.function(index))
    }

    /// The function that an offset from the start of the text lies in.
    pub fn find(&self, offset: u64) -> Option<Function<'a>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.start(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let function = self.function(low.checked_sub(1)?)?;
        (function.start..function.end)
            .contains(&offset)
            .then_some(function)
    }

    fn function(&self, index: usize) -> Option<Function<'a>> {
        let at = u32(self.functions, index * ENTRY + 4)? as usize;
        let data = self.functions.get(at..)?;
        (data.len() >= self.format.function).then_some(())?;
        let (start, end) = (self.start(index)?, self.start(index + 1)?);
        (start <= end).then_some(Function {
            table: *self,
            data,
            start,
            end,
        })
    }

    fn start(&self, index: usize) -> Option<u64> {
        u32(self.functions, index * ENTRY).map(u64::from)
    }

    fn name(&self, offset: i32) -> Option<&'a str> {
        let at = usize::try_from(offset).ok()?;
        str::from_utf8(until_nul(self.names, at, LONGEST_NAME)?).ok()
    }

    /// What a table of values by program counter has for an offset from the
    /// function's entry (`pcvalue` and `step` in runtime/symtab.go).
    fn value(&self, table: u32, offset: u64) -> Option<i32> {
        // Offset 0 means that there is no table.
        let mut bytes = self.tables.get(table as usize..).filter(|_| table != 0)?;
        let (mut value, mut end) = (-1i32, 0u64);
        for step in 0..MOST_STEPS {
            let zigzag = take(&mut bytes)?;
            if zigzag == 0 && step != 0 {
                return None;
            }
            let delta = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
            value = value.wrapping_add(delta);
            end = end.checked_add(u64::from(take(&mut bytes)?) * self.quantum)?;
            if offset < end {
                return Some(value);
            }
        }
        None
    }
}

/// Takes a number off the front. Go reads them as 32 bits (`readvarint`).
fn take(bytes: &mut &[u8]) -> Option<u32> {
    let (value, size) = varint(bytes)?;
    *bytes = &bytes[size..];
    Some(value as u32)
}

impl<'a> Function<'a> {
    /// Its full name. Until Go 1.20 the type arguments of a generic function
    /// are `[...]`.
    pub fn name(&self) -> Option<&'a str> {
        self.table.name(i32(self.data, 4)?)
    }

    /// Bytes that it takes, with padding.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// File and line of the instruction at an offset from its entry, whatever
    /// function that was inlined from.
    fn position(&self, offset: u64) -> (String, u32) {
        let table = |field: usize| {
            let table = u32(self.data, field)?;
            self.table.value(table, offset)
        };
        let file = table(20).and_then(|number| self.file(number));
        let line = table(24).and_then(|line| u32::try_from(line).ok());
        (file.unwrap_or("?").to_owned(), line.unwrap_or(0))
    }

    fn file(&self, number: i32) -> Option<&'a str> {
        let unit = u32(self.data, 32)? as usize;
        let index = unit.checked_add(usize::try_from(number).ok()?)?;
        let at = u32(self.table.units, index.checked_mul(4)?)?;
        str::from_utf8(until_nul(self.table.files, at as usize, LONGEST_NAME)?).ok()
    }

    /// The frames at an offset from its entry, innermost first: inlined calls,
    /// then the function itself. `go_func` are the bytes from
    /// `moduledata.gofunc` on; without them inlined calls are not told apart.
    pub fn frames(&self, mut offset: u64, go_func: Option<&[u8]>) -> Vec<Frame> {
        let mut frames = Vec::new();
        while frames.len() < DEEPEST_INLINING {
            let (file, line) = self.position(offset);
            let call = go_func.and_then(|go_func| self.inlined_call(offset, go_func));
            let name = match call {
                Some((name, _)) => self.table.name(name),
                None => self.name(),
            };
            frames.push(Frame {
                function: name.unwrap_or("?").to_owned(),
                file,
                line,
            });
            match call {
                Some((_, caller)) => offset = caller,
                None => break,
            }
        }
        frames
    }

    /// The name of the function that the instruction at an offset was inlined
    /// from, and the offset of the instruction that stands for the call.
    fn inlined_call(&self, offset: u64, go_func: &[u8]) -> Option<(i32, u64)> {
        let format = self.table.format;
        let tables = u32(self.data, 28)? as usize;
        let lists = self.data.get(format.function..)?;
        if tables <= PCDATA_INLINE_INDEX {
            return None;
        }
        // The last byte of `_func`.
        let data_count = usize::from(*self.data.get(format.function - 1)?);
        if data_count <= FUNCDATA_INLINE_TREE {
            return None;
        }
        let index = self
            .table
            .value(u32(lists, 4 * PCDATA_INLINE_INDEX)?, offset)?;
        let index = usize::try_from(index).ok()?;
        let tree = u32(
            lists,
            tables.checked_add(FUNCDATA_INLINE_TREE)?.checked_mul(4)?,
        )?;
        if tree == u32::MAX {
            return None;
        }
        let call = index.checked_mul(format.inlined_call)?;
        let call = go_func.get((tree as usize).checked_add(call)?..)?;
        let caller = u64::try_from(i32(call, format.inlined_position)?).ok()?;
        Some((i32(call, format.inlined_name)?, caller))
    }
}
