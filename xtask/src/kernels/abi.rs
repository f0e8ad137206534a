//! Names of Debian's kernel packages.

use std::cmp::Ordering;

/// The end of the names of cloud kernels for this architecture.
const FLAVOUR: &str = "-cloud-amd64";

/// The kernel release in the name of an image package, such as `6.1.0-56-cloud-amd64`,
/// when it belongs to `series`.
///
/// Meta-packages (`linux-image-6.12-cloud-amd64`), debug packages and unsigned images are not
/// image packages in this sense.
pub fn release_in<'a>(package: &'a str, series: &str) -> Option<&'a str> {
    let release = package.strip_prefix("linux-image-")?;
    release.strip_suffix(FLAVOUR)?;
    let patch = release.strip_prefix(series)?.strip_prefix('.')?;
    patch
        .starts_with(|c: char| c.is_ascii_digit())
        .then_some(release)
}

/// The newest kernel release of `series` among package names.
pub fn newest<'a>(packages: impl IntoIterator<Item = &'a str>, series: &str) -> Option<&'a str> {
    packages
        .into_iter()
        .filter_map(|package| release_in(package, series))
        .max_by(|a, b| compare(a, b))
}

/// Orders releases by the numbers in them, so that 6.12.9 comes before 6.12.117.
pub fn compare(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(&numbers(b))
}

fn numbers(release: &str) -> Vec<u64> {
    release
        .strip_suffix(FLAVOUR)
        .unwrap_or(release)
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: &[&str] = &[
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-6.1.0-57-cloud-amd64-dbg",
        "linux-image-6.1.0-58-amd64",
        "linux-image-6.1.0-0.deb11.48-cloud-amd64",
        "linux-image-6.1-cloud-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-6.12.9+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.118+deb12-cloud-amd64-unsigned",
        "linux-headers-6.12.119+deb12-cloud-amd64",
        "linux-image-cloud-amd64",
    ];

    fn newest_of(series: &str) -> Option<&'static str> {
        newest(PACKAGES.iter().copied(), series)
    }

    #[test]
    fn picks_the_newest_by_number() {
        assert_eq!(newest_of("6.1"), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest_of("6.12"), Some("6.12.117+deb12-cloud-amd64"));
    }

    #[test]
    fn has_no_kernel_of_other_series() {
        assert_eq!(newest_of("6.2"), None);
        assert_eq!(newest_of("5.10"), None);
    }
}
