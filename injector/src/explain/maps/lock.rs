//! Who waits for which lock, and who holds it.
//!
//! Only what is contended is seen: a goroutine that finds a mutex not free
//! (`LockSlow`), one that sleeps at its semaphore, and one that releases what
//! others wait for. So a hold is seen from when somebody began to wait for it.

use std::collections::{HashSet, VecDeque};

use injector_ebpf::go::EventRecord;

use super::{
    super::Times,
    blame::{Blame, Parts, Span},
    gc::Gc,
    goroutine::{Goroutine, Held},
    map::Name,
    span::{self, Cause, Hold, Holder, Spans},
    symbols::{Role, SiteId, Stack, StackId},
    table::{Few, Kept, Table},
};
use crate::go::{Field, Offsets};

/// Locks that are kept apart; 7 KiB each once somebody waited for them.
const LOCKS: usize = 1024;
/// Semaphores of all sorts.
const SEMAPHORES: usize = 4096;
/// Places in the program where one lock is waited for, and where it is held.
const PLACES: usize = 8;
/// Releases of a lock that are remembered: of a wait with more of them, only the
/// latest are laid to the holders.
const RELEASES: usize = 64;
/// Pairs of goroutines of which one waited for the other.
const PAIRS: usize = 8192;

/// The kinds of locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// `sync.Mutex`.
    Mutex,
    /// `sync.RWMutex`.
    RwMutex,
}

impl LockKind {
    /// As Go names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mutex => "Mutex",
            Self::RwMutex => "RWMutex",
        }
    }
}

/// What of a lock is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A mutex, or that which keeps writers of an `RWMutex` apart.
    Mutex,
    /// The end of all readers.
    Writer,
    /// The end of the writer.
    Reader,
}

impl Side {
    /// What is waited for at this side of such a lock.
    fn of(self, kind: LockKind) -> &'static str {
        match (kind, self) {
            (LockKind::RwMutex, Self::Reader) => "RWMutex to read",
            (LockKind::RwMutex, _) => "RWMutex to write",
            (LockKind::Mutex, _) => "Mutex",
        }
    }
}

/// Where a lock has its semaphores: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockLayout {
    /// Semaphore of a `Mutex`.
    pub mutex: u64,
    /// Mutex of the writers in an `RWMutex`.
    pub inner: u64,
    /// Its semaphore of writers that wait for readers.
    pub writer: u64,
    /// Its semaphore of readers that wait for a writer.
    pub reader: u64,
}

impl LockLayout {
    /// As far as the program's are known; else as in Go 1.19 to 1.27, which are
    /// all the same.
    pub fn of(offsets: &Offsets) -> Self {
        let offset = |field, usual| offsets.get(field).map_or(usual, u64::from);
        Self {
            mutex: offset(Field::MutexSemaphore, 4),
            inner: offset(Field::RwWriter, 0),
            writer: offset(Field::RwWriterSemaphore, 8),
            reader: offset(Field::RwReaderSemaphore, 12),
        }
    }

    /// The lock of a semaphore that is waited for on such a stack.
    fn lock(self, semaphore: u64, stack: &Stack) -> Option<(u64, LockKind, Side)> {
        let (below, kind, side) = match (stack.role, stack.in_mutex) {
            (Role::Mutex, _) => (self.mutex, LockKind::Mutex, Side::Mutex),
            (Role::Writer, true) => (self.inner + self.mutex, LockKind::RwMutex, Side::Mutex),
            (Role::Writer, false) => (self.writer, LockKind::RwMutex, Side::Writer),
            (Role::Reader, _) => (self.reader, LockKind::RwMutex, Side::Reader),
            _ => return None,
        };
        Some((semaphore.checked_sub(below)?, kind, side))
    }
}

/// A goroutine waits at a semaphore, or has just done so: a mutex that another
/// was quicker to get is waited for again.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    semaphore: u64,
    /// The lock that it is for, if it is for one.
    pub lock: Option<(u64, Side)>,
    /// When it began.
    pub start_ns: u64,
    stack: StackId,
    site: SiteId,
    role: Role,
    /// When it was over.
    pub ended_ns: Option<u64>,
    releaser: u64,
}

impl Wait {
    /// Whether it lasts.
    pub fn is_open(&self) -> bool {
        self.ended_ns.is_none()
    }

