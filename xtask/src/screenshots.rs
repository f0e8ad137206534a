//! `cargo xtask screenshots`: the pictures in docs/img, all of one run of the
//! demonstration.

mod camera;
mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, cache, cargo, go, privilege, setup, step::last_lines};
use camera::Camera;

/// The terminal that the run is shown in.
const ROWS: u16 = 26;
const COLUMNS: u16 = 96;

/// What `screenshots` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// How long the run takes that is shown; the longer, the larger the pictures
    #[arg(long, value_name = "TIME", default_value = "6s")]
    duration: String,
    /// Where the pictures go [default: docs/img]
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
}

/// A picture of the report.
struct Picture {
    name: &'static str,
    /// The part of the page, as a CSS selector: the first that fits.
    part: &'static str,
    dark: bool,
}

/// The worst moments, which have a picture of their own.
const MOMENTS: &str = ".moments";

const PICTURES: [Picture; 4] = [
    Picture {
        name: "report-words",
        part: "#words",
        dark: false,
    },
    Picture {
        name: "report-sends",
        part: "#sends",
        dark: false,
    },
    Picture {
        name: "report-locks",
        part: "#locks",
        dark: false,
    },
    Picture {
        name: "report-moment-dark",
        part: ".moment",
        dark: true,
    },
];

/// Runs the demonstration in a terminal, and takes pictures of that and of each part
/// of its report.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    privilege::require_root("the demo loads BPF programs and")?;
    setup::ensure()?;
    let browser = setup::ensure_browser()?;
    let injector = build::injector(true)?;
    let program = go::demo()?.context(
        "there is no Go toolchain: `cargo xtask test --ring go` fetches some, or install Go 1.19 \
         or later",
    )?;
    // The report names it, and nobody's home is to be in a picture.
    let shop = Path::new("/run/shop");
    fs::copy(&program, shop).with_context(|| format!("cannot write {}", shop.display()))?;
    let default = cargo::workspace_root().join("docs/img");
    let camera = Camera {
        browser,
        scratch: cache::directory("screenshots")?,
        to: arguments.to.clone().unwrap_or(default),
    };
    fs::create_dir_all(&camera.to)
        .with_context(|| format!("cannot create {}", camera.to.display()))?;

    let written = demonstrate(&injector, shop, &arguments.duration, &camera.scratch);
    fs::remove_file(shop).with_context(|| format!("cannot remove {}", shop.display()))?;
    let written = written?;
    let screen = terminal::page(&written, ROWS, COLUMNS).context("it has shown no screen")?;
    camera.take("tui", &screen, false)?;

    let said = String::from_utf8_lossy(&written);
    let report = said
        .rsplit_once("As a page for your browser: ")
        .and_then(|(_, rest)| rest.lines().next())
        .with_context(|| format!("the demo names no report:\n{}", last_lines(&said, 8)))?;
    let page = fs::read_to_string(report).with_context(|| format!("cannot read {report}"))?;
    for Picture { name, part, dark } in PICTURES {
        // The rest of the page is taken away.
        let style = "<style>header, footer { display: none !important } h2, h3, h4 { margin-top: \
                     16px !important } body { padding-bottom: 16px !important }</style></head>";
        let script = format!(
            "<script>{{ const part = document.querySelector('{part}'); \
             document.querySelector('main').replaceChildren(...part ? [part] : []); \
             part?.querySelectorAll('{MOMENTS}').forEach((it) => it.remove()) }}</script></body>"
        );
        let page = page
            .replacen("</head>", style, 1)
            .replacen("</body>", &script, 1);
        camera.take(name, &page, dark)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All that the demonstration writes to a terminal of its own.
fn demonstrate(injector: &Path, program: &Path, duration: &str, scratch: &Path) -> Result<Vec<u8>> {
    let log = scratch.join("terminal");
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!(
            "stty rows {ROWS} cols {COLUMNS}; exec '{}' demo --program '{}' --duration {duration} --tui",
            injector.display(),
            program.display()
        ))
        .arg(&log)
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run script")?;
    // An end of it would be typed into the terminal.
    let _keyboard = script.stdin.take();
    let status = script.wait().context("waiting for the demo")?;
    let written = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    ensure!(
        status.success(),
        "the demo ended with {status}:\n{}",
        last_lines(&String::from_utf8_lossy(&written), 12)
    );
    Ok(written)
}

fn succeeded(what: &str, output: &Output) -> Result<()> {
    ensure!(
        output.status.success(),
        "{what}: {}:\n{}",
        output.status,
        last_lines(&String::from_utf8_lossy(&output.stderr), 8)
    );
    Ok(())
}
