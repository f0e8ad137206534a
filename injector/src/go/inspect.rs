//! Answers about addresses that events name: from the program's file and, while
//! it runs, from its memory, which is only read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    bytes::u64,
    layout::Field,
    loaded::Loaded,
    maps::MapKind,
    memory::Memory,
    types,
    variables::{Layout, Names, Variables},
};
use crate::explain::maps::{Fact, Unknown};

/// How far around a lock a map's header is looked for, in bytes: structs that
/// are guarded by a lock are rarely larger.
const NEIGHBOURHOOD: u64 = 512;
/// Locks and maps that are remembered for that; reading the surroundings of so
/// many locks takes less than a millisecond.
const MOST_REMEMBERED: usize = 256;
/// Variables are not followed more often.
const PAUSE: Duration = Duration::from_millis(300);
/// And not for more than this share of the time.
const SHARE: u32 = 50;
/// Bytes of a `g` that have all we want.
const GOROUTINE_BYTES: usize = 512;
/// Bytes of a map's header.
const HEADER_BYTES: usize = 48;
/// A size that no map has: what is there is no map (any more).
const MOST_ELEMENTS: u64 = 1 << 40;

/// Looks into one process.
pub struct Inspector {
    loaded: Arc<Loaded>,
    memory: Memory,
    variables: State,
    names: Names,
    followed: Option<Instant>,
    pause: Duration,
    /// Maps that were asked for, with their types.
    maps: BTreeMap<u64, u64>,
    locks: BTreeSet<u64>,
    told: BTreeSet<(u64, u64)>,
}

enum State {
    Reading(Receiver<Option<Variables>>),
    Read(Variables),
    Unknown,
}

impl Inspector {
    /// Begins to read the program's debugging information, aside: it can take
    /// seconds.
    pub fn new(loaded: Arc<Loaded>, pid: u32) -> Self {
        let (send, receive) = channel();
        let of = Arc::clone(&loaded);
        let reader = thread::Builder::new().name("debug-info".to_owned());
        let reading = reader.spawn(move || {
            // Nobody listens any more at the end of a run.
            let _ = send.send(Variables::of(of.program().image()));
        });
        Self {
            loaded,
            memory: Memory::of(pid),
            variables: match reading {
                Ok(_) => State::Reading(receive),
                Err(_) => State::Unknown,
            },
            names: Names::default(),
            followed: None,
            pause: PAUSE,
            maps: BTreeMap::new(),
            locks: BTreeSet::new(),
            told: BTreeSet::new(),
        }
    }

    /// Whether debugging information was read, as far as there is any: before
    /// that, names cannot be told.
    pub fn is_ready(&mut self) -> bool {
        self.receive();
        !matches!(self.variables, State::Reading(_))
    }

