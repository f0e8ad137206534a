//! `injector maps` on real servers that are written in Go, under load: nothing
//! breaks, and no stack is wrong. What it costs is measured by `cargo xtask bench
//! --only go-servers`.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use super::{needs, on_fast_hosts};
use crate::harness::{Host, Injector, eventually, programs::Scratch};

/// Connections that ask without a pause.
const CLIENTS: usize = 4;
/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(6);

/// A server, as the README beside `go_servers.json` describes it.
#[derive(Deserialize)]
struct Server {
    name: String,
    arguments: String,
    #[serde(default)]
    config: String,
    requests: Vec<Request>,
}

/// What clients ask for.
#[derive(Deserialize)]
struct Request {
    path: String,
    body: Option<String>,
}

fn servers() -> Vec<Server> {
    serde_json::from_str(include_str!("../../targets/go_servers.json")).expect("go_servers.json")
}

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let directory = env::var("INJECTOR_GO_SERVERS")
        .map(PathBuf::from)
        .map_err(|_| "INJECTOR_GO_SERVERS is not set".to_owned());
    servers()
        .into_iter()
        .map(|server| {
            let name = format!("maps_on_a_real_server[{}]", server.name);
            match &directory {
                Ok(directory) => {
                    let program = directory.join("usr/bin").join(&server.name);
                    on_fast_hosts(host, &name, move || trial(&server, &program))
                }
                Err(why) => needs(&name, Err(why.clone()), || {}),
            }
        })
        .collect()
}

/// One that runs; ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        eventually(Duration::from_secs(10), || {
            !matches!(self.0.try_wait(), Ok(None))
        });
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn trial(server: &Server, program: &Path) {
    let scratch = Scratch::new(&server.name);
    let directory = scratch.path("");
    std::fs::write(directory.join("config"), &server.config).expect("a configuration");
    let port = free_port();
    let arguments = server
        .arguments
        .replace("{port}", &port.to_string())
        .replace("{other}", &free_port().to_string())
        .replace("{dir}", directory.to_str().expect("UTF-8"));
    let child = Command::new(program)
        .args(arguments.split_whitespace())
        .env("HOME", &directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server");
    let mut running = Running(child);
    let answers = eventually(Duration::from_secs(30), || {
        let mut requests = server.requests.iter();
        requests.all(|request| ask_once(port, request))
    });
    assert!(answers, "{} does not answer", server.name);

    let pid = running.0.id();
    let injector = Injector::start_with(&format!("maps --pid {pid} --output json"));
    let answers = load(server, port);
    let ended = injector.stop();
    ended.expect_code(0);
    let summary = ended.maps.last().expect("a summary");
    println!(
        "{}: {answers} answers, {} hits, cost {} of a CPU, stacks {}",
        server.name, summary["hits"], summary["cost"], summary["stacks"]
    );
    assert!(
        summary["hits"].as_u64().is_some_and(|hits| hits > 0),
        "{summary}"
    );
    assert_eq!(summary["stacks"]["wrong"], 0, "{summary}");
    assert!(
        ended.maps.iter().all(|one| one["type"] != "fatal"),
        "{:?}",
        ended.maps
    );
    assert!(
        matches!(running.0.try_wait(), Ok(None)),
        "{} has ended",
        server.name
    );
}

/// Puts load on the server; all answers are good. Returns how many there were.
fn load(server: &Server, port: u16) -> u64 {
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = connect(port).expect("a connection");
                for request in server.requests.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    ask(&mut connection, request).expect("an answer");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(LOAD);
        stop.store(true, Ordering::Relaxed);
    });
    answers.into_inner()
}

fn connect(port: u16) -> std::io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(BufReader::new(stream))
}

fn ask_once(port: u16, request: &Request) -> bool {
    connect(port).is_ok_and(|mut connection| ask(&mut connection, request).is_ok())
}

/// One request and its answer, which has to be good.
fn ask(
    connection: &mut BufReader<TcpStream>,
    Request { path, body }: &Request,
) -> std::io::Result<()> {
    let bad = |what: String| std::io::Error::other(what);
    let (method, body) = match body {
        Some(body) => ("POST", body.as_str()),
        None => ("GET", ""),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(bad(line));
    }
    let mut length = None;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(text) = header.strip_prefix("content-length:") {
            length = text.trim().parse().ok();
        }
    }
    let skip = |connection: &mut BufReader<TcpStream>, length: u64| {
        std::io::copy(&mut connection.take(length), &mut std::io::sink())
    };
    if let Some(length) = length {
        skip(connection, length)?;
        return Ok(());
    }
    // In chunks.
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).map_err(|_| bad(line.clone()))?;
        skip(connection, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}
