//! Who called: Go keeps frame pointers on amd64 (since 1.7) and arm64 (since
//! 1.12), so a chain of two words per frame leads to all callers.

use crate::{registers::Registers, user};

/// Puts the instruction and the return addresses into `frames`, innermost
/// first; how many there are.
///
/// # Safety
///
/// `frames` can be written.
#[inline(always)]
pub unsafe fn walk<const N: usize>(
    frames: *mut [u64; N],
    registers: &Registers,
    at_entry: bool,
) -> u8 {
    let frames = frames.cast::<u64>();
    let mut depth = 1;
    // SAFETY: `depth` stays below `N`.
    unsafe {
        frames.write(registers.instruction);
        if at_entry {
            frames.add(1).write(registers.return_address());
            depth = 2;
        }
        let mut frame = registers.frame;
        for index in 1..N {
            if index < depth {
                continue;
            }
            let Some([next, caller]) = user::read::<[u64; 2]>(frame) else {
                break;
            };
            // The first frame of a goroutine has none below it.
            if caller == 0 {
                break;
            }
            frames.add(index).write(caller);
            depth = index + 1;
            frame = next;
        }
    }
    depth as u8
}
