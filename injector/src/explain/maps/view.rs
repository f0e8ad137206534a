//! What is known, with names: for tables. Made anew each time it is asked for.

use std::{cmp::Reverse, collections::HashMap};

use injector_ebpf::go::Event;

use super::{
    About, Class, Confidence, NoLocks, Ops, Parts, Party, Trace, Waits,
    lock::{Lock, Side},
    map::Map,
    symbols::StackId,
    sync_map::SyncOps,
};
use crate::{explain::Times, go::Frame};

/// Uses under a lock, each seen from when it was got to when it was released,
/// that are enough to take it for the map's guard.
const ENOUGH: u64 = 8;
/// Contention and risk come before what is only used much.
const FIRST: u64 = 1 << 48;

/// How wanted a contended lock is, 0 if nobody waits or waited.
pub fn contended(waits: Waits, open: u32) -> u64 {
    match waits.total_ns + u64::from(open) {
        0 => 0,
        ns => FIRST.saturating_add(ns),
    }
}

/// The lock that guards a map, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardView {
    /// Its address.
    pub lock: u64,
    /// `Mutex` or `RWMutex`, unless that was not seen.
    pub kind: Option<&'static str>,
    /// Its name.
    pub name: Option<String>,
    /// How sure it is.
    pub confidence: Confidence,
    /// Why.
    pub why: String,
}

/// A place and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub frame: Frame,
    /// What for.
    pub what: &'static str,
    /// How often.
    pub count: u64,
}

/// A map.
#[derive(Clone, Debug)]
pub struct MapView {
    /// Name, type, first use.
    pub about: About,
    /// The name was read, not guessed.
    pub name_measured: bool,
    /// `classic`, `swiss`, or `inside sync.Map`.
    pub kind: &'static str,
    /// Elements, and buckets or tables, when it was last looked at.
    pub size: Option<(u64, u64)>,
    /// What was seen to be done with it.
    pub ops: Ops,
    /// Operations while garbage was collected.
    pub during_gc: u64,
    /// Goroutines that used it; from 17 on, one that comes back may count
    /// again.
    pub goroutines: u64,
    /// Functions that these goroutines began with, as far as known.
    pub started_as: Vec<(String, u64)>,
    /// Where it was used, most often first.
    pub places: Vec<Place>,
    /// Its guard.
    pub guard: Option<GuardView>,
    /// Waits for its guard.
    pub waits: Waits,
    /// What they were for, if sends are told.
    pub blame: Option<Parts>,
    /// How many maps like it, each with a lock of its own, there are; 1 unless
    /// it is a shard.
    pub shards: u64,
    /// The gravest thing that was concluded of it.
    pub risk: Option<(super::Claim, Confidence)>,
}

/// A `sync.Map`.
#[derive(Clone, Debug)]
pub struct SyncView {
    /// Name and first use.
    pub about: About,
    /// What was seen to be done with it.
    pub ops: SyncOps,
    /// Waits for locks inside of it.
    pub waits: Waits,
    /// Ranges that were seen to their end, as far as that is seen.
    pub ranges_over: u64,
    /// During how many of them it was changed.
    pub ranges_disturbed: u64,
}

/// A lock that somebody waited for.
#[derive(Clone, Debug)]
pub struct LockView {
    /// Kind and name.
    pub about: About,
    /// Waits that are over.
    pub waits: Waits,
    /// Median and 99th percentile of them, in nanoseconds, to one digit.
    pub quantiles_ns: Option<(u64, u64)>,
    /// By what was waited for: a mutex, the readers' end, the writer's end.
    pub by_side: [Waits; 3],
    /// Goroutines that wait now, and for how long the first of them has.
    pub open: Option<(u32, u64)>,
    /// Got without sleeping though it was not free.
    pub unmeasured: u64,
    /// Time of waits in which no goroutine could run, in nanoseconds.
    pub paused_ns: u64,
    /// Waits during which garbage was collected.
    pub during_gc: u64,
    /// Who waited, longest first.
    pub waiters: Vec<Party>,
    /// Who held it, longest first.
    pub holders: Vec<Party>,
    /// Maps that it guards, by address.
    pub maps: Vec<u64>,
    /// What the waits were for, if sends are told.
    pub blame: Option<Parts>,
}