    /// The same for a time line, without what it was for.
    fn span(&self, goroutine: u64, kind: Option<LockKind>, end_ns: u64) -> span::Wait {
        let lock = self.lock.zip(kind);
        span::Wait {
            goroutine,
            lock: lock.map_or(0, |((address, _), _)| address),
            what: match (lock, self.role) {
                (Some(((_, side), kind)), _) => side.of(kind),
                (None, Role::WaitGroup) => "WaitGroup",
                (None, Role::File) => "file or connection",
                (None, Role::Runtime) => "runtime",
                (None, _) => "semaphore",
            },
            start_ns: self.start_ns,
            end_ns,
            over: self.ended_ns.is_some(),
            parts: Parts {
                unexplained: end_ns.saturating_sub(self.start_ns),
                ..Parts::default()
            },
            stack: self.stack,
            ..span::Wait::default()
        }
    }
}

/// Waits of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// How many.
    pub count: u64,
    /// How long together, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Waits {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            total_ns: self.total_ns.saturating_add(other.total_ns),
            max_ns: self.max_ns.max(other.max_ns),
        }
    }
}

/// What holders from one place did to those who waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Releases that somebody waited for, and for how long that was.
    pub blocked: Waits,
    /// Those of them that were seen from the moment they got the lock.
    pub whole: u64,
    /// The goroutine of the longest.
    pub goroutine: u64,
    /// Where it released.
    pub stack: StackId,
}

/// What waiters at one place had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiters {
    /// How long they waited.
    pub waits: Waits,
    /// The goroutine of the longest.
    pub goroutine: u64,
    /// Where it asked.
    pub stack: StackId,
}

#[derive(Clone, Copy, Debug)]
struct Release {
    goroutine: u64,
    /// Waits that had begun by then.
    begun: u64,
}

/// What is known of a lock.
#[derive(Clone, Debug)]
pub struct Lock {
    /// Its kind.
    pub kind: LockKind,
    /// Its name.
    pub name: Option<Name>,
    /// How often it was asked for.
    pub asked: u8,
    /// Waits that are over.
    pub times: Option<Box<Times>>,
    /// The same by what was waited for.
    pub mutex: Waits,
    /// Writers that waited for readers.
    pub writer: Waits,
    /// Readers that waited for a writer.
    pub reader: Waits,
    /// Where it was waited for.
    pub waiters: Few<(SiteId, Side), Waiters>,
    /// Where it was held.
    pub holders: Few<SiteId, Holds>,
    /// Time of waits in which no goroutine ran at all, in nanoseconds.
    pub paused_ns: u64,
    /// Waits during which garbage was collected.
    pub during_gc: u64,
    /// It was not free, and was got without sleeping, so nothing was measured.
    pub unmeasured: u64,
    /// Goroutines that wait now.
    pub open: u32,
    /// How often goroutines got it as far as was seen.
    pub taken: u64,
    /// It is inside of this `sync.Map`, or of one that is not known (0).
    pub sync_map: Option<u64>,
    /// Where it was first seen.
    pub first: SiteId,
    begun: u64,
    /// Since then somebody waits for the one who has it now.
    blocked_since_ns: u64,
    last: Option<Release>,
    /// Who released it lately while others waited, when, and where.
    releases: VecDeque<(u64, u64, StackId)>,
    /// What its waits were for.
    pub blame: Parts,
    last_ns: u64,
}

impl Lock {
    fn new(kind: LockKind, first: SiteId) -> Self {
        Self {
            kind,
            name: None,
            asked: 0,
            times: None,
            mutex: Waits::default(),
            writer: Waits::default(),
            reader: Waits::default(),
            waiters: Few::new(PLACES),
            holders: Few::new(PLACES),
            paused_ns: 0,
            during_gc: 0,
            unmeasured: 0,
            open: 0,
            taken: 0,
            sync_map: None,
            first,
            begun: 0,
            blocked_since_ns: 0,
            last: None,
            releases: VecDeque::new(),
            blame: Parts::default(),
            last_ns: 0,
        }
    }

    /// All waits that are over.
    pub fn waits(&self) -> Waits {
        self.mutex.plus(self.writer).plus(self.reader)
    }

    fn open(&mut self, start_ns: u64) {
        if self.open == 0 {
            self.blocked_since_ns = start_ns;
        }
        self.open += 1;
        self.begun += 1;
    }

    fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

impl Kept for Lock {
    fn worth(&self) -> (u64, u64) {
        let rank = u64::from(self.open > 0) * 2 + u64::from(self.times.is_some());
        (rank, self.last_ns)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Semaphore {
    releaser: u64,
    lock: Option<(u64, Side)>,
    last_ns: u64,
}

impl Kept for Semaphore {
    fn worth(&self) -> (u64, u64) {
        (0, self.last_ns)
    }
}

/// What locks that had to be given up had together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summarised {
    /// Locks.
    pub locks: u64,
    /// Their waits.
    pub waits: Waits,
}

/// Waits at semaphores that are no locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoLocks {
    /// `sync.WaitGroup`.
    pub wait_groups: Waits,
    /// Files and connections that another goroutine reads or writes.
    pub files: Waits,
    /// The runtime itself.
    pub runtime: Waits,
    /// What it was is not known.
    pub unknown: Waits,
}

/// How a lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By a mutex with waiters.
    Mutex,
    /// By a reader, with a writer waiting.
    Reader,
    /// By a writer.
    Writer,
    /// By waking one who waits.
    Semaphore,
}

