//! What a `struct sock` says about a send.

use injector_ebpf::{ENDPOINT_LEN, Endpoint, Protocol, V4_MAPPED_PREFIX};

use crate::{
    maps::setup,
    memory::{Space, copy, member, pointer, read},
};

// Address families and types of `include/linux/socket.h` and `linux/net.h`,
// part of the user ABI.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const O_NONBLOCK: u32 = 0o4000;

/// A socket that a send was seen on.
pub struct Socket {
    /// `struct sock`.
    pub sock: *const u8,
    /// Its `struct file`, null for the kernel's own sockets.
    pub file: *const u8,
    /// Address family.
    pub family: u16,
    /// Family and type as the rule's filter counts them.
    pub protocol: Protocol,
}

/// A peer address given with the call: `msg_name`.
#[derive(Clone, Copy)]
pub struct Name {
    /// `struct sockaddr *`, null when none was given.
    pub address: *const u8,
    /// Its length in bytes.
    pub length: u32,
    /// Where it lies.
    pub space: Space,
}

impl Name {
    /// No address was given.
    pub const NONE: Self = Self {
        address: core::ptr::null(),
        length: 0,
        space: Space::Kernel,
    };
}

impl Socket {
    /// None for families and types that injector does not follow.
    #[inline(always)]
    pub fn from_sock(sock: *const u8) -> Option<Self> {
        let family: u16 = member(sock, setup!(offsets.sock_family));
        let protocol = if family == AF_UNIX {
            let kind: u16 = member(sock, setup!(offsets.sock_sk_type));
            if kind == SOCK_STREAM {
                Protocol::UnixStream
            } else {
                Protocol::UnixDgram
            }
        } else if family == AF_INET || family == AF_INET6 {
            let number: u16 = member(sock, setup!(offsets.sock_sk_protocol));
            if number == IPPROTO_TCP {
                Protocol::Tcp
            } else if number == IPPROTO_UDP {
                Protocol::Udp
            } else {
                return None;
            }
        } else {
            return None;
        };
        let socket = pointer(sock, setup!(offsets.sock_sk_socket));
        Some(Self {
            sock,
            file: pointer(socket, setup!(offsets.socket_file)),
            family,
            protocol,
        })
    }

    /// Whether the address family is IPv6.
    #[inline(always)]
    pub fn is_ipv6(&self) -> bool {
        self.family == AF_INET6
    }

    /// Whether the file is in non-blocking mode.
    #[inline(always)]
    pub fn is_non_blocking(&self) -> bool {
        member::<u32>(self.file, setup!(offsets.file_f_flags)) & O_NONBLOCK != 0
    }

    /// Writes both ends; `peer` and `local` must be zeroed.
    #[inline(always)]
    pub fn endpoints(&self, local: &mut Endpoint, peer: &mut Endpoint, name: Name) {
        if self.family == AF_UNIX {
            unix_name(self.sock, local);
            if name.address.is_null() || name.length <= 2 {
                unix_name(pointer(self.sock, setup!(offsets.unix_peer)), peer);
            } else {
                peer.port = (name.length - 2) as u16;
                copy(
                    &mut peer.address,
                    name.address.wrapping_add(2),
                    name.length - 2,
                    name.space,
                );
            }
            return;
        }
        local.port = member(self.sock, setup!(offsets.sock_num));
        peer.port = u16::from_be(member(self.sock, setup!(offsets.sock_dport)));
        if self.family == AF_INET {
            v4(local, member(self.sock, setup!(offsets.sock_rcv_saddr)));
            v4(peer, member(self.sock, setup!(offsets.sock_daddr)));
        } else {
            v6(local, member(self.sock, setup!(offsets.sock_v6_rcv_saddr)));
            v6(peer, member(self.sock, setup!(offsets.sock_v6_daddr)));
        }
        if name.address.is_null() || name.length < 8 {
            return;
        }
        let family: u16 = read(name.address, name.space);
        // struct sockaddr_in: family, port, address; struct sockaddr_in6:
        // family, port, flowinfo, address (user ABI).
        if family == AF_INET {
            peer.port = u16::from_be(read(name.address.wrapping_add(2), name.space));
            v4(peer, read(name.address.wrapping_add(4), name.space));
        } else if family == AF_INET6 && name.length >= 24 {
            peer.port = u16::from_be(read(name.address.wrapping_add(2), name.space));
            v6(peer, read(name.address.wrapping_add(8), name.space));
        }
    }
}

#[inline(always)]
fn v4(endpoint: &mut Endpoint, address: [u8; 4]) {
    endpoint.address[..12].copy_from_slice(&V4_MAPPED_PREFIX);
    endpoint.address[12..16].copy_from_slice(&address);
}

#[inline(always)]
fn v6(endpoint: &mut Endpoint, address: [u8; 16]) {
    endpoint.address[..16].copy_from_slice(&address);
}

/// The name that a unix socket is bound to, if any.
#[inline(always)]
fn unix_name(sock: *const u8, endpoint: &mut Endpoint) {
    let address = pointer(sock, setup!(offsets.unix_addr));
    if address.is_null() {
        return;
    }
    let length: u32 = member(address, setup!(offsets.unix_address_len));
    if length <= 2 || length > 110 {
        return;
    }
    endpoint.port = (length - 2) as u16;
    let name = address.wrapping_add(setup!(offsets.unix_address_name) as usize + 2);
    copy::<ENDPOINT_LEN>(&mut endpoint.address, name, length - 2, Space::Kernel);
}