/// Maps that are guarded in the same way.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrangement {
    /// `RWMutex + map`, `Mutex + map`, `shards of …`, `sync.Map`.
    pub name: String,
    /// How many maps.
    pub maps: u64,
    /// How many locks.
    pub locks: u64,
    /// Operations that were seen.
    pub ops: u64,
    /// Waits for these locks.
    pub waits: Waits,
    /// Waiting time for each operation, in nanoseconds; of the operations
    /// that were not seen, it is assumed that there were as many at other times.
    pub ns_per_op: Option<f64>,
}

/// What is only known as a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SummedUp {
    /// Maps.
    pub maps: u64,
    /// What was done with them.
    pub ops: Ops,
    /// What was done with `sync.Map`s.
    pub sync_map_ops: u64,
    /// Locks.
    pub locks: u64,
    /// Waits for them.
    pub waits: Waits,
}

/// Garbage collection and pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collections {
    /// Collections, up to their last phase, and how long they took.
    pub collections: Waits,
    /// Times in which no goroutine ran.
    pub pauses: Waits,
}

impl Trace {
    /// How much is to be said of a map.
    pub(super) fn rank(&self, map: &Map) -> u64 {
        let risky = map.overlaps > 0
            || !map.foreign.changes.is_empty()
            || map.own.changes.assigns + map.own.changes.growths > 0;
        let guard = self.guard(map).and_then(|(lock, ..)| self.locks.get(lock));
        let waited = guard.map_or(0, |lock| contended(lock.waits(), lock.open));
        let risky = if risky { FIRST * 2 } else { 0 };
        risky + waited.min(FIRST * 2 - 1) + map.ops.all().min(FIRST - 1)
    }

    /// What the waits for a lock were for, if sends are told.
    fn blamed(&self, lock: &Lock) -> Option<Parts> {
        self.locks.blame.as_ref().map(|_| lock.blame)
    }

