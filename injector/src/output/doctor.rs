//! What `injector doctor` found: a table for people, or one JSON object whose
//! fields are in `docs/json.md`.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use serde::Serialize;

use super::text::wrap;
use super::units::Time;
use crate::kernel::{
    doctor::{
        Diagnosis, Effort, EngineDelays, EngineState, FunctionState, Measured, Price, Reason,
    },
    engine::Way,
};
use injector_ebpf::Operation;

/// Columns of the table.
const WIDTH: usize = 100;
/// Where the second and the third column begin.
const STATE: usize = 20;
const WORDS: usize = 28;

/// Writes the table.
pub fn table(
    out: &mut dyn Write,
    diagnosis: &Diagnosis,
    measured: Option<&Measured>,
) -> io::Result<()> {
    let mut text = String::new();
    host(&mut text, diagnosis);
    hooks(&mut text, diagnosis);
    functions(&mut text, &diagnosis.functions);
    match measured {
        Some(measured) => {
            prices(&mut text, measured);
            delays(&mut text, &measured.delays);
        }
        None => text
            .push_str("\nPrice per send on this host\n  not measured: no hook could be attached\n"),
    }
    out.write_all(text.as_bytes())
}

fn host(text: &mut String, diagnosis: &Diagnosis) {
    let host = &diagnosis.host;
    let _ = writeln!(text, "Linux {}", host.release);
    let btf = if host.has_btf { "yes" } else { "missing" };
    fact(text, "BTF", btf);
    let unknown = "unknown (is securityfs mounted?)";
    fact(
        text,
        "lockdown",
        host.lockdown.as_deref().unwrap_or(unknown),
    );
    let lsms = host.lsms.as_ref().map(|lsms| lsms.join(", "));
    fact(text, "LSMs", lsms.as_deref().unwrap_or(unknown));
    let missing = match host.missing_capabilities.as_slice() {
        [] => "all that are needed".to_owned(),
        missing => format!("missing {}", missing.join(", ")),
    };
    fact(text, "capabilities", &missing);
}

fn fact(text: &mut String, name: &str, words: &str) {
    let _ = write!(text, "{:STATE$}", format!("  {name}"));
    wrap(text, STATE, WIDTH, words);
}

fn hooks(text: &mut String, diagnosis: &Diagnosis) {
    text.push_str("\nHooks\n");
    let mut previous = [].as_slice();
    for state in &diagnosis.hooks {
        row(
            text,
            state.hook.name(),
            state.purpose,
            &state.reasons,
            previous,
        );
        previous = &state.reasons;
    }
    let processes = &diagnosis.processes;
    row(
        text,
        "processes",
        "follows fork, exec and exit; every run needs it",
        processes,
        previous,
    );
    text.push_str("\nEngines\n");
    let mut previous = [].as_slice();
    for state in &diagnosis.engines {
        row(text, state.name, state.purpose, &state.reasons, previous);
        if let Some(way) = state.way {
            line(text, way.describe(&[Operation::Send]));
        }
        previous = &state.reasons;
    }
    let Some(hook) = diagnosis.chosen else {
        text.push_str("\nNo hook for sends works here, so no run can start.\n");
        return;
    };
    let _ = writeln!(text, "\nA run without --hook takes {}.", hook.name());
    if let Some(engine) = diagnosis.chosen_engine {
        let _ = writeln!(text, "A run without --engine delays with {engine}.");
    }
}

fn row(text: &mut String, name: &str, purpose: &str, reasons: &[Reason], previous: &[Reason]) {
    let state = if reasons.is_empty() { "works" } else { "no" };
    let _ = write!(
        text,
        "{:STATE$}{state:1$}",
        format!("  {name}"),
        WORDS - STATE
    );
    wrap(text, WORDS, WIDTH, purpose);
    if !reasons.is_empty() && reasons == previous {
        line(text, "for the same reason");
        return;
    }
    for reason in reasons {
        line(text, format_args!("because {}", reason.why));
        if let Some(remedy) = &reason.remedy {
            line(text, format_args!("→ {remedy}"));
        }
    }
}

fn line(text: &mut String, words: impl Display) {
    text.extend(std::iter::repeat_n(' ', WORDS));
    wrap(text, WORDS, WIDTH, &words.to_string());
}

