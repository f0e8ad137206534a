//! Whether a stack can be right: behind a call there is a return address, and
//! the call is of the function that the stack has next.

use super::{image::Machine, loaded::Loaded, site};

/// Longest call instruction, in bytes.
const LONGEST_CALL: u64 = 7;
/// Where goroutines begin: at the return address of a call that nobody made
/// (runtime/proc.go, `newproc1`).
const START: &str = "runtime.goexit";

/// What comes before a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call of the function at this address.
    Direct(u64),
    /// A call of whatever a register or memory points to.
    Indirect,
}

/// How many of a stack's return addresses cannot be any: those outside of all
/// functions, those behind no call, and those behind the call of a function that
/// is not the one further in. A function that jumps into another one, in place
/// of a call, is taken for that.
pub fn wrong(loaded: &Loaded, stack: &[u64]) -> usize {
    let program = loaded.program();
    let Some(symbols) = program.symbols() else {
        return 0;
    };
    let function = |address: u64| symbols.at(loaded.linked(address));
    let mut inner = stack.first().and_then(|address| function(*address));
    let mut wrong = 0;
    for address in stack.iter().skip(1) {
        let outer = function(address.wrapping_sub(1));
        let is_right = outer.is_some_and(|(name, _)| {
            name == START
                || match before(loaded, *address) {
                    None => false,
                    Some(Call::Indirect) => true,
                    Some(Call::Direct(callee)) => {
                        let callee = symbols.at(callee);
                        callee == inner
                            || callee
                                .zip(inner)
                                .is_some_and(|(from, to)| program.jumps(from.1, to.1))
                    }
                }
        });
        wrong += usize::from(!is_right);
        inner = outer;
    }
    wrong
}

fn before(loaded: &Loaded, address: u64) -> Option<Call> {
    let image = loaded.program().image();
    let end = loaded.linked(address);
    let longest = match image.machine {
        Machine::Amd64 => LONGEST_CALL,
        Machine::Arm64 => 4,
    };
    let start = end.checked_sub(longest)?;
    let code = image.at(start)?.get(..longest as usize)?;
    site::call_at_end(image.machine, code, start)
}
