//! From the addresses of a stack to functions, lines and roles: each stack is
//! looked up once.

use std::collections::{HashMap, HashSet};

use injector_ebpf::go::{EventRecord, OP_FRAMES};

use crate::go::{Frame, Loaded};

/// Stacks that are kept, each with its names; further ones have none.
const STACKS: usize = 8192;

/// Who knows a program's functions and lines.
pub trait Symbols {
    /// Frames of a stack, innermost first: the probed instruction, then return
    /// addresses. Calls that were inlined have frames of their own. Empty when
    /// nothing is known.
    fn frames(&self, stack: &[u64]) -> Vec<Frame>;

    /// Whether the work of a function outside of the runtime and `sync` is
    /// shown.
    fn shows(&self, _function: &str) -> bool {
        true
    }
}

impl Symbols for Loaded {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        Self::frames(self, stack)
    }
}

/// A stack that was seen before, 0 for one that is not kept.
pub type StackId = u16;
/// A place in the program, outside of the runtime and `sync`; 0 for none that
/// is known.
pub type SiteId = u16;

/// What a goroutine waits for at a semaphore, or releases, by the functions
/// on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Role {
    /// It cannot be told.
    #[default]
    Unknown,
    /// `sync.Mutex`, or that of an `RWMutex`.
    Mutex,
    /// `sync.RWMutex` as a reader.
    Reader,
    /// `sync.RWMutex` as a writer.
    Writer,
    /// `sync.WaitGroup`.
    WaitGroup,
    /// A file or connection (`internal/poll.fdMutex`).
    File,
    /// The runtime for itself.
    Runtime,
}

/// What is known of a stack.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// All frames.
    pub frames: Box<[Frame]>,
    /// The innermost place in the program.
    pub site: SiteId,
    /// Its part in waiting and releasing.
    pub role: Role,
    /// It is in a method of `Mutex`, which can be that of an `RWMutex`.
    pub in_mutex: bool,
    /// It is in a method of `sync.Map`.
    pub in_sync_map: bool,
}

/// The stacks that were seen.
#[derive(Debug)]
pub struct Stacks {
    ids: HashMap<[u64; OP_FRAMES], StackId>,
    all: Vec<Stack>,
    sites: HashMap<(String, u32), SiteId>,
    places: Vec<Frame>,
    /// Places that are not shown.
    hidden: HashSet<SiteId>,
    not_kept: u64,
}

impl Default for Stacks {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            all: vec![Stack::default()],
            sites: HashMap::new(),
            places: vec![Frame {
                function: String::new(),
                file: String::new(),
                line: 0,
            }],
            hidden: HashSet::new(),
            not_kept: 0,
        }
    }
}

impl Stacks {
    /// The stack of an event.
    pub fn of(&mut self, event: &EventRecord, symbols: &dyn Symbols) -> StackId {
        let depth = usize::from(event.depth).min(OP_FRAMES);
        let mut key = [0; OP_FRAMES];
        key[..depth].copy_from_slice(&event.frames[..depth]);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        if self.all.len() > STACKS {
            self.not_kept += 1;
            return 0;
        }
        let stack = self.look_up(symbols.frames(&key[..depth]), symbols);
        self.all.push(stack);
        let id = (self.all.len() - 1) as StackId;
        self.ids.insert(key, id);
        id
    }

    fn look_up(&mut self, frames: Vec<Frame>, symbols: &dyn Symbols) -> Stack {
        let mut stack = Stack::default();
        for frame in &frames {
            let function = frame.function.as_str();
            if let Some(role) = role(function) {
                // The lock of an `RWMutex` is inside of it.
                if stack.role == Role::Unknown || role != Role::Mutex {
                    stack.role = role;
                }
                stack.in_mutex |= role == Role::Mutex;
            }
            stack.in_sync_map |= function.starts_with("sync.(*Map)")
                || function.starts_with("internal/sync.(*HashTrieMap");
            if !is_library(function) {
                stack.site = self.site(frame, symbols);
                break;
            }
        }
        if stack.role == Role::Unknown
            && frames
                .iter()
                .any(|frame| frame.function.starts_with("runtime.semacquire"))
            && frames
                .iter()
                .skip(1)
                .take(2)
                .all(|frame| frame.function.starts_with("runtime."))
        {
            stack.role = Role::Runtime;
        }
        stack.frames = frames.into_boxed_slice();
        stack
    }

    fn site(&mut self, frame: &Frame, symbols: &dyn Symbols) -> SiteId {
        let key = (frame.function.clone(), frame.line);
        if let Some(id) = self.sites.get(&key) {
            return *id;
        }
        let id = self.places.len() as SiteId;
        self.places.push(frame.clone());
        if !symbols.shows(&frame.function) {
            self.hidden.insert(id);
        }
        self.sites.insert(key, id);
        id
    }

    /// What is known of it.
    pub fn get(&self, id: StackId) -> &Stack {
        &self.all[usize::from(id)]
    }

