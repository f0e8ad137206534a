//! One send, from the entry of the send path to its return:
//! match → decide → act → record. Read from top to bottom.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns,
    generated::bpf_send_signal_thread,
};
use injector_ebpf::{
    Control, Counter, Guard, Hook, InFlight, Mode, NO_DELAY, Operation, OverAction, Protocol, Rule,
    SendRecord, Target, Verdict, decide, flags,
};

use super::{
    budget,
    engine::{self, Sleeps, Waited},
    goroutine, guard, hint,
    socket::{Name, Socket},
    task_work,
};
use crate::{
    atomic,
    count::{add, count},
    maps::{BUDGET, CONTROL, IN_FLIGHT, QUANTILES, RULES, TARGETS, THREADS, Thread, setup},
    ring,
};

/// A call into a send path, as a hook describes it.
pub struct Call {
    /// The hook.
    pub hook: Hook,
    /// Which of its functions or syscalls.
    pub place: u8,
    /// Bytes asked to send.
    pub bytes: u64,
    /// `MSG_*` flags.
    pub message_flags: u32,
    /// Address given with the call.
    pub name: Name,
    /// Record flags that only the hook knows.
    pub flags: u16,
    /// What the program can do about sleeping.
    pub sleeps: Sleeps,
    /// What the thread wants of the socket.
    pub operation: Operation,
}

/// A sender that is a target.
pub struct Sender {
    /// tgid and tid, as `bpf_get_current_pid_tgid` returns them.
    pub id: u64,
    /// Its entry.
    pub target: *const Target,
}

/// `MSG_DONTWAIT`, user ABI.
const MSG_DONTWAIT: u32 = 0x40;

/// The current thread, when its process is a target. This look-up is all that
/// a bystander pays.
#[inline(always)]
pub fn sender() -> Option<Sender> {
    let id = bpf_get_current_pid_tgid();
    let target = TARGETS.get_ptr((id >> 32) as u32)?;
    Some(Sender { id, target })
}

/// The send path was entered. Returns the errno to fail with, 0 to go on.
#[inline(always)]
pub fn enter(sender: &Sender, sock: *const u8, call: &Call) -> u32 {
    let tgid = (sender.id >> 32) as u32;
    if tgid == setup!(own_tgid) || tgid == 1 {
        return 0;
    }
    let Some(control) = CONTROL.get_ptr(0) else {
        return 0;
    };
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a live map value.
    let lease_ns = unsafe { (*control).lease_ns };
    if now > lease_ns {
        // Zero: the daemon is ending the run, nothing has gone wrong.
        // A send that passes the LSM hook comes to another hook of ours, too.
        let comes_again = call.hook as u8 == Hook::Lsm as u8 && call.flags & flags::NO_RETURN == 0;
        // One that came by in time is followed already.
        let followed = hint::maybe(sender.id) && IN_FLIGHT.get_ptr(sender.id).is_some();
        if lease_ns != 0 && !comes_again && !followed {
            count(Counter::GuardLease);
        }
        return 0;
    }
    let Some(socket) = Socket::from_sock(sock) else {
        return 0;
    };
    let Some(open) = open(sender.id, &socket, call, now) else {
        return 0;
    };
    count(Counter::Seen);
    describe(open, sender, &socket, call, control, now);
    let errno = decide_and_act(open, sender, &socket, call, control, now);
    if errno != 0 {
        count(Counter::Failed);
        open.record.flags |= flags::FAILED;
        open.record.result = -i64::from(errno);
        close(sender.id, open, control, false);
    } else if call.flags & flags::NO_RETURN != 0 {
        close(sender.id, open, control, true);
    }
    errno
}

/// The send path returned. `sleeps`: this program can have the thread sleep on
/// its way back.
#[inline(always)]
pub fn exit(result: i64, sleeps: bool) {
    let id = bpf_get_current_pid_tgid();
    if !hint::maybe(id) {
        return;
    }
    let Some(open) = IN_FLIGHT.get_ptr_mut(id) else {
        return;
    };
    let Some(control) = CONTROL.get_ptr(0) else {
        return;
    };
    // SAFETY: a live map value that only this thread uses.
    let open = unsafe { &mut *open };
    if open.depth > 0 {
        open.depth -= 1;
        return;
    }
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    open.record.natural_ns = now.wrapping_sub(open.acted_ns);
    open.record.result = result;
    if open.waits_at_return != 0 {
        open.record.flags |= flags::AFTER;
        if sleeps && task_work::begin(open, now, control) {
            return;
        }
    }
    close(id, open, control, true);
}

