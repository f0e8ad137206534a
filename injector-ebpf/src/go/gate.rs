//! The budget, between two looks of userspace: it opens windows by what probes
//! have cost before, and here a burst inside of one ends.

use injector_ebpf::go::{self, Cookie};

use crate::{
    atomic,
    maps::{GATE, SPENT},
    ring,
};

/// What may be spent, and what has been.
pub struct Gate {
    gate: &'static go::Gate,
    spent: *mut u64,
}

impl Gate {
    /// Looks at it.
    #[inline(always)]
    pub fn open() -> Option<Self> {
        Some(Self {
            gate: GATE.get(0)?,
            spent: SPENT.get_ptr_mut(0)?,
        })
    }

    /// Whether all is spent.
    #[inline(always)]
    pub fn is_shut(&self) -> bool {
        // SAFETY: a live map value.
        unsafe { self.spent.read_volatile() >= self.gate.allowed_ns }
    }

    /// Pays for a hit whose program has taken this long, in nanoseconds. The one
    /// that spends the last of it wakes userspace.
    #[inline(always)]
    pub fn pay(&self, cookie: Cookie, program_ns: u64) {
        let trap = if cookie.single_stepped {
            self.gate.trap_ns[1]
        } else {
            self.gate.trap_ns[0]
        };
        let cost = trap + program_ns;
        // SAFETY: a live map value.
        let before = unsafe { atomic::fetch_add(self.spent, cost) };
        let allowed = self.gate.allowed_ns;
        if before < allowed && allowed <= before + cost {
            ring::wake();
        }
    }
}
