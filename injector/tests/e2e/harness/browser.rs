//! A web browser without a window, which pages are looked at with.

use std::{collections::BTreeMap, env, path::Path, process::Command};

/// Where it is, if it is; `cargo xtask test` says so.
pub fn there() -> Result<(), String> {
    program().map(drop)
}

fn program() -> Result<String, String> {
    env::var("INJECTOR_BROWSER").map_err(|_| "INJECTOR_BROWSER is not set".to_owned())
}

/// A page as it is when its scripts have run.
pub struct Page {
    /// As HTML.
    pub html: String,
    /// What its scripts and the browser complained about.
    pub complaints: Vec<String>,
}

impl Page {
    /// Opens a file; the browser keeps its own files beside it.
    pub fn open(file: &Path) -> Self {
        // The browser is run as root, which its sandbox does not do.
        let output = Command::new("timeout")
            .args(["120", &program().expect("a browser"), "--headless"])
            .args(["--no-sandbox", "--disable-gpu", "--window-size=1280,900"])
            .args(["--enable-logging=stderr", "--v=0", "--dump-dom"])
            .arg(format!(
                "--user-data-dir={}",
                file.with_extension("browser").display()
            ))
            .arg(format!("file://{}", file.display()))
            .output()
            .expect("the browser");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", output.status);
        let complaints = errors.lines().filter(|line| line.contains(":CONSOLE"));
        Self {
            html: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaints: complaints.map(str::to_owned).collect(),
        }
    }

    /// The figures on it, by what they are of.
    pub fn figures(&self) -> BTreeMap<String, String> {
        let all = self.html.split("<data ").skip(1);
        all.map(|rest| {
            let value = attribute(rest, "value");
            (attribute(rest, "data-of"), value)
        })
        .collect()
    }
}

fn attribute(element: &str, name: &str) -> String {
    let (element, _) = element.split_once('>').expect("an element");
    let (_, rest) = element
        .split_once(&format!("{name}=\""))
        .unwrap_or_else(|| panic!("no {name}: {element}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}