/// An `io_uring` send was seen only when it was over: no start, nothing to
/// decide.
#[inline(always)]
pub fn seen_at_end(sender: &Sender, sock: *const u8, call: &Call, result: i64) {
    // Other sends are followed from their start.
    if !guard::is_io_uring() {
        return;
    }
    let (Some(control), Some(socket)) = (CONTROL.get_ptr(0), Socket::from_sock(sock)) else {
        return;
    };
    if IN_FLIGHT.insert(sender.id, &EMPTY, 0).is_err() {
        count(Counter::InFlightFull);
        return;
    }
    if let Some(open) = IN_FLIGHT.get_ptr_mut(sender.id) {
        // SAFETY: reads the clock; a live map value that only this thread uses.
        let (now, open) = unsafe { (bpf_ktime_get_ns(), &mut *open) };
        count(Counter::Seen);
        describe(open, sender, &socket, call, control, now);
        open.record.result = result;
        ring::send(&raw const open.record, control);
        let _ = IN_FLIGHT.remove(sender.id);
    }
}

/// The entry for this send, or none when it belongs to one that is already
/// followed, or cannot be followed.
#[inline(always)]
fn open(id: u64, socket: &Socket, call: &Call, now: u64) -> Option<&'static mut InFlight> {
    if hint::maybe(id)
        && let Some(open) = IN_FLIGHT.get_ptr_mut(id)
    {
        // SAFETY: a live map value that only this thread uses.
        let open = unsafe { &mut *open };
        if open.sock == socket.sock as u64 {
            if open.record.hook == Hook::Lsm as u8 && call.hook as u8 != Hook::Lsm as u8 {
                // The LSM hook decided; this one will see the return.
                open.record.hook = call.hook as u8;
                open.record.place = call.place;
                open.acted_ns = now;
                return None;
            }
            if open.record.place != call.place {
                // udpv6_sendmsg ends in udp_sendmsg for IPv4 peers.
                open.depth += 1;
                return None;
            }
        }
        // The last send's return was never seen.
        count(Counter::ReturnsMissed);
    } else {
        hint::open(id);
    }
    if IN_FLIGHT.insert(id, &EMPTY, 0).is_err() {
        count(Counter::InFlightFull);
        hint::close(id);
        return None;
    }
    // SAFETY: as above.
    IN_FLIGHT.get_ptr_mut(id).map(|open| unsafe { &mut *open })
}

/// Fills in what is known before anything is decided.
#[inline(always)]
fn describe(
    open: &mut InFlight,
    sender: &Sender,
    socket: &Socket,
    call: &Call,
    control: *const Control,
    now: u64,
) {
    open.sock = socket.sock as u64;
    open.acted_ns = now;
    open.threshold_ns = u64::MAX;
    let record = &mut open.record;
    record.start_ns = now;
    record.bytes_asked = call.bytes;
    record.tgid = (sender.id >> 32) as u32;
    record.tid = sender.id as u32;
    // SAFETY: reads an id.
    record.cgroup = unsafe { bpf_get_current_cgroup_id() };
    if let Ok(comm) = bpf_get_current_comm() {
        record.comm = comm;
    }
    record.hook = call.hook as u8;
    record.place = call.place;
    record.protocol = socket.protocol as u8;
    record.flags = call.flags;
    if socket.is_ipv6() {
        record.flags |= flags::IPV6;
    }
    if call.message_flags & MSG_DONTWAIT != 0 || socket.is_non_blocking() {
        record.flags |= flags::NON_BLOCKING;
    }
    socket.endpoints(&mut record.local, &mut record.peer, call.name);
    goroutine::note(record, control);
}

