//! Sends: hooks (one thin file each), the flow they share, and the engines.

pub mod budget;
pub mod engine;
mod engine_sleep;
mod engine_spin;
pub mod fentry;
pub mod flow;
pub mod function;
mod goroutine;
pub mod guard;
pub mod hint;
mod kfunc;
pub mod kprobe;
pub mod lsm;
pub mod socket;
pub mod task_work;
pub mod tracepoint;
