//! What a recording says of stacks.

use std::collections::{HashMap, HashSet};

use super::schema::Named;
use crate::{explain::maps::Symbols, go::Frame};

/// The stacks of one program.
#[derive(Debug, Default)]
pub struct Names {
    frames: HashMap<Box<[u64]>, Vec<Frame>>,
    hidden: HashSet<String>,
}

impl Names {
    /// Takes in one more.
    pub fn add(&mut self, named: Named) {
        for frame in named.frames.iter().filter(|frame| frame.hidden) {
            if !self.hidden.contains(&frame.function) {
                self.hidden.insert(frame.function.clone());
            }
        }
        let frames = named.frames.into_iter().map(Frame::from).collect();
        self.frames.insert(named.addresses.into(), frames);
    }

    /// The frames of a stack, innermost first; none if the recording does not
    /// have them.
    pub fn of(&self, stack: &[u64]) -> &[Frame] {
        self.frames.get(stack).map_or(&[], Vec::as_slice)
    }
}

impl Symbols for Names {
    fn frames(&self, stack: &[u64]) -> Vec<Frame> {
        self.of(stack).to_vec()
    }

    fn shows(&self, function: &str) -> bool {
        !self.hidden.contains(function)
    }
}