    /// The place, if it is known.
    pub fn place(&self, site: SiteId) -> Option<&Frame> {
        (site != 0).then(|| &self.places[usize::from(site)])
    }

    /// Whether what is done there is shown; what is not known is.
    pub fn shows(&self, site: SiteId) -> bool {
        !self.hidden.contains(&site)
    }

    /// How often a stack had no room.
    pub fn not_kept(&self) -> u64 {
        self.not_kept
    }
}

/// By the names of functions in sync/mutex.go, sync/rwmutex.go,
/// sync/waitgroup.go, sync/runtime.go, internal/sync/mutex.go and
/// `internal/poll/fd_mutex.go`, Go 1.19 to 1.27.
fn role(function: &str) -> Option<Role> {
    Some(match function {
        "sync.(*RWMutex).RLock"
        | "sync.(*RWMutex).RUnlock"
        | "sync.(*RWMutex).rUnlockSlow"
        | "sync.runtime_SemacquireRWMutexR" => Role::Reader,
        "sync.(*RWMutex).Lock" | "sync.(*RWMutex).Unlock" | "sync.runtime_SemacquireRWMutex" => {
            Role::Writer
        }
        _ if function.contains("sync.(*Mutex).") => Role::Mutex,
        _ if function.starts_with("sync.(*WaitGroup).")
            || function == "sync.runtime_SemacquireWaitGroup" =>
        {
            Role::WaitGroup
        }
        _ if function.starts_with("internal/poll.") => Role::File,
        _ => return None,
    })
}

/// Whether a function is of the runtime or of packages that stand between it
/// and the program's own use of maps and locks.
fn is_library(function: &str) -> bool {
    const PACKAGES: [&str; 6] = [
        "runtime.",
        "internal/runtime/",
        "sync.",
        "internal/sync.",
        "internal/poll.",
        "maps.",
    ];
    PACKAGES.iter().any(|package| function.starts_with(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All;

    impl Symbols for All {
        fn frames(&self, _stack: &[u64]) -> Vec<Frame> {
            Vec::new()
        }
    }

    fn stack(functions: &[&str]) -> Stack {
        let frame = |function: &&str| Frame {
            function: (*function).to_owned(),
            file: String::new(),
            line: 1,
        };
        Stacks::default().look_up(functions.iter().map(frame).collect(), &All)
    }

    /// Stacks as programs of Go 1.19 and 1.27 have them.
    #[test]
    fn what_is_waited_for_is_known_by_functions() {
        let semaphore = "runtime.semacquire1";
        for (functions, role, in_mutex) in [
            (
                &[
                    semaphore,
                    "internal/sync.runtime_SemacquireMutex",
                    "internal/sync.(*Mutex).lockSlow",
                    "internal/sync.(*Mutex).Lock",
                    "sync.(*Mutex).Lock",
                    "main.put",
                ][..],
                Role::Mutex,
                true,
            ),
            (
                &[
                    semaphore,
                    "sync.runtime_SemacquireMutex",
                    "sync.(*Mutex).lockSlow",
                    "sync.(*Mutex).Lock",
                    "sync.(*RWMutex).Lock",
                    "main.put",
                ],
                Role::Writer,
                true,
            ),
            (
                &[
                    semaphore,
                    "sync.runtime_SemacquireMutex",
                    "sync.(*RWMutex).Lock",
                    "main.put",
                ],
                Role::Writer,
                false,
            ),
            (
                &[
                    semaphore,
                    "sync.runtime_SemacquireRWMutexR",
                    "sync.(*RWMutex).RLock",
                    "main.get",
                ],
                Role::Reader,
                false,
            ),
            (
                &[
                    semaphore,
                    "sync.runtime_Semacquire",
                    "sync.(*WaitGroup).Wait",
                    "main.main",
                ],
                Role::WaitGroup,
                false,
            ),
            (
                &[
                    semaphore,
                    "internal/poll.runtime_Semacquire",
                    "internal/poll.(*fdMutex).rwlock",
                    "internal/poll.(*FD).Write",
                    "os.(*File).Write",
                ],
                Role::File,
                false,
            ),
            (
                &[
                    semaphore,
                    "runtime.semacquire",
                    "runtime.gcStart",
                    "runtime.mallocgc",
                ],
                Role::Runtime,
                false,
            ),
            (&["runtime.mapassign", "main.put"], Role::Unknown, false),
        ] {
            let stack = stack(functions);
            assert_eq!(
                (stack.role, stack.in_mutex),
                (role, in_mutex),
                "{functions:?}"
            );
        }
    }

    #[test]
    fn the_inside_of_a_sync_map_is_known() {
        let old = stack(&["runtime.mapassign", "sync.(*Map).Store", "main.put"]);
        assert!(old.in_sync_map);
        let new = stack(&[
            "internal/sync.(*Mutex).lockSlow",
            "internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).Swap",
            "sync.(*Map).Store",
            "main.put",
        ]);
        assert!(new.in_sync_map && new.role == Role::Mutex);
        assert!(!stack(&["runtime.mapassign", "main.put"]).in_sync_map);
    }
}
