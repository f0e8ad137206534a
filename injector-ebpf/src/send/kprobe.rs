//! Hook: kprobe at the entry of each send function, one shared kretprobe at
//! their returns.

use aya_ebpf::{
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use injector_ebpf::{Hook, Place, Shape, for_each_send_function};

use super::{flow, function};

macro_rules! programs {
    ($($name:ident, $kprobe:ident, $fentry:ident, $fexit:ident, $shape:ident,
        $prototype:literal, $kernels:literal, $gone:expr;)+) => {
        $(
            #[doc = $prototype]
            #[kprobe]
            pub fn $kprobe(ctx: ProbeContext) -> u32 {
                if let Some(sender) = flow::sender() {
                    function::enter(&sender, Hook::Kprobe, Place::$name, Shape::$shape, |n| {
                        ctx.arg(n).unwrap_or(0)
                    });
                }
                0
            }
        )+
    };
}
for_each_send_function!(programs);

/// The return of any send function.
#[kretprobe]
pub fn kretprobe_send(ctx: RetProbeContext) -> u32 {
    // The functions return int or ssize_t; an int's upper half is not defined.
    flow::exit(i64::from(ctx.ret::<i32>()), false);
    0
}
