//! The kernel's send paths: the one place where a hooked function or syscall
//! is declared. Programs, attachment, `doctor` and the docs derive from it.

/// How a send function is called: which arguments it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `(struct sock *, struct msghdr *, size_t)`
    SockMsg,
    /// `(struct socket *, struct msghdr *, size_t)`
    SocketMsg,
    /// `(struct sock *, struct page *, int offset, size_t, int flags)`
    SockPage,
    /// `(struct socket *, struct page *, int offset, size_t, int flags)`
    SocketPage,
}

/// A kernel function that every send of a protocol passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendFunction {
    /// Symbol name; the kprobe or fentry target.
    pub name: &'static str,
    /// Program for its entry as a kprobe.
    pub kprobe: &'static str,
    /// Program for its entry as an fentry.
    pub fentry: &'static str,
    /// Program for its return as an fexit.
    pub fexit: &'static str,
    /// Its arguments.
    pub shape: Shape,
    /// C prototype and source file.
    pub prototype: &'static str,
    /// Kernels in which prototype and callers were checked.
    pub kernels: &'static str,
    /// First kernel (major, minor) that no longer has it.
    pub gone_in: Option<(u32, u32)>,
}

/// Calls `$callback!` with the table of send functions, so that a program per
/// function can be generated from the same rows.
#[macro_export]
macro_rules! for_each_send_function {
    ($callback:ident) => {
        $callback! {
            tcp_sendmsg, kprobe_tcp_sendmsg, fentry_tcp_sendmsg, fexit_tcp_sendmsg, SockMsg,
                "int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size) [net/ipv4/tcp.c]",
                "6.1, 6.12, 6.18, 7.3", None;
            udp_sendmsg, kprobe_udp_sendmsg, fentry_udp_sendmsg, fexit_udp_sendmsg, SockMsg,
                "int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len) [net/ipv4/udp.c]",
                "6.1, 6.12, 6.18, 7.3", None;
            udpv6_sendmsg, kprobe_udpv6_sendmsg, fentry_udpv6_sendmsg, fexit_udpv6_sendmsg, SockMsg,
                "int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len) [net/ipv6/udp.c]",
                "6.1, 6.12, 6.18, 7.3", None;
            unix_stream_sendmsg, kprobe_unix_stream_sendmsg, fentry_unix_stream_sendmsg, fexit_unix_stream_sendmsg, SocketMsg,
                "int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) [net/unix/af_unix.c]",
                "6.1, 6.12, 6.18, 7.3", None;
            unix_dgram_sendmsg, kprobe_unix_dgram_sendmsg, fentry_unix_dgram_sendmsg, fexit_unix_dgram_sendmsg, SocketMsg,
                "int unix_dgram_sendmsg(struct socket *sock, struct msghdr *msg, size_t len) [net/unix/af_unix.c]; unix_seqpacket_sendmsg ends in it",
                "6.1, 6.12, 6.18, 7.3", None;
            tcp_sendpage, kprobe_tcp_sendpage, fentry_tcp_sendpage, fexit_tcp_sendpage, SockPage,
                "int tcp_sendpage(struct sock *sk, struct page *page, int offset, size_t size, int flags) [net/ipv4/tcp.c]; sendfile and splice before 6.5",
                "6.1", Some((6, 5));
            udp_sendpage, kprobe_udp_sendpage, fentry_udp_sendpage, fexit_udp_sendpage, SockPage,
                "int udp_sendpage(struct sock *sk, struct page *page, int offset, size_t size, int flags) [net/ipv4/udp.c]; sendfile and splice before 6.5",
                "6.1", Some((6, 5));
            unix_stream_sendpage, kprobe_unix_stream_sendpage, fentry_unix_stream_sendpage, fexit_unix_stream_sendpage, SocketPage,
                "ssize_t unix_stream_sendpage(struct socket *socket, struct page *page, int offset, size_t size, int flags) [net/unix/af_unix.c]; sendfile and splice before 6.5",
                "6.1", Some((6, 5));
        }
    };
}

macro_rules! table {
    ($($name:ident, $kprobe:ident, $fentry:ident, $fexit:ident, $shape:ident,
        $prototype:literal, $kernels:literal, $gone:expr;)+) => {
        /// Every send function that hooks attach to, in the order that
        /// [`crate::SendRecord::place`] counts.
        pub const SEND_FUNCTIONS: &[SendFunction] = &[$(SendFunction {
            name: stringify!($name),
            kprobe: stringify!($kprobe),
            fentry: stringify!($fentry),
            fexit: stringify!($fexit),
            shape: Shape::$shape,
            prototype: $prototype,
            kernels: $kernels,
            gone_in: $gone,
        },)+];

        /// Position of each function in [`SEND_FUNCTIONS`].
        #[allow(non_camel_case_types, missing_docs, reason = "named like the kernel's symbols")]
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Place { $($name,)+ }
    };
}
for_each_send_function!(table);

/// A syscall of the send family, as the tracepoint hook sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSyscall {
    /// Name after `sys_enter_` and `sys_exit_`.
    pub name: &'static str,
    /// Program for its entry.
    pub program: &'static str,
    /// Its arguments, from `include/linux/syscalls.h`.
    pub prototype: &'static str,
    /// Kernels in which the event format was checked.
    pub kernels: &'static str,
}

/// Every syscall that the tracepoint hook attaches to, in the order that
/// [`crate::SendRecord::place`] counts. `send` is `sendto` without an address.
pub const SEND_SYSCALLS: &[SendSyscall] = &[
    SendSyscall {
        name: "write",
        program: "enter_write",
        prototype: "write(unsigned int fd, const char *buf, size_t count)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "writev",
        program: "enter_writev",
        prototype: "writev(unsigned long fd, const struct iovec *vec, unsigned long vlen)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "sendto",
        program: "enter_sendto",
        prototype: "sendto(int fd, void *buff, size_t len, unsigned int flags, struct sockaddr *addr, int addr_len)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "sendmsg",
        program: "enter_sendmsg",
        prototype: "sendmsg(int fd, struct user_msghdr *msg, unsigned int flags)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "sendmmsg",
        program: "enter_sendmmsg",
        prototype: "sendmmsg(int fd, struct mmsghdr *mmsg, unsigned int vlen, unsigned int flags)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "sendfile64",
        program: "enter_sendfile64",
        prototype: "sendfile64(int out_fd, int in_fd, loff_t *offset, size_t count)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
    SendSyscall {
        name: "splice",
        program: "enter_splice",
        prototype: "splice(int fd_in, loff_t *off_in, int fd_out, loff_t *off_out, size_t len, unsigned int flags)",
        kernels: "6.1, 6.12, 6.18, 7.3",
    },
];