/// Returns the errno to fail with, 0 to go on.
#[inline(always)]
fn decide_and_act(
    open: &mut InFlight,
    sender: &Sender,
    socket: &Socket,
    call: &Call,
    control: *const Control,
    now: u64,
) -> u32 {
    // SAFETY: live map values; the daemon rewrites them whole, and every field
    // is meaningful beside the old value of any other.
    let (rule, rule_index) = unsafe {
        let index = (*sender.target).rule;
        match RULES.get_ptr(index) {
            Some(rule) => (&*rule, index),
            None => return 0,
        }
    };
    open.record.rule = rule_index as u8;
    if rule.active == 0 || !matches(rule, &open.record, call.operation) {
        return 0;
    }
    count(Counter::Matched);
    open.record.verdict = Verdict::Passed as u8;
    open.threshold_ns = rule.threshold_ns;

    let (ordinal, call_index) = next_call(sender.id as u32);
    open.record.thread_ordinal = ordinal;
    open.record.call_index = call_index;
    let forbidden = guard::check(call.hook, socket, rule, open.record.flags);
    // SAFETY: a live map value.
    let enforce = unsafe { (*control).mode } == Mode::Enforce as u64;
    if forbidden as u8 == Guard::None as u8 && rule.over_action == OverAction::Signal as u32 {
        open.signal = rule.over_argument;
    }

    let random = |draw| decide::random(rule.seed, u64::from(rule_index), ordinal, call_index, draw);
    if !decide::when(rule, call_index) || !decide::chance(rule, random(decide::Draw::Choice)) {
        return 0;
    }
    let mut asked_ns = 0;
    if rule.delay_table != NO_DELAY
        && let Some(table) = QUANTILES.get_ptr(rule.delay_table)
    {
        // SAFETY: a live map value.
        asked_ns = decide::sample(unsafe { &*table }, random(decide::Draw::Delay));
        if asked_ns > rule.max_delay_ns {
            asked_ns = rule.max_delay_ns;
        }
    }
    let errno = decide::error_for(rule, asked_ns);
    if asked_ns == 0 && errno == 0 {
        return 0;
    }
    count(Counter::Chosen);
    add(Counter::AskedNs, asked_ns);
    open.record.asked_ns = asked_ns;

    // SAFETY: a live map value.
    let can_fail = enforce || unsafe { (*control).error_hook } != 0;
    let suppressed = if forbidden as u8 != Guard::None as u8 {
        forbidden
    } else if errno != 0 && call.hook as u8 != Hook::Lsm as u8 && can_fail {
        Guard::NoErrorHook
    } else {
        budget::charge(
            now,
            engine::deliverable(asked_ns, control, call.sleeps),
            control,
            enforce,
        )
    };
    if suppressed as u8 != Guard::None as u8 {
        count_guard(suppressed);
        open.record.verdict = Verdict::Suppressed as u8;
        open.record.guard = suppressed as u8;
    }
    if !enforce {
        count(Counter::Shadowed);
        open.record.verdict = Verdict::Shadowed as u8;
        if errno != 0 && suppressed as u8 == Guard::None as u8 {
            open.record.flags |= flags::FAILED;
        }
        return 0;
    }
    if suppressed as u8 != Guard::None as u8 {
        return 0;
    }
    open.record.verdict = Verdict::Delivered as u8;
    if asked_ns > 0 {
        match engine::wait(asked_ns, ordinal, control, call.sleeps) {
            Some(waited) => {
                open.acted_ns = now + waited.delivered_ns;
                delivered(open, &waited);
            }
            None => open.waits_at_return = 1,
        }
    }
    errno
}

/// Notes what an engine delivered.
#[inline(always)]
pub fn delivered(open: &mut InFlight, waited: &Waited) {
    open.record.delivered_ns = waited.delivered_ns;
    count(Counter::Delayed);
    add(Counter::DeliveredNs, waited.delivered_ns);
    if waited.capped {
        count(Counter::Capped);
        open.record.flags |= flags::CAPPED;
    }
    if waited.shortened {
        count(Counter::Shortened);
        open.record.flags |= flags::SHORTENED;
    }
}