    /// Why names of variables and fields are not there, if so.
    pub fn lacks_names(&self) -> Option<&'static str> {
        match &self.variables {
            State::Unknown => Some("the program has no debugging information (DWARF)"),
            State::Reading(_) => Some("its debugging information was still being read"),
            State::Read(_) => None,
        }
    }

    /// Answers what can be answered now. What cannot may be asked again.
    pub fn answer(&mut self, questions: &[Unknown]) -> Vec<Fact> {
        self.receive();
        let mut facts = Vec::new();
        let mut unnamed = Vec::new();
        for question in questions {
            match *question {
                Unknown::Map { address, map_type } => {
                    unnamed.push(address);
                    remember(&mut self.maps, address, map_type);
                }
                Unknown::Lock(address) => {
                    unnamed.push(address);
                    if self.locks.len() >= MOST_REMEMBERED {
                        self.locks.pop_first();
                    }
                    self.locks.insert(address);
                }
                Unknown::SyncMap(address) => unnamed.push(address),
                Unknown::MapSize(address) => facts.extend(self.size(address)),
                Unknown::MapType(address) => facts.extend(self.map_type(address)),
                Unknown::Goroutine { id, address } => facts.extend(self.goroutine(id, address)),
            }
        }
        self.name(&unnamed, &mut facts);
        self.guards(&mut facts);
        facts
    }

    fn receive(&mut self) {
        let State::Reading(receiver) = &self.variables else {
            return;
        };
        self.variables = match receiver.try_recv() {
            Ok(Some(variables)) => State::Read(variables),
            Ok(None) | Err(TryRecvError::Disconnected) => State::Unknown,
            Err(TryRecvError::Empty) => return,
        };
    }

    /// Names of package variables and what they lead to. Those that are not
    /// among the known ones are looked for anew.
    fn name(&mut self, addresses: &[u64], facts: &mut Vec<Fact>) {
        let State::Read(variables) = &self.variables else {
            return;
        };
        let missing = addresses.iter().any(|one| self.names.get(*one).is_none());
        let rested = self.followed.is_none_or(|at| at.elapsed() >= self.pause);
        if missing && rested {
            let start = Instant::now();
            self.names = variables.names(self.memory, |address| self.loaded.placed(address));
            self.pause = PAUSE.max(start.elapsed() * SHARE);
            self.followed = Some(Instant::now());
        }
        facts.extend(addresses.iter().filter_map(|address| {
            Some(Fact::Name {
                address: *address,
                name: self.names.get(*address)?.to_owned(),
                measured: true,
            })
        }));
    }

    /// Maps whose header a word near a lock points to. Small objects lie close
    /// to each other: with debugging information only those count that are in
    /// one struct by it, without only the nearest lock.
    fn guards(&mut self, facts: &mut Vec<Fact>) {
        let layouts = match &self.variables {
            // Then it is told with the names of the fields.
            State::Reading(_) => return,
            State::Read(variables) => Some(&variables.layouts[..]),
            State::Unknown => None,
        };
        let mut nearest: BTreeMap<u64, (u64, i64, u64)> = BTreeMap::new();
        let mut found = Vec::new();
        for lock in &self.locks {
            for (map, distance) in near(self.memory, *lock, &self.maps) {
                let here = (distance.unsigned_abs(), distance, *lock);
                if let Some(layouts) = layouts {
                    let map_type = self.maps.get(&map).copied().unwrap_or(0);
                    match fields(layouts, distance, self.runtime_type(map_type)) {
                        Fit::None => {}
                        Fit::One(of_lock, of_map) => {
                            found.push((*lock, map, distance, Some((of_lock, of_map))));
                        }
                        Fit::Several => found.push((*lock, map, distance, None)),
                    }
                } else {
                    let known = nearest.entry(map).or_insert(here);
                    *known = here.min(*known);
                }
            }
        }
        let near = nearest.into_iter();
        found.extend(near.map(|(map, (_, distance, lock))| (lock, map, distance, None)));
        for (lock, map, distance, fields) in found {
            if self.told.len() >= MOST_REMEMBERED * MOST_REMEMBERED {
                self.told.clear();
            }
            if !self.told.insert((lock, map)) {
                continue;
            }
            if let Some((of_lock, of_map)) = &fields {
                for (address, name) in [(lock, of_lock), (map, of_map)] {
                    if self.names.get(address).is_none() {
                        facts.push(Fact::Name {
                            address,
                            name: name.clone(),
                            measured: false,
                        });
                    }
                }
            }
            facts.push(Fact::Guard {
                lock,
                map,
                distance,
                fields,
            });
        }
    }

    /// Where in the type data a type is, as debugging information counts.
    fn runtime_type(&self, address: u64) -> Option<u64> {
        (address != 0).then_some(())?;
        let start = self.loaded.program().types()?;
        self.loaded.linked(address).checked_sub(start)
    }

    fn map_type(&self, address: u64) -> Option<Fact> {
        let name = types::map_name(&self.loaded, self.memory, address)?;
        Some(Fact::MapType { address, name })
    }

    fn offset(&self, field: Field) -> Option<usize> {
        usize::try_from(self.loaded.program().offsets.get(field)?).ok()
    }

    fn size(&self, address: u64) -> Option<Fact> {
        let header: [u8; HEADER_BYTES] = self.memory.bytes(address)?;
        let word = |field| u64(&header, self.offset(field)?);
        let (elements, buckets_or_tables) = match self.loaded.program().maps? {
            MapKind::Classic => {
                let buckets = header.get(self.offset(Field::ClassicLogBuckets)?)?;
                let buckets = 1u64.checked_shl(u32::from(*buckets))?;
                (word(Field::ClassicCount)?, buckets)
            }
            MapKind::Swiss => (word(Field::SwissUsed)?, word(Field::SwissDirectoryLength)?),
        };
        let plausible = elements <= MOST_ELEMENTS && buckets_or_tables <= MOST_ELEMENTS;
        plausible.then_some(Fact::MapSize {
            address,
            elements,
            buckets_or_tables,
        })
    }

    fn goroutine(&self, id: u64, address: u64) -> Option<Fact> {
        let g: [u8; GOROUTINE_BYTES] = self.memory.bytes(address)?;
        let word = |field| u64(&g, self.offset(field)?);
        let number_at = self.offset(Field::GoroutineId)? as u64;
        // A `g` is given to another goroutine when its own has ended: the number
        // has to be right before and after.
        let after = self.memory.word(address.checked_add(number_at)?)?;
        let same = word(Field::GoroutineId)? == id && after == id;
        same.then_some(())?;
        Some(Fact::Goroutine {
            id,
            // Not kept before Go 1.21.
            parent: word(Field::GoroutineParent).unwrap_or(0),
            creator: word(Field::GoroutineCreator)?,
            start: word(Field::GoroutineStart)?,
        })
    }
}