/// All locks.
#[derive(Debug)]
pub struct Locks {
    layout: LockLayout,
    table: Table<Lock>,
    semaphores: Table<Semaphore>,
    pairs: HashSet<(u64, u64)>,
    /// Those that were given up.
    pub summarised: Summarised,
    /// What is none.
    pub others: NoLocks,
    /// Waits that ended and were not seen to begin.
    pub unmatched: u64,
    /// What goroutines that send made others wait, if sends are told.
    pub blame: Option<Blame>,
    /// Of the wait that is being settled.
    causes: Vec<Cause>,
}

impl Locks {
    /// None yet.
    pub fn new(layout: LockLayout) -> Self {
        Self {
            layout,
            table: Table::new(LOCKS),
            semaphores: Table::new(SEMAPHORES),
            pairs: HashSet::with_capacity(PAIRS),
            summarised: Summarised::default(),
            others: NoLocks::default(),
            blame: None,
            causes: Vec::new(),
            unmatched: 0,
        }
    }

    /// The lock at an address.
    pub fn get(&self, address: u64) -> Option<&Lock> {
        self.table.get(address)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, address: u64) -> Option<&mut Lock> {
        self.table.get_mut(address)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Lock)> {
        self.table.iter()
    }

    /// Whether one of the two was seen to wait for the other.
    pub fn ordered(&self, a: u64, b: u64) -> bool {
        self.pairs.contains(&(a.min(b), a.max(b)))
    }

    fn lock(
        &mut self,
        address: u64,
        kind: LockKind,
        event: &EventRecord,
        site: SiteId,
    ) -> &mut Lock {
        let summarised = &mut self.summarised;
        let lock = self.table.entry(
            address,
            || Lock::new(kind, site),
            |_, lock: Lock| {
                summarised.locks += 1;
                summarised.waits = summarised.waits.plus(lock.waits());
            },
        );
        if kind == LockKind::RwMutex {
            lock.kind = kind;
        }
        lock.last_ns = event.time_ns;
        lock
    }

    /// A goroutine found a mutex not free.
    pub fn not_free(
        &mut self,
        who: &mut Goroutine,
        event: &EventRecord,
        id: StackId,
        stack: &Stack,
    ) {
        let (address, kind) = match stack.role {
            Role::Writer => (
                event.subject.wrapping_sub(self.layout.inner),
                LockKind::RwMutex,
            ),
            _ => (event.subject, LockKind::Mutex),
        };
        let lock = self.lock(address, kind, event, stack.site);
        if stack.in_sync_map {
            lock.sync_map = Some(who.sync_map);
        }
        who.asking = Some((address, event.time_ns, id));
    }

    /// A goroutine comes to a semaphore.
    pub fn acquire(
        &mut self,
        who: &mut Goroutine,
        event: &EventRecord,
        (id, stack): (StackId, &Stack),
        gc: &Gc,
        spans: &mut Spans,
    ) {
        let semaphore = event.subject;
        let asking = who.asking.take();
        let lock = self
            .layout
            .lock(semaphore, stack)
            .or_else(|| {
                let (address, side) = self.semaphores.get(semaphore)?.lock?;
                Some((address, self.table.get(address)?.kind, side))
            })
            .or_else(|| {
                let (address, ..) = asking?;
                (address.wrapping_add(self.layout.mutex) == semaphore).then_some((
                    address,
                    LockKind::Mutex,
                    Side::Mutex,
                ))
            });
        let mut since_ns = event.time_ns;
        if let Some((address, asked_ns, _)) = asking {
            if lock.is_some_and(|(wanted, ..)| wanted == address) {
                since_ns = asked_ns;
            } else if let Some(lock) = self.table.get_mut(address) {
                lock.unmeasured += 1;
            }
        }
        let same = who.wait.filter(|wait| {
            let again = wait.semaphore == semaphore
                || lock.is_some_and(|(address, _, side)| {
                    side == Side::Writer && wait.lock.is_some_and(|(known, _)| known == address)
                });
            wait.ended_ns.is_some() && again
        });
        if same.is_none() {
            self.settle_wait(event.goroutine_id, who, gc, spans);
        }
        let start_ns = same.map_or(since_ns, |wait| wait.start_ns);
        if let Some((address, kind, _)) = lock {
            let lock = self.lock(address, kind, event, stack.site);
            lock.open(since_ns);
            if stack.in_sync_map {
                lock.sync_map = Some(who.sync_map);
            }
        }
        let lock = lock.map(|(address, _, side)| (address, side));
        let entry = self
            .semaphores
            .entry(semaphore, Semaphore::default, |_, _| ());
        entry.last_ns = event.time_ns;
        entry.lock = lock.or(entry.lock);
        who.wait = Some(Wait {
            semaphore,
            lock,
            start_ns,
            stack: id,
            site: stack.site,
            ended_ns: None,
            role: stack.role,
            releaser: 0,
        });
    }

