//! Whose work an operation is, by the package of the function that does it: the
//! program's own, another module's, or the standard library's.

use std::{borrow::Cow, convert::Infallible, str::FromStr};

use super::buildinfo::BuildInfo;

/// Packages of the runtime, which works for its callers.
const RUNTIME: &[&str] = &["runtime", "internal/runtime", "runtime/internal"];
/// Packages whose functions stand between a caller and a lock or a `sync.Map`.
const BETWEEN: &[&str] = &["sync", "internal/sync", "sync/atomic"];

/// Packages, as the `go` command writes them: `main`, `example.com/shop/cart`,
/// `example.com/shop/...` (this one and all below), `std` (the standard
/// library), `...` (all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Pattern {
    /// Whether a package is meant; `...` stands for anything, and `x/...` for
    /// `x`, too.
    fn matches(&self, package: &str) -> bool {
        let pattern = self.0.as_str();
        if pattern.strip_suffix("/...") == Some(package) {
            return true;
        }
        let Some((first, more)) = pattern.split_once("...") else {
            return pattern == package;
        };
        let (middle, last) = more.rsplit_once("...").unwrap_or(("", more));
        let Some(mut rest) = package.strip_prefix(first) else {
            return false;
        };
        for part in middle.split("...") {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// Which callers' operations are shown.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// Import path of the main package.
    main: Option<String>,
    /// Paths of modules that look like the standard library's packages.
    modules: Vec<String>,
}

impl Callers {
    /// Of a program: those that are included, or all but the standard library;
    /// without those that are excluded.
    pub fn new(build: &BuildInfo, include: Vec<Pattern>, exclude: Vec<Pattern>) -> Self {
        Self {
            include,
            exclude,
            main: build.path.clone(),
            modules: build.modules.clone(),
        }
    }

    /// Whether an operation with these functions on its stack, innermost first,
    /// is shown. The first outside of the runtime and `sync` is its caller; the
    /// runtime's own operations have none. What has no stack is shown.
    pub fn shows<'a>(&self, functions: impl IntoIterator<Item = &'a str>) -> bool {
        let mut seen = false;
        let caller = functions
            .into_iter()
            .inspect(|_| seen = true)
            .map(package)
            .find(|package| !is_between(package));
        match caller {
            Some(package) => self.shows_package(&package),
            None => !seen,
        }
    }

    fn shows_package(&self, package: &str) -> bool {
        let standard = self.is_standard(package);
        let path = self.main.as_deref().filter(|_| package == "main");
        let is_one_of = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| {
                (standard && pattern.0 == "std")
                    || pattern.matches(package)
                    || path.is_some_and(|path| pattern.matches(path))
            })
        };
        let included = if self.include.is_empty() {
            !standard
        } else {
            is_one_of(&self.include)
        };
        included && !is_one_of(&self.exclude)
    }

    /// As the `go` command tells them apart: paths of other modules have a dot
    /// in their first element, unless they were made not to be fetched.
    fn is_standard(&self, package: &str) -> bool {
        let first = package.split('/').next().unwrap_or(package);
        let is_module = |module: &String| {
            let rest = package.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !first.contains('.')
            && !matches!(first, "main" | "command-line-arguments" | "plugin")
            && !self.modules.iter().any(is_module)
    }
}

fn is_between(package: &str) -> bool {
    let is_in = |outer: &&str| {
        let rest = package.strip_prefix(*outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    RUNTIME.iter().any(is_in) || BETWEEN.contains(&package)
}

/// The package of a function: what comes before the first dot behind the last
/// slash. The linker writes dots there as `%2e` (cmd/internal/objabi/path.go,
/// `PathToPrefix`). Type arguments have packages of their own.
fn package(function: &str) -> Cow<'_, str> {
    let name = function.split('[').next().unwrap_or(function);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..].find('.').map_or(name.len(), |dot| last + dot);
    let package = &name[..end];
    if package.contains('%') {
        Cow::Owned(package.replace("%2e", "."))
    } else {
        Cow::Borrowed(package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(include: &[&str], exclude: &[&str]) -> Callers {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let build = BuildInfo {
            path: Some("shop/cmd/server".to_owned()),
            modules: vec!["shop".to_owned()],
            ..BuildInfo::default()
        };
        Callers::new(&build, patterns(include), patterns(exclude))
    }

    #[test]
    fn packages_of_functions() {
        for (function, expected) in [
            ("main.main.func1", "main"),
            ("net/http.(*conn).serve", "net/http"),
            (
                "example.com/shop/cart.(*Cart[go.shape.string]).Put",
                "example.com/shop/cart",
            ),
            ("slices.SortFunc[go.shape.[]example.com/x.T]", "slices"),
            ("gopkg.in/yaml%2ev3.(*parser).next", "gopkg.in/yaml.v3"),
            (
                "internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).Load",
                "internal/sync",
            ),
            ("crosscall2", "crosscall2"),
        ] {
            assert_eq!(package(function), expected, "{function}");
        }
    }

    #[test]
    fn the_standard_library_is_left_out_by_default() {
        let callers = callers(&[], &[]);
        let shows = |function| callers.shows(["runtime.mapassign", function]);
        assert!(shows("main.put"));
        assert!(shows("shop/cart.Put"));
        assert!(shows("shop.Put"));
        assert!(shows("example.com/x.Put"));
        assert!(!shows("shopping.Put"));
        assert!(!shows("net/http.Header.Set"));
        assert!(!shows("vendor/golang.org/x/net/http2.Put"));
        // The runtime's own.
        assert!(!callers.shows(["runtime.mapassign", "runtime.main"]));
        assert!(callers.shows([]));
    }

    #[test]
    fn sync_works_for_its_callers() {
        let callers = callers(&[], &[]);
        let inner =
            "internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).Load";
        assert!(callers.shows([inner, "sync.(*Map).Load", "main.get"]));
        assert!(!callers.shows([inner, "sync.(*Map).Load", "encoding/json.cachedTypeFields"]));
    }

    #[test]
    fn patterns_are_those_of_go() {
        let shows = |include, exclude, function| callers(include, exclude).shows([function]);
        assert!(shows(&["std"], &[], "net/http.Header.Set"));
        assert!(!shows(&["std"], &[], "main.put"));
        assert!(shows(&["net/..."], &[], "net.Dial"));
        assert!(shows(&["net/..."], &[], "net/http.Header.Set"));
        assert!(!shows(&["net/..."], &[], "netip.x"));
        assert!(shows(&["shop/cmd/..."], &[], "main.put"));
        assert!(!shows(&[], &["main"], "main.put"));
        assert!(!shows(
            &["..."],
            &["example.com/.../internal/..."],
            "example.com/a/internal/b.f"
        ));
        assert!(shows(
            &["..."],
            &["example.com/.../internal/..."],
            "example.com/a/b.f"
        ));
    }
}
