//! Where fields of the runtime's structs are, by Go version: the one table. It
//! is used for programs without DWARF, and tests compare it with the DWARF of
//! programs that each version built.
//!
//! All offsets are in bytes and hold on amd64 and arm64, whose Go types have
//! the same sizes and alignments.

/// The versions that the table has been checked for: Go 1.19 to 1.27.
pub const KNOWN: std::ops::RangeInclusive<u32> = 19..=27;

/// A field that is read in a traced program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Number of a goroutine.
    GoroutineId,
    /// The thread (m) that a goroutine runs on.
    GoroutineThread,
    /// State of a goroutine: running, waiting, ….
    GoroutineStatus,
    /// Why it waits, as a number of the runtime's.
    GoroutineWaitReason,
    /// Number of the goroutine that created it.
    GoroutineParent,
    /// Return address of the `go` statement that created it.
    GoroutineCreator,
    /// Entry of its first function.
    GoroutineStart,
    /// Thread id that the kernel knows an m by.
    ThreadId,
    /// The goroutine that an m runs.
    ThreadGoroutine,
    /// Classic map: elements.
    ClassicCount,
    /// Classic map: flags; 4 is set while it is written to.
    ClassicFlags,
    /// Classic map: logarithm of the number of buckets.
    ClassicLogBuckets,
    /// Classic map: buckets.
    ClassicBuckets,
    /// Classic map: buckets that are being evacuated; 0 when it does not grow.
    ClassicOldBuckets,
    /// Classic map: how far evacuation has come.
    ClassicEvacuated,
    /// Iterator of a classic map: its map.
    ClassicIteratorMap,
    /// Swiss map: elements.
    SwissUsed,
    /// Swiss map: its directory, or its only group.
    SwissDirectory,
    /// Swiss map: entries of the directory; 0 with one group.
    SwissDirectoryLength,
    /// Swiss map: logarithm of the directory's size.
    SwissDepth,
    /// Swiss map: toggled by each write.
    SwissWriting,
    /// Swiss map: how often it was cleared.
    SwissClears,
    /// Iterator of a Swiss map: its map.
    SwissIteratorMap,
    /// Iterator of a Swiss map: the directory's depth when it began.
    SwissIteratorDepth,
    /// Iterator of a Swiss map: the directory's entry that it is at.
    SwissIteratorDirectory,
    /// Mutex: its semaphore, by which those who wait for it are known.
    MutexSemaphore,
    /// `RWMutex`: the mutex that writers hold.
    RwWriter,
    /// `RWMutex`: semaphore of writers that wait for readers.
    RwWriterSemaphore,
    /// `RWMutex`: semaphore of readers that wait for a writer.
    RwReaderSemaphore,
    /// `RWMutex`: readers; negative while a writer holds it or waits.
    RwReaders,
    /// Where type data begins, which names of types are relative to.
    ModuleTypes,
    /// Where inline trees begin.
    ModuleGoFunc,
    /// A type's name, relative to the type data.
    TypeName,
    /// A map type's key type.
    MapTypeKey,
    /// A map type's element type.
    MapTypeElement,
}

/// A field, its names and its places.
pub struct Row {
    /// Which one.
    pub field: Field,
    /// The struct, by all its names; DWARF has one of them.
    pub types: &'static [&'static str],
    /// The field's name in it, by all its names.
    pub names: &'static [&'static str],
    /// Offsets, each with the first minor version that it holds for. Before
    /// the first there is no such field.
    pub offsets: &'static [(u32, u32)],
    /// The file of Go's source that declares the struct, in Go 1.27.
    pub source: &'static str,
}

impl Row {
    /// The offset in a version that the table knows.
    pub fn offset(&self, minor: u32) -> Option<u32> {
        if !KNOWN.contains(&minor) {
            return None;
        }
        let mut since = self.offsets.iter().rev();
        let (_, offset) = since.find(|(first, _)| *first <= minor)?;
        Some(*offset)
    }
}

