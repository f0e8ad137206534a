//! What a goroutine is at.

use std::collections::HashMap;

use super::{
    lock::Wait,
    symbols::{StackId, Symbols},
    table::Kept,
};

/// Locks that one goroutine is known to hold at once.
const HELD: usize = 4;
/// Maps that are remembered to have been used under a held lock.
const USED: usize = 4;
/// Pairs of creating function and first function that are told apart.
const ORIGINS: usize = 1024;

/// Where goroutines are from, 0 when that is not known.
pub type OriginId = u16;

/// A lock that a goroutine got: by an event of its own, whereas it is not seen
/// how it releases it when nobody waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Its address.
    pub lock: u64,
    /// When it got it.
    pub since_ns: u64,
    /// Its release is seen in any case, as long as the window is open.
    pub certain: bool,
    maps: [u64; USED],
}

impl Held {
    /// Just got.
    pub fn new(lock: u64, since_ns: u64, certain: bool) -> Self {
        Self {
            lock,
            since_ns,
            certain,
            maps: [0; USED],
        }
    }

    /// Remembers a map that was used under it; whether that is new.
    pub fn use_map(&mut self, map: u64) -> bool {
        for slot in &mut self.maps {
            if *slot == map {
                return false;
            }
            if *slot == 0 {
                *slot = map;
                return true;
            }
        }
        false
    }

    /// The maps that were used under it.
    pub fn maps(&self) -> impl Iterator<Item = u64> {
        self.maps.into_iter().take_while(|map| *map != 0)
    }
}

/// What is known of a goroutine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goroutine {
    /// Address of its `g`.
    pub address: u64,
    /// Where it is from.
    pub origin: OriginId,
    /// How often it was asked where it is from.
    pub asked: u8,
    /// Its last event.
    pub last_ns: u64,
    /// It found this mutex not free: when, and where.
    pub asking: Option<(u64, u64, StackId)>,
    /// It waits at a semaphore, or has done so just now.
    pub wait: Option<Wait>,
    /// The `sync.Map` that it is in `Range` of.
    pub range: Option<u64>,
    /// The `sync.Map` that it used last.
    pub sync_map: u64,
    held: [Held; HELD],
}

impl Goroutine {
    /// It got a lock.
    pub fn take(&mut self, held: Held) {
        self.release(held.lock);
        let oldest = self.held.iter_mut().min_by_key(|held| held.since_ns);
        *oldest.expect("there is more than one") = held;
    }

    /// It released a lock; what was known of it.
    pub fn release(&mut self, lock: u64) -> Option<Held> {
        let held = self
            .held
            .iter_mut()
            .find(|held| held.lock == lock && lock != 0)?;
        Some(std::mem::take(held))
    }

    /// Whether there is a lock that it may hold.
    pub fn holds(&self) -> bool {
        self.held.iter().any(|held| held.lock != 0)
    }

    /// It may have released its locks unseen.
    pub fn forget_held(&mut self) {
        self.held = [Held::default(); HELD];
    }

    /// The locks that it got and is not known to have released.
    pub fn held(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.iter_mut().filter(|held| held.lock != 0)
    }
}

impl Kept for Goroutine {
    fn worth(&self) -> (u64, u64) {
        (u64::from(self.wait.is_some()), self.last_ns)
    }
}

/// The functions that goroutines begin with and are made by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The function with the `go` statement, and its line.
    pub creator: Option<(String, u32)>,
    /// The first function.
    pub start: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub struct Origins {
    ids: HashMap<Origin, OriginId>,
    all: Vec<Origin>,
}

impl Default for Origins {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            all: vec![Origin::default()],
        }
    }
}

impl Origins {
    /// That of a goroutine, by the return address of the `go` statement and the
    /// entry of the first function.
    pub fn of(&mut self, creator: u64, start: u64, symbols: &dyn Symbols) -> OriginId {
        let creator = (creator > 1).then(|| symbols.frames(&[creator - 1]));
        let start = (start != 0).then(|| symbols.frames(&[start]));
        let origin = Origin {
            creator: creator
                .and_then(|frames| frames.into_iter().next())
                .map(|frame| (frame.function, frame.line)),
            start: start
                .and_then(|frames| frames.into_iter().next_back())
                .map(|frame| frame.function),
        };
        if let Some(id) = self.ids.get(&origin) {
            return *id;
        }
        if self.all.len() > ORIGINS {
            return 0;
        }
        let id = self.all.len() as OriginId;
        self.all.push(origin.clone());
        self.ids.insert(origin, id);
        id
    }

    /// What is known of it.
    pub fn get(&self, id: OriginId) -> &Origin {
        &self.all[usize::from(id)]
    }
}
