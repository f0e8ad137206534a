//! The error for what a person has to change before we can do as asked (exit code 2).

use std::{error::Error, fmt};

/// Says in one sentence what is in the way and what to do about it.
#[derive(Debug)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}
