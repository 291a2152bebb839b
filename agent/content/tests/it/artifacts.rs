//! Artifacts put into sandboxes.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use apportion_content::{ArtifactError, Artifacts, ArtifactsConfig, Digest};
use apportion_types::container_info::Artifact;

use super::{
    layout::{Item, gzip, tar},
    server::Server,
};

fn open(folder: &Path, change: impl FnOnce(&mut ArtifactsConfig)) -> Artifacts {
    let mut config = ArtifactsConfig::new(folder.join("artifacts"));
    change(&mut config);
    Artifacts::open(config).unwrap()
}

fn artifact(uri: &str) -> Artifact {
    Artifact {
        uri: uri.to_owned(),
        sha256: None,
        path: None,
        extract: false,
        executable: false,
        cache: false,
    }
}

fn sandbox(folder: &Path) -> std::path::PathBuf {
    let sandbox = folder.join("sandbox");
    fs::create_dir_all(&sandbox).unwrap();
    sandbox
}

fn why(error: &Arc<ArtifactError>) -> String {
    apportion_types::text::chain(&**error)
}

fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
        zip.start_file(*path, options).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn each_form_is_unpacked_beside_itself() {
    let place = tempfile::tempdir().unwrap();
    let (server, sandbox) = (Server::start().await, sandbox(place.path()));
    let archive =
        tar(&[("d/", Item::Folder), ("d/tool", Item::Executable(b"#!")), ("d/link", Item::Link("tool"))]);
    server.put("/a.tar", &archive);
    server.put("/a.tgz", &gzip(&archive));
    server.put("/a.tar.zst", &zstd::encode_all(&archive[..], 1).unwrap());
    server.put("/a.zip", &zip(&[("d/tool", "#!"), ("d/link", "zip")]));
    server.put("/plain.txt.gz", &gzip(b"text"));
    let artifacts = open(place.path(), |_| ());
    let at = |path: &str| format!("http://{}{path}", server.address);
    for name in ["a.tar", "a.tgz", "a.tar.zst", "a.zip"] {
        let wanted = Artifact {
            extract: true,
            path: Some(format!("{name}.d/{name}")),
            ..artifact(&at(&format!("/{name}")))
        };
        artifacts
            .fetch(&wanted, sandbox.clone(), None, |_| ())
            .await
            .unwrap_or_else(|error| panic!("{name}: {}", why(&error)));
        let tool = sandbox.join(format!("{name}.d/d/tool"));
        assert_eq!(fs::read_to_string(&tool).unwrap(), "#!");
        assert_eq!(fs::metadata(tool).unwrap().permissions().mode() & 0o777, 0o755, "{name}");
        assert!(sandbox.join(format!("{name}.d/{name}")).exists());
    }
    let wanted = Artifact { extract: true, ..artifact(&at("/plain.txt.gz")) };
    artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap();
    assert_eq!(fs::read_to_string(sandbox.join("plain.txt")).unwrap(), "text");
    let wanted =
        Artifact { executable: true, sha256: Some(Digest::of(&archive).hex()), ..artifact(&at("/a.tar")) };
    artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap();
    assert_eq!(fs::metadata(sandbox.join("a.tar")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn nothing_leaves_the_sandbox_and_what_is_wrong_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (server, sandbox) = (Server::start().await, sandbox(place.path()));
    fs::write(place.path().join("secret"), "kept").unwrap();
    server.put("/up.tar", &tar(&[("../secret", Item::File("x"))]));
    server.put("/link.tar", &tar(&[("l", Item::Link("..")), ("l/secret", Item::File("x"))]));
    server.put(
        "/abs.tar",
        &tar(&[("l", Item::Link(place.path().to_str().unwrap())), ("l/secret", Item::File("x"))]),
    );
    server.put("/device.tar", &tar(&[("null", Item::Char(1, 3))]));
    server.put("/up.zip", &zip(&[("../secret", "x")]));
    server.put("/bomb.gz", &gzip(&vec![0; 4 << 20]));
    server.put("/large", &vec![0; 2 << 20]);
    let artifacts = open(place.path(), |config| config.artifact_bytes_max = 1 << 20);
    let at = |path: &str| format!("http://{}{path}", server.address);
    for (path, message) in [
        ("/up.tar", "leads out"),
        ("/link.tar", "leads out of the sandbox"),
        ("/abs.tar", "leads out of the sandbox"),
        ("/device.tar", "neither a file"),
        ("/up.zip", "leads out"),
        ("/bomb.gz", "more than 1048576 bytes"),
        ("/missing.tar", "404"),
        ("/large.bin", "none of .tar"),
    ] {
        let wanted = Artifact { extract: true, ..artifact(&at(path)) };
        let error = why(&artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap_err());
        assert!(error.contains(message), "{path}: {error}");
    }
    for (wanted, message) in [
        (artifact(&at("/large")), "more than 1048576 bytes"),
        (artifact("ftp://h/x"), "not understood"),
        (artifact(&at("/")), "does not name a file"),
        (Artifact { sha256: Some("12".into()), ..artifact(&at("/up.tar")) }, "checksum"),
        (Artifact { sha256: Some("0".repeat(64)), ..artifact(&at("/up.tar")) }, "its SHA-256 is"),
        (artifact("file:///nowhere/x"), "cannot be read"),
    ] {
        let error = why(&artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap_err());
        assert!(error.contains(message), "{}: {error}", wanted.uri);
    }
    // A link of an earlier artifact does not help.
    std::os::unix::fs::symlink(place.path(), sandbox.join("out")).unwrap();
    let wanted = Artifact { path: Some("out/secret".into()), ..artifact(&at("/up.tar")) };
    let error = why(&artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap_err());
    assert!(error.contains("out of the sandbox"), "{error}");
    assert_eq!(fs::read_to_string(place.path().join("secret")).unwrap(), "kept");
    assert_eq!(fs::read_dir(place.path().join("artifacts/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_kept_is_not_fetched_again() {
    let place = tempfile::tempdir().unwrap();
    let (server, sandbox) = (Server::start().await, sandbox(place.path()));
    server.put("/tool", b"one");
    let artifacts = open(place.path(), |_| ());
    let wanted = Artifact { cache: true, ..artifact(&format!("http://{}/tool", server.address)) };
    // Of two tasks at once; one sandbox gets its artifacts one after the other.
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    let both = tokio::join!(
        artifacts.fetch(&wanted, sandbox.clone(), None, |_| ()),
        artifacts.fetch(&wanted, other, None, |_| ()),
    );
    both.0.and(both.1).unwrap();
    let later = open(place.path(), |_| ());
    later.fetch(&wanted, sandbox.clone(), None, |_| ()).await.unwrap();
    assert_eq!(server.requests("/tool").len(), 1);
    server.put("/tool", b"two");
    later.fetch(&Artifact { cache: false, ..wanted.clone() }, sandbox.clone(), None, |_| ()).await.unwrap();
    assert_eq!(fs::read_to_string(sandbox.join("tool")).unwrap(), "two");
    let checked = Artifact { sha256: Some(Digest::of(b"two").hex()), ..wanted };
    server.cut("/tool", &[1]);
    later.fetch(&checked, sandbox.clone(), None, |_| ()).await.unwrap();
    assert_eq!(server.requests("/tool"), [None, None, None, Some(1)]);
    assert_eq!(later.prune(), 6);
}

#[tokio::test]
async fn files_of_the_machine_as_far_as_the_task_may_read_them() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = sandbox(place.path());
    let (open_to_all, closed) = (place.path().join("open"), place.path().join("closed"));
    for (path, mode) in [(&open_to_all, 0o644), (&closed, 0o600)] {
        fs::write(path, "text").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let hidden = place.path().canonicalize().unwrap().join("artifacts");
    let artifacts = open(place.path(), |config| config.hidden = vec![hidden]);
    let fetch = async |path: &Path, reader| {
        let wanted = artifact(&format!("file://{}", path.display()));
        artifacts.fetch(&wanted, sandbox.clone(), reader, |_| ()).await
    };
    fetch(&closed, None).await.unwrap();
    fetch(&open_to_all, Some((12345, 12345))).await.unwrap();
    let error = why(&fetch(&closed, Some((12345, 12345))).await.unwrap_err());
    assert!(error.contains("may not be read by the task's user"), "{error}");
    assert!(closed.exists() && open_to_all.exists());
    let own = place.path().join("artifacts/kept");
    fs::write(own.join("x"), "").unwrap();
    let error = why(&fetch(&own.join("x"), None).await.unwrap_err());
    assert!(error.contains("agent's own folders"), "{error}");
}
