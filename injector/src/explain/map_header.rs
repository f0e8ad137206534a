//! What is in a map, by the bytes of its header and of an iterator.

use crate::go::{Field, MapKind, Offsets};

/// A field of the runtime's, with what to call it and its size in bytes.
struct Shape {
    field: Field,
    name: &'static str,
    size: usize,
}

const fn shape(field: Field, name: &'static str, size: usize) -> Shape {
    Shape { field, name, size }
}

/// `runtime.hmap`, runtime/map.go.
const CLASSIC: &[Shape] = &[
    shape(Field::ClassicCount, "elements", 8),
    shape(Field::ClassicFlags, "flags", 1),
    shape(Field::ClassicLogBuckets, "log_buckets", 1),
    shape(Field::ClassicBuckets, "buckets", 8),
    shape(Field::ClassicOldBuckets, "old_buckets", 8),
    shape(Field::ClassicEvacuated, "evacuated", 8),
];
/// `internal/runtime/maps.Map`, internal/runtime/maps/map.go.
const SWISS: &[Shape] = &[
    shape(Field::SwissUsed, "elements", 8),
    shape(Field::SwissDirectory, "directory", 8),
    shape(Field::SwissDirectoryLength, "directory_length", 8),
    shape(Field::SwissDepth, "depth", 1),
    shape(Field::SwissWriting, "writing", 1),
    shape(Field::SwissClears, "clears", 8),
];
/// `internal/runtime/maps.Iter`, internal/runtime/maps/table.go. Nothing but
/// the map is known of an iterator of a classic map.
const SWISS_ITERATOR: &[Shape] = &[
    shape(Field::SwissIteratorDepth, "depth", 1),
    shape(Field::SwissIteratorDirectory, "directory_index", 8),
];

/// A field and its value.
pub type Value = (&'static str, u64);

/// The fields of a map's header, as far as it is known where they are.
pub fn map(kind: MapKind, offsets: &Offsets, bytes: &[u8]) -> Vec<Value> {
    let shapes = match kind {
        MapKind::Classic => CLASSIC,
        MapKind::Swiss => SWISS,
    };
    values(shapes, offsets, bytes)
}

/// Those of an iterator.
pub fn iterator(kind: MapKind, offsets: &Offsets, bytes: &[u8]) -> Vec<Value> {
    match kind {
        MapKind::Classic => Vec::new(),
        MapKind::Swiss => values(SWISS_ITERATOR, offsets, bytes),
    }
}

fn values(shapes: &[Shape], offsets: &Offsets, bytes: &[u8]) -> Vec<Value> {
    shapes
        .iter()
        .filter_map(|shape| {
            let at = offsets.get(shape.field)? as usize;
            let field = bytes.get(at..at.checked_add(shape.size)?)?;
            let value = field
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
            Some((shape.name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use injector_ebpf::go::{ITERATOR_BYTES, MAP_BYTES};

    use super::*;
    use crate::go::LAYOUT;

    fn offsets(minor: u32) -> Offsets {
        Offsets::of_table(minor)
    }

    #[test]
    fn a_classic_map_that_grows() {
        let mut bytes = [0; MAP_BYTES];
        bytes[0] = 200;
        bytes[8] = 4;
        bytes[9] = 5;
        bytes[17] = 0x10;
        bytes[25] = 0x20;
        let values = map(MapKind::Classic, &offsets(22), &bytes);
        assert_eq!(
            values,
            [
                ("elements", 200),
                ("flags", 4),
                ("log_buckets", 5),
                ("buckets", 0x1000),
                ("old_buckets", 0x2000),
                ("evacuated", 0),
            ]
        );
    }

    #[test]
    fn a_swiss_map_that_is_written() {
        let mut bytes = [0; MAP_BYTES];
        bytes[0] = 9;
        bytes[24] = 2;
        bytes[32] = 1;
        bytes[34] = 1;
        let values = map(MapKind::Swiss, &offsets(27), &bytes);
        assert!(values.contains(&("elements", 9)));
        assert!(values.contains(&("directory_length", 2)));
        assert!(values.contains(&("writing", 1)));
    }

    /// A field that is not frozen could never be shown.
    #[test]
    fn every_known_field_is_within_what_is_frozen() {
        for (shapes, frozen) in [
            (CLASSIC, MAP_BYTES),
            (SWISS, MAP_BYTES),
            (SWISS_ITERATOR, ITERATOR_BYTES),
        ] {
            for shape in shapes {
                let row = LAYOUT.iter().find(|row| row.field == shape.field);
                for (_, offset) in row.expect("a row of the table").offsets {
                    assert!(*offset as usize + shape.size <= frozen, "{}", shape.name);
                }
            }
        }
    }
}