    /// The lock that guards a map, and how sure that is.
    #[allow(
        clippy::unused_self,
        reason = "what is concluded is asked of the trace"
    )]
    pub(super) fn guard(&self, map: &Map) -> Option<(u64, Confidence)> {
        if let Some(same) = &map.same_struct {
            let confidence = match map.under(same.lock).followed {
                0 => Confidence::Medium,
                _ => Confidence::High,
            };
            return Some((same.lock, confidence));
        }
        let all = map.under.iter();
        let (lock, used) =
            all.max_by_key(|(_, used)| (used.certain, used.enclosed, used.followed))?;
        let confidence = if used.certain >= ENOUGH {
            Confidence::High
        } else if used.certain > 0 || used.enclosed >= ENOUGH {
            Confidence::Medium
        } else if used.followed > 1 {
            Confidence::Low
        } else {
            return None;
        };
        Some((*lock, confidence))
    }

    /// Why this lock is taken for the guard.
    #[allow(
        clippy::unused_self,
        reason = "what is concluded is asked of the trace"
    )]
    pub(super) fn why_guard(&self, map: &Map, lock: u64) -> String {
        let used = map.under(lock);
        let mut why = match &map.same_struct {
            Some(same) => match &same.fields {
                Some((lock, map)) => format!("fields {lock} and {map} of one struct; "),
                None => format!(
                    "in one struct, {} bytes apart; ",
                    same.distance.unsigned_abs()
                ),
            },
            None => String::new(),
        };
        let how = if used.certain > 0 {
            format!("{} times used between Lock and Unlock", used.certain)
        } else if used.enclosed > 0 {
            format!(
                "{} times used after the lock was got and before it was released",
                used.enclosed
            )
        } else if used.followed > 0 {
            format!("{} times used after the lock was got", used.followed)
        } else {
            "not seen in use together".to_owned()
        };
        why.push_str(&how);
        why
    }

    fn guard_view(&self, map: &Map) -> Option<GuardView> {
        let (address, confidence) = self.guard(map)?;
        let lock = self.locks.get(address);
        Some(GuardView {
            lock: address,
            kind: lock.map(|lock| lock.kind.name()),
            name: lock.and_then(|lock| Some(lock.name.as_ref()?.text.clone())),
            confidence,
            why: self.why_guard(map, address),
        })
    }

    /// Maps that look like shards of one: of one type, first used at the same
    /// place, each with a lock of its own. The number of these locks, by type
    /// and place.
    fn shards(&self) -> HashMap<(u64, u16), Vec<u64>> {
        let mut shards: HashMap<_, Vec<u64>> = HashMap::new();
        for (_, map) in self.maps.iter() {
            if let Some((lock, ..)) = self.guard(map)
                && map.map_type != 0
                && map.first != 0
            {
                let locks = shards.entry((map.map_type, map.first)).or_default();
                if !locks.contains(&lock) {
                    locks.push(lock);
                }
            }
        }
        shards
    }

    /// What a map is called.
    pub(super) fn about_map(&self, address: u64, map: &Map) -> About {
        let type_name = self.types.get(&map.map_type);
        About {
            what: "map",
            address,
            name: map.name.as_ref().map(|name| name.text.clone()),
            type_name: type_name.and_then(|(name, _)| name.clone()),
            first_use: self.stacks.place(map.first).cloned(),
        }
    }

    /// What a lock is called.
    pub(super) fn about_lock(&self, address: u64, lock: &Lock) -> About {
        About {
            what: lock.kind.name(),
            address,
            name: lock.name.as_ref().map(|name| name.text.clone()),
            type_name: lock.sync_map.map(|_| "inside sync.Map".to_owned()),
            first_use: self.stacks.place(lock.first).cloned(),
        }
    }

    /// Somebody who took part.
    pub(super) fn party(&self, role: &'static str, goroutine: u64, stack: StackId) -> Party {
        let stack = self.stacks.get(stack);
        Party {
            role,
            goroutine: (goroutine != 0).then_some(goroutine),
            started_as: self.started_as(goroutine),
            place: self.stacks.place(stack.site).cloned(),
            stack: stack.frames.to_vec(),
            count: 0,
            total_ns: 0,
        }
    }

    /// The function that a goroutine began with, if it is known.
    pub fn started_as(&self, goroutine: u64) -> Option<String> {
        let origin = self.goroutines.get(goroutine)?.origin;
        self.origins.get(origin).start.clone()
    }

    /// The maps that most is to be said of, at most `limit`.
    pub fn maps(&self, limit: usize) -> Vec<MapView> {
        let risks = self.risks();
        let shards = self.shards();
        let mut all: Vec<_> = self
            .shown_maps()
            .map(|(address, map)| (self.rank(map), address, map))
            .collect();
        all.sort_unstable_by_key(|(rank, address, _)| Reverse((*rank, *address)));
        all.truncate(limit);
        let view = |(_, address, map): (u64, u64, &Map)| {
            let guard = self.guard_view(map);
            let lock = guard.as_ref().and_then(|guard| self.locks.get(guard.lock));
            let shards = shards.get(&(map.map_type, map.first)).map_or(1, Vec::len);
            MapView {
                about: self.about_map(address, map),
                name_measured: map.name.as_ref().is_some_and(|name| name.measured),
                kind: if map.in_sync_map {
                    "inside sync.Map"
                } else {
                    self.kind.name()
                },
                size: map.size,
                ops: map.ops,
                during_gc: map.during_gc,
                goroutines: map.goroutines(),
                started_as: self.starts(map),
                places: self.places(map),
                waits: lock.map_or(Waits::default(), Lock::waits),
                blame: lock.and_then(|lock| self.blamed(lock)),
                shards: if guard.is_some() {
                    shards.max(1) as u64
                } else {
                    1
                },
                guard,
                risk: risks.get(&address).copied(),
            }
        };
        all.into_iter().map(view).collect()
    }

    /// The functions that goroutines began with, and their operations.
    fn starts(&self, map: &Map) -> Vec<(String, u64)> {
        let mut starts: Vec<(String, u64)> = Vec::new();
        let mut add = |origin: u16, ops: u64| {
            if let Some(start) = &self.origins.get(origin).start {
                match starts.iter_mut().find(|(known, _)| known == start) {
                    Some((_, count)) => *count += ops,
                    None => starts.push((start.clone(), ops)),
                }
            }
        };
        for (origin, ops) in map.origins.iter() {
            add(*origin, ops.all());
        }
        for one in &map.touchers {
            let goroutine = self.goroutines.get(one.goroutine);
            add(goroutine.map_or(0, |it| it.origin), one.ops.all());
        }
        starts.sort_by_key(|(_, ops)| Reverse(*ops));
        starts
    }

    fn places(&self, map: &Map) -> Vec<Place> {
        let places = map.places.iter().filter_map(|((site, class), count)| {
            Some(Place {
                frame: self.stacks.place(*site)?.clone(),
                what: class.name(),
                count: *count,
            })
        });
        let mut places: Vec<_> = places.collect();
        places.sort_by_key(|place| Reverse(place.count));
        places
    }

    /// The `sync.Map`s, those that were used most first, at most `limit`.
    pub fn sync_maps(&self, limit: usize) -> Vec<SyncView> {
        let mut all: Vec<_> = self.shown_sync_maps().collect();
        all.sort_unstable_by_key(|(address, map)| Reverse((map.ops.all(), *address)));
        all.truncate(limit);
        let view = |(address, map): (u64, &super::sync_map::SyncMap)| SyncView {
            about: self.about_sync_map(address, map),
            ops: map.ops,
            waits: self.sync_map_waits(address),
            ranges_over: map.ranges_over,
            ranges_disturbed: map.ranges_disturbed,
        };
        all.into_iter().map(view).collect()
    }

    /// What a `sync.Map` is called.
    pub(super) fn about_sync_map(&self, address: u64, map: &super::sync_map::SyncMap) -> About {
        About {
            what: "sync.Map",
            address,
            name: map.name.as_ref().map(|name| name.text.clone()),
            type_name: None,
            first_use: self.stacks.place(map.first).cloned(),
        }
    }

    /// Before Go 1.24 its mutex is its first field.
    fn sync_map_waits(&self, address: u64) -> Waits {
        let locks = self.locks.iter();
        sum(locks.filter_map(|(at, lock)| {
            let own = lock.sync_map == Some(address) || lock.sync_map.is_some() && at == address;
            own.then(|| lock.waits())
        }))
    }

    /// Locks that somebody waits or waited for, longest first, at most `limit`.
    pub fn locks(&self, limit: usize) -> Vec<LockView> {
        let mut all: Vec<_> = self
            .shown_locks()
            .map(|(address, lock)| (contended(lock.waits(), lock.open), address, lock))
            .filter(|(rank, ..)| *rank > 0)
            .collect();
        all.sort_unstable_by_key(|(rank, address, _)| Reverse((*rank, *address)));
        all.truncate(limit);
        let open = self.open_waits();
        let mut guards: HashMap<u64, Vec<u64>> = HashMap::new();
        for (address, map) in self.maps.iter() {
            if let Some((lock, ..)) = self.guard(map) {
                guards.entry(lock).or_default().push(address);
            }
        }
        for maps in guards.values_mut() {
            maps.sort_unstable();
        }
        let view = |(_, address, lock): (u64, u64, &Lock)| {
            let times = lock.times.as_deref();
            LockView {
                about: self.about_lock(address, lock),
                waits: lock.waits(),
                quantiles_ns: times
                    .and_then(|times: &Times| Some((times.quantile(0.5)?, times.quantile(0.99)?))),
                by_side: [lock.mutex, lock.writer, lock.reader],
                open: open.get(&address).copied(),
                unmeasured: lock.unmeasured,
                paused_ns: lock.paused_ns,
                during_gc: lock.during_gc,
                waiters: self.waiters(lock),
                holders: self.holders(lock),
                maps: guards.remove(&address).unwrap_or_default(),
                blame: self.blamed(lock),
            }
        };
        all.into_iter().map(view).collect()
    }

    /// Who held it, then who waited.
    pub(super) fn lock_parties(&self, lock: &Lock) -> Vec<Party> {
        let mut parties = self.holders(lock);
        parties.truncate(3);
        parties.extend(self.waiters(lock));
        parties
    }

    fn waiters(&self, lock: &Lock) -> Vec<Party> {
        let waiters = lock.waiters.iter().map(|((_, side), one)| {
            let role = match side {
                Side::Reader => "waited to read",
                Side::Writer => "waited to write, for readers",
                Side::Mutex if lock.kind == super::lock::LockKind::RwMutex => {
                    "waited to write, for writers"
                }
                Side::Mutex => "waited",
            };
            Party {
                count: one.waits.count,
                total_ns: one.waits.total_ns,
                ..self.party(role, one.goroutine, one.stack)
            }
        });
        longest_first(waiters.collect())
    }

    fn holders(&self, lock: &Lock) -> Vec<Party> {
        let holders = lock.holders.iter().map(|(_, one)| Party {
            count: one.blocked.count,
            total_ns: one.blocked.total_ns,
            ..self.party("held", one.goroutine, one.stack)
        });
        longest_first(holders.collect())
    }

    /// Waits that are not over: how many for each lock, and how long the first
    /// has lasted.
    pub(super) fn open_waits(&self) -> HashMap<u64, (u32, u64)> {
        let mut open = HashMap::new();
        for (_, who) in self.goroutines.iter() {
            if let Some(wait) = who.wait.filter(super::lock::Wait::is_open)
                && let Some((lock, _)) = wait.lock
            {
                let lasts = self.latest_ns.saturating_sub(wait.start_ns);
                let (count, longest) = open.entry(lock).or_insert((0, 0));
                *count += 1;
                *longest = lasts.max(*longest);
            }
        }
        open
    }

    /// Ways in which maps are guarded, to compare what they cost in waiting.
    pub fn arrangements(&self) -> Vec<Arrangement> {
        struct Sum {
            maps: u64,
            locks: Vec<u64>,
            ops: u64,
        }
        let shards = self.shards();
        let mut sums: HashMap<String, Sum> = HashMap::new();
        for (_, map) in self.shown_maps() {
            let Some((lock, ..)) = self.guard(map) else {
                continue;
            };
            let kind = self.locks.get(lock).map_or("lock", |lock| lock.kind.name());
            let name = match shards.get(&(map.map_type, map.first)).map_or(1, Vec::len) {
                2.. => format!("shards of {kind} + map"),
                _ => format!("{kind} + map"),
            };
            let sum = sums.entry(name).or_insert(Sum {
                maps: 0,
                locks: Vec::new(),
                ops: 0,
            });
            sum.maps += 1;
            sum.ops += map.ops.all();
            if !sum.locks.contains(&lock) {
                sum.locks.push(lock);
            }
        }
        let share = self.share(Event::Access).unwrap_or(0.0);
        let arrangement = |name, maps, locks, ops, waits: Waits| Arrangement {
            name,
            maps,
            locks,
            ops,
            waits,
            ns_per_op: (ops > 0 && share > 0.0).then(|| waits.total_ns as f64 * share / ops as f64),
        };
        let mut all: Vec<_> = sums
            .into_iter()
            .map(|(name, sum_of)| {
                let locks = sum_of.locks.iter();
                let waits = sum(locks.filter_map(|lock| Some(self.locks.get(*lock)?.waits())));
                let locks = sum_of.locks.len() as u64;
                arrangement(name, sum_of.maps, locks, sum_of.ops, waits)
            })
            .collect();
        let sync_maps: Vec<_> = self.shown_sync_maps().collect();
        if !sync_maps.is_empty() {
            let inside = self
                .locks
                .iter()
                .filter(|(_, lock)| lock.sync_map.is_some());
            let waits: Vec<_> = inside.map(|(_, lock)| lock.waits()).collect();
            let ops = sync_maps.iter().map(|(_, map)| map.ops.all()).sum();
            all.push(arrangement(
                "sync.Map".to_owned(),
                sync_maps.len() as u64,
                waits.len() as u64,
                ops,
                sum(waits),
            ));
        }
        all.sort_by(|a, b| {
            b.waits
                .total_ns
                .cmp(&a.waits.total_ns)
                .then(a.name.cmp(&b.name))
        });
        all
    }

    /// Maps of which only this is known, to make room for others.
    pub fn summed_up(&self) -> SummedUp {
        let mut sum = SummedUp::default();
        let sorts = self.maps.sorts.iter().map(|(_, sort)| sort);
        for sort in sorts.chain([&self.maps.sorts.others]) {
            sum.maps += sort.maps;
            sum.ops.merge(sort.ops);
        }
        sum.sync_map_ops = self.sync_maps.given_up_ops;
        sum.locks = self.locks.summarised.locks;
        sum.waits = self.locks.summarised.waits;
        sum
    }

    /// Garbage collections and pauses.
    pub fn collections(&self) -> Collections {
        let spans = |spans: &super::gc::Spans| Waits {
            count: spans.count,
            total_ns: spans.total_ns,
            max_ns: spans.max_ns,
        };
        Collections {
            collections: spans(&self.gc.collections),
            pauses: spans(&self.gc.pauses),
        }
    }

    /// Waits at semaphores that are no locks.
    pub fn no_locks(&self) -> NoLocks {
        self.locks.others
    }

    /// What share of the time events of a kind were seen, from 0 to 1; of
    /// kinds that need windows, and not before the first is over.
    pub fn share(&self, kind: Event) -> Option<f64> {
        self.windows.share(kind, self.start_ns)
    }
}

fn sum(all: impl IntoIterator<Item = Waits>) -> Waits {
    all.into_iter().fold(Waits::default(), Waits::plus)
}

fn longest_first(mut parties: Vec<Party>) -> Vec<Party> {
    parties.sort_by_key(|party| Reverse((party.total_ns, party.count)));
    parties
}

/// What a class of operations is seen as.
pub(super) fn kind_of(class: Class) -> Event {
    match class {
        Class::Read => Event::Access,
        Class::Write => Event::Assign,
        Class::Iterate => Event::IterateNext,
    }
}
