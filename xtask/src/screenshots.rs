//! `cargo xtask screenshots`: the pictures in docs/img, made from a recording of a
//! real run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use anyhow::{Context as _, Result, ensure};

use crate::{build, cache, cargo, setup, step::last_lines};

/// Width of a picture, in pixels.
const WIDTH: u32 = 1000;
/// Height of a picture at most: more is cut off.
const HIGHEST: u32 = 1300;
/// What a picture may have, in bytes: a repository keeps it for ever.
const LARGEST: u64 = 300_000;

/// What `screenshots` can be told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The recording, made with `injector --record FILE`
    recording: PathBuf,
    /// Where the pictures go [default: docs/img]
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
}

/// A picture.
struct Picture {
    name: &'static str,
    /// The part of the page, by its id in the page.
    part: &'static str,
    dark: bool,
}

const PICTURES: [Picture; 5] = [
    Picture {
        name: "report-words",
        part: "words",
        dark: false,
    },
    Picture {
        name: "report-sends",
        part: "sends",
        dark: false,
    },
    Picture {
        name: "report-locks",
        part: "locks",
        dark: false,
    },
    Picture {
        name: "report-locks-dark",
        part: "locks",
        dark: true,
    },
    Picture {
        name: "report-fatal",
        part: "fatal",
        dark: false,
    },
];

/// Makes a page of the recording, and a picture of each part that it has.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure()?;
    let browser = setup::ensure_browser()?;
    let injector = build::injector(false)?;
    let scratch = cache::directory("screenshots")?;
    let page = scratch.join("report.html");
    let made = Command::new(&injector)
        .arg("report")
        .arg(&arguments.recording)
        .arg("--html")
        .arg(&page)
        .output()
        .with_context(|| format!("cannot run {}", injector.display()))?;
    succeeded("making the report", &made)?;
    let page = fs::read_to_string(&page).context("cannot read the report")?;
    let default = cargo::workspace_root().join("docs/img");
    let directory = arguments.to.as_ref().unwrap_or(&default);
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    for picture in &PICTURES {
        picture.take(&browser, &page, &scratch, directory)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Picture {
    fn take(&self, browser: &Path, page: &str, scratch: &Path, directory: &Path) -> Result<()> {
        // The rest of the page is hidden, and the page says how high this part is.
        let part = self.part;
        let style = format!(
            "<style>main > section:not(#{part}), header, footer {{ display: none !important }} \
             h2 {{ margin-top: 16px !important }} body {{ padding-bottom: 16px !important }}</style></head>"
        );
        let script = format!(
            "<script>document.body.dataset.height = document.getElementById('{part}') ? \
             Math.ceil(document.body.getBoundingClientRect().height) : 0</script></body>"
        );
        let page = page
            .replacen("</head>", &style, 1)
            .replacen("</body>", &script, 1);
        let file = scratch.join(format!("{}.html", self.name));
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;

        let looked = self.browse(browser, &file, HIGHEST, "--dump-dom".to_owned())?;
        let dom = String::from_utf8_lossy(&looked.stdout);
        let height = dom.split_once("data-height=\"").and_then(|(_, rest)| {
            let number = rest.split('"').next()?;
            number.parse::<u32>().ok()
        });
        let height = height.context("the browser does not say how high the page is")?;
        if height == 0 {
            println!("{}: left out, this run has no such part", self.name);
            return Ok(());
        }
        let to = directory.join(format!("{}.png", self.name));
        let shot = format!("--screenshot={}", to.display());
        self.browse(browser, &file, height.min(HIGHEST), shot)?;
        let size = fs::metadata(&to)
            .with_context(|| format!("the browser has made no {}", to.display()))?
            .len();
        ensure!(
            size <= LARGEST,
            "{} has {size} bytes, more than {LARGEST}: a shorter run has fewer cells to draw",
            to.display()
        );
        println!(
            "{}: {WIDTH}x{}, {size} bytes",
            to.display(),
            height.min(HIGHEST)
        );
        Ok(())
    }

    fn browse(&self, browser: &Path, file: &Path, height: u32, what: String) -> Result<Output> {
        let scheme = u8::from(!self.dark);
        let output = Command::new(browser)
            // The browser's sandbox does not run as root.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--window-size={WIDTH},{height}"))
            .arg(what)
            .arg(format!("file://{}", file.display()))
            .output()
            .with_context(|| format!("cannot run {}", browser.display()))?;
        succeeded("looking at the report", &output)?;
        Ok(output)
    }
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
