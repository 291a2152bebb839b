//! Holds the code against the house's rules.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{
    house::{EXCUSED, FEATURES, IMPURE, MAY_USE, PURE, UNSAFE},
    shell::{cargo_output, root, tracked},
};

/// Checks every rule and reports every breach, not only the first.
pub(crate) fn check() -> Result<()> {
    println!("==> purity");
    let mut breaches = Vec::new();
    for (name, folder) in PURE {
        let bare = FEATURES.iter().any(|(other, _)| other == name).then_some("--no-default-features");
        // Of one crate alone cargo does not unify the features with what other members ask for.
        let tree = dependencies(name, bare.as_slice())?;
        for impure in IMPURE.iter().filter(|impure| tree.iter().any(|dependency| dependency == *impure)) {
            breaches.push(format!("{name} is pure, but {impure} is among its dependencies; see `cargo tree -p {name} -e normal -i {impure}{}`", bare.map_or(String::new(), |flag| format!(" {flag}"))));
        }
        if !root().join(folder).join("clippy.toml").is_file() {
            breaches.push(format!(
                "{folder}/clippy.toml is missing: without it nothing forbids clocks and I/O in {name}"
            ));
        }
    }
    for (name, allowed) in MAY_USE {
        let direct = dependencies(name, &["--depth", "1"])?;
        for used in direct.iter().filter(|used| used.starts_with("apportion") && used != name) {
            if !allowed.contains(&used.as_str()) {
                breaches.push(format!("{name} uses {used}; it may use only: {}", allowed.join(", ")));
            }
        }
    }
    breaches.extend(clocks()?);
    breaches.extend(unsafe_code()?);
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("the house's rules are broken:\n  {}", breaches.join("\n  "));
}

/// The names of all normal dependencies of a crate, itself included.
fn dependencies(name: &str, more: &[&str]) -> Result<Vec<String>> {
    let mut args =
        vec!["tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    args.extend(more);
    let (success, text) = cargo_output(&args)?;
    if !success {
        bail!("cargo {} failed:\n{text}", args.join(" "));
    }
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Clocks, files and threads in a pure crate, beside what clippy sees: also through an alias or in a macro. Unordered maps are
/// left to clippy, where an exception has to give its reason.
fn clocks() -> Result<Vec<String>> {
    const FORBIDDEN: &[&str] =
        &["Instant::now", "SystemTime", "std::fs", "std::thread", "std::net", "thread_rng"];
    let mut breaches = Vec::new();
    for (name, folder) in PURE {
        let mut paths = tracked(".rs")?;
        paths.retain(|path| path.starts_with(format!("{folder}/src")));
        paths.retain(|path| !FEATURES.iter().any(|(_, feature)| path.starts_with(feature)));
        for path in paths {
            for (number, line) in fs::read_to_string(root().join(&path))?.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let excused = |word: &str| {
                    EXCUSED.iter().any(|(file, excused, _)| path == Path::new(file) && word == *excused)
                };
                for word in FORBIDDEN.iter().filter(|word| code.contains(**word) && !excused(word)) {
                    breaches.push(format!(
                        "{}:{}: {name} is pure, but says {word}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(breaches)
}

/// Places that allow unsafe code outside the one folder for it.
fn unsafe_code() -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for path in tracked(".rs")? {
        let allowed = UNSAFE.iter().any(|folder| path.starts_with(folder)) || path.starts_with("xtask");
        for (number, line) in fs::read_to_string(root().join(&path))?.lines().enumerate() {
            if line.contains("allow(unsafe_code") && !allowed {
                breaches.push(format!(
                    "{}:{}: unsafe code is allowed only in {}",
                    path.display(),
                    number + 1,
                    UNSAFE.join(", ")
                ));
            }
        }
    }
    Ok(breaches)
}
