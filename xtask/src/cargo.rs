//! The workspace's cargo: how to call it and what it says it built.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The root of the repository.
pub fn workspace_root() -> PathBuf {
    // Set by `cargo run`; the fallback is for the bare binary.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace_root().join(named)
}

/// `cargo`, in the root of the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

/// Runs a cargo command that shows its own progress and errors.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{what}: cannot start cargo"))?;
    ensure!(status.success(), "{what}: cargo ended with {status}");
    Ok(())
}

/// Builds with `command` and returns the path of the executable of target `name`.
pub fn build_executable(what: &str, command: &mut Command, name: &str) -> Result<PathBuf> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{what}: cannot start cargo"))?;
    ensure!(
        output.status.success(),
        "{what}: cargo ended with {}",
        output.status
    );
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("{what}: cargo built no executable called {name}"))
}

/// Finds the executable of target `name` in cargo's JSON messages.
///
/// Read by eye of a needle rather than with a JSON parser: cargo writes one
/// message a line, and the two fields are plain strings.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let target = format!("\"name\":\"{name}\"");
    messages
        .lines()
        .filter(|line| line.contains("\"reason\":\"compiler-artifact\"") && line.contains(&target))
        .find_map(|line| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            let (path, _) = rest.split_once('"')?;
            Some(PathBuf::from(path))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"e2e"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"e2e"},"executable":"/t/debug/deps/e2e-1f"}
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn finds_the_executable() {
        assert_eq!(
            executable(MESSAGES, "e2e"),
            Some("/t/debug/deps/e2e-1f".into())
        );
        assert_eq!(executable(MESSAGES, "other"), None);
    }
}
