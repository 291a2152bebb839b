//! Known bugs, put back on purpose: the simulator must find each, or its checks check nothing.
//!
//! `sim/mutants/*.toml` lists them. All are built at once into a copy of the sources, each behind a switch, and then one after the
//! other is switched on and looked for, seed by seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::shell::{cargo_in, root, sources};

/// Under how many seeds each mutation is looked for, unless told otherwise: so many, and not for so long, that a busy machine finds the same.
const SEEDS: u64 = 2_000;

/// No search takes longer.
const SECONDS_MAX: u64 = 1_800;

/// Seeds that must run clean without a mutation, beside those under which one is found.
const CLEAN_SEEDS: u64 = 1_000;

/// A run that does not end by itself is ended when it has taken so much longer than it may.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// The environment variable that switches a mutation on.
const SWITCH: &str = "APPORTION_MUTANT";

/// What stands in a replacement for "this mutation is switched on".
const MARK: &str = "MUTANT";

/// What each mutated crate gets.
const SWITCH_CODE: &str = r#"
pub(crate) fn mutant(name: &str) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ON.get_or_init(|| std::env::var("APPORTION_MUTANT").ok()).as_deref() == Some(name)
}
"#;

/// A file of `sim/mutants`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// A bug that is known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// What goes wrong, in a sentence.
    #[expect(dead_code, reason = "for readers of the list")]
    story: String,
    file: PathBuf,
    /// Stands exactly once in the file.
    find: String,
    /// Takes its place; `MUTANT` in it is true when this mutation is switched on.
    replace: String,
    /// The checks that may be the first to find it; `panic` for an assertion of the code under test.
    found_by: BTreeSet<String>,
}

/// What a run over seeds has come to.
#[derive(Debug)]
enum Outcome {
    Clean { seeds: u64 },
    Broken { seed: u64, check: String, message: String },
    Hangs,
}

/// Builds the mutations and looks for those that are named, or all.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (names, seeds_each) = parse(args)?;
    let mutants = read_lists()?;
    if let Some(unknown) = names.iter().find(|name| mutants.iter().all(|mutant| mutant.name != **name)) {
        bail!("no mutation is called `{unknown}`; sim/mutants lists them");
    }
    let seeds = build(&mutants)?;
    println!("==> {CLEAN_SEEDS} seeds without a mutation");
    expect_clean(search(&seeds, None, 0..CLEAN_SEEDS)?)?;

    let wanted: Vec<&Mutant> =
        mutants.iter().filter(|mutant| names.is_empty() || names.contains(&&*mutant.name)).collect();
    let width = wanted.iter().map(|mutant| mutant.name.len()).max().unwrap_or(0);
    println!("==> {} mutations, {seeds_each} seeds for each", wanted.len());
    println!("{:width$} | {:22} | {:>5} | {:>7}", "mutation", "found by", "seed", "seconds");
    let queue = Mutex::new(wanted.iter());
    let failures = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(mutant) = queue.lock().ok().and_then(|mut queue| queue.next()) {
            let started = Instant::now();
            let outcome = search(&seeds, Some(&mutant.name), 0..seeds_each)?;
            let took = started.elapsed().as_secs_f64();
            let (found, seed) = match &outcome {
                Outcome::Broken { seed, check, .. } => (check.as_str(), seed.to_string()),
                Outcome::Clean { .. } => ("nobody", "-".to_owned()),
                Outcome::Hangs => ("nobody: it hangs", "-".to_owned()),
            };
            println!("{:width$} | {found:22} | {seed:>5} | {took:>7.1}", mutant.name);
            if let Err(failure) = judge(&seeds, mutant, outcome)
                && let Ok(mut failures) = failures.lock()
            {
                failures.push(format!("{}: {failure:#}", mutant.name));
            }
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let failures = failures.into_inner().unwrap_or_default();
    ensure!(failures.is_empty(), "mutations are not found as they should be:\n  {}", failures.join("\n  "));
    Ok(())
}

fn parse<'a>(args: &[&'a str]) -> Result<(Vec<&'a str>, u64)> {
    let (mut names, mut seeds) = (Vec::new(), SEEDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--seeds" => {
                let value = args.next().context("--seeds needs a number")?;
                seeds = value.parse().with_context(|| format!("--seeds `{value}` is not a number"))?;
            }
            flag if flag.starts_with('-') => bail!("unknown option `{flag}`; there is only --seeds"),
            name => names.push(name),
        }
    }
    Ok((names, seeds))
}

/// Whether a mutation was found as its list says, and by its own fault.
fn judge(seeds: &Path, mutant: &Mutant, outcome: Outcome) -> Result<()> {
    let (seed, check, message) = match outcome {
        Outcome::Clean { seeds } => {
            bail!("survives {seeds} seeds; a check is missing, or no run comes to it")
        }
        Outcome::Hangs => bail!("a run does not end"),
        Outcome::Broken { seed, check, message } => (seed, check, message),
    };
    if !mutant.found_by.contains(&check) {
        bail!("is found by `{check}`, which its list does not name, at seed {seed}: {message}");
    }
    expect_clean(search(seeds, None, seed..seed + 1)?)
}

fn expect_clean(outcome: Outcome) -> Result<()> {
    match outcome {
        Outcome::Clean { .. } => Ok(()),
        Outcome::Hangs => bail!("without a mutation a run does not end"),
        Outcome::Broken { seed, check, message } => {
            bail!("without a mutation `{check}` is broken at seed {seed}: {message}")
        }
    }
}

