//! Package variables that are, hold or lead to maps and locks, by the program's
//! debugging information: from addresses to names such as `main.cache`,
//! `main.server.sessions` or `main.shards[3].mu`. And structs that hold both a
//! lock and a map, for those that no variable leads to.
//!
//! Debugging information is read once, one unit at a time, and only what leads
//! somewhere is kept. Values are read from memory each time, because a variable
//! may point to another map later.

mod declared;
mod shape;
mod unit;
mod walk;

use std::ops::ControlFlow;

use shape::{Builder, Id, Shape};
pub use shape::{Layout, Member};
use unit::Types;
pub use walk::Names;

use super::{dwarf, image::Image};

/// Variables that are looked at, those of the program's own packages first.
const MOST: usize = 1 << 14;

/// What a program declares.
#[derive(Debug, Default)]
pub struct Variables {
    roots: Vec<Root>,
    shapes: Vec<Shape>,
    /// Structs with a lock and a map.
    pub layouts: Vec<Layout>,
}

/// A variable that leads somewhere.
#[derive(Debug)]
struct Root {
    name: String,
    /// As the file is linked.
    address: u64,
    shape: Id,
}

impl Variables {
    /// Reads a program's debugging information; none without. Takes a second
    /// for a hundred megabytes of it, and memory for the largest unit, which is
    /// given back.
    pub fn of(image: &Image) -> Option<Self> {
        let mut declared = Vec::new();
        dwarf::each_unit(image, |unit| {
            // A unit that cannot be read has no variables for us.
            let _ = declared::collect(unit, &mut declared);
            ControlFlow::Continue(())
        })?;
        // `main` first: what is cut off at a limit is what matters least.
        declared.sort_by_cached_key(|variable| rank(&variable.name));
        declared.truncate(MOST);
        let mut found = Self::default();
        dwarf::each_unit(image, |unit| {
            let wanted = declared.iter().any(|one| unit_has(unit, one.of));
            if wanted && let Ok(types) = Types::new(unit) {
                let mut builder = Builder::new(types, &mut found.shapes);
                for variable in &declared {
                    if unit_has(unit, variable.of)
                        && let Some(shape) = builder.shape(variable.of)
                    {
                        found.roots.push(Root {
                            name: variable.name.clone(),
                            address: variable.address,
                            shape,
                        });
                    }
                }
                found.layouts.extend(builder.layouts());
            }
            ControlFlow::Continue(())
        })?;
        Some(found)
    }
}

fn unit_has(unit: &dwarf::Unit<'_>, offset: u64) -> bool {
    offset
        .checked_sub(unit.start)
        .is_some_and(|within| within < unit.bytes.len() as u64)
}

/// The program's own package, other modules', the standard library's.
fn rank(name: &str) -> u8 {
    let first = name.split('/').next().unwrap_or(name);
    match first {
        _ if name.starts_with("main.") => 0,
        domain if first.len() < name.len() && domain.contains('.') => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variables_come_first() {
        let mut names = ["net/http.x", "main.cache", "example.com/shop.cart", "os.x"];
        names.sort_by_key(|name| rank(name));
        assert_eq!(names[..2], ["main.cache", "example.com/shop.cart"]);
    }
}
