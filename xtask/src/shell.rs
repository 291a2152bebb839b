//! Running other programs, and saying what is run.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // As cargo says when it runs this, not as it was when this was built: a checkout may be moved.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&here).parent().map(Path::to_owned).unwrap_or_default()
}

/// Set where a check that cannot run is a failure and not a skip: in CI.
fn is_strict() -> bool {
    std::env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0")
}

/// Runs cargo in the repository's root; its failure is ours.
pub(crate) fn cargo(args: &[&str]) -> Result<()> {
    cargo_with(&[], args)
}

/// The same, with environment variables.
pub(crate) fn cargo_with(env: &[(&str, &str)], args: &[&str]) -> Result<()> {
    cargo_in(&root(), env, args)
}

/// The same, in another folder.
pub(crate) fn cargo_in(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(
        Command::new(cargo).args(args).envs(env.iter().copied()).current_dir(folder),
        &format!("cargo {}", args.join(" ")),
    )
}

/// Runs cargo and takes what it prints.
pub(crate) fn cargo_output(args: &[&str]) -> Result<(bool, String)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(args).current_dir(root()).output().context("run cargo")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// Runs a tool that is not everywhere, in a folder of the repository; says so when it is missing.
pub(crate) fn optional_tool(tool: &str, args: &[&str], folder: &str, remedy: &str) -> Result<()> {
    if Command::new(tool).arg("--version").output().is_err() {
        if is_strict() {
            bail!("{tool} is not installed, and APPORTION_NO_SKIP is set; {remedy}");
        }
        println!("skipped: {tool} {} (not installed; {remedy})", args.join(" "));
        return Ok(());
    }
    run(Command::new(tool).args(args).current_dir(root().join(folder)), &format!("{tool} {}", args.join(" ")))
}

fn run(command: &mut Command, shown: &str) -> Result<()> {
    println!("==> {shown}");
    let status = command.status().with_context(|| format!("run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// Every file that git tracks, relative to the root, whose name ends so.
pub(crate) fn tracked(ending: &str) -> Result<Vec<PathBuf>> {
    let mut paths = listed(&["ls-files", "-z"])?;
    paths.retain(|path| path.as_os_str().as_encoded_bytes().ends_with(ending.as_bytes()));
    Ok(paths)
}

/// Every file that git tracks or would track, relative to the root.
pub(crate) fn sources() -> Result<Vec<PathBuf>> {
    listed(&["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
}

/// The files that a git command lists and that are there.
fn listed(args: &[&str]) -> Result<Vec<PathBuf>> {
    let output = Command::new("git").args(args).current_dir(root()).output().context("run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.split('\0').filter(|name| !name.is_empty() && root().join(name).is_file());
    Ok(names.map(PathBuf::from).collect())
}
