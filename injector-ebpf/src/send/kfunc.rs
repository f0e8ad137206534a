//! Calls of kernel functions, through numbers that the loader replaces; see
//! [`injector_ebpf::Kfunc`].

use core::{ffi::c_void, mem::transmute};

use aya_ebpf::bindings::task_struct;
use injector_ebpf::{TASK_FROM_PID, TASK_RELEASE, TASK_WORK_SCHEDULE};

/// What a task-work callback is given: map, key, value.
pub type Callback = extern "C" fn(*mut c_void, *mut u32, *mut c_void) -> i64;

/// The task with this id, which must be released, or null.
///
/// # Safety
///
/// The loader has replaced the call; it refuses the engine otherwise.
#[inline(always)]
pub unsafe fn task_from_pid(pid: i32) -> *mut task_struct {
    // SAFETY: the prototype is that of the kernel function.
    unsafe {
        let call: extern "C" fn(i32) -> *mut task_struct =
            transmute(TASK_FROM_PID.placeholder as usize);
        call(pid)
    }
}

/// Gives a task back.
///
/// # Safety
///
/// `task` comes from [`task_from_pid`], and is not null.
#[inline(always)]
pub unsafe fn task_release(task: *mut task_struct) {
    // SAFETY: as above.
    unsafe {
        let call: extern "C" fn(*mut task_struct) = transmute(TASK_RELEASE.placeholder as usize);
        call(task);
    }
}

/// Runs `callback` on `task` when it next returns to user mode; 0 if it will.
///
/// # Safety
///
/// `work` lies in a value of `map`.
#[inline(always)]
pub unsafe fn task_work_schedule(
    task: *mut task_struct,
    work: *mut c_void,
    map: *mut c_void,
    callback: Callback,
) -> i32 {
    // SAFETY: as above; newer kernels ignore the last argument.
    unsafe {
        let call: extern "C" fn(
            *mut task_struct,
            *mut c_void,
            *mut c_void,
            Callback,
            *mut c_void,
        ) -> i32 = transmute(TASK_WORK_SCHEDULE.placeholder as usize);
        call(task, work, map, callback, core::ptr::null_mut())
    }
}
