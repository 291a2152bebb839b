//! `apportion cp`: files between a task's sandbox and this machine.

mod place;

use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use apportion_sdk::sandbox::{Entry, Files, Kind, SandboxError, WriteError};
use apportion_types::FrameworkId;

use crate::{
    Usage,
    client::{self, Client},
    files, logs,
    output::{self, Format},
};
use place::{Direction, Remote};

/// Copy files between a task's sandbox and this machine
///
/// One of both is `TASK:PATH`, with a path that is relative to the sandbox. A target that is a folder gets the copy in it. Permissions are
/// kept; what is written to a sandbox belongs to the task's user, and is there as a whole or not at all. Links and what is neither file nor
/// folder are left out of folders, and named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to copy: `TASK:PATH`, or a path of this machine
    from: String,
    /// Where to: a path of this machine, or `TASK:PATH`
    to: String,
    /// Copy folders with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// The framework whose task it is; needed only when several have one of this id
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    #[command(flatten)]
    client: client::SettingsArgs,
}

/// The permissions that are kept.
const MODE: u32 = 0o777;

/// What a file is called that is not whole yet; one is at a time.
const PART: &str = ".apportion-part";

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let direction = place::direction(&args.from, &args.to).map_err(Usage)?;
    let Some(client) = args.client.start(Format::Text)? else { return Ok(()) };
    let (Direction::Here { from: Remote { task, .. }, .. }
    | Direction::There { to: Remote { task, .. }, .. }) = &direction;
    let found = logs::find(&client, args.framework, task.clone()).await?;
    let files = files::connect(&client, &found).await?;
    let mut copy = Copy { client, files, recursive: args.recursive };
    match direction {
        Direction::Here { from, to } => copy.here(&from.path, &to).await,
        Direction::There { from, to } => copy.there(&from, &to.path).await,
    }
}

struct Copy {
    client: Client,
    files: Files,
    recursive: bool,
}

impl Copy {
    /// From the sandbox.
    async fn here(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let itself = files::within(&self.client, look(&mut self.files, from)).await?;
        let to = match fs::metadata(to) {
            Ok(found) if found.is_dir() => to.join(from.file_name().unwrap_or_default()),
            _ => to.to_owned(),
        };
        match itself.kind {
            Kind::File => self.file_here(from, &to, itself.mode).await,
            Kind::Folder if self.recursive => self.folder_here(from, &to, itself.mode).await,
            Kind::Folder => bail!("`{}` is a folder; copy it with -r", from.display()),
            Kind::Link(target) => {
                bail!("`{}` is a link to `{}`; name that file itself", from.display(), target.display())
            }
            Kind::Special => bail!("`{}` is neither a file nor a folder", from.display()),
        }
    }

