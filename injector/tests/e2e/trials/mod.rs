//! All trials, by area.

mod accuracy;
mod bad_input;
mod control;
mod coverage;
mod demo;
mod doctor;
mod endings;
mod errors;
mod faults;
mod go_doctor;
mod guards;
mod help;
mod html;
mod maps;
mod maps_faults;
mod maps_hold;
mod maps_names;
mod maps_servers;
mod maps_share;
mod maps_watch;
mod recording;
mod returns;
mod seed_case;
mod selection;
mod sleep_engine;
mod sleep_faults;
mod sleep_signals;
mod tui;

use libtest_mimic::Trial;

use crate::harness::{
    Hook, Host,
    go::{self, Toolchain},
};

/// What is run, most important first.
pub fn all(host: &'static Host) -> Vec<Trial> {
    let trials = [
        seed_case::trials(host),
        control::trials(host),
        bad_input::trials(host),
        sleep_engine::trials(host),
        sleep_faults::trials(host),
        sleep_signals::trials(host),
        faults::trials(host),
        endings::trials(host),
        selection::trials(host),
        guards::trials(host),
        errors::trials(host),
        doctor::trials(host),
        returns::trials(host),
        accuracy::trials(host),
        coverage::trials(host),
        go_doctor::trials(host),
        help::trials(host),
        recording::trials(host),
        html::trials(host),
        tui::trials(host),
        demo::trials(host),
        maps::trials(host),
        maps_hold::trials(host),
        maps_names::trials(host),
        maps_faults::trials(host),
        maps_names::trials(host),
        maps_servers::trials(host),
        maps_share::trials(host),
        maps_watch::trials(host),
    ];
    let trials = trials.into_iter().flatten();
    match host.is_fit() {
        Ok(()) => trials.collect(),
        // No trial can do anything but see the refusal.
        Err(reason) => {
            println!("skip all but old_kernels_are_refused: {reason}");
            trials
                .map(|trial| trial.with_ignored_flag(true))
                .chain([anywhere("old_kernels_are_refused", bad_input::old_kernel)])
                .collect()
        }
    }
}

/// A trial that any kernel can run, with the hook that injector chooses.
fn anywhere(name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// A trial that needs something; ignored, with the reason, where it is missing.
fn needs(name: &str, needed: Result<(), String>, run: impl FnOnce() + Send + 'static) -> Trial {
    let trial = anywhere(name, run);
    match needed {
        Ok(()) => trial,
        Err(reason) => {
            println!("skip {name}: {reason}");
            trial.with_ignored_flag(true)
        }
    }
}

/// A trial with programs that a Go toolchain built.
type WithToolchain = fn(&Toolchain);

/// The same trials with the programs of every chosen Go toolchain; none in an
/// emulated machine, which need not spend its time on what does not depend on the
/// kernel.
fn each_toolchain<const N: usize>(
    host: &'static Host,
    area: &str,
    all: [(&str, WithToolchain); N],
) -> Vec<Trial> {
    if host.is_slow {
        println!("skip {area}: nothing in them depends on the kernel, and they are slow");
        return Vec::new();
    }
    let chosen = go::chosen().into_iter();
    chosen
        .flat_map(|toolchain| {
            all.map(|(name, run)| {
                let toolchain = toolchain.clone();
                needs(
                    &format!("{name}[{}]", toolchain.version),
                    host.has_uprobe_multi(),
                    move || run(&toolchain),
                )
            })
        })
        .collect()
}

/// A trial of what is the same on every kernel, which an emulated machine need
/// not spend its time on.
fn on_fast_hosts(host: &Host, name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    let reason = "the same on every kernel, and slow in an emulated machine";
    needs(name, host.scale(Ok(()), Err(reason.to_owned())), run)
}

/// The same trial for every hook.
fn each_hook(
    host: &'static Host,
    name: &str,
    run: impl FnOnce(Hook) + Clone + Send + 'static,
) -> Vec<Trial> {
    host.hooks()
        .iter()
        .map(|(hook, usable)| {
            let (hook, run) = (*hook, run.clone());
            needs(&format!("{name}[{hook}]"), usable.clone(), move || {
                run(hook);
            })
        })
        .collect()
}
