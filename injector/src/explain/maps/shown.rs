//! What is shown: that which somebody did something with whose work is shown.
//! Then all that was done with it is told, whoever did it, because those who
//! run into each other need not both be of a package that is shown.

use super::{Trace, lock::Lock, map::Map, symbols::SiteId, sync_map::SyncMap};

impl Trace {
    /// Maps that are shown.
    pub(super) fn shown_maps(&self) -> impl Iterator<Item = (u64, &Map)> {
        self.maps.iter().filter(|(_, map)| {
            let places = map.places.iter().map(|((site, _), _)| *site);
            self.shows_any(places) || map.places.others > 0
        })
    }

    /// `sync.Map`s that are shown.
    pub(super) fn shown_sync_maps(&self) -> impl Iterator<Item = (u64, &SyncMap)> {
        self.sync_maps.iter().filter(|(_, map)| {
            let places = map.places.iter().map(|(site, _)| *site);
            self.shows_any(places) || map.places.others > 0
        })
    }

    /// Locks that are shown.
    pub(super) fn shown_locks(&self) -> impl Iterator<Item = (u64, &Lock)> {
        self.locks.iter().filter(|(_, lock)| {
            let waiters = lock.waiters.iter().map(|((site, _), _)| *site);
            let holders = lock.holders.iter().map(|(site, _)| *site);
            self.shows_any(waiters.chain(holders).chain([lock.first]))
        })
    }

    fn shows_any(&self, mut places: impl Iterator<Item = SiteId>) -> bool {
        places.any(|site| self.stacks.shows(site))
    }
}
