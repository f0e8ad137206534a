//! The system calls that std has no name for.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::AsRawFd as _,
    process::Child,
};

/// Mounts a file system.
pub fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let [source, target, kind, options] = [source, target, kind, options].map(CString::new);
    let (source, target, kind, options) = (source?, target?, kind?, options?);
    // SAFETY: all four are strings that end with NUL and live until the call returns; mount
    // takes its data argument as such a string for every file system that we mount.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
}

/// Makes `path` the root of this process and its children, and goes there.
pub fn change_root(path: &str) -> io::Result<()> {
    std::env::set_current_dir(path)?;
    mount(".", "/", "", libc::MS_MOVE, "")?;
    // SAFETY: both paths are strings that end with NUL.
    check(unsafe { libc::chroot(c".".as_ptr()) })?;
    std::env::set_current_dir("/")
}

/// Loads a kernel module.
pub fn load_module(file: &File) -> io::Result<()> {
    let no_parameters: &CStr = c"";
    // SAFETY: finit_module takes a file descriptor, which lives until the call returns, a
    // string that ends with NUL, and flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            no_parameters.as_ptr(),
            0,
        )
    };
    check(result as libc::c_int)
}

/// Names the guest, brings `lo` up and lifts the limits that get into the way of tests.
pub fn prepare() -> io::Result<()> {
    let name = c"injector-vm";
    // SAFETY: the pointer is valid for the length that is passed with it.
    check(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) })?;
    loopback_up()?;
    set_limit(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY)?;
    set_limit(libc::RLIMIT_NOFILE, 65_536)?;
    set_limit(libc::RLIMIT_CORE, 0)
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data, for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which the pointer is valid for.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

fn set_limit(resource: libc::__rlimit_resource_t, limit: libc::rlim_t) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    // SAFETY: setrlimit reads one rlimit, which the pointer is valid for.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Waits for `child` and reaps whatever else ends meanwhile, since orphans are ours. Returns the
/// exit code, 128 + N after signal N.
pub fn wait(child: &Child) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, which the pointer is valid for.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        check(pid.min(0))?;
        if pid.cast_unsigned() == child.id() {
            return Ok(if libc::WIFSIGNALED(status) {
                128 + libc::WTERMSIG(status)
            } else {
                libc::WEXITSTATUS(status)
            });
        }
    }
}

/// Kills every process but us.
pub fn kill_all() {
    // SAFETY: kill touches no memory; from PID 1, -1 means everybody else. That nobody is left
    // to kill is no error to us.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
    }
}

/// Switches the machine off.
pub fn power_off() -> ! {
    // SAFETY: neither call touches memory of ours.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    // PID 1 must not return: that is a kernel panic, which ends the machine all the same.
    std::process::exit(1);
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
