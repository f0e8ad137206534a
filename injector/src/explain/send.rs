//! A typed view over one record: what its numbers mean, and which of them were
//! measured at all.

use std::fmt::{self, Display, Formatter, Write};
use std::net::{Ipv6Addr, SocketAddr};

use injector_ebpf::{
    Endpoint, Guard, Hook, Operation, Protocol, SEND_FUNCTIONS, SEND_SYSCALLS, SendRecord,
    V4_MAPPED_PREFIX, Verdict, flags,
};

/// One send. Times are `None` when they were not measured: a zero in the record
/// never becomes a time.
#[derive(Clone, Copy, Debug)]
pub struct SendView<'a> {
    record: &'a SendRecord,
}

impl<'a> SendView<'a> {
    /// Looks at a record.
    pub fn new(record: &'a SendRecord) -> Self {
        Self { record }
    }

    /// The record itself.
    pub fn record(self) -> &'a SendRecord {
        self.record
    }

    /// Whether any of these bits of [`flags`] is set.
    pub fn has(self, bits: u16) -> bool {
        self.record.flags & bits != 0
    }

    /// What was decided; `None` for a number that the ABI does not know.
    pub fn verdict(self) -> Option<Verdict> {
        Verdict::from_number(self.record.verdict)
    }

    /// The guard that let the send through, if one did.
    pub fn guard(self) -> Option<Guard> {
        Guard::from_number(self.record.guard).filter(|guard| *guard != Guard::None)
    }

    /// Where the send was seen.
    pub fn hook(self) -> Option<Hook> {
        Hook::from_number(self.record.hook)
    }

    /// Family and type of the socket.
    pub fn protocol(self) -> Option<Protocol> {
        Protocol::from_number(self.record.protocol)
    }

    /// Kernel function or syscall that the send was seen in.
    pub fn place(self) -> Option<&'static str> {
        let index = usize::from(self.record.place);
        match self.hook()? {
            Hook::Kprobe | Hook::Fentry => SEND_FUNCTIONS.get(index).map(|place| place.name),
            Hook::Tracepoint => SEND_SYSCALLS.get(index).map(|place| place.name),
            Hook::Lsm => Operation::from_number(self.record.place).map(Operation::name),
            Hook::SockSendLength => None,
        }
    }

    /// Number of the goroutine that sends, if it is known.
    pub fn goroutine(self) -> Option<u64> {
        (self.record.goroutine != 0).then_some(self.record.goroutine)
    }

    /// Whether the rule's filters matched.
    pub fn matched(self) -> bool {
        self.verdict()
            .is_some_and(|verdict| verdict != Verdict::Unmatched)
    }

    /// Whether the rule chose the send, whatever became of it.
    pub fn chosen(self) -> bool {
        matches!(
            self.verdict(),
            Some(Verdict::Delivered | Verdict::Shadowed | Verdict::Suppressed)
        )
    }

    /// Whether the fault was decided and, because of the mode, not carried out.
    pub fn shadowed(self) -> bool {
        self.verdict() == Some(Verdict::Shadowed)
    }

    /// Whether the rule's error was returned instead of sending.
    pub fn failed(self) -> bool {
        self.has(flags::FAILED) && !self.shadowed()
    }

    /// Whether a signal was sent.
    pub fn signalled(self) -> bool {
        self.has(flags::SIGNALLED)
    }

    /// Whether a signal would have been sent if the mode were not shadow.
    pub fn would_signal(self) -> bool {
        self.has(flags::WOULD_SIGNAL)
    }

    /// Whether the send was delayed.
    pub fn delayed(self) -> bool {
        self.delivered().is_some()
    }

    /// Whether the send is worth showing when not every send is.
    pub fn noteworthy(self) -> bool {
        self.has(flags::FLAGGED | flags::FAILED | flags::SIGNALLED | flags::WOULD_SIGNAL)
    }

    /// Whether the start was seen; without it there are no times.
    pub fn timed(self) -> bool {
        !self.has(flags::NO_START)
    }

    /// When the hook was entered.
    pub fn start(self) -> Option<u64> {
        self.measured(self.record.start_ns)
    }

    /// Delay that was decided.
    pub fn asked(self) -> Option<u64> {
        self.measured(self.record.asked_ns)
            .filter(|_| self.chosen())
    }

    /// Delay that was given.
    pub fn delivered(self) -> Option<u64> {
        self.measured(self.record.delivered_ns)
    }

    /// Time that the send itself took. A send that was failed never ran.
    pub fn natural(self) -> Option<u64> {
        self.measured(self.record.natural_ns)
            .filter(|_| !self.failed())
    }

    /// Time that the caller spent in the send, with the delay.
    pub fn total(self) -> Option<u64> {
        match (self.delivered(), self.natural()) {
            (None, None) => None,
            (delivered, natural) => {
                Some(delivered.unwrap_or(0).saturating_add(natural.unwrap_or(0)))
            }
        }
    }

    /// Like [`Self::total`], with the delay that a shadowed send would have got.
    pub fn projected(self) -> Option<u64> {
        match self.asked() {
            Some(asked) if self.shadowed() => Some(self.total().unwrap_or(0).saturating_add(asked)),
            _ => self.total(),
        }
    }

    fn measured(self, ns: u64) -> Option<u64> {
        (self.timed() && ns > 0).then_some(ns)
    }

    /// Bytes that the caller asked to send.
    pub fn asked_bytes(self) -> Option<u64> {
        (!self.has(flags::BYTES_UNKNOWN)).then_some(self.record.bytes_asked)
    }

    /// Bytes that were sent. A batch returns messages, not bytes.
    pub fn sent_bytes(self) -> Option<u64> {
        u64::try_from(self.record.result)
            .ok()
            .filter(|_| !self.has(flags::BATCH | flags::NO_RETURN))
    }

    /// Messages of a batch that were sent.
    pub fn sent_messages(self) -> Option<u64> {
        u64::try_from(self.record.result)
            .ok()
            .filter(|_| self.has(flags::BATCH))
    }

    /// Errno that the caller got, ours or the kernel's own.
    pub fn errno(self) -> Option<i32> {
        (self.record.result < 0)
            .then(|| i32::try_from(self.record.result.unsigned_abs()).unwrap_or(i32::MAX))
    }

    /// Name of the sending thread.
    pub fn comm(self) -> Lossy<'a> {
        Lossy::until_nul(&self.record.comm)
    }

    /// Own end of the socket.
    pub fn local(self) -> Address<'a> {
        self.address(&self.record.local)
    }

    /// Other end of the socket.
    pub fn peer(self) -> Address<'a> {
        self.address(&self.record.peer)
    }

    fn address(self, end: &'a Endpoint) -> Address<'a> {
        match self.protocol() {
            Some(Protocol::Tcp | Protocol::Udp) => Address::internet(end, self.has(flags::IPV6)),
            Some(Protocol::UnixStream | Protocol::UnixDgram) => Address::unix(end),
            None => Address::Unknown,
        }
    }
}

