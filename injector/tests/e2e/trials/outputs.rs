//! Files that `injector report` makes for other tools, opened with them.

use std::fs;

use libtest_mimic::Trial;

use super::each_toolchain;
use crate::harness::{Host, Injector, Target, go::Toolchain, programs::Scratch};

pub fn trials(host: &'static Host) -> Vec<Trial> {
    each_toolchain(
        host,
        "outputs",
        [("report_is_opened_by_other_tools", opened)],
    )
}

/// Sends under a lock that others wait for: who is to blame stands in each file.
fn opened(toolchain: &Toolchain) {
    let scratch = Scratch::new(&format!("outputs-{}", toolchain.version));
    let (run, out) = (scratch.path("run"), scratch.path("out"));
    let (run, directory) = (run.display(), out.display());
    let mut target = Target::start(&toolchain.program("share"), "sender 3");
    let injector = Injector::start(&format!(
        "--pid {} --delay 20ms --probability 40% --seed 7 --maps --budget none --record {run}",
        target.pid
    ));
    target.go();
    target.line();
    injector.finish().expect_code(0);

    let report = Injector::run(&format!(
        "report {run} --perfetto {directory}/run.pftrace --pprof {directory} \
         --folded {directory} --flamegraph {directory}"
    ));
    report.expect_code(0);
    let holder = "main.(*cache).publish";
    for (profile, functions) in [
        ("delay", [holder, "net.(*conn).Write"]),
        ("wait", [holder, "main.go:"]),
        ("map_ops", ["main.(*cache).get", "main.go:"]),
    ] {
        let top = toolchain.top(&out.join(format!("{profile}.pb.gz")));
        let read = |kind: &str| {
            let path = out.join(format!("{profile}.{kind}"));
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        for function in functions {
            assert!(top.contains(function), "{profile}: {function} in {top}");
        }
        for kind in ["folded", "svg"] {
            let text = read(kind);
            assert!(text.contains(functions[0]), "{profile}: {text}");
        }
    }
    let trace = fs::read(out.join("run.pftrace")).expect("the trace");
    for name in [
        "injected delay",
        "got the lock",
        "goroutines",
        "main.cache.mu",
    ] {
        let found = trace.windows(name.len()).any(|it| it == name.as_bytes());
        assert!(found, "{name} is not in the trace");
    }
}
