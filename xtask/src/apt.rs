//! Debian packages, fetched with apt beside the host's own package state.
//!
//! The host's apt configuration says where a Debian mirror is; which suites are read, and where
//! their lists are kept, is ours. Nothing that the host's apt knows is changed.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache, step::last_lines};

/// Debian's keys, where its keyring package puts them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian releases that a mirror can be recognised by.
const CODENAMES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// apt with package lists of its own.
pub struct Apt {
    options: Vec<String>,
    /// Series share suites, and two runs at once must not write the same lists.
    _lock: File,
}

impl Apt {
    /// Reads these suites, from the mirror that the host uses.
    pub fn new(suites: &[&str]) -> Result<Self> {
        let state = cache::directory(&format!("apt/{}", suites.join("+")))?;
        for directory in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(state.join(directory))
                .with_context(|| format!("cannot create {directory} in {}", state.display()))?;
        }
        let lock = state.join("lock");
        let lock =
            File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        lock.lock().context("cannot lock apt's lists")?;
        let sources = state.join("sources.list");
        fs::write(&sources, source_list(&host_repositories()?, suites)?)
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let state = state.display();
        Ok(Self {
            options: [
                format!("Dir::Etc::SourceList={state}/sources.list"),
                "Dir::Etc::SourceParts=-".to_owned(),
                format!("Dir::State::Lists={state}/lists"),
                format!("Dir::Cache={state}"),
                // Package lists only: no translations, no desktop metadata.
                "Acquire::Languages=none".to_owned(),
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
                // apt's own user cannot write below a home directory.
                "APT::Sandbox::User=root".to_owned(),
                "APT::Update::Error-Mode=any".to_owned(),
            ]
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option])
            .collect(),
            _lock: lock,
        })
    }

    /// Brings the lists up to date.
    pub fn update(&self) -> Result<()> {
        run(
            "reading Debian's package lists",
            Command::new("apt-get").args(&self.options).arg("update"),
        )
        .map(drop)
    }

    /// The names of packages that begin like this.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let output = run(
            "listing packages",
            Command::new("apt-cache")
                .args(&self.options)
                .args(["pkgnames", prefix]),
        )?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Downloads packages into a directory.
    pub fn download(&self, packages: &[String], directory: &Path) -> Result<()> {
        run(
            &format!("downloading {}", packages.join(" ")),
            Command::new("apt-get")
                .args(&self.options)
                .arg("download")
                .args(packages)
                .current_dir(directory),
        )
        .map(drop)
    }
}

/// A repository in the host's apt configuration.
#[derive(Debug, PartialEq, Eq)]
struct Repository {
    url: String,
    suite: String,
}

fn host_repositories() -> Result<Vec<Repository>> {
    let output = run(
        "asking apt for its sources",
        Command::new("apt-get").args(["--print-uris", "update"]),
    )?;
    Ok(parse_repositories(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads repositories from what `apt-get --print-uris update` would download, which apt tells
/// without any downloaded lists.
fn parse_repositories(uris: &str) -> Vec<Repository> {
    uris.lines()
        .filter_map(|line| {
            let uri = line.strip_prefix('\'')?.split('\'').next()?;
            let (url, rest) = uri.split_once("/dists/")?;
            let suite = rest.strip_suffix("/InRelease")?;
            Some(Repository {
                url: url.to_owned(),
                suite: suite.to_owned(),
            })
        })
        .collect()
}

fn source_list(repositories: &[Repository], suites: &[&str]) -> Result<String> {
    let signed_by = if Path::new(KEYRING).exists() {
        format!(" signed-by={KEYRING}")
    } else {
        String::new()
    };
    suites
        .iter()
        .map(|suite| {
            let url = mirror_of(repositories, suite)?;
            Ok(format!("deb [arch=amd64{signed_by}] {url} {suite} main\n"))
        })
        .collect()
}

/// The host's mirror that has `suite`: security updates live in an archive of their own.
fn mirror_of<'a>(repositories: &'a [Repository], suite: &str) -> Result<&'a str> {
    let security = suite.ends_with("-security");
    let mirror = repositories.iter().find(|repository| {
        let codename = repository.suite.strip_suffix("-security");
        security == codename.is_some() && CODENAMES.contains(&codename.unwrap_or(&repository.suite))
    });
    match mirror {
        Some(repository) => Ok(&repository.url),
        None => bail!(
            "this machine's apt has no Debian {} source to take {suite} from",
            if security { "security" } else { "main" }
        ),
    }
}

fn run(what: &str, command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| {
        format!(
            "{what}: cannot run {}; this comes from Debian's archive by apt",
            command.get_program().display()
        )
    })?;
    ensure!(
        output.status.success(),
        "{what}: {}:\n{}",
        output.status,
        last_lines(&String::from_utf8_lossy(&output.stderr), 8)
    );
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URIS: &str = "\
'http://mirror.example/vendor/dists/nodistro/InRelease' x 0 
'http://mirror.example/debian/dists/bookworm/InRelease' x 0 
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' x 0 
";

    #[test]
    fn finds_the_mirrors() {
        let repositories = parse_repositories(URIS);
        assert_eq!(repositories.len(), 3);
        let mirror = |suite| mirror_of(&repositories, suite).unwrap();
        assert_eq!(mirror("trixie-backports"), "http://mirror.example/debian");
        assert_eq!(
            mirror("bullseye-security"),
            "http://mirror.example/debian-security"
        );
    }

    #[test]
    fn a_host_that_is_not_debian_is_told() {
        let repositories =
            parse_repositories("'http://mirror.example/ubuntu/dists/noble/InRelease' x 0 \n");
        let error = mirror_of(&repositories, "bookworm").unwrap_err();
        assert!(error.to_string().contains("no Debian main source"));
    }
}
