//! Builds the kernel programs of `injector-ebpf` into `OUT_DIR`.

// The same file that `cargo xtask setup` uses, so that both agree.
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

use std::{env, path::Path};

use anyhow::{Context as _, anyhow};

fn main() -> anyhow::Result<()> {
    let toolchain = toolchain::detect().map_err(|reason| anyhow!(reason))?;
    println!("cargo:rerun-if-changed=../xtask/src/toolchain.rs");
    println!("cargo:rustc-env=INJECTOR_EBPF_TOOLCHAIN={toolchain}");
    put_on_path(&toolchain.linker)?;

    let manifest = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&manifest).join("../injector-ebpf");
    let root = root.to_str().context("the workspace path is not UTF-8")?;
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "injector-ebpf",
            root_dir: root,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(toolchain.compiler.rustup_name()),
    )
}

/// `cargo install` may have put bpf-linker where PATH does not look.
fn put_on_path(linker: &Path) -> anyhow::Result<()> {
    let directory = linker.parent().context("bpf-linker has no directory")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths(std::iter::once(directory.to_path_buf()).chain(env::split_paths(&path)))
            .context("cannot extend PATH")?;
    // SAFETY: a build script's main thread; no other thread exists yet.
    unsafe { env::set_var("PATH", path) };
    Ok(())
}
