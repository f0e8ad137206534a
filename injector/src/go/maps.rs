//! Which kind of map a program has.

/// The two implementations of Go's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Buckets: up to Go 1.23, in 1.24 and 1.25 with `GOEXPERIMENT=noswissmap`.
    Classic,
    /// Swiss tables: since Go 1.24.
    Swiss,
}

impl MapKind {
    /// A function that only programs with this kind of map have. The version
    /// does not tell, because of the experiment.
    pub fn witness(self) -> &'static str {
        match self {
            Self::Classic => "runtime.evacuate",
            Self::Swiss => "internal/runtime/maps.(*Iter).Next",
        }
    }

    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Swiss => "swiss",
        }
    }
}