/// Flags, signals, reports and forgets a send.
#[inline(always)]
pub fn close(id: u64, open: &mut InFlight, control: *const Control, sent: bool) {
    let record = &mut open.record;
    let total_ns = record.delivered_ns + record.natural_ns;
    if record.asked_ns > open.threshold_ns || total_ns > open.threshold_ns {
        count(Counter::Flagged);
        record.flags |= flags::FLAGGED;
        // What a guard suppressed was not delivered, so nobody timed out.
        let signal = open.signal;
        if sent && signal != 0 && record.guard == Guard::None as u8 {
            // SAFETY: a live map value.
            let enforce = unsafe { (*control).mode } == Mode::Enforce as u64;
            if may_signal(record, control, enforce) {
                if !enforce {
                    record.flags |= flags::WOULD_SIGNAL;
                // SAFETY: the helper takes a signal number.
                } else if unsafe { bpf_send_signal_thread(signal) } == 0 {
                    count(Counter::Signalled);
                    record.flags |= flags::SIGNALLED;
                }
            }
        }
    }
    ring::send(record, control);
    let _ = IN_FLIGHT.remove(id);
    hint::close(id);
}

/// A signal for a naturally slow send is an act of its own; for a delayed one
/// the act has been charged already.
#[inline(always)]
fn may_signal(record: &SendRecord, control: *const Control, enforce: bool) -> bool {
    record.verdict == Verdict::Delivered as u8
        || record.verdict == Verdict::Shadowed as u8
        || budget::charge(record.start_ns, 0, control, enforce) as u8 == Guard::None as u8
}

/// The rule's filter on the send.
#[inline(always)]
fn matches(rule: &Rule, record: &SendRecord, operation: Operation) -> bool {
    if rule.operations & (1 << operation as u32) == 0
        || rule.protocols & (1 << record.protocol) == 0
        || record.bytes_asked < rule.min_bytes
    {
        return false;
    }
    let network = halves(&rule.peer_network);
    let mask = halves(&rule.peer_mask);
    if rule.peer_port == 0 && mask == (0, 0) {
        return true;
    }
    // The name of a unix socket is neither address nor port.
    if record.protocol >= Protocol::UnixStream as u8 {
        return false;
    }
    let address = halves(record.peer.address.first_chunk().unwrap_or(&[0; 16]));
    (rule.peer_port == 0 || rule.peer_port == u32::from(record.peer.port))
        && (address.0 & mask.0, address.1 & mask.1) == network
}

#[inline(always)]
fn halves(bytes: &[u8; 16]) -> (u64, u64) {
    let value = u128::from_ne_bytes(*bytes);
    (value as u64, (value >> 64) as u64)
}

/// The thread's ordinal and the index of this call, from 1.
#[inline(always)]
fn next_call(tid: u32) -> (u64, u64) {
    if let Some(thread) = THREADS.get_ptr_mut(tid) {
        // SAFETY: a live map value that only this thread writes.
        unsafe {
            (*thread).calls += 1;
            return ((*thread).ordinal, (*thread).calls);
        }
    }
    let ordinal = match BUDGET.get_ptr_mut(0) {
        // SAFETY: a live map value, written atomically.
        Some(budget) => unsafe { atomic::fetch_add(&raw mut (*budget).threads, 1) },
        None => 0,
    };
    if THREADS
        .insert(tid, Thread { ordinal, calls: 1 }, 0)
        .is_err()
    {
        count(Counter::ThreadsFull);
    }
    (ordinal, 1)
}

#[inline(always)]
fn count_guard(guard: Guard) {
    count(match guard {
        Guard::None => return,
        Guard::Lease => Counter::GuardLease,
        Guard::TotalDelay => Counter::GuardTotalDelay,
        Guard::DelayRate => Counter::GuardDelayRate,
        Guard::ActRate => Counter::GuardActRate,
        Guard::KernelThread => Counter::GuardKernelThread,
        Guard::IoWorker => Counter::GuardIoWorker,
        Guard::IoUring => Counter::GuardIoUring,
        Guard::KernelSocket => Counter::GuardKernelSocket,
        Guard::NonBlocking => Counter::GuardNonBlocking,
        Guard::NoErrorHook => Counter::GuardNoErrorHook,
    });
}

/// A new entry, in `.rodata`: it is too large for the stack of a program.
static EMPTY: InFlight = InFlight {
    record: SendRecord::EMPTY,
    sock: 0,
    acted_ns: 0,
    threshold_ns: u64::MAX,
    wait_start_ns: 0,
    signal: 0,
    depth: 0,
    slot: 0,
    waits_at_return: 0,
};