/// One end of a socket, as `127.0.0.1:80`, `[::1]:80`, a unix path, `@abstract`,
/// `unnamed` or `unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Address and port.
    Internet(SocketAddr),
    /// Path of a unix socket, and whether the record holds only its beginning.
    Path(Lossy<'a>, bool),
    /// Abstract name of a unix socket without its leading zero, and whether the
    /// record holds only its beginning.
    Abstract(Lossy<'a>, bool),
    /// Unix socket that is bound to no name.
    Unnamed,
    /// Not in the record.
    Unknown,
}

impl<'a> Address<'a> {
    fn internet(end: &Endpoint, ipv6: bool) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&end.address[..16]);
        if bytes == [0; 16] && (end.port == 0 || !ipv6) {
            return Self::Unknown;
        }
        let address = Ipv6Addr::from(bytes);
        if !ipv6 && bytes[..12] == V4_MAPPED_PREFIX {
            let [.., a, b, c, d] = bytes;
            Self::Internet(SocketAddr::from(([a, b, c, d], end.port)))
        } else {
            Self::Internet(SocketAddr::from((address, end.port)))
        }
    }

    fn unix(end: &'a Endpoint) -> Self {
        let length = usize::from(end.port);
        let cut = length > end.address.len();
        match &end.address[..length.min(end.address.len())] {
            [] => Self::Unnamed,
            [0, name @ ..] => Self::Abstract(Lossy(name), cut),
            path => Self::Path(Lossy::until_nul(path), cut && !path.contains(&0)),
        }
    }

    /// The address when there is one to name.
    pub fn known(self) -> Option<Self> {
        match self {
            Self::Unnamed | Self::Unknown => None,
            named => Some(named),
        }
    }
}

impl Display for Address<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cut = match self {
            Self::Internet(address) => return address.fmt(f),
            Self::Unnamed => return f.write_str("unnamed"),
            Self::Unknown => return f.write_str("unknown"),
            Self::Path(path, cut) => {
                path.fmt(f)?;
                cut
            }
            Self::Abstract(name, cut) => {
                // Zeros inside an abstract name are shown as `ss` shows them.
                write!(ZerosAsAt(f), "\0{name}")?;
                cut
            }
        };
        if *cut { f.write_char('…') } else { Ok(()) }
    }
}

struct ZerosAsAt<'a, 'f>(&'a mut Formatter<'f>);

impl Write for ZerosAsAt<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, part) in text.split('\0').enumerate() {
            if index > 0 {
                self.0.write_char('@')?;
            }
            self.0.write_str(part)?;
        }
        Ok(())
    }
}

/// Bytes that are meant to be text: what is no UTF-8 is shown as `U+FFFD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lossy<'a>(&'a [u8]);

impl<'a> Lossy<'a> {
    /// The bytes before the first zero.
    pub fn until_nul(bytes: &'a [u8]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0);
        Self(&bytes[..end.unwrap_or(bytes.len())])
    }
}