    /// A goroutine's wait is over.
    pub fn acquired(&mut self, who: &mut Goroutine, time_ns: u64) {
        let Some(wait) = who.wait.as_mut().filter(|wait| wait.is_open()) else {
            self.unmatched += 1;
            return;
        };
        wait.ended_ns = Some(time_ns.max(wait.start_ns));
        if let Some(semaphore) = self.semaphores.get(wait.semaphore) {
            wait.releaser = semaphore.releaser;
        }
        if let Some((address, side)) = wait.lock
            && let Some(lock) = self.table.get_mut(address)
        {
            lock.close();
            if side != Side::Reader {
                // Others wait for this one from now on.
                lock.blocked_since_ns = lock.blocked_since_ns.max(time_ns);
            }
        }
    }

    /// A goroutine does something else: its wait, if it had one, is settled.
    pub fn settle(&mut self, id: u64, who: &mut Goroutine, gc: &Gc, spans: &mut Spans) {
        if let Some((address, since_ns, _)) = who.asking.take()
            && let Some(lock) = self.table.get_mut(address)
        {
            lock.unmeasured += 1;
            lock.taken += 1;
            who.take(Held::new(address, since_ns, false));
        }
        self.settle_wait(id, who, gc, spans);
    }

    fn settle_wait(&mut self, id: u64, who: &mut Goroutine, gc: &Gc, spans: &mut Spans) {
        let Some(wait) = who.wait.take() else {
            return;
        };
        let end_ns = wait.ended_ns;
        if end_ns.is_some() && wait.releaser != 0 && self.pairs.len() < PAIRS {
            let (a, b) = (wait.releaser, id);
            self.pairs.insert((a.min(b), a.max(b)));
        }
        let Some((address, side)) = wait.lock else {
            let ns = end_ns.map_or(0, |end| end - wait.start_ns);
            let waits = match wait.role {
                Role::WaitGroup => &mut self.others.wait_groups,
                Role::File => &mut self.others.files,
                Role::Runtime => &mut self.others.runtime,
                _ => &mut self.others.unknown,
            };
            waits.add(ns);
            if let Some(end_ns) = end_ns
                && spans.wanted()
            {
                spans.push(span::Span::Wait(wait.span(id, None, end_ns)));
            }
            return;
        };
        let Some(lock) = self.table.get_mut(address) else {
            return;
        };
        lock.taken += 1;
        who.take(Held::new(address, end_ns.unwrap_or(wait.start_ns), false));
        let Some(end_ns) = end_ns else {
            lock.close();
            lock.unmeasured += 1;
            return;
        };
        let ns = end_ns - wait.start_ns;
        let paused_ns = gc.pauses.overlap(wait.start_ns, end_ns);
        lock.paused_ns = lock.paused_ns.saturating_add(paused_ns);
        lock.during_gc += u64::from(gc.collections.overlap(wait.start_ns, end_ns) > 0);
        lock.times
            .get_or_insert_with(|| Box::new(Times::coarse()))
            .record(ns);
        match side {
            Side::Mutex => lock.mutex.add(ns),
            Side::Writer => lock.writer.add(ns),
            Side::Reader => lock.reader.add(ns),
        }
        let waiters = lock.waiters.of((wait.site, side));
        if ns >= waiters.waits.max_ns {
            waiters.goroutine = id;
            waiters.stack = wait.stack;
        }
        waiters.waits.add(ns);
        let during = Span {
            start: wait.start_ns,
            end: end_ns,
        };
        self.causes.clear();
        let releases = lock.releases.iter();
        let releases = releases.map(|(time, holder, _)| (*time, *holder));
        let parts = self
            .blame
            .as_mut()
            .map(|blame| blame.wait(id, during, releases, &gc.pauses, &mut self.causes));
        lock.blame.add(&parts.unwrap_or_default());
        if !spans.wanted() {
            return;
        }
        let mut span = wait.span(id, Some(lock.kind), end_ns);
        span.parts = parts.unwrap_or(span.parts);
        let meanwhile = lock.releases.iter();
        span.holders = meanwhile
            .filter(|(time, ..)| (wait.start_ns..=end_ns).contains(time))
            .map(|&(until_ns, goroutine, stack)| Holder {
                goroutine,
                until_ns,
                stack,
            })
            .collect();
        span.causes = self.causes.as_slice().into();
        spans.push(span::Span::Wait(span));
    }

