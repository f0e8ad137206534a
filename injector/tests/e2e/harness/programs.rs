//! Compiles the programs that are traced, once.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The injector under test.
pub const INJECTOR: &str = env!("CARGO_BIN_EXE_injector");

/// A second name for a program, where the name is what a test is about.
const NAMED: [(&str, &str); 1] = [("order_api", "order-api")];

/// Compiles what is missing or older than its source.
pub fn prepare() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets");
    fs::create_dir_all(directory()).expect("a directory for the target programs");
    for entry in fs::read_dir(&sources).expect("the target programs' sources") {
        let source = entry.expect("a source file").path();
        if source.extension().is_some_and(|extension| extension == "c") {
            let name = source.file_stem().unwrap_or_default().to_string_lossy();
            let program = path(&name);
            if is_newer(&source, &program) {
                compile(&source, &program);
            }
        }
    }
    for toolchain in super::go::chosen() {
        for entry in fs::read_dir(sources.join("go")).expect("the Go programs' sources") {
            let source = entry.expect("a Go program's directory").path();
            let name = source.file_name().and_then(OsStr::to_str);
            let name = name.expect("a name in UTF-8");
            let program = path(&toolchain.program(name));
            if super::go::TARGETS.contains(&name) && is_newer(&source.join("main.go"), &program) {
                toolchain.compile(&source, &program);
            }
        }
    }
    for (program, name) in NAMED {
        if is_newer(&path(program), &path(name)) {
            fs::copy(path(program), path(name)).expect("a copy of a target program");
        }
    }
}

/// Where a program is.
pub fn path(name: &str) -> PathBuf {
    directory().join(name)
}

fn directory() -> PathBuf {
    Path::new(INJECTOR).with_file_name("e2e-targets")
}

fn is_newer(source: &Path, product: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    time(product).is_none_or(|product| time(source).is_some_and(|source| source > product))
}

fn compile(source: &Path, program: &Path) {
    let status = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-pthread", "-o"])
        .arg(program)
        .arg(source)
        .status()
        .expect("a C compiler (cc)");
    assert!(status.success(), "cannot compile {}", source.display());
}

/// A directory of one trial's own, gone when it ends.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("injector-e2e-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
