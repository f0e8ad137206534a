//! The steps to threads that sleep, in the order in which a run takes them.
//! `doctor` takes the same, so that it cannot say anything else.

use anyhow::Result;
use aya::maps::IterableMap as _;
use injector_ebpf::Hook;

use super::{
    HookChoice, Kernel,
    engine::{NoSleep, Way},
    hooks::HookError,
};
use crate::sleeper::{Sleeper, parent::Parent};

/// Hooks that were tried and refused.
pub type Refused = Vec<(Hook, HookError)>;

/// A hook for sends that has been attached.
#[derive(Debug)]
pub struct Sends {
    /// The hook.
    pub hook: Hook,
    /// Better ones.
    pub passed_over: Refused,
    /// How threads can sleep beside it, as far as is known by now; none when
    /// nobody asked.
    pub way: Option<Result<Way, NoSleep>>,
}

impl Kernel {
    /// Attaches the first candidate that this kernel accepts; `sleeps`: with
    /// what lets threads sleep, as [`Self::attach_to_sleep`].
    ///
    /// # Errors
    ///
    /// Why each candidate was refused.
    pub fn attach_sends(&mut self, choice: HookChoice, sleeps: bool) -> Result<Sends, Refused> {
        let mut passed_over = Vec::new();
        for &hook in choice.candidates() {
            let attached = if sleeps {
                self.attach_to_sleep(hook).map(Some)
            } else {
                self.attach(hook).map(|()| None)
            };
            match attached {
                Ok(way) => {
                    return Ok(Sends {
                        hook,
                        passed_over,
                        way,
                    });
                }
                Err(error) => passed_over.push((hook, error)),
            }
        }
        Err(passed_over)
    }

    /// Attaches a hook: with the programs that let threads sleep if it has any
    /// and the kernel takes them, else without, and says why.
    pub fn attach_to_sleep(&mut self, hook: Hook) -> Result<Result<Way, NoSleep>, HookError> {
        let way = Way::beside(hook);
        let mut possible = self.check_sleep(way);
        if way == Way::TaskWork && possible.is_ok() {
            match self.attach_sleepable(hook) {
                Ok(()) => return Ok(Ok(way)),
                Err(error) => possible = Err(error.into()),
            }
        }
        self.attach(hook)?;
        Ok(possible.map(|()| way))
    }

    /// Whether threads can sleep in this way, as far as can be told before
    /// anything is loaded.
    pub fn check_sleep(&self, way: Way) -> Result<(), NoSleep> {
        way.check(&self.kfuncs, self.parent.is_some())
    }

    /// The targets are descendants of this process.
    pub fn set_parent(&mut self, parent: Parent) {
        self.parent = Some(parent);
    }

    /// Starts the server, and from then on delays are slept.
    pub fn start_sleeper(&mut self) -> Result<Sleeper, NoSleep> {
        self.serve()
            .map_err(|error| NoSleep::NoServer(format!("{error:#}")))
    }

    fn serve(&mut self) -> Result<Sleeper> {
        let sleeps = self.sleeps.map().info()?.id();
        let control = self.controls.map().info()?.id();
        let sleeper = Sleeper::start(sleeps, control)?;
        let (pid, address) = match &mut self.parent {
            Some(parent) => (parent.pid, parent.map(sleeper.holder_pid)?),
            None => (sleeper.holder_pid, sleeper.address),
        };
        self.set_control(|control| {
            control.holder_pid = pid.into();
            control.holder_address = address;
        })?;
        Ok(sleeper)
    }
}