fn functions(text: &mut String, functions: &[FunctionState]) {
    text.push_str("\nSend functions of this kernel\n");
    let names = |present| {
        let of = functions.iter().filter(|state| state.present == present);
        of.map(|state| match state.function.gone_in {
            Some((major, minor)) if present == Some(false) => {
                format!("{} (gone in {major}.{minor})", state.function.name)
            }
            _ => state.function.name.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    for (name, present) in [
        ("present", Some(true)),
        ("missing", Some(false)),
        ("unknown", None),
    ] {
        let names = names(present);
        if !names.is_empty() {
            fact(text, name, &names);
        }
    }
}

fn prices(text: &mut String, measured: &Measured) {
    let _ = writeln!(
        text,
        "\nPrice per send on this host: 64 bytes over TCP on loopback, {} rounds of {} sends",
        measured.effort.rounds, measured.sends
    );
    let baseline = format!("{} ns per send", measured.prices.baseline_ns);
    fact(text, "no hook", &baseline);
    let column = 36;
    for price in &measured.prices.hooks {
        let _ = writeln!(
            text,
            "{:STATE$}{:column$}{}",
            format!("  {}", price.hook.name()),
            format!("bystander {}", Words(price.bystander)),
            format_args!("target {}", Words(price.target)),
        );
    }
    let _ = writeln!(
        text,
        "  Median and the range that holds it ({} %). A bystander is no target; a target's sends\n  \
         are recorded and not changed. What injector itself uses to read the records is not in it.",
        measured.effort.confidence
    );
    if measured.effort == Effort::QUICK {
        text.push_str("  `injector doctor --measure` takes longer and is more exact.\n");
    }
}

/// Each engine, best first. All were asked for the same, on the same hook.
fn delays(text: &mut String, delays: &[EngineDelays]) {
    let Some(first) = delays.first() else {
        return;
    };
    let _ = writeln!(
        text,
        "\nDelays on this host: {} each on {}",
        Time(first.asked_ns),
        first.hook.name()
    );
    for engine in delays {
        let _ = writeln!(
            text,
            "{:STATE$}{} sends, off by p50 {}, p99 {}, max {}; CPU {} each",
            format!("  {}", engine.engine),
            engine.count,
            Time(engine.off_p50_ns),
            Time(engine.off_p99_ns),
            Time(engine.off_max_ns),
            Time(engine.cpu_ns)
        );
    }
    text.push_str(
        "  Off by: delivered and asked apart, either way. CPU is the sender's, with the send \
         itself.\n",
    );
}

struct Words(Price);

impl Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Price::Measured {
                ns,
                low_ns,
                high_ns,
            } => write!(f, "+{ns} ns ({low_ns}..{high_ns})"),
            Price::BelowNoise { noise_ns } => write!(f, "below noise (±{noise_ns} ns)"),
        }
    }
}

/// Writes one JSON object on one line.
pub fn json(
    out: &mut dyn Write,
    diagnosis: &Diagnosis,
    measured: Option<&Measured>,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Report::new(diagnosis, measured))?;
    line.push(b'\n');
    out.write_all(&line)
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    kernel: &'a str,
    btf: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lockdown: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lsms: Option<&'a [String]>,
    missing_capabilities: &'a [&'static str],
    hooks: Vec<State<'a>>,
    processes: State<'a>,
    engines: Vec<Engine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_hook: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen_engine: Option<&'static str>,
    functions: Vec<Function>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Prices>,
}

#[derive(Serialize)]
struct State<'a> {
    name: &'static str,
    works: bool,
    reasons: Vec<Because<'a>>,
}

#[derive(Serialize)]
struct Engine<'a> {
    #[serde(flatten)]
    state: State<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
}

#[derive(Serialize)]
struct Because<'a> {
    why: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

#[derive(Serialize)]
struct Function {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_in: Option<String>,
}

#[derive(Serialize)]
struct Prices {
    rounds: usize,
    sends_per_round: u64,
    baseline_ns: u64,
    hooks: Vec<HookPrices>,
    engines: Vec<Exactness>,
}

