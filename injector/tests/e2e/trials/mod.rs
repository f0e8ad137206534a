//! All trials, by area.

mod seed_case;

use libtest_mimic::Trial;

use crate::harness::{Hook, Host};

/// What is run, most important first.
pub fn all(host: &'static Host) -> Vec<Trial> {
    [seed_case::trials(host)].into_iter().flatten().collect()
}

/// A trial that any kernel can run.
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
            println!("skip {name}: {}", reason.lines().map(str::trim).collect::<Vec<_>>().join(" "));
            trial.with_ignored_flag(true)
        }
    }
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
            needs(&format!("{name}[{hook}]"), usable.clone(), move || run(hook))
        })
        .collect()
}