    /// A wait that lasts.
    pub fn lasting(&self, id: u64, wait: &Wait, now_ns: u64) -> span::Wait {
        let lock = wait.lock.and_then(|(address, _)| self.table.get(address));
        wait.span(id, lock.map(|lock| lock.kind), now_ns.max(wait.start_ns))
    }

    /// A goroutine is forgotten, and with it its wait.
    pub fn forget(&mut self, who: &Goroutine) {
        if let Some((address, _)) = who.wait.filter(Wait::is_open).and_then(|wait| wait.lock)
            && let Some(lock) = self.table.get_mut(address)
        {
            lock.close();
        }
    }

    /// A goroutine asks for a writer's lock: it has it when it does something
    /// else.
    pub fn write_lock(&mut self, who: &mut Goroutine, event: &EventRecord, site: SiteId) {
        self.lock(event.subject, LockKind::RwMutex, event, site)
            .taken += 1;
        who.take(Held::new(event.subject, event.time_ns, true));
    }

    /// The lock that a release is of.
    pub fn released(&self, event: &EventRecord, how: How) -> Option<u64> {
        match how {
            How::Semaphore => self
                .semaphores
                .get(event.subject)?
                .lock
                .map(|(address, _)| address),
            How::Mutex => [event.subject.wrapping_sub(self.layout.inner), event.subject]
                .into_iter()
                .find(|address| self.table.get(*address).is_some()),
            How::Reader | How::Writer => Some(event.subject),
        }
    }

    /// A goroutine releases; what was known of its hold.
    pub fn release(
        &mut self,
        id: u64,
        who: &mut Goroutine,
        event: &EventRecord,
        how: How,
        stack: (StackId, SiteId),
        spans: &mut Spans,
    ) -> Option<Held> {
        if how == How::Semaphore
            && let Some(semaphore) = self.semaphores.get_mut(event.subject)
        {
            semaphore.releaser = id;
            semaphore.last_ns = event.time_ns;
        }
        let address = self.released(event, how)?;
        let held = who.release(address);
        let lock = self.table.get_mut(address)?;
        let mut span = Hold {
            goroutine: id,
            lock: address,
            start_ns: lock.blocked_since_ns,
            end_ns: event.time_ns,
            whole: false,
            stack: stack.0,
        };
        let waited_for = lock.open > 0;
        if let Some(held) = held
            && (held.certain || waited_for && held.since_ns >= lock.blocked_since_ns)
        {
            span.start_ns = held.since_ns;
            span.whole = true;
        }
        if !waited_for {
            if span.whole {
                spans.push(span::Span::Hold(span));
            }
            return held;
        }
        if self.blame.is_some() || spans.wanted() {
            if lock.releases.len() == RELEASES {
                lock.releases.pop_front();
            }
            lock.releases.push_back((event.time_ns, id, stack.0));
        }
        let same = lock.last.is_some_and(|last| {
            let again = how == How::Semaphore || lock.kind == LockKind::RwMutex;
            last.goroutine == id && last.begun == lock.begun && again
        });
        let blocked_ns = event.time_ns.saturating_sub(lock.blocked_since_ns);
        let holders = lock.holders.of(stack.1);
        if same {
            let total_ns = &mut holders.blocked.total_ns;
            *total_ns = total_ns.saturating_add(blocked_ns);
        } else {
            if blocked_ns >= holders.blocked.max_ns {
                holders.goroutine = id;
                holders.stack = stack.0;
            }
            holders.blocked.add(blocked_ns);
            spans.push(span::Span::Hold(span));
            let got = held.map(|held| held.since_ns);
            holders.whole += u64::from(got.is_some_and(|got| got >= lock.blocked_since_ns));
        }
        if how != How::Reader {
            lock.blocked_since_ns = event.time_ns;
        }
        lock.last = Some(Release {
            goroutine: id,
            begun: lock.begun,
        });
        held
    }

    /// How many had to be given up, of locks and of semaphores.
    pub fn given_up(&self) -> u64 {
        self.table.given_up() + self.semaphores.given_up()
    }
}
