//! Calls of kernel functions in the object: aya resolves none, so they are put
//! in before it sees the object (see [`injector_ebpf::Kfunc`]).

use injector_ebpf::{KFUNCS, Kfunc};

use super::btf::{Btf, BtfError};

/// `BPF_JMP | BPF_CALL`, `include/uapi/linux/bpf.h`.
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` in the source register's place.
const PSEUDO_KFUNC_CALL: u8 = 2 << 4;
/// Bytes of an instruction, at multiples of which they lie in the object.
const INSTRUCTION: usize = 8;

/// The functions that this kernel has and that have been put in.
pub struct Kfuncs(Vec<Kfunc>);

impl Kfuncs {
    /// Puts the BTF ids of those functions that the kernel has into the calls
    /// in `object`. The other calls stay as they are, and the verifier refuses
    /// the programs that hold them.
    pub fn put_into(object: &mut [u8], btf: &Btf) -> Result<Self, BtfError> {
        let names: Vec<&str> = KFUNCS
            .iter()
            .flat_map(|kfunc| kfunc.names)
            .copied()
            .collect();
        let ids = btf.functions(&names)?;
        let found: Vec<(Kfunc, u32)> = KFUNCS
            .into_iter()
            .filter_map(|kfunc| {
                let id = kfunc.names.iter().find_map(|name| ids.get(name))?;
                Some((kfunc, *id))
            })
            .collect();
        for instruction in object.chunks_exact_mut(INSTRUCTION) {
            for (kfunc, id) in &found {
                put(instruction, kfunc.placeholder, *id);
            }
        }
        Ok(Self(found.into_iter().map(|(kfunc, _)| kfunc).collect()))
    }

    /// The first of these functions that the kernel does not have.
    pub fn missing(&self, wanted: &[Kfunc]) -> Option<&'static str> {
        wanted
            .iter()
            .find(|kfunc| !self.0.contains(kfunc))
            .and_then(|kfunc| kfunc.names.first().copied())
    }
}

fn put(instruction: &mut [u8], placeholder: u32, id: u32) {
    if instruction[..4] == [CALL, 0, 0, 0] && instruction[4..] == placeholder.to_le_bytes() {
        instruction[1] = PSEUDO_KFUNC_CALL;
        instruction[4..].copy_from_slice(&id.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::TASK_FROM_PID;

    use super::*;

    #[test]
    fn only_calls_of_the_placeholder_change() {
        let mut call = [CALL, 0, 0, 0, 1, 0, 0xf0, 0x7f];
        put(&mut call, TASK_FROM_PID.placeholder, 0x0001_0203);
        assert_eq!(call, [CALL, PSEUDO_KFUNC_CALL, 0, 0, 3, 2, 1, 0]);

        let mut helper = [CALL, 0, 0, 0, 14, 0, 0, 0];
        put(&mut helper, TASK_FROM_PID.placeholder, 7);
        assert_eq!(helper, [CALL, 0, 0, 0, 14, 0, 0, 0]);
    }

    /// Every kernel function is called somewhere in the object: a program that
    /// the compiler dropped would be noticed only on the kernels that need it.
    #[test]
    fn the_object_calls_each_of_them() {
        for kfunc in KFUNCS {
            let mut call = vec![CALL, 0, 0, 0];
            call.extend(kfunc.placeholder.to_le_bytes());
            assert!(
                crate::kernel::OBJECT
                    .chunks_exact(INSTRUCTION)
                    .any(|instruction| instruction == call),
                "{:?}",
                kfunc.names
            );
        }
    }
}