fn remember(maps: &mut BTreeMap<u64, u64>, address: u64, map_type: u64) {
    if maps.len() >= MOST_REMEMBERED && !maps.contains_key(&address) {
        maps.pop_first();
    }
    maps.insert(address, map_type);
}

/// Maps whose headers are pointed to from near an address, with the distance of
/// the pointer.
fn near(memory: Memory, lock: u64, maps: &BTreeMap<u64, u64>) -> Vec<(u64, i64)> {
    const PAGE: u64 = 4096;
    let aligned = lock & !7;
    // What lies before can be on a page that is not there.
    let starts = [aligned.saturating_sub(NEIGHBOURHOOD), lock & !(PAGE - 1)];
    let mut bytes = vec![0; 2 * NEIGHBOURHOOD as usize];
    for start in starts {
        let start = start.max(aligned.saturating_sub(NEIGHBOURHOOD));
        let size = memory.read(start, &mut bytes);
        if size == 0 {
            continue;
        }
        let (words, _) = bytes[..size].as_chunks::<8>();
        return (start..)
            .step_by(8)
            .zip(words)
            .map(|(at, word)| (u64::from_le_bytes(*word), at.wrapping_sub(lock) as i64))
            .filter(|(word, _)| maps.contains_key(word))
            .collect();
    }
    Vec::new()
}

/// What debugging information says of a lock and a map in one struct.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fit {
    /// No struct has them so.
    None,
    /// One has: its fields of the lock and of the map.
    One(String, String),
    /// Which one it is cannot be told.
    Several,
}

/// Structs that have a map of a type so far behind a lock.
fn fields(layouts: &[Layout], distance: i64, runtime_type: Option<u64>) -> Fit {
    let mut found = BTreeSet::new();
    for layout in layouts {
        for lock in &layout.locks {
            for map in &layout.maps {
                let fits = lock.offset.checked_add_signed(distance) == Some(map.offset);
                let types = (map.runtime_type, runtime_type);
                let differ = matches!(types, (own @ 1.., Some(asked)) if own != asked);
                if fits && !differ {
                    // A struct within another one is found in both.
                    let depth = [lock, map].map(|one| one.path.matches('.').count());
                    let name = |field: &str| format!("{}.{field}", layout.name);
                    found.insert((depth, name(&lock.path), name(&map.path)));
                }
            }
        }
    }
    let mut found = found.into_iter();
    let Some((depth, lock, map)) = found.next() else {
        return Fit::None;
    };
    match found.next() {
        Some((other, ..)) if other == depth => Fit::Several,
        _ => Fit::One(lock, map),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::variables::Member, *};

    fn member(path: &str, offset: u64, runtime_type: u64) -> Member {
        Member {
            path: path.to_owned(),
            offset,
            runtime_type,
        }
    }

    fn layout(name: &str, lock: Member, map: Member) -> Layout {
        Layout {
            name: name.to_owned(),
            locks: vec![lock],
            maps: vec![map],
        }
    }

    #[test]
    fn fields_are_named_by_distance_and_type_if_there_is_one_answer() {
        let cache = layout("main.Cache", member("mu", 8, 0), member("items", 32, 0x40));
        let outer = layout(
            "main.Server",
            member("cache.mu", 72, 0),
            member("cache.items", 96, 0x40),
        );
        let layouts = [outer, cache];
        let cache = Fit::One("main.Cache.mu".into(), "main.Cache.items".into());
        assert_eq!(fields(&layouts, 24, Some(0x40)), cache);
        assert_eq!(fields(&layouts, 24, None), cache);
        assert_eq!(fields(&layouts, 24, Some(0x50)), Fit::None);
        assert_eq!(fields(&layouts, 16, Some(0x40)), Fit::None);
        let other = layout("main.Other", member("mu", 0, 0), member("m", 24, 0x40));
        let layouts = [&layouts[..], &[other]].concat();
        assert_eq!(fields(&layouts, 24, Some(0x40)), Fit::Several);
    }

    #[test]
    fn maps_near_a_lock_are_found_on_both_sides() {
        let own = Memory::of(std::process::id());
        let maps = BTreeMap::from([(0x1111_1110, 0), (0x2222_2220, 0)]);
        let mut words = vec![0u64; 256];
        words[100] = 0x1111_1110;
        words[110] = 0x2222_2220;
        words[200] = 0x1111_1110;
        let lock = &raw const words[104] as u64 + 4;
        assert_eq!(
            near(own, lock, &maps),
            [(0x1111_1110, -36), (0x2222_2220, 44)]
        );
        assert!(near(own, 64, &maps).is_empty());
    }
}
