//! Which exit code an error means.

use crate::{
    daemon::{
        NoErrorHook, NoHook, NoLifecycle, NoSleepEngine,
        command::{CANNOT_EXECUTE, CannotExecute},
    },
    go::{GoError, NotTraceable},
    kernel::{btf::BtfError, host::HostError, uprobes::UprobeError},
};

/// 3 when the kernel or a program of such a kind cannot do it, 127 as from a shell when a command cannot be
/// executed, else 2.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<CannotExecute>() {
        return CANNOT_EXECUTE;
    }
    let unsupported = error.is::<NoHook>()
        || error.is::<NoErrorHook>()
        || error.is::<NoSleepEngine>()
        || error.is::<NoLifecycle>()
        || error.is::<BtfError>()
        || error.is::<NotTraceable>()
        || error
            .downcast_ref::<UprobeError>()
            .is_some_and(UprobeError::is_unsupported)
        || error
            .downcast_ref::<HostError>()
            .is_some_and(HostError::is_unsupported)
        || error
            .downcast_ref::<GoError>()
            .is_some_and(GoError::is_unsupported);
    if unsupported { 3 } else { 2 }
}

/// Whether the reader of our output went away, which is a normal end.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
