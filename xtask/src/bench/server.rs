//! The real services that are put under load, each on a free port of loopback
//! and with a directory of its own.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{Bench, program::Program};
use crate::{
    cargo,
    setup::{self, Servers},
};

/// Processes of nginx that answer.
const WORKERS: u32 = 8;

/// How long a server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An HTTP service of Go's standard library: a goroutine for each connection.
    Go,
    /// nginx: worker processes, each an event loop.
    Nginx,
    /// redis: one thread, an event loop.
    Redis,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Go, Self::Nginx, Self::Redis];

    /// For the table.
    pub fn name(self) -> String {
        match self {
            Self::Go => "Go".to_owned(),
            Self::Nginx => format!("nginx, {WORKERS} workers"),
            Self::Redis => "redis".to_owned(),
        }
    }

    /// What `load` speaks with it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Go | Self::Nginx => "http",
            Self::Redis => "redis",
        }
    }
}

/// A server of Debian's that is written in Go, of `go_servers.json` (described in
/// the README beside it).
#[derive(Debug, Deserialize)]
pub struct GoServer {
    /// Its program.
    pub name: String,
    arguments: String,
    #[serde(default)]
    config: String,
    requests: Vec<Request>,
}

/// What it is asked for.
#[derive(Debug, Deserialize)]
struct Request {
    path: String,
    body: Option<String>,
}

impl GoServer {
    /// All of them.
    pub fn all() -> Result<Vec<Self>> {
        let path = cargo::workspace_root().join("injector/tests/targets/go_servers.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
    }

    /// Options of `load` that make it send the first of the requests.
    pub fn request(&self) -> Result<String> {
        let request = self.requests.first().context("it has no requests")?;
        let body = request.body.as_ref();
        let body = body.map_or_else(String::new, |body| format!(" --body {body}"));
        Ok(format!("--path {}{body}", request.path))
    }

    fn command(&self, root: &Path, directory: &Path, port: u16) -> Result<Command> {
        let config = directory.join("config");
        fs::write(&config, &self.config)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let arguments = self
            .arguments
            .replace("{port}", &port.to_string())
            .replace("{other}", &free_port()?.to_string())
            .replace("{dir}", &directory.display().to_string());
        let mut command = Command::new(root.join("usr/bin").join(&self.name));
        command
            .args(arguments.split_whitespace())
            .env("HOME", directory)
            .stderr(Stdio::null());
        Ok(command)
    }
}

/// One that runs; ended when this is dropped.
pub struct Server {
    /// Where it listens.
    pub port: u32,
    process: Process,
}

enum Process {
    /// Speaks as the measured programs do.
    Program(Program),
    /// A server that is ended by a signal, and its directory.
    Child(Child, PathBuf),
}

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(bench: &Bench, servers: &Servers, kind: Kind) -> Result<Self> {
        if kind == Kind::Go {
            let service = Program::start(build_go(bench.programs.directory())?)?;
            return Ok(Self {
                port: service.port()?,
                process: Process::Program(service),
            });
        }
        Self::spawn(&kind.name(), |directory, port| {
            if kind == Kind::Nginx {
                nginx(servers, directory, port)
            } else {
                Ok(redis(servers, directory, port))
            }
        })
    }

    /// The same for one that is written in Go, of those below `root`.
    pub fn start_go(server: &GoServer, root: &Path) -> Result<Self> {
        Self::spawn(&server.name, |directory, port| {
            server.command(root, directory, port)
        })
    }

    fn spawn(name: &str, command: impl FnOnce(&Path, u16) -> Result<Command>) -> Result<Self> {
        let directory = env::temp_dir().join(format!("injector-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let port = free_port()?;
        let child = command(&directory, port)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Self {
            port: u32::from(port),
            process: Process::Child(child, directory),
        };
        server.await_port(name, port)?;
        Ok(server)
    }

    /// Its first process; others are its children.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Program(program) => program.pid(),
            Process::Child(child, _) => child.id(),
        }
    }

    fn await_port(&mut self, name: &str, port: u16) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Process::Child(child, _) = &mut self.process
                && let Some(status) = child.try_wait()?
            {
                bail!("{name} ended at once with {status}");
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{name} does not listen on port {port} after {} s",
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Process::Child(child, directory) = &mut self.process else {
            return;
        };
        // By a signal that nginx's master hands on to its workers.
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
        let started = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && started.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        // These fail only when it is gone already.
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_dir_all(directory);
    }
}

/// A port that is free now.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The Go service, compiled without a module or a network.
fn build_go(directory: &Path) -> Result<Command> {
    setup::ensure_go()?;
    let program = directory.join("http_service");
    let source = cargo::workspace_root().join("injector/tests/targets/http_service.go");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("GOCACHE", directory.join("go-cache"))
        .envs([
            ("GO111MODULE", "off"),
            ("GOTOOLCHAIN", "local"),
            ("GOPROXY", "off"),
            ("GOFLAGS", ""),
            ("CGO_ENABLED", "0"),
        ])
        .status()
        .context("cannot start go")?;
    ensure!(
        status.success(),
        "go could not compile http_service.go: {status}"
    );
    Ok(Command::new(program))
}

fn nginx(servers: &Servers, directory: &Path, port: u16) -> Result<Command> {
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, nginx_conf(directory, port))
        .with_context(|| format!("cannot write {}", configuration.display()))?;
    let mut command = servers.nginx();
    command
        .args(["-e", "stderr", "-p"])
        .arg(directory)
        .arg("-c")
        .arg(configuration);
    Ok(command)
}

/// A kilobyte from memory, as the Go service has it. With a queue of its own,
/// each worker gets its share of the connections.
fn nginx_conf(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    let body = "x".repeat(1024);
    format!(
        "daemon off;\nuser root;\nworker_processes {WORKERS};\nerror_log stderr crit;\n\
         pid {directory}/pid;\nevents {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path {directory}/body;\n  proxy_temp_path {directory}/proxy;\n\
         \x20 fastcgi_temp_path {directory}/fastcgi;\n  uwsgi_temp_path {directory}/uwsgi;\n\
         \x20 scgi_temp_path {directory}/scgi;\n\
         \x20 server {{\n    listen 127.0.0.1:{port} reuseport;\n\
         \x20   location / {{ return 200 \"{body}\"; }}\n  }}\n}}\n"
    )
}

fn redis(servers: &Servers, directory: &Path, port: u16) -> Command {
    let mut command = servers.redis();
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_stays_on_loopback_and_in_its_directory() {
        let configuration = nginx_conf(Path::new("/d"), 4242);
        assert!(configuration.contains("listen 127.0.0.1:4242 reuseport;"));
        let paths = configuration.matches("/d/").count();
        assert_eq!(paths, 6);
        assert_eq!(
            configuration.matches('{').count(),
            configuration.matches('}').count()
        );
    }
}