/// Runs the seeds until one is broken.
fn search(seeds: &Path, mutant: Option<&str>, range: std::ops::Range<u64>) -> Result<Outcome> {
    let mut command = Command::new(seeds);
    command.args([range.start, range.end, SECONDS_MAX].map(|number| number.to_string()));
    match mutant {
        Some(name) => command.env(SWITCH, name),
        None => command.env_remove(SWITCH),
    };
    let child = command.stdout(Stdio::piped()).spawn().context("run the seeds")?;
    let Some(line) = output(child, Duration::from_secs(SECONDS_MAX) + HANGS_AFTER)? else {
        return Ok(Outcome::Hangs);
    };
    let unclear = || format!("the seeds say `{line}`");
    let (word, rest) = line.trim().split_once(' ').with_context(unclear)?;
    Ok(match word {
        "clean" => Outcome::Clean { seeds: rest.parse().with_context(unclear)? },
        "broken" => {
            let (seed, rest) = rest.split_once(' ').with_context(unclear)?;
            let (check, message) = rest.split_once(": ").with_context(unclear)?;
            let seed = seed.parse().with_context(unclear)?;
            Outcome::Broken { seed, check: check.to_owned(), message: message.to_owned() }
        }
        _ => bail!(unclear()),
    })
}

/// What a process prints; none when it had to be ended.
fn output(mut child: Child, limit: Duration) -> Result<Option<String>> {
    let until = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn read_lists() -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("sim/mutants"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let list: List = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        mutants.extend(list.mutant);
    }
    let mut names = BTreeSet::new();
    for mutant in &mutants {
        ensure!(names.insert(&mutant.name), "two mutations are called `{}`", mutant.name);
        ensure!(mutant.replace.contains(MARK), "mutation `{}` has no switch: no {MARK}", mutant.name);
    }
    Ok(mutants)
}

/// Builds the copy with every mutation in it, and returns the program that runs seeds.
///
/// The copy stays where it is and keeps its target folder, so that the next build has little to do. It is built without debug
/// assertions: the cores' own laws would find most bugs first, and it is the simulator's checks that are on trial.
fn build(mutants: &[Mutant]) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = std::path::absolute(target)?.join("mutants");
    let (tree, built) = (folder.join("tree"), folder.join("target"));
    copy(mutants, &tree)?;
    let target = built.to_str().context("the path of the target folder is no text")?;
    let env = [
        ("CARGO_TARGET_DIR", target),
        ("CARGO_PROFILE_DEV_OPT_LEVEL", "2"),
        ("CARGO_PROFILE_DEV_DEBUG", "0"),
        ("CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "false"),
        ("RUSTFLAGS", "-A warnings"),
    ];
    cargo_in(&tree, &env, &["build", "--locked", "-p", "apportion-sim", "--example", "seeds"])?;
    Ok(built.join("debug/examples/seeds"))
}

/// Makes the copy what it should be, and leaves what is so already: cargo goes by times.
fn copy(mutants: &[Mutant], tree: &Path) -> Result<()> {
    let mut edits: BTreeMap<&Path, Vec<&Mutant>> = BTreeMap::new();
    let mut crates = BTreeSet::new();
    for mutant in mutants {
        let folder = mutant.file.ancestors().find(|folder| root().join(folder).join("Cargo.toml").is_file());
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        crates
            .insert(folder.with_context(|| format!("`{}` is in no crate", mutant.name))?.join("src/lib.rs"));
        edits.entry(&mutant.file).or_default().push(mutant);
    }
    let sources = sources()?;
    remove_others(tree, tree, &sources.iter().map(PathBuf::as_path).collect())?;
    for path in &sources {
        let mut bytes = fs::read(root().join(path)).with_context(|| format!("read {}", path.display()))?;
        if let Some(mutants) = edits.remove(path.as_path()) {
            bytes = mutated(&String::from_utf8(bytes)?, mutants)?.into_bytes();
        }
        if crates.contains(path) {
            bytes.extend_from_slice(SWITCH_CODE.as_bytes());
        }
        let to = tree.join(path);
        if fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::write(&to, bytes).with_context(|| format!("write {}", to.display()))?;
    }
    if let Some((file, mutants)) = edits.first_key_value() {
        bail!("`{}` is about {}, which does not exist", mutants[0].name, file.display());
    }
    Ok(())
}

/// A file with each mutation in its place.
fn mutated(text: &str, mutants: Vec<&Mutant>) -> Result<String> {
    let mut places = Vec::new();
    for mutant in mutants {
        let Mutant { name, file, find, .. } = mutant;
        let mut found = text.match_indices(find.trim_matches('\n'));
        match (found.next(), found.count()) {
            (Some((at, what)), 0) => places.push((at, at + what.len(), mutant)),
            (None, _) => {
                bail!("`{name}`: what it replaces is not in {} any more; put the list right", file.display())
            }
            (Some(_), more) => bail!(
                "`{name}`: what it replaces is {} times in {}; name more of it",
                more + 1,
                file.display()
            ),
        }
    }
    places.sort_by_key(|(from, ..)| *from);
    let (mut out, mut done) = (String::new(), 0);
    for (from, to, Mutant { name, file, replace, .. }) in places {
        ensure!(from >= done, "`{name}` replaces what another mutation of {} does", file.display());
        out.push_str(&text[done..from]);
        out.push_str(&replace.trim_matches('\n').replace(MARK, &format!("crate::mutant({name:?})")));
        done = to;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// Removes what the sources do not have any more.
fn remove_others(folder: &Path, tree: &Path, sources: &BTreeSet<&Path>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(&path, tree, sources)?;
        } else if !sources.contains(path.strip_prefix(tree)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
