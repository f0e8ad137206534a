//! Records for tests.

use injector_ebpf::{
    ENDPOINT_LEN, Endpoint, Guard, Hook, Protocol, SendRecord, V4_MAPPED_PREFIX, Verdict,
};
use proptest::prelude::*;

use super::{Summary, Totals};

/// An end with these first bytes.
pub fn endpoint(bytes: &[u8], port: u16) -> Endpoint {
    let mut address = [0; ENDPOINT_LEN];
    address[..bytes.len()].copy_from_slice(bytes);
    Endpoint {
        address,
        port,
        reserved: [0; 6],
    }
}

/// An IPv4 end.
pub fn ipv4(address: [u8; 4], port: u16) -> Endpoint {
    endpoint(&[&V4_MAPPED_PREFIX[..], &address].concat(), port)
}

/// A send that a rule looked at and left alone.
pub fn send() -> SendRecord {
    SendRecord {
        start_ns: 1_000_000_000,
        asked_ns: 0,
        delivered_ns: 0,
        natural_ns: 5_000,
        bytes_asked: 512,
        result: 512,
        cgroup: 42,
        call_index: 1,
        thread_ordinal: 0,
        goroutine: 0,
        tgid: 4321,
        tid: 4321,
        local: ipv4([127, 0, 0, 1], 40_000),
        peer: ipv4([127, 0, 0, 1], 80),
        comm: *b"order-api\0\0\0\0\0\0\0",
        flags: 0,
        rule: 0,
        verdict: Verdict::Passed as u8,
        guard: Guard::None as u8,
        hook: Hook::Kprobe as u8,
        protocol: Protocol::Tcp as u8,
        place: 0,
    }
}

/// A send that was delayed.
pub fn delayed(asked_ns: u64, delivered_ns: u64, natural_ns: u64) -> SendRecord {
    SendRecord {
        asked_ns,
        delivered_ns,
        natural_ns,
        verdict: Verdict::Delivered as u8,
        ..send()
    }
}

/// A summary of these sends.
pub fn summary<'a>(records: impl IntoIterator<Item = &'a SendRecord>) -> Summary {
    let mut summary = Summary::default();
    for record in records {
        summary.record(record);
    }
    summary
}

/// Counters with these values and zeros.
pub fn totals(values: &[(injector_ebpf::Counter, u64)]) -> Totals {
    let mut stats = injector_ebpf::Stats {
        values: [0; injector_ebpf::COUNTERS.len()],
    };
    for (counter, value) in values {
        stats.values[*counter as usize] = *value;
    }
    std::iter::once(&stats).collect()
}

/// Any bytes at all, half of them with enum numbers that exist.
pub fn any_record() -> impl Strategy<Value = SendRecord> {
    let bytes = prop::collection::vec(any::<u8>(), size_of::<SendRecord>());
    (bytes, any::<bool>()).prop_map(|(bytes, valid)| {
        // SAFETY: the vector has the size of the record, every bit pattern of
        // which is a value, and the read does not need alignment.
        let mut record = unsafe { bytes.as_ptr().cast::<SendRecord>().read_unaligned() };
        if valid {
            record.verdict %= Verdict::ALL.len() as u8;
            record.guard %= Guard::ALL.len() as u8;
            record.hook %= Hook::ALL.len() as u8;
            record.protocol %= Protocol::ALL.len() as u8;
            record.rule %= 4;
            record.tgid %= 1_000;
            record.result %= 200;
        }
        record
    })
}