#[derive(Serialize)]
struct HookPrices {
    hook: &'static str,
    bystander: Cost,
    target: Cost,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Cost {
    Measured { ns: u64, low_ns: u64, high_ns: u64 },
    BelowNoise { below_ns: u64 },
}

#[derive(Serialize)]
struct Exactness {
    engine: &'static str,
    hook: &'static str,
    asked_ns: u64,
    delays: u64,
    off_p50_ns: u64,
    off_p99_ns: u64,
    off_max_ns: u64,
    cpu_ns: u64,
}

impl<'a> Report<'a> {
    fn new(diagnosis: &'a Diagnosis, measured: Option<&Measured>) -> Self {
        let host = &diagnosis.host;
        let hooks = diagnosis.hooks.iter();
        let engines = diagnosis.engines.iter();
        Self {
            kind: "doctor",
            kernel: &host.release,
            btf: host.has_btf,
            lockdown: host.lockdown.as_deref(),
            lsms: host.lsms.as_deref(),
            missing_capabilities: &host.missing_capabilities,
            hooks: hooks
                .map(|state| State::new(state.hook.name(), &state.reasons))
                .collect(),
            processes: State::new("processes", &diagnosis.processes),
            engines: engines.map(Engine::new).collect(),
            chosen_hook: diagnosis.chosen.map(injector_ebpf::Hook::name),
            chosen_engine: diagnosis.chosen_engine,
            functions: diagnosis.functions.iter().map(Function::new).collect(),
            measured: measured.map(Prices::new),
        }
    }
}

impl<'a> State<'a> {
    fn new(name: &'static str, reasons: &'a [Reason]) -> Self {
        let because = |reason: &'a Reason| Because {
            why: &reason.why,
            remedy: reason.remedy.as_deref(),
        };
        Self {
            name,
            works: reasons.is_empty(),
            reasons: reasons.iter().map(because).collect(),
        }
    }
}

impl<'a> Engine<'a> {
    fn new(state: &'a EngineState) -> Self {
        Self {
            state: State::new(state.name, &state.reasons),
            way: state.way.map(Way::name),
        }
    }
}

impl Function {
    fn new(state: &FunctionState) -> Self {
        Self {
            name: state.function.name,
            present: state.present,
            gone_in: state
                .function
                .gone_in
                .map(|(major, minor)| format!("{major}.{minor}")),
        }
    }
}

impl Prices {
    fn new(measured: &Measured) -> Self {
        let hook = |price: &crate::kernel::doctor::HookPrice| HookPrices {
            hook: price.hook.name(),
            bystander: Cost::new(price.bystander),
            target: Cost::new(price.target),
        };
        Self {
            rounds: measured.effort.rounds,
            sends_per_round: measured.sends,
            baseline_ns: measured.prices.baseline_ns,
            hooks: measured.prices.hooks.iter().map(hook).collect(),
            engines: measured.delays.iter().map(Exactness::new).collect(),
        }
    }
}

impl Exactness {
    fn new(engine: &EngineDelays) -> Self {
        Self {
            engine: engine.engine,
            hook: engine.hook.name(),
            asked_ns: engine.asked_ns,
            delays: engine.count,
            off_p50_ns: engine.off_p50_ns,
            off_p99_ns: engine.off_p99_ns,
            off_max_ns: engine.off_max_ns,
            cpu_ns: engine.cpu_ns,
        }
    }
}

impl Cost {
    fn new(price: Price) -> Self {
        match price {
            Price::Measured {
                ns,
                low_ns,
                high_ns,
            } => Self::Measured {
                ns,
                low_ns,
                high_ns,
            },
            Price::BelowNoise { noise_ns } => Self::BelowNoise { below_ns: noise_ns },
        }
    }
}

#[cfg(test)]
mod tests {
    use injector_ebpf::{Hook, SEND_FUNCTIONS};
    use serde_json::Value;

    use super::{super::documented, *};
    use crate::kernel::doctor::{HookPrice, HookState, Prices as HookCosts};
    use crate::kernel::engine::{SLEEP, SPIN};
    use crate::kernel::host::Host;

    /// The section of the document, by its heading.
    const HEADING: &str = "## The line of `injector doctor`\n";

    fn reason(why: &str, remedy: Option<&str>) -> Vec<Reason> {
        vec![Reason {
            why: why.to_owned(),
            remedy: remedy.map(str::to_owned),
        }]
    }

    fn diagnosis() -> Diagnosis {
        let hook = |hook, reasons| HookState {
            hook,
            purpose: "every send, whatever the system call",
            reasons,
        };
        let locked = reason(
            "kernel lockdown=integrity keeps BPF trampolines out (EPERM)",
            Some("boot without `lockdown=` on the kernel command line and with Secure Boot off"),
        );
        Diagnosis {
            host: Host {
                release: "6.12.1-test".into(),
                version: (6, 12),
                lockdown: Some("integrity".into()),
                lsms: Some(
                    ["lockdown", "capability", "yama", "bpf"]
                        .map(str::to_owned)
                        .into(),
                ),
                has_kprobes: true,
                has_btf: true,
                missing_capabilities: vec!["CAP_BPF"],
            },
            hooks: vec![
                hook(Hook::Kprobe, vec![]),
                hook(Hook::Fentry, locked.clone()),
                hook(Hook::Lsm, locked),
            ],
            processes: vec![],
            engines: vec![
                EngineState {
                    name: SLEEP,
                    purpose: "delays a send",
                    way: Some(Way::TaskWork),
                    reasons: vec![],
                },
                EngineState {
                    name: "error",
                    purpose: "fails a send",
                    way: None,
                    reasons: reason("it acts in the lsm hook, which does not work", None),
                },
            ],
            chosen: Some(Hook::Kprobe),
            chosen_engine: Some(SLEEP),
            functions: SEND_FUNCTIONS
                .iter()
                .map(|function| FunctionState {
                    function,
                    present: Some(function.gone_in.is_none()),
                })
                .collect(),
        }
    }

