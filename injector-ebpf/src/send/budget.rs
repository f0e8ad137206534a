//! The ceilings that all threads share.

use injector_ebpf::{Control, Guard};

use crate::{atomic, maps::BUDGET};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Charges one act with its delay, or says which ceiling forbids it. Without
/// `enforce` it is only asked what would be, and charged apart.
#[inline(always)]
pub fn charge(now: u64, delay_ns: u64, control: *const Control, enforce: bool) -> Guard {
    let Some(budget) = BUDGET.get_ptr_mut(u32::from(!enforce)) else {
        return Guard::TotalDelay;
    };
    // SAFETY: live map values; what several CPUs add to is added atomically.
    unsafe {
        let second = now / NS_PER_SECOND;
        if (&raw const (*budget).second).read_volatile() != second {
            (*budget).second = second;
            (*budget).delay_ns_in_second = 0;
            (*budget).acts_in_second = 0;
        }
        let read = |field: *const u64| field.read_volatile();
        if read(&raw const (*budget).acts_in_second) >= (*control).max_acts_per_second {
            return Guard::ActRate;
        }
        let in_second = read(&raw const (*budget).delay_ns_in_second).wrapping_add(delay_ns);
        if in_second > (*control).max_delay_ns_per_second {
            return Guard::DelayRate;
        }
        let in_all = read(&raw const (*budget).total_delay_ns).wrapping_add(delay_ns);
        if in_all > (*control).max_total_delay_ns {
            atomic::add(&raw mut (*budget).total_refusals, 1);
            return Guard::TotalDelay;
        }
        atomic::add(&raw mut (*budget).acts_in_second, 1);
        atomic::add(&raw mut (*budget).delay_ns_in_second, delay_ns);
        atomic::add(&raw mut (*budget).total_delay_ns, delay_ns);
    }
    Guard::None
}
