//! Why a process cannot be looked into, and what to do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

/// What failed, on what, and what to do next.
#[derive(Debug, Error)]
pub enum GoError {
    /// No process has this id.
    #[error("there is no process {0}: it has ended, or its id is of another pid namespace")]
    NoProcess(u32),
    /// It has no program file.
    #[error("process {0} has no program file: it is a kernel thread or has just ended")]
    NoProgram(u32),
    /// Its program file may not be read.
    #[error("cannot read the program of process {pid} (run as root or with CAP_SYS_PTRACE)")]
    Denied {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// Its program file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No ELF file, or a damaged one.
    #[error("{program} is not a program that can be read: {why}")]
    Elf {
        /// The program.
        program: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Neither amd64 nor arm64.
    #[error(
        "{program} is built for another machine (ELF machine {machine}); Go programs can be traced on amd64 and arm64"
    )]
    Machine {
        /// The program.
        program: String,
        /// `e_machine`.
        machine: u16,
    },
    /// It has neither what Go's linker writes about a build nor a function table.
    #[error(
        "{program} is no Go program: it has neither Go build information nor a Go function table; choose a process whose program was built by go"
    )]
    NotGo {
        /// The program.
        program: String,
    },
    /// It was built by a Go that is too old.
    #[error(
        "{program} was built with {version}: its function table has a format from before Go 1.18, which is not read; build it with Go 1.19 or later"
    )]
    TooOld {
        /// The program.
        program: String,
        /// Its Go version.
        version: String,
    },
    /// The function table is missing or damaged.
    #[error(
        "{program} ({version}) has no function table that can be read: {why}; without it no function can be found"
    )]
    NoFunctions {
        /// The program.
        program: String,
        /// Its Go version, or a guess.
        version: String,
        /// What is wrong.
        why: &'static str,
    },
}

impl GoError {
    /// Whether it is a program of a kind that is not supported, rather than a
    /// wrong choice or a damaged one.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Machine { .. } | Self::TooOld { .. } | Self::NoFunctions { .. }
        )
    }
}
