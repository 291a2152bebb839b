use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    sync::atomic::AtomicBool,
    thread,
};

use super::*;

/// A sandbox, beside which is something that is none of its business.
struct Place {
    outer: tempfile::TempDir,
    sandbox: OwnedFd,
}

impl Place {
    fn new() -> Place {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("sandbox/folder")).unwrap();
        fs::create_dir(outer.path().join("other")).unwrap();
        fs::write(outer.path().join("other/secret"), "secret").unwrap();
        fs::write(outer.path().join("other/hidden"), "").unwrap();
        let sandbox = open::folder(&outer.path().join("sandbox")).unwrap();
        Place { outer, sandbox }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.outer.path().join("sandbox").join(path)
    }

    fn list(&self, path: &str, after: &[u8], most: u32) -> Result<ListFilesResponse, OpenError> {
        list(&self.sandbox, Path::new(path), after, most)
    }

    async fn write(&self, path: &str, mode: u32, data: &[u8]) -> Result<u64, Status> {
        let draft = Draft::begin(&self.sandbox, Path::new(path), mode);
        let mut draft = draft.map_err(|error| failed(&error))?;
        draft.add(data).await?;
        draft.finish().await.map(|written| written.size_bytes)
    }
}

fn names(listed: &ListFilesResponse) -> Vec<String> {
    listed.files.iter().map(|file| String::from_utf8_lossy(&file.name).into_owned()).collect()
}

#[test]
fn a_folder_is_listed_in_parts_whatever_is_in_it() {
    let place = Place::new();
    for name in ["b", "a", "c"] {
        fs::write(place.at("folder").join(name), name.repeat(3)).unwrap();
    }
    fs::write(place.at("folder").join(OsStr::from_bytes(b"\xff\n")), "").unwrap();
    symlink("../../other", place.at("folder/link")).unwrap();
    let first = place.list("folder", b"", 3).unwrap();
    assert_eq!((names(&first).concat().as_str(), first.more), ("abc", true));
    assert_eq!(first.itself.unwrap().kind(), FileKind::Folder);
    let rest = place.list("folder", b"c", 3).unwrap();
    assert_eq!((rest.files.len(), rest.more), (2, false));
    assert_eq!((&rest.files[0].link_target[..], rest.files[0].kind()), (&b"../../other"[..], FileKind::Link));
    assert_eq!(&rest.files[1].name[..], b"\xff\n");
    assert_eq!(place.list("folder", b"\xff\xff", 0).unwrap().files.len(), 0);
    assert_eq!(names(&place.list("", b"", 0).unwrap()), ["folder"]);

    let file = place.list("folder/a", b"", 0).unwrap();
    let itself = file.itself.unwrap();
    assert_eq!((file.files.len(), itself.kind(), itself.size_bytes), (0, FileKind::File, 3));
    let link = place.list("folder/link", b"", 0).unwrap();
    assert_eq!((link.files.len(), link.itself.unwrap().kind()), (0, FileKind::Link));
}

#[test]
fn nothing_outside_is_listed() {
    let place = Place::new();
    symlink("../other", place.at("out")).unwrap();
    assert!(matches!(place.list("out/secret", b"", 0), Err(OpenError::Link { .. })));
    for path in ["../other", "/etc", "folder/../../other", "a\0b"] {
        assert!(matches!(place.list(path, b"", 0), Err(OpenError::Leaves { .. })), "{path}");
    }
    assert!(matches!(place.list("nothing", b"", 0), Err(OpenError::Missing { .. })));
}

#[tokio::test]
async fn a_file_takes_its_place_as_a_whole() {
    let place = Place::new();
    fs::write(place.at("folder/f"), "before").unwrap();
    let mut draft = Draft::begin(&place.sandbox, Path::new("folder/f"), 0o4755).unwrap();
    draft.add(b"aft").await.unwrap();
    assert_eq!(fs::read(place.at("folder/f")).unwrap(), b"before");
    draft.add(b"er").await.unwrap();
    assert_eq!(draft.finish().await.unwrap().size_bytes, 5);
    assert_eq!(fs::read(place.at("folder/f")).unwrap(), b"after");
    let mode = fs::metadata(place.at("folder/f")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no set-uid program comes from here");
    // One that is given up leaves nothing.
    drop(Draft::begin(&place.sandbox, Path::new("folder/g"), 0o644).unwrap());
    assert_eq!(fs::read_dir(place.at("folder")).unwrap().count(), 1);
}

#[tokio::test]
async fn nothing_is_written_outside() {
    let place = Place::new();
    symlink("../other", place.at("out")).unwrap();
    symlink("../other/secret", place.at("link")).unwrap();
    for path in ["out/x", "../x", "/tmp/x", "", ".", "folder/..", "folder/.", "folder", "nothing/x", "link/x"]
    {
        assert!(place.write(path, 0o644, b"x").await.is_err(), "{path}");
    }
    for path in ["out", "../x", "out/x", "nothing/x"] {
        assert!(make_folder(&place.sandbox, Path::new(path), 0o755).is_err(), "{path}");
    }
    // A link is replaced by the file.
    assert_eq!(place.write("link", 0o644, b"mine").await.unwrap(), 4);
    assert_eq!(fs::read(place.at("link")).unwrap(), b"mine");
    assert_eq!(fs::read(place.outer.path().join("other/secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(place.outer.path().join("other")).unwrap().count(), 2);
    make_folder(&place.sandbox, Path::new("folder"), 0o700).unwrap();
    make_folder(&place.sandbox, Path::new("new"), 0o700).unwrap();
    assert_eq!(fs::metadata(place.at("new")).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Ends the thread that it was given to when dropped, also by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A task that swaps a folder for a link, as fast as it can, while files of it are written, listed and read.
#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let place = Place::new();
    let (folder, link, aside) = (place.at("folder"), place.at("link"), place.at("aside"));
    symlink("../other", &link).unwrap();
    fs::write(folder.join("secret"), "public").unwrap();
    let over = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                fs::rename(&folder, &aside).unwrap();
                fs::rename(&link, &folder).unwrap();
                fs::rename(&folder, &link).unwrap();
                fs::rename(&aside, &folder).unwrap();
            }
        });
        let _ends = Ends(&over);
        let (mut written, mut refused) = (0, 0);
        while written < 100 || refused < 10 {
            match runtime.block_on(place.write("folder/f", 0o644, b"mine")) {
                Ok(_) => written += 1,
                Err(_) => refused += 1,
            }
            if let Ok(file) = open::beneath(&place.sandbox, Path::new("folder/secret")) {
                assert_eq!(io::read_to_string(file).unwrap(), "public");
            }
            if let Ok(listed) = place.list("folder", b"", 0) {
                assert!(!names(&listed).contains(&"hidden".to_owned()));
            }
        }
    });
    let other: Vec<_> = fs::read_dir(place.outer.path().join("other")).unwrap().collect();
    assert_eq!(other.len(), 2, "nothing came to what is there: {other:?}");
}
