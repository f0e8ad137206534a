//! What BPF holds in this kernel.

use std::collections::BTreeSet;

/// Ids of programs and links.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bpf {
    programs: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Bpf {
    /// Those there are now.
    pub fn now() -> Self {
        Self {
            programs: aya::programs::loaded_programs()
                .filter_map(|program| Some(program.ok()?.id()))
                .collect(),
            links: aya::programs::loaded_links()
                .filter_map(|link| Some(link.ok()?.id()))
                .collect(),
        }
    }

    /// Those there are now and were not then.
    pub fn since(then: &Self) -> Self {
        let now = Self::now();
        Self {
            programs: &now.programs - &then.programs,
            links: &now.links - &then.links,
        }
    }

    /// There are programs, and they are attached.
    pub fn is_attached(&self) -> bool {
        !self.programs.is_empty() && !self.links.is_empty()
    }

    /// None of them is there any more.
    pub fn is_gone(&self) -> bool {
        let now = Self::now();
        self.programs.is_disjoint(&now.programs) && self.links.is_disjoint(&now.links)
    }
}
