//! Pictures of pages, taken by a browser that nobody sees.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};

use super::succeeded;

/// Width of a picture, in pixels.
const WIDTH: u32 = 1000;
/// Height of a picture at most: more is cut off.
const HIGHEST: u32 = 1300;
/// What a picture may have, in bytes: a repository keeps it for ever.
const LARGEST: u64 = 300_000;

/// Where pictures are taken and where they go.
pub struct Camera {
    pub browser: PathBuf,
    /// For pages that are looked at.
    pub scratch: PathBuf,
    pub to: PathBuf,
}

impl Camera {
    /// One picture of what this page shows at its top, `NAME.png`; none of an empty
    /// one.
    pub fn take(&self, name: &str, page: &str, dark: bool) -> Result<()> {
        // The page says how high it is.
        let script = "<script>document.body.dataset.height = document.body.innerText.trim() ? \
                      Math.ceil(document.body.getBoundingClientRect().height) : 0</script></body>";
        let page = page.replacen("</body>", script, 1);
        let file = self.scratch.join(format!("{name}.html"));
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;

        let looked = self.browse(&file, HIGHEST, dark, "--dump-dom".to_owned())?;
        let dom = String::from_utf8_lossy(&looked.stdout);
        let height = dom.split_once("data-height=\"").and_then(|(_, rest)| {
            let number = rest.split('"').next()?;
            number.parse::<u32>().ok()
        });
        let height = height.context("the browser does not say how high the page is")?;
        if height == 0 {
            println!("{name}: left out, this run has no such part");
            return Ok(());
        }
        let height = height.min(HIGHEST);
        let to = self.to.join(format!("{name}.png"));
        self.browse(
            &file,
            height,
            dark,
            format!("--screenshot={}", to.display()),
        )?;
        let size = fs::metadata(&to)
            .with_context(|| format!("the browser has made no {}", to.display()))?
            .len();
        ensure!(
            size <= LARGEST,
            "{} has {size} bytes, more than {LARGEST}: a shorter run has less to draw",
            to.display()
        );
        println!("{}: {WIDTH}x{height}, {size} bytes", to.display());
        Ok(())
    }

    fn browse(&self, file: &Path, height: u32, dark: bool, what: String) -> Result<Output> {
        let scheme = u8::from(!dark);
        let output = Command::new(&self.browser)
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
            .with_context(|| format!("cannot run {}", self.browser.display()))?;
        succeeded("looking at a page", &output)?;
        Ok(output)
    }
}
