//! The folder of an executor: its token and its socket.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

pub(super) const SOCKET: &str = "socket";
pub(super) const TOKEN: &str = "token";

const TOKEN_BYTES: usize = 32;

/// A folder; see [`super`].
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// Makes it, with a new token. Nobody but the agent reaches it on the host; in the container everybody enters it, and the token is
    /// given to the container's user.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        fs::set_permissions(&self.0, Permissions::from_mode(0o755))?;
        let mut random = [0; TOKEN_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text = random.iter().fold(String::new(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o400).open(self.0.join(TOKEN))?;
        writeln!(file, "{text}")
    }

    pub(super) fn token(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.0.join(TOKEN))?.trim_end().to_owned())
    }

    /// A socket in the folder, in place of that of an earlier process, for every user of the container.
    pub(super) fn bind(&self) -> io::Result<UnixListener> {
        // By the open folder: the path of a socket must be shorter than that of a file.
        let folder = File::open(&self.0)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(listener)
    }
}
