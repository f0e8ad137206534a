//! Hook: fentry and fexit on each send function.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use injector_ebpf::{Hook, Place, Shape, for_each_send_function};

use super::{flow, function};

macro_rules! programs {
    ($($name:ident, $kprobe:ident, $fentry:ident, $fexit:ident, $shape:ident,
        $prototype:literal, $kernels:literal, $gone:expr;)+) => {
        $(
            #[doc = $prototype]
            #[fentry]
            pub fn $fentry(ctx: FEntryContext) -> i32 {
                if let Some(sender) = flow::sender() {
                    function::enter(&sender, Hook::Fentry, Place::$name, Shape::$shape, |n| {
                        ctx.arg(n)
                    });
                }
                0
            }

            /// Its return.
            #[fexit]
            pub fn $fexit(ctx: FExitContext) -> i32 {
                flow::exit(
                    i64::from(ctx.arg::<i32>(function::arguments(Shape::$shape))),
                    false,
                );
                0
            }
        )+
    };
}
for_each_send_function!(programs);
