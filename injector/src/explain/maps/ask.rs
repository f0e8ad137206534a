//! What should be found out.

use std::cmp::Reverse;

use super::{TYPES, Trace, Unknown};

/// How often one thing is asked for.
const ASKED: u8 = 3;
/// And not sooner again, in nanoseconds: to look through all that is known
/// takes a millisecond.
const PAUSE_NS: u64 = 500_000_000;
/// Maps whose size is asked for each time: those that are shown.
const SIZED: usize = 16;

impl Trace {
    /// What should be found out, most wanted first, at most `limit`; nothing if
    /// that was asked less than half a second ago. What was asked for three times
    /// is not asked for again, but for sizes.
    pub fn unknown(&mut self, limit: usize) -> Vec<Unknown> {
        let again_ns = self.asked_ns.map_or(0, |at| at.saturating_add(PAUSE_NS));
        if self.latest_ns < again_ns {
            return Vec::new();
        }
        self.asked_ns = Some(self.latest_ns);
        let mut wanted = self.wanted();
        wanted.sort_by_key(|(rank, _)| Reverse(*rank));
        wanted.truncate(limit);
        for (_, unknown) in &wanted {
            self.asked(unknown);
        }
        wanted.into_iter().map(|(_, unknown)| unknown).collect()
    }

    /// Each with how much it is wanted.
    fn wanted(&self) -> Vec<(u64, Unknown)> {
        let mut wanted = Vec::new();
        let mut goroutines = Vec::new();
        let mut types = Vec::new();
        let mut ranked: Vec<_> = self
            .maps
            .iter()
            .map(|(address, map)| (self.rank(map), address, map))
            .collect();
        ranked.sort_unstable_by_key(|(rank, address, _)| Reverse((*rank, *address)));
        for (index, (rank, address, map)) in ranked.into_iter().enumerate() {
            let map_type = map.map_type;
            if index < SIZED {
                wanted.push((rank, Unknown::MapSize(address)));
                let touchers = map.touchers.iter();
                goroutines.extend(touchers.map(|one| (rank, one.goroutine)));
            }
            if map.name.is_none() && map.asked < ASKED {
                wanted.push((rank, Unknown::Map { address, map_type }));
            }
            if map_type != 0 && !types.contains(&map_type) {
                types.push(map_type);
                let room = self.types.len() < TYPES;
                let ask = match self.types.get(&map_type) {
                    Some((name, asked)) => name.is_none() && *asked < ASKED,
                    None => room,
                };
                if ask {
                    wanted.push((rank, Unknown::MapType(map_type)));
                }
            }
        }
        for (address, lock) in self.locks.iter() {
            let rank = super::view::contended(lock.waits(), lock.open);
            if rank == 0 {
                continue;
            }
            if lock.name.is_none() && lock.asked < ASKED {
                wanted.push((rank, Unknown::Lock(address)));
            }
            let waiters = lock.waiters.iter().map(|(_, one)| one.goroutine);
            let holders = lock.holders.iter().map(|(_, one)| one.goroutine);
            goroutines.extend(waiters.chain(holders).map(|id| (rank, id)));
        }
        for (address, map) in self.sync_maps.iter() {
            if map.name.is_none() && map.asked < ASKED {
                wanted.push((map.ops.all(), Unknown::SyncMap(address)));
            }
        }
        goroutines.sort_unstable_by_key(|(rank, id)| (*id, Reverse(*rank)));
        goroutines.dedup_by_key(|(_, id)| *id);
        for (rank, id) in goroutines {
            if let Some(one) = self.goroutines.get(id)
                && one.origin == 0
                && one.asked < ASKED
            {
                let address = one.address;
                wanted.push((rank, Unknown::Goroutine { id, address }));
            }
        }
        wanted
    }

    fn asked(&mut self, unknown: &Unknown) {
        let asked = match *unknown {
            Unknown::Map { address, .. } => self.maps.get_mut(address).map(|it| &mut it.asked),
            Unknown::MapSize(_) => None,
            Unknown::MapType(address) => Some(&mut self.types.entry(address).or_default().1),
            Unknown::Lock(address) => self.locks.get_mut(address).map(|it| &mut it.asked),
            Unknown::SyncMap(address) => self.sync_maps.get_mut(address).map(|it| &mut it.asked),
            Unknown::Goroutine { id, .. } => self.goroutines.get_mut(id).map(|it| &mut it.asked),
        };
        if let Some(asked) = asked {
            *asked += 1;
        }
    }
}