    async fn folder_here(&mut self, from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
        let mut folders = vec![(from.to_owned(), to.to_owned(), mode)];
        let mut modes = Vec::new();
        while let Some((from, to, mode)) = folders.pop() {
            let made = match fs::create_dir(&to) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_folder(&to) => Ok(()),
                made => made,
            };
            made.with_context(|| format!("making folder {}", to.display()))?;
            modes.push((to.clone(), mode));
            let (_, entries) = files::list(&mut self.files, &from).await?;
            for entry in entries {
                // Whatever an agent says, nothing is written elsewhere.
                let name = own_name(&entry.name).ok_or_else(|| {
                    anyhow!("the agent names a file `{}`, which is no name", entry.name.display())
                })?;
                let (from, to) = (from.join(name), to.join(name));
                match entry.kind {
                    Kind::Folder => folders.push((from, to, entry.mode)),
                    Kind::File => self.file_here(&from, &to, entry.mode).await?,
                    Kind::Link(_) | Kind::Special => left_out(&from),
                }
            }
        }
        // Last, and the inner ones first: a folder may be one that nothing can be written to.
        for (folder, mode) in modes.into_iter().rev() {
            fs::set_permissions(&folder, Permissions::from_mode(mode & MODE))
                .with_context(|| format!("setting the mode of {}", folder.display()))?;
        }
        Ok(())
    }

    async fn file_here(&mut self, from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
        let mut file = files::within(&self.client, async { Ok(self.files.read(from).await?) }).await?;
        let mut draft = Draft::begin(to)?;
        while let Some(chunk) = files::within(&self.client, async { Ok(file.chunk().await?) }).await? {
            draft.write(&chunk.data)?;
        }
        draft.finish(mode)
    }

    /// To the sandbox.
    async fn there(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let found = fs::metadata(from).with_context(|| format!("looking at {}", from.display()))?;
        if found.is_dir() && !self.recursive {
            bail!("`{}` is a folder; copy it with -r", from.display());
        }
        let name = fs::canonicalize(from)?;
        let name = from.file_name().or_else(|| name.file_name()).unwrap_or_default();
        // What is not there yet, or no folder, is what the copy is to be called.
        let into = match files::within(&self.client, look(&mut self.files, to)).await {
            Ok(itself) => itself.kind == Kind::Folder,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(error),
        };
        let to = if into { to.join(name) } else { to.to_owned() };
        if found.is_dir() { self.folder_there(from, &to).await } else { self.file_there(from, &to).await }
    }

    async fn folder_there(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let mut folders = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = folders.pop() {
            let failed = || format!("reading folder {}", from.display());
            let mode = fs::metadata(&from).with_context(failed)?.permissions().mode();
            // One that nothing can be written to would be of no use.
            self.files.make_folder(&to, (mode & MODE) | 0o700).await?;
            let mut entries =
                fs::read_dir(&from).and_then(Iterator::collect::<io::Result<Vec<_>>>).with_context(failed)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let kind = entry.file_type().with_context(failed)?;
                let (from, to) = (entry.path(), to.join(entry.file_name()));
                match (kind.is_dir(), kind.is_file()) {
                    (true, _) => folders.push((from, to)),
                    (_, true) => self.file_there(&from, &to).await?,
                    _ => left_out(&from),
                }
            }
        }
        Ok(())
    }

    async fn file_there(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let failed = || format!("reading {}", from.display());
        let file = tokio::fs::File::open(from).await.with_context(failed)?;
        let mode = file.metadata().await.with_context(failed)?.permissions().mode();
        self.files.write(to, mode & MODE, file).await.map(drop).map_err(|error| match error {
            WriteError::Source { source, .. } => anyhow::Error::new(source).context(failed()),
            error => error.into(),
        })
    }
}

/// What a path of the sandbox is.
async fn look(files: &mut Files, path: &Path) -> anyhow::Result<Entry> {
    Ok(files.list(path, OsStr::new("")).await?.itself)
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SandboxError::NotFound { .. }))
}

/// A name that stays in its folder.
fn own_name(name: &OsStr) -> Option<&OsStr> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name => Some(name),
        _ => None,
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn left_out(path: &Path) {
    output::say(&format!("apportion: left out `{}`: it is neither a file nor a folder", path.display()));
}

/// A file of this machine that is not whole yet, beside its place. Dropped, it is deleted.
struct Draft {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    fn begin(target: &Path) -> anyhow::Result<Draft> {
        if target.file_name().is_none() {
            bail!("`{}` names no file", target.display());
        }
        let path = target.with_file_name(format!("{PART}-{}", std::process::id()));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("writing {}", target.display()))?;
        Ok(Draft { file, path, target: target.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("writing {}", self.target.display()))
    }

    fn finish(self, mode: u32) -> anyhow::Result<()> {
        let done = self
            .file
            .set_permissions(Permissions::from_mode(mode & MODE))
            .and_then(|()| fs::rename(&self.path, &self.target));
        done.with_context(|| format!("writing {}", self.target.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What was finished has no such name any more.
        let _ = fs::remove_file(&self.path);
    }
}
