//! From the addresses of a stack to functions, lines and roles.

use crate::go::{Frame, Loaded};

/// Who knows a program's functions and lines.
pub trait Symbols {
    /// Frames of a stack, innermost first: the probed instruction, then return
    /// addresses. Calls that were inlined have frames of their own. Empty when
    /// nothing is known.
    fn frames(&self, stack: &[u64]) -> Vec<Frame>;
}

impl Symbols for Loaded {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        Self::frames(self, stack)
    }
}
