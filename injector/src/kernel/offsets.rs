//! Which struct members the kernel programs read.

use injector_ebpf::Offsets;

use super::btf::{Btf, BtfError};

/// The register slot of `struct pt_regs` that holds the syscall number.
#[cfg(target_arch = "x86_64")]
const SYSCALL_REGISTER: &str = "orig_ax";
#[cfg(target_arch = "aarch64")]
const SYSCALL_REGISTER: &str = "syscallno";

/// Where `struct pt_regs` has the goroutine (Go's `ABIInternal`), the frame
/// pointer and the instruction, in bytes.
struct UserRegisters {
    goroutine: u32,
    frame: u32,
    instruction: u32,
}

impl UserRegisters {
    #[cfg(target_arch = "x86_64")]
    fn of(btf: &Btf) -> Result<Self, BtfError> {
        Ok(Self {
            goroutine: btf.offset("pt_regs", "r14")?,
            frame: btf.offset("pt_regs", "bp")?,
            instruction: btf.offset("pt_regs", "ip")?,
        })
    }

    #[cfg(target_arch = "aarch64")]
    fn of(btf: &Btf) -> Result<Self, BtfError> {
        let registers = btf.offset("pt_regs", "regs")?;
        Ok(Self {
            goroutine: registers + 28 * 8,
            frame: registers + 29 * 8,
            instruction: btf.offset("pt_regs", "pc")?,
        })
    }
}

/// Looks every member up in the running kernel's BTF.
///
/// Members of unix and IPv6 sockets are optional: a kernel can be built without
/// these families, or with them as modules; then only the names of their peers
/// are missing.
pub fn resolve(btf: &Btf) -> Result<Offsets, BtfError> {
    let optional = |structure, path| btf.offset(structure, path).unwrap_or(Offsets::ABSENT);
    let registers = UserRegisters::of(btf)?;
    let common = |member: &str| btf.offset("sock", &format!("__sk_common.{member}"));
    Ok(Offsets {
        task_flags: btf.offset("task_struct", "flags")?,
        task_pid: btf.offset("task_struct", "pid")?,
        task_tgid: btf.offset("task_struct", "tgid")?,
        task_real_parent: btf.offset("task_struct", "real_parent")?,
        task_signal: btf.offset("task_struct", "signal")?,
        task_files: btf.offset("task_struct", "files")?,
        signal_live: btf.offset("signal_struct", "live")?,
        files_fdt: btf.offset("files_struct", "fdt")?,
        fdtable_fd: btf.offset("fdtable", "fd")?,
        fdtable_max_fds: btf.offset("fdtable", "max_fds")?,
        file_f_inode: btf.offset("file", "f_inode")?,
        file_private_data: btf.offset("file", "private_data")?,
        file_f_flags: btf.offset("file", "f_flags")?,
        inode_i_mode: btf.offset("inode", "i_mode")?,
        socket_sk: btf.offset("socket", "sk")?,
        socket_file: btf.offset("socket", "file")?,
        sock_sk_socket: btf.offset("sock", "sk_socket")?,
        sock_sk_protocol: btf.offset("sock", "sk_protocol")?,
        sock_sk_type: btf.offset("sock", "sk_type")?,
        sock_family: common("skc_family")?,
        sock_num: common("skc_num")?,
        sock_dport: common("skc_dport")?,
        sock_daddr: common("skc_daddr")?,
        sock_rcv_saddr: common("skc_rcv_saddr")?,
        sock_v6_daddr: optional("sock", "__sk_common.skc_v6_daddr"),
        sock_v6_rcv_saddr: optional("sock", "__sk_common.skc_v6_rcv_saddr"),
        unix_peer: optional("unix_sock", "peer"),
        unix_addr: optional("unix_sock", "addr"),
        unix_address_len: optional("unix_address", "len"),
        unix_address_name: optional("unix_address", "name"),
        msghdr_msg_name: btf.offset("msghdr", "msg_name")?,
        msghdr_msg_namelen: btf.offset("msghdr", "msg_namelen")?,
        msghdr_msg_flags: btf.offset("msghdr", "msg_flags")?,
        pt_regs_syscall: btf.offset("pt_regs", SYSCALL_REGISTER)?,
        pt_regs_goroutine: registers.goroutine,
        pt_regs_frame: registers.frame,
        pt_regs_instruction: registers.instruction,
    })
}
