//! A recording of one traced program that tests and measurements begin.

use std::time::Duration;

use injector_ebpf::Mode;

use super::{
    run,
    schema::{Content, Program, Run},
    write::Recorder,
};
use crate::{
    explain::maps::{LockLayout, Trace},
    go::MapKind,
    output::fixture,
};

/// The program.
pub const PID: u32 = 4321;
/// Where its locks have what.
pub const LOCKS: LockLayout = LockLayout {
    mutex: 4,
    inner: 0,
    writer: 8,
    reader: 12,
};

/// What concludes from it when it is live.
pub fn trace() -> Trace {
    let mut trace = Trace::new(0, MapKind::Swiss, LOCKS);
    trace.expect_sends();
    trace
}

/// Says what is run and which program is traced.
pub fn begin(recorder: &mut Recorder) -> Run {
    let info = fixture::info(Mode::Enforce);
    let run = run::begun(&info, "6.18".to_owned(), Duration::from_secs(1));
    recorder.add_to_all(Content::Run(run.clone()));
    recorder.add_to_all(Content::Program(Program {
        pid: PID,
        tgid: PID,
        swiss: true,
        sends: true,
        locks: Some(LOCKS.into()),
        ..Program::default()
    }));
    run
}