impl Display for Lossy<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::explain::fixture;

    fn unix(name: &[u8], length: u16) -> SendRecord {
        let mut record = fixture::send();
        record.protocol = Protocol::UnixStream as u8;
        record.peer = fixture::endpoint(name, length);
        record
    }

    fn peer(record: &SendRecord) -> String {
        SendView::new(record).peer().to_string()
    }

    #[test]
    fn internet_addresses_are_written_as_people_write_them() {
        let mut record = fixture::send();
        assert_eq!(peer(&record), "127.0.0.1:80");

        record.flags = flags::IPV6;
        assert_eq!(peer(&record), "[::ffff:127.0.0.1]:80");

        record.peer = fixture::endpoint(&Ipv6Addr::LOCALHOST.octets(), 443);
        assert_eq!(peer(&record), "[::1]:443");

        record.peer = fixture::endpoint(&[], 443);
        assert_eq!(peer(&record), "[::]:443");
        record.flags = 0;
        assert_eq!(peer(&record), "unknown");
        record.peer = fixture::endpoint(&[], 0);
        record.flags = flags::IPV6;
        assert_eq!(peer(&record), "unknown");
    }

    #[test]
    fn unix_names_are_cut_and_marked() {
        assert_eq!(peer(&unix(b"/run/app.sock", 13)), "/run/app.sock");
        assert_eq!(peer(&unix(b"/run/app.sock\0", 14)), "/run/app.sock");
        assert_eq!(peer(&unix(b"\0bus", 4)), "@bus");
        assert_eq!(peer(&unix(b"\0a\0b", 4)), "@a@b");
        assert_eq!(peer(&unix(b"", 0)), "unnamed");
        let long = [b'x'; 40];
        assert_eq!(peer(&unix(&long, 40)), "x".repeat(40));
        assert_eq!(peer(&unix(&long, 99)), format!("{}…", "x".repeat(40)));
    }

    #[test]
    fn names_that_are_no_utf8_stay_readable() {
        let mut record = fixture::send();
        record.comm = *b"caf\xe9-worker\0\0\0\0\0";
        assert_eq!(
            SendView::new(&record).comm().to_string(),
            "caf\u{fffd}-worker"
        );
        record.comm = [b'y'; 16];
        assert_eq!(SendView::new(&record).comm().to_string(), "y".repeat(16));
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let mut record = fixture::delayed(10, 11, 5);
        let view = SendView::new(&record);
        assert_eq!(view.asked(), Some(10));
        assert_eq!(view.delivered(), Some(11));
        assert_eq!(view.natural(), Some(5));
        assert_eq!(view.total(), Some(16));

        record.flags = flags::NO_START;
        let view = SendView::new(&record);
        assert_eq!(
            (view.start(), view.asked(), view.delivered()),
            (None, None, None)
        );
        assert_eq!((view.natural(), view.total()), (None, None));
        assert!(!view.delayed());

        record.flags = flags::FAILED;
        let view = SendView::new(&record);
        assert_eq!(view.natural(), None, "a failed send never ran");
        assert_eq!(view.total(), Some(11));
    }

    #[test]
    fn a_shadowed_send_did_happen() {
        let mut record = fixture::delayed(1_000, 0, 5);
        record.verdict = Verdict::Shadowed as u8;
        record.flags = flags::FAILED | flags::WOULD_SIGNAL;
        let view = SendView::new(&record);
        assert!(view.chosen() && !view.delayed());
        assert!(!view.failed() && !view.signalled() && view.would_signal());
        assert_eq!(view.total(), Some(5));
        assert_eq!(view.projected(), Some(1_005));
    }

    #[test]
    fn results_are_bytes_messages_or_an_errno() {
        let mut record = fixture::send();
        record.result = 7;
        let view = SendView::new(&record);
        assert_eq!((view.sent_bytes(), view.sent_messages()), (Some(7), None));

        let batch = SendRecord {
            flags: flags::BATCH,
            ..record
        };
        let view = SendView::new(&batch);
        assert_eq!((view.sent_bytes(), view.sent_messages()), (None, Some(7)));

        record.result = -104;
        let view = SendView::new(&record);
        assert_eq!((view.errno(), view.sent_bytes()), (Some(104), None));
        record.result = i64::MIN;
        assert_eq!(SendView::new(&record).errno(), Some(i32::MAX));
    }

    #[test]
    fn places_are_looked_up_in_the_table_of_their_hook() {
        let mut record = fixture::send();
        record.hook = Hook::Kprobe as u8;
        assert_eq!(SendView::new(&record).place(), Some("tcp_sendmsg"));
        record.hook = Hook::Tracepoint as u8;
        assert_eq!(SendView::new(&record).place(), Some("write"));
        record.place = 255;
        assert_eq!(SendView::new(&record).place(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_looked_at(record in fixture::any_record()) {
            let view = SendView::new(&record);
            let text = format!(
                "{} {} {} {:?} {:?} {:?}",
                view.comm(), view.peer(), view.local(), view.place(), view.errno(), view.guard()
            );
            prop_assert!(!text.is_empty());
            prop_assert!(view.total() >= view.delivered().max(view.natural()));
            prop_assert!(view.projected() >= view.total());
            prop_assert!(!view.has(flags::NO_START) || view.projected().is_none());
            prop_assert!(!view.chosen() || view.matched());
        }
    }
}