    fn measured() -> Measured {
        Measured {
            effort: Effort::THOROUGH,
            sends: 15_000,
            prices: HookCosts {
                baseline_ns: 3_912,
                hooks: vec![HookPrice {
                    hook: Hook::Kprobe,
                    bystander: Price::BelowNoise { noise_ns: 31 },
                    target: Price::Measured {
                        ns: 1_204,
                        low_ns: 1_150,
                        high_ns: 1_333,
                    },
                }],
            },
            delays: vec![
                EngineDelays {
                    engine: SLEEP,
                    hook: Hook::Kprobe,
                    asked_ns: 1_000_000,
                    count: 300,
                    off_p50_ns: 1_250,
                    off_p99_ns: 41_000,
                    off_max_ns: 1_081_006,
                    cpu_ns: 131_000,
                },
                EngineDelays {
                    engine: SPIN,
                    hook: Hook::Kprobe,
                    asked_ns: 1_000_000,
                    count: 299,
                    off_p50_ns: 89,
                    off_p99_ns: 4_220,
                    off_max_ns: 81_006,
                    cpu_ns: 1_004_000,
                },
            ],
        }
    }

    fn text(diagnosis: &Diagnosis, measured: Option<&Measured>) -> String {
        let mut out = Vec::new();
        table(&mut out, diagnosis, measured).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn value(diagnosis: &Diagnosis, measured: Option<&Measured>) -> Value {
        let mut out = Vec::new();
        json(&mut out, diagnosis, measured).unwrap();
        assert_eq!(out.split(|byte| *byte == b'\n').count(), 2);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn table_says_what_works_and_why_not() {
        let text = text(&diagnosis(), Some(&measured()));
        for part in [
            "Linux 6.12.1-test\n",
            "missing CAP_BPF\n",
            "  kprobe            works   every send",
            "because kernel lockdown=integrity keeps",
            "→ boot without `lockdown=`",
            "for the same reason",
            "after the send, on the way back to the caller",
            "A run without --hook takes kprobe.\nA run without --engine delays with sleep.\n",
            "tcp_sendpage (gone in 6.5)",
            "3912 ns per send",
            "bystander below noise (±31 ns)",
            "target +1204 ns (1150..1333)",
            "Delays on this host: 1ms each on kprobe\n  sleep             300 sends, off by p50 ",
            "  spin              299 sends, off by p50 89ns, p99 4.22us, max 81us; CPU 1ms each",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn what_was_not_measured_is_not_written() {
        let diagnosis = diagnosis();
        let text = text(&diagnosis, None);
        assert!(text.contains("not measured: no hook") && !text.contains("Delays on this host"));
        let mut no_engine = measured();
        no_engine.delays.clear();
        let text = self::text(&diagnosis, Some(&no_engine));
        assert!(text.contains("3912 ns") && !text.contains("Delays on this host"));
        assert_eq!(value(&diagnosis, None).get("measured"), None);
        let prices = &value(&diagnosis, Some(&measured()))["measured"]["hooks"][0];
        assert_eq!(prices["bystander"], serde_json::json!({"below_ns": 31}));
    }

    #[test]
    fn every_field_is_documented_and_every_documented_field_exists() {
        let mut written = documented::paths(&value(&diagnosis(), Some(&measured())));
        // What this one has in other places, or could have.
        written.extend(
            [
                "processes.reasons[].why",
                "processes.reasons[].remedy",
                "engines[].reasons[].remedy",
                "engines[].reasons",
            ]
            .map(String::from),
        );
        written.remove("hooks[].reasons");
        written.extend(
            ["ns", "low_ns", "high_ns"].map(|name| format!("measured.hooks[].bystander.{name}")),
        );
        written.insert("measured.hooks[].target.below_ns".to_owned());
        assert_eq!(written, documented::names(HEADING));
    }
}
