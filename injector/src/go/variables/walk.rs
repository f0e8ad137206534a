//! From variables to the addresses that they lead to now.

use std::collections::{HashMap, HashSet};

use super::{Id, Shape, Variables, shape::MOST_ELEMENTS};
use crate::go::memory::Memory;

/// Reads of memory for all variables together: some 20 ms.
const MOST_READS: usize = 1 << 14;
/// Names that are kept.
const MOST_NAMES: usize = 1 << 14;
/// Longest name that is made, in bytes.
const LONGEST_NAME: usize = 512;

/// Names by address: of a map that of its header, of a lock and a `sync.Map`
/// its own.
#[derive(Debug, Default)]
pub struct Names(HashMap<u64, String>);

impl Names {
    /// The name of what is at an address.
    pub fn get(&self, address: u64) -> Option<&str> {
        self.0.get(&address).map(String::as_str)
    }
}

impl Variables {
    /// Follows all variables in the memory of a process; `placed` says where it
    /// has an address of the file.
    pub fn names(&self, memory: Memory, placed: impl Fn(u64) -> u64) -> Names {
        let mut walk = Walk {
            shapes: &self.shapes,
            memory,
            reads: MOST_READS,
            seen: HashSet::new(),
            names: HashMap::new(),
        };
        for root in &self.roots {
            let mut path = root.name.clone();
            walk.visit(root.shape, placed(root.address), &mut path);
        }
        Names(walk.names)
    }
}

struct Walk<'a> {
    shapes: &'a [Shape],
    memory: Memory,
    reads: usize,
    /// What was visited, so that nothing is read twice. The first way to it
    /// names it: that is of the variable that comes first.
    seen: HashSet<(Id, u64)>,
    names: HashMap<u64, String>,
}

impl Walk<'_> {
    /// Shapes lead only to shapes that were made before, so this ends.
    fn visit(&mut self, id: Id, address: u64, path: &mut String) {
        let shapes = self.shapes;
        let Some(shape) = shapes.get(id as usize) else {
            return;
        };
        if self.names.len() >= MOST_NAMES
            || path.len() > LONGEST_NAME
            || !self.seen.insert((id, address))
        {
            return;
        }
        match shape {
            Shape::Here => self.name(address, path),
            Shape::Map => {
                if let Some(header) = self.read(address) {
                    self.name(header, path);
                }
            }
            Shape::Pointer(to) => {
                if let Some(address) = self.read(address) {
                    self.visit(*to, address, path);
                }
            }
            Shape::Struct(fields) => {
                for (name, offset, id) in fields {
                    let end = path.len();
                    path.push('.');
                    path.push_str(name);
                    self.visit(*id, address.wrapping_add(*offset), path);
                    path.truncate(end);
                }
            }
            Shape::Slice(to, size) => {
                let length = self.read(address.wrapping_add(8)).unwrap_or(0);
                if let Some(first) = self.read(address) {
                    self.elements(*to, first, *size, length.min(MOST_ELEMENTS), path);
                }
            }
            Shape::Array(to, size, count) => self.elements(*to, address, *size, *count, path),
        }
    }

    fn elements(&mut self, to: Id, first: u64, size: u64, count: u64, path: &mut String) {
        use std::fmt::Write as _;
        for index in 0..count {
            let end = path.len();
            let _ = write!(path, "[{index}]");
            let address = first.wrapping_add(index.wrapping_mul(size));
            self.visit(to, address, path);
            path.truncate(end);
        }
    }

    fn name(&mut self, address: u64, path: &str) {
        let known = self.names.entry(address);
        known.or_insert_with(|| path.to_owned());
    }

    /// A word that is not zero.
    fn read(&mut self, address: u64) -> Option<u64> {
        self.reads = self.reads.checked_sub(1)?;
        self.memory.word(address).filter(|word| *word != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{super::Root, *};

    /// `var shards []*shard`, with `type shard struct { mu sync.Mutex; items map… }`,
    /// in our own memory.
    #[test]
    fn names_are_paths_to_where_variables_lead_now() {
        let first = [0u64, 0x1000];
        let second = [0u64, 0x2000];
        let pointers = [&first, &second].map(|shard| AtomicU64::new(shard.as_ptr() as u64));
        let slice = [pointers.as_ptr() as u64, 2, 2];
        let variables = Variables {
            shapes: vec![
                Shape::Here,
                Shape::Map,
                Shape::Struct(vec![("mu".into(), 0, 0), ("items".into(), 8, 1)]),
                Shape::Pointer(2),
                Shape::Slice(3, 8),
            ],
            roots: vec![Root {
                name: "main.shards".into(),
                address: slice.as_ptr() as u64 - 0x100,
                shape: 4,
            }],
            layouts: Vec::new(),
        };
        let memory = Memory::of(std::process::id());
        let names = || variables.names(memory, |address| address + 0x100);
        let known = names();
        assert_eq!(known.get(0x2000), Some("main.shards[1].items"));
        assert_eq!(known.get(first.as_ptr() as u64), Some("main.shards[0].mu"));
        assert_eq!(known.0.len(), 4);
        pointers[1].store(0, Ordering::Relaxed);
        assert_eq!(names().get(0x2000), None);
        assert_eq!(names().get(0x1000), Some("main.shards[0].items"));
    }

    #[test]
    fn what_leads_to_itself_or_nowhere_ends() {
        let mut own = [0u64, 1 << 60, 1 << 60];
        own[0] = own.as_ptr() as u64;
        let variables = Variables {
            // A slice of itself, which debugging information cannot say.
            shapes: vec![Shape::Slice(0, 0), Shape::Array(9, 1, u64::MAX)],
            roots: vec![Root {
                name: "main.loop".into(),
                address: own.as_ptr() as u64,
                shape: 0,
            }],
            layouts: Vec::new(),
        };
        let names = variables.names(Memory::of(std::process::id()), |address| address);
        assert!(names.0.is_empty());
    }
}
