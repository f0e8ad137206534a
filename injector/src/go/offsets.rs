//! Where the fields are in one program, and which of what we want to know of it
//! can be had with them.

use std::collections::HashMap;

use super::{
    dwarf,
    image::Image,
    layout::{Field, TABLE},
    maps::MapKind,
    version::Version,
};

/// Where an offset is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The program's debugging information.
    Dwarf,
    /// The table of known versions.
    Table,
}

/// Offsets in bytes of the fields that are known.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    known: HashMap<Field, (u32, Source)>,
}

impl Offsets {
    /// Reads the program's own account, and takes from the table what that
    /// leaves out.
    pub fn of(image: &Image, version: Option<&Version>) -> Self {
        Self::merge(&dwarf::offsets(image), version)
    }

    fn merge(dwarf: &HashMap<Field, u32>, version: Option<&Version>) -> Self {
        let known = TABLE.iter().filter_map(|row| {
            let own = dwarf.get(&row.field).map(|offset| (*offset, Source::Dwarf));
            let table = || Some((row.offset(version?.minor)?, Source::Table));
            Some((row.field, own.or_else(table)?))
        });
        Self {
            known: known.collect(),
        }
    }

    /// Those of a version, by the table alone.
    #[cfg(test)]
    pub fn of_table(minor: u32) -> Self {
        let version = Version {
            minor,
            text: String::new(),
        };
        Self::merge(&HashMap::new(), Some(&version))
    }

    /// The offset of a field.
    pub fn get(&self, field: Field) -> Option<u32> {
        self.known.get(&field).map(|(offset, _)| *offset)
    }

    /// Where it is from.
    pub fn source(&self, field: Field) -> Option<Source> {
        self.known.get(&field).map(|(_, source)| *source)
    }

    /// The uses that lack a field, with the fields that they lack.
    pub fn missing(&self, maps: Option<MapKind>) -> Vec<(&'static Use, Vec<Field>)> {
        let uses = USES
            .iter()
            .filter(|usage| usage.maps.is_none() || usage.maps == maps);
        uses.filter_map(|usage| {
            let fields = usage.fields.iter().copied();
            let lacks: Vec<Field> = fields.filter(|field| self.get(*field).is_none()).collect();
            (!lacks.is_empty()).then_some((usage, lacks))
        })
        .collect()
    }
}

/// What fields are good for.
#[derive(Debug)]
pub struct Use {
    /// In words that follow "without them there are no".
    pub what: &'static str,
    /// Nothing can be traced without.
    pub essential: bool,
    /// The maps that it is about, if it is about maps.
    maps: Option<MapKind>,
    /// What it needs.
    fields: &'static [Field],
}

const USES: &[Use] = &[
    Use {
        what: "goroutine numbers, so no operation could be told from another's",
        essential: true,
        maps: None,
        fields: &[Field::GoroutineId],
    },
    Use {
        what: "threads of goroutines and the functions that created them",
        essential: false,
        maps: None,
        fields: &[
            Field::GoroutineThread,
            Field::GoroutineCreator,
            Field::GoroutineStart,
            Field::ThreadId,
        ],
    },
    Use {
        what: "insides of maps: size, growth, the flag that a writer sets",
        essential: false,
        maps: Some(MapKind::Classic),
        fields: &[
            Field::ClassicCount,
            Field::ClassicFlags,
            Field::ClassicLogBuckets,
            Field::ClassicBuckets,
            Field::ClassicOldBuckets,
            Field::ClassicEvacuated,
        ],
    },
    Use {
        what: "insides of maps: size, growth, the flag that a writer sets",
        essential: false,
        maps: Some(MapKind::Swiss),
        fields: &[
            Field::SwissUsed,
            Field::SwissDirectory,
            Field::SwissDirectoryLength,
            Field::SwissDepth,
            Field::SwissWriting,
            Field::SwissClears,
        ],
    },
    Use {
        what: "maps of iterations",
        essential: false,
        maps: Some(MapKind::Classic),
        fields: &[Field::ClassicIteratorMap],
    },
    Use {
        what: "maps of iterations",
        essential: false,
        maps: Some(MapKind::Swiss),
        fields: &[Field::SwissIteratorMap],
    },
    Use {
        what: "locks of waits",
        essential: false,
        maps: None,
        fields: &[
            Field::MutexSemaphore,
            Field::RwWriter,
            Field::RwWriterSemaphore,
            Field::RwReaderSemaphore,
            Field::RwReaders,
        ],
    },
    Use {
        what: "names of map types",
        essential: false,
        maps: None,
        fields: &[
            Field::ModuleTypes,
            Field::TypeName,
            Field::MapTypeKey,
            Field::MapTypeElement,
        ],
    },
    Use {
        what: "inlined calls in stacks",
        essential: false,
        maps: None,
        fields: &[Field::ModuleGoFunc],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<Version> {
        Version::parse(text)
    }

    #[test]
    fn the_programs_own_account_goes_before_the_table() {
        let dwarf = HashMap::from([(Field::GoroutineId, 168)]);
        let offsets = Offsets::merge(&dwarf, version("go1.24.1").as_ref());
        assert_eq!(offsets.get(Field::GoroutineId), Some(168));
        assert_eq!(offsets.source(Field::GoroutineId), Some(Source::Dwarf));
        assert_eq!(offsets.get(Field::ThreadId), Some(72));
        assert_eq!(offsets.source(Field::ThreadId), Some(Source::Table));
        assert!(offsets.missing(Some(MapKind::Swiss)).is_empty());
    }

    #[test]
    fn an_unknown_version_lacks_what_the_program_does_not_tell() {
        let dwarf = HashMap::from([(Field::GoroutineId, 168)]);
        let offsets = Offsets::merge(&dwarf, version("go1.28").as_ref());
        let missing = offsets.missing(Some(MapKind::Swiss));
        assert!(missing.iter().all(|(usage, _)| !usage.essential));
        assert!(
            missing
                .iter()
                .any(|(_, fields)| fields.contains(&Field::SwissWriting))
        );
        let nothing = Offsets::merge(&HashMap::new(), version("go1.28").as_ref());
        assert!(
            nothing
                .missing(None)
                .iter()
                .any(|(usage, _)| usage.essential)
        );
    }

    #[test]
    fn each_field_has_a_use_or_is_extra() {
        let extra = [
            Field::GoroutineStatus,
            Field::GoroutineWaitReason,
            Field::GoroutineParent,
            Field::ThreadGoroutine,
            Field::SwissIteratorDepth,
            Field::SwissIteratorDirectory,
        ];
        for row in TABLE {
            let used = USES.iter().any(|usage| usage.fields.contains(&row.field));
            assert!(used != extra.contains(&row.field), "{:?}", row.field);
        }
    }
}
