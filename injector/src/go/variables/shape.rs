//! What types lead to: the way from a value to the maps and locks in it.

use std::collections::HashMap;

use super::unit::{Kind, Type, Types};

/// Pointers and slices that are followed from a variable.
const DEEPEST: u8 = 3;
/// Structs in structs that are looked into.
const DEEPEST_NESTING: u8 = 8;
/// Shapes that are kept, some tens of bytes each.
const MOST_SHAPES: usize = 1 << 16;
/// Structs with a lock and a map that are kept.
const MOST_LAYOUTS: usize = 1 << 13;
/// Locks or maps of one struct that are kept.
const MOST_MEMBERS: usize = 64;
/// Elements of an array or slice that are looked at: as many as maps have
/// shards.
pub const MOST_ELEMENTS: u64 = 256;

/// Number of a shape.
pub type Id = u32;

/// What is at an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// A pointer to a map's header.
    Map,
    /// A lock or a `sync.Map`, known by its own address.
    Here,
    /// Fields: name, offset, what is there.
    Struct(Vec<(String, u64, Id)>),
    /// A pointer.
    Pointer(Id),
    /// Pointer and length; bytes of an element.
    Slice(Id, u64),
    /// So many elements of so many bytes.
    Array(Id, u64, u64),
}

/// A lock or a map in a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Such as `shard.mu`.
    pub path: String,
    /// In bytes.
    pub offset: u64,
    /// Of a map: where its runtime type is in the type data, 0 when not known.
    pub runtime_type: u64,
}

/// A struct with locks and maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Such as `main.Cache`.
    pub name: String,
    /// Its locks.
    pub locks: Vec<Member>,
    /// Its maps.
    pub maps: Vec<Member>,
}

/// What a type is for us.
enum Class {
    Map,
    Lock,
    SyncMap,
    Other,
}

fn class(of: &Type) -> Class {
    match (of.kind, of.name.as_str()) {
        (Kind::Map, _) => Class::Map,
        (Kind::Struct, "sync.Mutex" | "sync.RWMutex") => Class::Lock,
        (Kind::Struct, "sync.Map") => Class::SyncMap,
        _ => Class::Other,
    }
}

/// Builds shapes from types.
pub struct Builder<'a, 'b> {
    types: Types<'a>,
    shapes: &'b mut Vec<Shape>,
    /// By type and pointers that may still be followed; none while it is built
    /// and when it leads nowhere.
    known: HashMap<(u64, u8), Option<Id>>,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub fn new(types: Types<'a>, shapes: &'b mut Vec<Shape>) -> Self {
        Self {
            types,
            shapes,
            known: HashMap::new(),
        }
    }

    /// What a value of a type leads to, if anywhere.
    pub fn shape(&mut self, at: u64) -> Option<Id> {
        self.build(at, DEEPEST, DEEPEST_NESTING)
    }

    fn build(&mut self, at: u64, pointers: u8, nesting: u8) -> Option<Id> {
        if let Some(known) = self.known.get(&(at, pointers)) {
            return *known;
        }
        if self.shapes.len() >= MOST_SHAPES {
            return None;
        }
        self.known.insert((at, pointers), None);
        let shape = self.look(at, pointers, nesting)?;
        let id = self.shapes.len() as Id;
        self.shapes.push(shape);
        self.known.insert((at, pointers), Some(id));
        Some(id)
    }

    fn look(&mut self, at: u64, pointers: u8, nesting: u8) -> Option<Shape> {
        let of = self.types.get(at)?;
        match class(&of) {
            Class::Map => return Some(Shape::Map),
            Class::Lock | Class::SyncMap => return Some(Shape::Here),
            Class::Other => {}
        }
        let nested = |nesting: u8| nesting.checked_sub(1);
        match of.kind {
            Kind::Struct => {
                let nesting = nested(nesting)?;
                let mut fields = Vec::new();
                for (name, offset, of) in of.members {
                    if let Some(id) = self.build(of, pointers, nesting) {
                        fields.push((name, offset, id));
                    }
                }
                (!fields.is_empty()).then_some(Shape::Struct(fields))
            }
            Kind::Pointer => {
                let pointers = pointers.checked_sub(1)?;
                let id = self.build(of.of?, pointers, DEEPEST_NESTING)?;
                Some(Shape::Pointer(id))
            }
            Kind::Slice => {
                let pointers = pointers.checked_sub(1)?;
                let size = self.types.size(of.of?)?;
                let id = self.build(of.of?, pointers, DEEPEST_NESTING)?;
                Some(Shape::Slice(id, size))
            }
            Kind::Array => {
                let size = self.types.size(of.of?)?;
                let id = self.build(of.of?, pointers, nested(nesting)?)?;
                Some(Shape::Array(id, size, of.count.min(MOST_ELEMENTS)))
            }
            Kind::Map | Kind::Other => None,
        }
    }

    /// All structs that have both a lock and a map.
    pub fn layouts(&self) -> Vec<Layout> {
        let structs = self.types.structs().into_iter();
        structs
            .filter_map(|at| {
                let of = self.types.get(at)?;
                let ours = of.kind == Kind::Struct && matches!(class(&of), Class::Other);
                (ours && !of.name.starts_with("runtime.")).then_some(())?;
                let mut layout = Layout {
                    name: of.name.clone(),
                    locks: Vec::new(),
                    maps: Vec::new(),
                };
                self.flatten(&of, "", 0, DEEPEST_NESTING, &mut layout);
                let both = !layout.locks.is_empty() && !layout.maps.is_empty();
                both.then_some(layout)
            })
            .take(MOST_LAYOUTS)
            .collect()
    }

    /// Notes the locks and maps of a struct and of those in it.
    fn flatten(&self, of: &Type, path: &str, base: u64, nesting: u8, into: &mut Layout) {
        for (name, offset, member) in &of.members {
            let Some(member) = self.types.get(*member) else {
                continue;
            };
            let path = format!("{path}{name}");
            let Some(offset) = base.checked_add(*offset) else {
                continue;
            };
            let found = match class(&member) {
                Class::Lock => &mut into.locks,
                Class::Map => &mut into.maps,
                Class::SyncMap => continue,
                Class::Other => {
                    if member.kind == Kind::Struct && nesting > 1 {
                        let path = format!("{path}.");
                        self.flatten(&member, &path, offset, nesting - 1, into);
                    }
                    continue;
                }
            };
            if found.len() < MOST_MEMBERS {
                found.push(Member {
                    path,
                    offset,
                    runtime_type: member.runtime,
                });
            }
        }
    }
}
