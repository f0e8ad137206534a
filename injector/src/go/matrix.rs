//! The reader against programs that real toolchains built: every cell of the
//! matrix that `cargo xtask test` has put into `INJECTOR_GO_PROGRAMS`, of the
//! versions in `INJECTOR_GO_VERSIONS`. What the
//! reader says is compared with what Go says of the same program: `go tool nm`
//! for functions, the running program's own runtime for frames, DWARF for the
//! table of offsets.

mod truth;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use injector_ebpf::go::Event;

use super::{
    dwarf,
    image::{Image, Machine},
    layout::TABLE as LAYOUT,
    maps::MapKind,
    pclntab::{Frame, Pclntab},
    probes::Place,
    program::{Placement, Program, calls},
    site::Method,
};

/// A program of the matrix: `VERSION/KIND`, such as `1.24.11/stripped`.
struct Cell {
    path: PathBuf,
    minor: u32,
    kind: String,
}

impl Cell {
    fn all() -> Vec<Self> {
        let directory = env::var_os("INJECTOR_GO_PROGRAMS")
            .expect("INJECTOR_GO_PROGRAMS, which `cargo xtask test --ring go` sets");
        let versions = env::var("INJECTOR_GO_VERSIONS").expect("INJECTOR_GO_VERSIONS");
        let mut cells = Vec::new();
        for version in versions.split(',') {
            let minor = version
                .split('.')
                .nth(1)
                .and_then(|minor| minor.parse().ok());
            let entries = fs::read_dir(Path::new(&directory).join(version));
            for entry in entries.expect("the programs of a version") {
                let path = entry.expect("a program").path();
                if path.extension().is_none() {
                    cells.push(Self {
                        minor: minor.expect("a version"),
                        kind: path
                            .file_name()
                            .and_then(OsStr::to_str)
                            .expect("a name")
                            .to_owned(),
                        path,
                    });
                }
            }
        }
        assert!(
            cells.len() >= 6,
            "too few programs in {}",
            directory.display()
        );
        cells
    }

