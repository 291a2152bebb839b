//! The same program in the same root with the same limits through `runc run`, for comparison.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{Failed, LIMITS};

/// A root with one static program under several names; needs Debian's busybox-static.
pub(crate) fn make_root(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root.join("bin"))?;
    for folder in ["dev", "etc", "proc", "sys", "tmp", "mnt"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for name in ["sh", "true", "sleep"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

/// A bundle for `runc`. What that leaves of the groups above its containers' is removed with it.
pub(crate) struct Bundle {
    folder: PathBuf,
    parent: String,
}

impl Bundle {
    /// The bundle of `/bin/true` in this root; none where there is no `runc`.
    pub(crate) fn new(folder: &Path, root: &Path, parent: &str) -> Result<Option<Bundle>, Failed> {
        if Command::new("runc").arg("--version").output().is_err() {
            return Ok(None);
        }
        let bundle = folder.join("bundle");
        fs::create_dir(&bundle)?;
        let made = Command::new("runc").arg("spec").current_dir(&bundle).status()?;
        if !made.success() {
            return Err(format!("`runc spec` ended with {made}").into());
        }
        let path = bundle.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["root"] = json!({ "path": root, "readonly": true });
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/true"]);
        // Its own are above what this process may have.
        config["process"]["rlimits"] = json!([]);
        config["linux"]["resources"] = json!({
            "memory": { "limit": LIMITS.memory_limit_bytes },
            "cpu": { "quota": 50_000, "period": 100_000, "shares": 512 },
            "pids": { "limit": LIMITS.pids_max },
        });
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(Some(Bundle { folder: bundle, parent: parent.to_owned() }))
    }

    /// Runs it to its end, and has everything cleared away.
    pub(crate) fn run(&self, number: u32) -> Result<(), Failed> {
        let id = format!("{}-runc-{number}", self.parent);
        let path = self.folder.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.parent));
        fs::write(&path, serde_json::to_vec(&config)?)?;
        let ended = Command::new("runc")
            .args(["run", &id])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .status()?;
        match ended.success() {
            true => Ok(()),
            false => Err(format!("`runc run` ended with {ended}").into()),
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Hierarchies that containers of ours have no use for are among them.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(&self.parent));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.parent));
    }
}