const G: &[&str] = &["runtime.g"];
const M: &[&str] = &["runtime.m"];
const HMAP: &[&str] = &["runtime.hmap"];
const SWISS: &[&str] = &["internal/runtime/maps.Map"];
const SWISS_ITERATOR: &[&str] = &["internal/runtime/maps.Iter"];
/// `sync.Mutex` holds the other one since 1.24.
const MUTEX: &[&str] = &["internal/sync.Mutex", "sync.Mutex"];
const RW_MUTEX: &[&str] = &["sync.RWMutex"];
const MODULEDATA: &[&str] = &["runtime.moduledata"];
const TYPE: &[&str] = &["internal/abi.Type", "runtime._type"];
const MAP_TYPE: &[&str] = &[
    "internal/abi.MapType",
    "internal/abi.SwissMapType",
    "internal/abi.OldMapType",
    "runtime.maptype",
];

const RUNTIME2: &str = "runtime/runtime2.go";
/// In 1.24 and 1.25 `runtime/map_noswiss.go`.
const MAP: &str = "runtime/map.go";
const SWISS_MAP: &str = "internal/runtime/maps/map.go";
const SWISS_TABLE: &str = "internal/runtime/maps/table.go";
/// Before 1.24 `sync/mutex.go`.
const INTERNAL_MUTEX: &str = "internal/sync/mutex.go";
const RW: &str = "sync/rwmutex.go";
const SYMTAB: &str = "runtime/symtab.go";
/// Before 1.21 `runtime/type.go`.
const ABI_TYPE: &str = "internal/abi/type.go";
/// In 1.24 and 1.25 `map_swiss.go` and `map_noswiss.go`.
const ABI_MAP: &str = "internal/abi/map.go";

const fn row(
    field: Field,
    types: &'static [&'static str],
    names: &'static [&'static str],
    offsets: &'static [(u32, u32)],
    source: &'static str,
) -> Row {
    Row {
        field,
        types,
        names,
        offsets,
        source,
    }
}