    fn program(&self) -> Program {
        let file = File::open(&self.path).expect("a program of the matrix");
        let image = Image::new(self.name(), file).expect("an ELF file");
        Program::new(image).unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    fn name(&self) -> String {
        format!("1.{}-{}", self.minor, self.kind)
    }

    fn runs_here(&self) -> bool {
        self.kind != "arm64"
    }

    fn run(&self, mode: &str, input: &str) -> String {
        let mut child = Command::new(&self.path)
            .arg(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a program of the matrix");
        let mut stdin = child.stdin.take().expect("its stdin");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("a writer").expect("a reader");
        assert!(output.status.success(), "{} {mode}", self.name());
        String::from_utf8(output.stdout).expect("text")
    }
}

/// OFFSET FUNCTION FILE LINE.
fn frames(text: &str) -> Vec<(i64, Frame)> {
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let mut field = || fields.next().expect("four fields");
        (
            field().parse().expect("an offset"),
            Frame {
                function: field().to_owned(),
                file: field().to_owned(),
                line: field().parse().expect("a line"),
            },
        )
    };
    text.lines().map(line).collect()
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn facts_are_what_each_program_was_built_to_be() {
    for cell in Cell::all() {
        let program = cell.program();
        let name = cell.name();
        let kind = cell.kind.as_str();
        assert_eq!(
            program.version.as_ref().map(|version| version.minor),
            Some(cell.minor),
            "{name}"
        );
        let maps = if cell.minor < 24 || kind == "classic" {
            MapKind::Classic
        } else {
            MapKind::Swiss
        };
        assert_eq!(program.maps, Some(maps), "{name}");
        let image = program.image();
        assert_eq!(image.pie, matches!(kind, "pie" | "external"), "{name}");
        assert_eq!(program.cgo, matches!(kind, "cgo" | "external"), "{name}");
        assert_eq!(
            program.external,
            matches!(kind, "cgo" | "external"),
            "{name}"
        );
        let stripped = matches!(kind, "stripped" | "external");
        assert_eq!(program.has_symbols(), !stripped, "{name}");
        assert_eq!(program.has_dwarf(), !stripped, "{name}");
        let machine = if kind == "arm64" {
            Machine::Arm64
        } else {
            Machine::Amd64
        };
        assert_eq!(program.machine(), machine, "{name}");
        assert!(program.is_traceable(), "{name}");
        assert!(program.offsets.missing(program.maps).is_empty(), "{name}");
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn functions_are_those_of_go_tool_nm() {
    for cell in Cell::all() {
        // A stripped program has the functions of the unstripped one.
        let kind = match cell.kind.as_str() {
            "stripped" => "plain",
            kind => kind,
        };
        let listing = cell.path.with_file_name(format!("{kind}.nm"));
        let Ok(listing) = fs::read_to_string(listing) else {
            assert!(
                !matches!(kind, "plain" | "pie" | "arm64"),
                "{} has no listing",
                cell.name()
            );
            continue;
        };
        let program = cell.program();
        let symbols = program.symbols().expect("functions");
        let ours: BTreeSet<(u64, &str)> = symbols
            .all()
            .map(|(name, extent)| (extent.address, comparable(name)))
            .collect();
        let theirs: BTreeSet<(u64, String)> = listing
            .lines()
            .filter_map(|line| function(line, cell.minor))
            .collect();
        let missing: Vec<_> = theirs
            .iter()
            .filter(|(address, name)| !ours.contains(&(*address, name.as_str())))
            .collect();
        println!(
            "{}: {} functions, {} by go tool nm",
            cell.name(),
            ours.len(),
            theirs.len()
        );
        assert!(theirs.len() > 1000, "{}", cell.name());
        assert!(
            missing.is_empty(),
            "{}: {} of {} are missing: {:?}",
            cell.name(),
            missing.len(),
            theirs.len(),
            missing.iter().take(5).collect::<Vec<_>>()
        );
    }
}

/// Functions of types have no name that both would number alike.
fn comparable(name: &str) -> &str {
    if name.starts_with("type:.") {
        "type:."
    } else {
        name
    }
}

/// As the runtime prints names: type arguments are left out.
fn printed(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}[...]{}", &name[..start], &name[end + 1..])
        }
        _ => name.to_owned(),
    }
}

/// A line of `go tool nm`: address, kind, name. Names differ from those that
/// the runtime knows in two ways.
fn function(line: &str, minor: u32) -> Option<(u64, String)> {
    let (address, rest) = line.trim_start().split_once(' ')?;
    let (kind, name) = rest.trim_start().split_once(' ')?;
    // Where the text begins and ends is no function.
    if !matches!(kind, "T" | "t") || matches!(name, "runtime.text" | "runtime.etext") {
        return None;
    }
    let name = comparable(name.strip_suffix(".abi0").unwrap_or(name));
    // See `Function::name`.
    let name = if minor < 21 {
        printed(name)
    } else {
        name.to_owned()
    };
    Some((u64::from_str_radix(address, 16).ok()?, name))
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn frames_are_those_of_the_running_program() {
    for cell in Cell::all().iter().filter(|cell| cell.runs_here()) {
        let program = cell.program();
        let symbols = program.symbols().expect("functions");
        let main = symbols.find(&["main.main"])["main.main"].address as i64;
        // The start, the middle and the end of every function, and more of ours.
        let mut addresses = Vec::new();
        for (name, extent) in symbols.all() {
            // The runtime takes the last byte's return address for the next
            // function's first.
            let end = extent.size.saturating_sub(1);
            let step = if name.starts_with("main.") {
                1
            } else {
                end / 3 + 1
            };
            addresses.extend(
                (0..end)
                    .step_by(step as usize)
                    .map(|at| extent.address + at),
            );
        }
        let mut input = String::new();
        for address in &addresses {
            writeln!(input, "{}", *address as i64 - main).expect("a string");
        }
        let (mut compared, mut differ, mut inlined) = (0, BTreeMap::new(), 0);
        for (offset, theirs) in frames(&cell.run("frames", &input)) {
            let mut ours = symbols.frames((main + offset) as u64);
            ours[0].function = printed(&ours[0].function);
            // Where the runtime knows nothing there is nothing to compare.
            if theirs.function.is_empty() {
                continue;
            }
            compared += 1;
            inlined += usize::from(ours.len() > 1);
            if ours[0] != theirs {
                differ.insert(offset, (ours[0].clone(), theirs));
            }
        }
        println!(
            "{}: {compared} compared, {inlined} of them inlined",
            cell.name()
        );
        assert!(
            compared * 10 > addresses.len() * 9,
            "{}: {compared}",
            cell.name()
        );
        assert!(inlined > 100, "{}", cell.name());
        assert!(
            differ.is_empty(),
            "{}: {} of {compared} differ: {:#?}",
            cell.name(),
            differ.len(),
            differ.iter().take(3).collect::<Vec<_>>()
        );
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn inlined_calls_are_those_of_a_real_stack() {
    for cell in Cell::all().iter().filter(|cell| cell.runs_here()) {
        let program = cell.program();
        let symbols = program.symbols().expect("functions");
        let main = symbols.find(&["main.main"])["main.main"].address as i64;
        let stack = frames(&cell.run("callers", ""));
        let theirs: Vec<&Frame> = stack.iter().map(|(_, frame)| frame).collect();
        let names: Vec<&str> = theirs.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(
            names,
            [
                "main.innermost",
                "main.middle",
                "main.outer",
                "main.callers"
            ]
        );
        let ours: Vec<Frame> = symbols.frames((main + stack[0].0) as u64);
        // What is inlined, and so where the first real frame ends, is the
        // compiler's choice.
        assert!(ours.len() >= 3, "{}: {ours:?}", cell.name());
        assert_eq!(
            ours.iter().collect::<Vec<_>>(),
            theirs[..ours.len()],
            "{}",
            cell.name()
        );
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn the_table_of_offsets_agrees_with_debugging_information() {
    for cell in Cell::all() {
        let program = cell.program();
        if !program.has_dwarf() {
            continue;
        }
        let dwarf = dwarf::offsets(program.image());
        let mut compared = 0;
        for row in LAYOUT {
            if let Some(own) = dwarf.get(&row.field) {
                assert_eq!(
                    row.offset(cell.minor),
                    Some(*own),
                    "{}: {:?}",
                    cell.name(),
                    row.field
                );
                compared += 1;
            }
        }
        println!(
            "{}: {compared} of {} fields in DWARF",
            cell.name(),
            LAYOUT.len()
        );
        assert!(compared >= 25, "{}: {compared}", cell.name());
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn every_probe_has_a_cheap_site_or_is_rare() {
    for cell in Cell::all() {
        let program = cell.program();
        let name = cell.name();
        for sited in &program.sites {
            let function = sited.probe.function;
            let Placement::Site { site, frame, .. } = &sited.at else {
                let Placement::Nowhere(why) = &sited.at else {
                    unreachable!()
                };
                panic!("{name}: {function}: {why}");
            };
            // Those that are single-stepped are about to end the program, or
            // come once for each `Range`.
            let rare = ["runtime.fatal", "runtime.throw"].contains(&function);
            let returns = sited.probe.place == Place::Returns;
            assert!(
                site.method == Method::Emulated || rare || returns,
                "{name}: {function}: {site:?}"
            );
            // Since Go 1.21 amd64 programs save the frame pointer first.
            let jump = program.machine() == Machine::Arm64 || cell.minor < 21;
            assert_eq!(
                site.repeats,
                jump && !rare && sited.probe.place == Place::Entry,
                "{name}: {function}: {site:?}"
            );
            assert_eq!(
                frame.as_ref().map(|frame| frame.function.as_str()),
                Some(function),
                "{name}"
            );
        }
        let has = |event| {
            let mut sites = program.sites.iter();
            sites.any(|sited| sited.probe.event == event)
        };
        for event in EVENTS {
            // Freed by the compiler's choice, not by ours.
            assert!(has(*event), "{name}: no probe for {event:?}");
        }
    }
}

/// What the program of the matrix does in every version.
const EVENTS: &[Event] = &[
    Event::Fatal,
    Event::Throw,
    Event::Grow,
    Event::Assign,
    Event::Delete,
    Event::Clear,
    Event::Access,
    Event::IterateStart,
    Event::IterateNext,
    Event::LockSlow,
    Event::UnlockSlow,
    Event::ReadUnlockSlow,
    Event::WriteLock,
    Event::WriteUnlock,
    Event::SemaphoreAcquire,
    Event::SemaphoreAcquired,
    Event::SemaphoreRelease,
    Event::GcStart,
    Event::GcEnd,
    Event::WorldStop,
    Event::WorldStart,
    Event::GoroutineStart,
    Event::GoroutineEnd,
    Event::SyncMapLoad,
    Event::SyncMapStore,
    Event::SyncMapLoadOrStore,
    Event::SyncMapDelete,
    Event::SyncMapRange,
    Event::SyncMapRangeEnd,
];

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn nothing_counts_twice() {
    for cell in Cell::all() {
        let program = cell.program();
        let symbols = program.symbols().expect("functions");
        let entries = || {
            program
                .sites
                .iter()
                .map(|sited| sited.probe)
                .filter(|probe| probe.place == Place::Entry)
        };
        let names: Vec<&'static str> = entries().map(|probe| probe.function).collect();
        let found = symbols.find(&names);
        for caller in entries() {
            for callee in entries().filter(|callee| callee.event == caller.event) {
                let (from, to) = (found[caller.function], found[callee.function]);
                assert!(
                    from == to || !calls(program.image(), from, to),
                    "{}: {} calls {}",
                    cell.name(),
                    caller.function,
                    callee.function
                );
            }
        }
    }
}

#[test]
#[ignore = "run by `cargo xtask test --ring go`"]
fn a_damaged_table_is_read_without_panic() {
    for cell in Cell::all().iter().filter(|cell| cell.kind == "plain") {
        let program = cell.program();
        let section = program.image().section(".gopclntab").expect("a table");
        let intact = program.image().contents(section).to_vec();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..200 {
            let mut table = intact.clone();
            for _ in 0..=random.below(64) {
                // Half of them in the header and what comes first.
                let range = if random.below(2) == 0 {
                    256
                } else {
                    table.len()
                };
                let at = random.below(range);
                table[at] = random.below(256) as u8;
            }
            table.truncate(table.len() - random.below(2) * random.below(table.len()));
            let Ok(parsed) = Pclntab::parse(&table) else {
                continue;
            };
            let skip = random.below(1 + parsed.len() / 20);
            for function in parsed.functions().skip(skip).step_by(97) {
                let _ = function.name();
                let _ = function.frames(random.below(512) as u64, Some(&table));
            }
            let _ = parsed.find(random.below(1 << 24) as u64);
        }
    }
}

/// The same numbers each time (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}
