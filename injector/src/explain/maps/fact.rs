//! What is found out about addresses that events name, by reading the program
//! and its memory. Nothing here reads them: it is told.

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Where a goroutine is from: `g.parentGoid`, `g.gopc`, `g.startpc`.
    Goroutine {
        /// Its number; numbers are never used again.
        id: u64,
        /// Number of the goroutine that made it, 0 when not known.
        parent: u64,
        /// Return address of the `go` statement.
        creator: u64,
        /// Entry of its first function.
        start: u64,
    },
    /// The name of a map type, such as `map[string]*main.Order`, from the
    /// runtime's type data.
    MapType {
        /// Address of the type.
        address: u64,
        /// Its name.
        name: String,
    },
    /// The name of a map, a lock or a `sync.Map`: a package variable
    /// (`main.cache`) or a path of fields (`main.(*Server).sessions`).
    Name {
        /// What has it.
        address: u64,
        /// The name.
        name: String,
        /// Read from symbols or debugging information and memory; otherwise
        /// guessed by the layout of a type.
        measured: bool,
    },
    /// What a map's header says of its size.
    MapSize {
        /// Address of the map.
        address: u64,
        /// Elements in it.
        elements: u64,
        /// Buckets of a classic map, entries of a Swiss map's directory.
        buckets_or_tables: u64,
    },
    /// A map's header pointer and a lock are in the same struct.
    Guard {
        /// Address of the lock.
        lock: u64,
        /// Address of the map.
        map: u64,
        /// From the lock to the pointer, in bytes.
        distance: i64,
        /// Names of the fields of the lock and of the map, from debugging
        /// information.
        fields: Option<(String, String)>,
    },
}

/// Something that events name by address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// A map without a name, answered by [`Fact::Name`] and [`Fact::Guard`].
    Map {
        /// Its address.
        address: u64,
        /// Its type, 0 when not known.
        map_type: u64,
    },
    /// How large a map is now, answered by [`Fact::MapSize`]. It is asked again
    /// and again for the maps that are shown.
    MapSize(u64),
    /// A map type, answered by [`Fact::MapType`].
    MapType(u64),
    /// A lock without a name, answered by [`Fact::Name`] and [`Fact::Guard`].
    Lock(u64),
    /// A `sync.Map` without a name, answered by [`Fact::Name`].
    SyncMap(u64),
    /// Where a goroutine is from, answered by [`Fact::Goroutine`].
    Goroutine {
        /// Its number.
        id: u64,
        /// Address of its `g`, which can be another goroutine's by now.
        address: u64,
    },
}