/// The table. 1.23 put a field (`syscallbp`) into `g`, 1.25 took one out of
/// `gobuf`, which both `g` and `m` hold.
pub const TABLE: &[Row] = &[
    row(
        Field::GoroutineId,
        G,
        &["goid"],
        &[(19, 152), (23, 160), (25, 152)],
        RUNTIME2,
    ),
    row(Field::GoroutineThread, G, &["m"], &[(19, 48)], RUNTIME2),
    row(
        Field::GoroutineStatus,
        G,
        &["atomicstatus"],
        &[(19, 144), (23, 152), (25, 144)],
        RUNTIME2,
    ),
    row(
        Field::GoroutineWaitReason,
        G,
        &["waitreason"],
        &[(19, 176), (23, 184), (25, 176)],
        RUNTIME2,
    ),
    row(
        Field::GoroutineParent,
        G,
        &["parentGoid"],
        &[(21, 272), (23, 280)],
        RUNTIME2,
    ),
    row(
        Field::GoroutineCreator,
        G,
        &["gopc"],
        &[(19, 296), (21, 280), (23, 288)],
        RUNTIME2,
    ),
    row(
        Field::GoroutineStart,
        G,
        &["startpc"],
        &[(19, 312), (21, 296), (23, 304)],
        RUNTIME2,
    ),
    row(
        Field::ThreadId,
        M,
        &["procid"],
        &[(19, 72), (25, 64)],
        RUNTIME2,
    ),
    row(
        Field::ThreadGoroutine,
        M,
        &["curg"],
        &[(19, 192), (25, 184)],
        RUNTIME2,
    ),
    row(Field::ClassicCount, HMAP, &["count"], &[(19, 0)], MAP),
    row(Field::ClassicFlags, HMAP, &["flags"], &[(19, 8)], MAP),
    row(Field::ClassicLogBuckets, HMAP, &["B"], &[(19, 9)], MAP),
    row(Field::ClassicBuckets, HMAP, &["buckets"], &[(19, 16)], MAP),
    row(
        Field::ClassicOldBuckets,
        HMAP,
        &["oldbuckets"],
        &[(19, 24)],
        MAP,
    ),
    row(
        Field::ClassicEvacuated,
        HMAP,
        &["nevacuate"],
        &[(19, 32)],
        MAP,
    ),
    row(
        Field::ClassicIteratorMap,
        &["runtime.hiter"],
        &["h"],
        &[(19, 24)],
        MAP,
    ),
    row(Field::SwissUsed, SWISS, &["used"], &[(24, 0)], SWISS_MAP),
    row(
        Field::SwissDirectory,
        SWISS,
        &["dirPtr"],
        &[(24, 16)],
        SWISS_MAP,
    ),
    row(
        Field::SwissDirectoryLength,
        SWISS,
        &["dirLen"],
        &[(24, 24)],
        SWISS_MAP,
    ),
    row(
        Field::SwissDepth,
        SWISS,
        &["globalDepth"],
        &[(24, 32)],
        SWISS_MAP,
    ),
    row(
        Field::SwissWriting,
        SWISS,
        &["writing"],
        &[(24, 34)],
        SWISS_MAP,
    ),
    row(
        Field::SwissClears,
        SWISS,
        &["clearSeq"],
        &[(24, 40)],
        SWISS_MAP,
    ),
    row(
        Field::SwissIteratorMap,
        SWISS_ITERATOR,
        &["m"],
        &[(24, 24)],
        SWISS_TABLE,
    ),
    row(
        Field::SwissIteratorDepth,
        SWISS_ITERATOR,
        &["globalDepth"],
        &[(24, 56)],
        SWISS_TABLE,
    ),
    row(
        Field::SwissIteratorDirectory,
        SWISS_ITERATOR,
        &["dirIdx"],
        &[(24, 64)],
        SWISS_TABLE,
    ),
    row(
        Field::MutexSemaphore,
        MUTEX,
        &["sema"],
        &[(19, 4)],
        INTERNAL_MUTEX,
    ),
    row(Field::RwWriter, RW_MUTEX, &["w"], &[(19, 0)], RW),
    row(
        Field::RwWriterSemaphore,
        RW_MUTEX,
        &["writerSem"],
        &[(19, 8)],
        RW,
    ),
    row(
        Field::RwReaderSemaphore,
        RW_MUTEX,
        &["readerSem"],
        &[(19, 12)],
        RW,
    ),
    row(
        Field::RwReaders,
        RW_MUTEX,
        &["readerCount"],
        &[(19, 16)],
        RW,
    ),
    row(
        Field::ModuleTypes,
        MODULEDATA,
        &["types"],
        &[(19, 280), (20, 296)],
        SYMTAB,
    ),
    row(
        Field::ModuleGoFunc,
        MODULEDATA,
        &["gofunc"],
        &[(19, 304), (20, 320), (27, 344)],
        SYMTAB,
    ),
    row(
        Field::TypeName,
        TYPE,
        &["Str", "str"],
        &[(19, 40)],
        ABI_TYPE,
    ),
    row(
        Field::MapTypeKey,
        MAP_TYPE,
        &["Key", "key"],
        &[(19, 48)],
        ABI_MAP,
    ),
    row(
        Field::MapTypeElement,
        MAP_TYPE,
        &["Elem", "elem"],
        &[(19, 56)],
        ABI_MAP,
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn offset(field: Field, minor: u32) -> Option<u32> {
        let row = TABLE.iter().find(|row| row.field == field).unwrap();
        row.offset(minor)
    }

    #[test]
    fn one_row_for_each_field() {
        let fields: HashSet<Field> = TABLE.iter().map(|row| row.field).collect();
        assert_eq!(fields.len(), TABLE.len());
        for row in TABLE {
            let versions = row.offsets.iter().map(|(first, _)| first);
            assert!(versions.is_sorted(), "{:?}", row.field);
            assert!(row.source.ends_with(".go"));
        }
    }

    #[test]
    fn offsets_hold_from_their_version_on() {
        assert_eq!(offset(Field::GoroutineId, 22), Some(152));
        assert_eq!(offset(Field::GoroutineId, 23), Some(160));
        assert_eq!(offset(Field::GoroutineId, 24), Some(160));
        assert_eq!(offset(Field::GoroutineId, 27), Some(152));
        assert_eq!(offset(Field::SwissWriting, 23), None);
        assert_eq!(offset(Field::GoroutineId, 18), None);
        assert_eq!(offset(Field::GoroutineId, 28), None);
    }
}
