//! `injector maps` on real servers that are written in Go, under load: nothing
//! breaks, and no stack is wrong. What it costs is printed, and not judged: it is
//! the machine's affair.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{needs, on_fast_hosts};
use crate::harness::{Host, Injector, eventually, process, programs::Scratch};

/// Connections that ask without a pause.
const CLIENTS: usize = 4;
/// How long one load lasts, unless `INJECTOR_E2E_LOAD` says how many seconds.
const LOAD: Duration = Duration::from_secs(2);
/// Loads without and with the tracer, in turn.
const ROUNDS: usize = 3;

/// A server.
struct Server {
    name: &'static str,
    /// Its arguments, with `{port}`, `{other}` and `{dir}`.
    arguments: &'static str,
    /// What clients ask for in turn: method, path, body.
    requests: &'static [(&'static str, &'static str, &'static str)],
}

const SERVERS: &[Server] = &[
    Server {
        name: "etcd",
        arguments: "--data-dir {dir}/data --listen-client-urls http://127.0.0.1:{port} \
                    --advertise-client-urls http://127.0.0.1:{port} \
                    --listen-peer-urls http://127.0.0.1:{other} \
                    --initial-advertise-peer-urls http://127.0.0.1:{other} \
                    --initial-cluster default=http://127.0.0.1:{other} --unsafe-no-fsync",
        // base64 of "key" and "value"
        requests: &[
            ("POST", "/v3/kv/put", r#"{"key":"a2V5","value":"dmFsdWU="}"#),
            ("POST", "/v3/kv/range", r#"{"key":"a2V5"}"#),
            ("GET", "/metrics", ""),
        ],
    },
    Server {
        name: "prometheus",
        arguments: "--config.file={dir}/config --storage.tsdb.path={dir}/data \
                    --web.listen-address=127.0.0.1:{port} --log.level=error",
        requests: &[
            (
                "GET",
                "/api/v1/query?query=sum(prometheus_http_requests_total)",
                "",
            ),
            ("GET", "/api/v1/labels", ""),
            ("GET", "/metrics", ""),
        ],
    },
    Server {
        name: "caddy",
        arguments: "respond --listen 127.0.0.1:{port} hello",
        requests: &[("GET", "/", ""), ("GET", "/some/where?else=1", "")],
    },
];

pub fn trials(host: &'static Host) -> Vec<Trial> {
    let directory = env::var("INJECTOR_GO_SERVERS")
        .map(PathBuf::from)
        .map_err(|_| "INJECTOR_GO_SERVERS is not set".to_owned());
    SERVERS
        .iter()
        .map(|server| {
            let name = format!("maps_on_a_real_server[{}]", server.name);
            match &directory {
                Ok(directory) => {
                    let program = directory.join("usr/bin").join(server.name);
                    on_fast_hosts(host, &name, move || trial(server, &program))
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

fn trial(server: &'static Server, program: &PathBuf) {
    let scratch = Scratch::new(server.name);
    let directory = scratch.path("");
    std::fs::write(directory.join("config"), "global: {scrape_interval: 1s}\n")
        .expect("a configuration");
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
    let pid = running.0.id();
    let answers = eventually(Duration::from_secs(30), || {
        server
            .requests
            .iter()
            .all(|request| ask_once(port, request))
    });
    assert!(answers, "{} does not answer", server.name);

    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let without = load(server, port, pid);
        let injector = Injector::start_with(&format!("maps --pid {pid} --output json"));
        let with = load(server, port, pid);
        let ended = injector.stop();
        ended.expect_code(0);
        let summary = ended.maps.last().expect("a summary");
        // By CPU time, for what else the machine does takes answers, too.
        let loss = 100.0 * (1.0 - without.cpu_ns / with.cpu_ns);
        println!(
            "{} {round}: {:.0} answers/s without, {:.0} with; {:.0} ns of CPU for each without, \
             {:.0} with: {loss:.1} % fewer for the same CPU; {} hits, cost {} of a CPU, injector \
             itself {} ns, stacks {}",
            server.name,
            without.per_second,
            with.per_second,
            without.cpu_ns,
            with.cpu_ns,
            summary["hits"],
            summary["cost"],
            summary["own_ns"],
            summary["stacks"]
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
        rates.push(loss);
    }
    assert!(
        matches!(running.0.try_wait(), Ok(None)),
        "{} has ended",
        server.name
    );
    rates.sort_by(f64::total_cmp);
    println!("{}: median {:.1} % fewer", server.name, rates[ROUNDS / 2]);
}

/// What clients got.
struct Answers {
    per_second: f64,
    /// What the server used for each.
    cpu_ns: f64,
}

/// Puts load on the server; all answers are good.
fn load(server: &'static Server, port: u16, pid: u32) -> Answers {
    let length = env::var("INJECTOR_E2E_LOAD").ok();
    let length = length.and_then(|seconds| seconds.parse().ok());
    let length = length.map_or(LOAD, Duration::from_secs);
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let (start, cpu) = (Instant::now(), process::cpu_time(pid));
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
        thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
    });
    let answers = answers.load(Ordering::Relaxed) as f64;
    let used = process::cpu_time(pid).saturating_sub(cpu);
    Answers {
        per_second: answers / start.elapsed().as_secs_f64(),
        cpu_ns: used.as_nanos() as f64 / answers,
    }
}

fn connect(port: u16) -> std::io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(BufReader::new(stream))
}

fn ask_once(port: u16, request: &(&str, &str, &str)) -> bool {
    connect(port).is_ok_and(|mut connection| ask(&mut connection, request).is_ok())
}

/// One request and its answer, which has to be good.
fn ask(
    connection: &mut BufReader<TcpStream>,
    (method, path, body): &(&str, &str, &str),
) -> std::io::Result<()> {
    let bad = |what: String| std::io::Error::other(what);
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
