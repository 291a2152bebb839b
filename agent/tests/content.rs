//! Images and artifacts of tasks: brought before a container is launched, and let go of with it. The containers start nothing.

// All of this is test code.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

#[path = "../content/tests/support/layout.rs"]
mod layout;
mod support;

use std::{fs, path::Path};

use apportion_containerizer::{Fake, MountSource, SANDBOX_IN_IMAGE};
use apportion_types::{
    Reason, TaskId, TaskInfo, TaskState, Volume, VolumeSource,
    container::{Control, Exit, Unenforced},
    container_info::Artifact,
    image::Image,
    protocol::agent::MasterMessage,
};
use layout::{Item, Layer, Layout, tar};
use serde_json::json;
use support::*;
use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};

/// An image of two layers in a folder, and its name.
fn image(folder: &Path) -> Image {
    let mut layout = Layout::new(&folder.join("layout"));
    let layers =
        [Layer::gzip(&tar(&[("one", Item::File("1"))])), Layer::gzip(&tar(&[("two", Item::File("2"))]))];
    let config = json!({
        "Entrypoint": ["/server"], "Cmd": ["--port=1"], "User": "7", "WorkingDir": "/srv",
        "Env": ["PATH=/image/bin", "LEVEL=image", "HOME=/home/image"],
    });
    layout.image("x", &layers, config);
    Image::new(format!("oci:{}", layout.path.display()).parse().unwrap())
}

fn with_image(id: &str, argv: &[&str], image: &Image) -> TaskInfo {
    let mut info = task(id, argv);
    info.container.image = Some(Box::new(image.clone()));
    info
}

fn artifact(path: &Path) -> Artifact {
    Artifact {
        uri: format!("file://{}", path.display()),
        sha256: None,
        path: None,
        extract: false,
        executable: true,
        cache: false,
    }
}

#[tokio::test]
async fn a_task_has_what_its_image_says_unless_it_says_otherwise() {
    let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut master, fake) = (Master::start().await, Fake::default());
    let _agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let mut stream = master.stream().await;
    stream.hear().await;
    stream.say(registered("a1")).await;
    let image = image(source.path());
    fs::write(source.path().join("tool"), "tool").unwrap();

    let mut plain = with_image("plain", &[], &image);
    plain.container.artifacts.push(artifact(&source.path().join("tool")));
    let source_of_volume = VolumeSource::Image(image.clone());
    plain.volumes.push(Volume { source: source_of_volume, container_path: "/data".into(), writable: true });
    let mut own = with_image("own", &["/other"], &image);
    own.command.env.insert("LEVEL".to_owned(), "task".to_owned());
    (own.container.user, own.container.working_dir) = (Some("8".into()), Some("here".into()));
    stream.run(vec![plain, own]).await;
    stream.all_until(&["plain", "own"], TaskState::Running).await;
    let launched = fake.launched();
    let of = |id: &str| launched.iter().find(|spec| spec.env["APPORTION_TASK_ID"] == id).unwrap();
    let (plain, own) = (of("plain"), of("own"));
    assert_eq!(
        (&plain.argv[..], &own.argv[..]),
        (&["/server".into(), "--port=1".into()][..], &["/other".into()][..])
    );
    for (name, value) in [
        ("PATH", "/image/bin"),
        ("LEVEL", "image"),
        ("HOME", "/home/image"),
        ("APPORTION_SANDBOX", SANDBOX_IN_IMAGE),
        ("TMPDIR", &format!("{SANDBOX_IN_IMAGE}/tmp")),
    ] {
        assert_eq!(plain.env[name], value, "{name}");
    }
    assert_eq!(own.env["LEVEL"], "task");
    assert_eq!((plain.user.as_deref(), own.user.as_deref()), (Some("7"), Some("8")));
    let place = |spec: &apportion_containerizer::ContainerSpec| spec.working_dir.clone().unwrap();
    assert_eq!((place(plain), place(own)), ("/srv".into(), "here".into()));
    let root = plain.root.as_ref().unwrap();
    assert_eq!(fs::read_to_string(root.layers[1].join("two")).unwrap(), "2");
    assert_eq!(root.layers, own.root.as_ref().unwrap().layers);
    let MountSource::Image(volume) = &plain.mounts[0].source else { panic!("an image") };
    assert_eq!(volume.layers, root.layers);
    let scratches = [&root.scratch, &volume.scratch, &own.root.as_ref().unwrap().scratch];
    for (number, scratch) in scratches.into_iter().enumerate() {
        assert!(fs::read_dir(scratch).unwrap().next().is_none());
        assert!(!scratches[..number].contains(&scratch), "each has its own");
    }
    assert_eq!(fs::read_to_string(plain.sandbox.join("tool")).unwrap(), "tool");

    // What a container used goes with it, when its end is acknowledged.
    for spec in [plain, own] {
        fake.end(&spec.id, Exit::Code(0));
    }
    let scratch = folder.path().join("scratch");
    let leases = folder.path().join("images/leases");
    assert_eq!(fs::read_dir(&leases).unwrap().count(), 2);
    stream.all_until(&["plain", "own"], TaskState::Finished).await;
    let gone = async {
        while fs::read_dir(&scratch).unwrap().count() + fs::read_dir(&leases).unwrap().count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("scratch folders and leases are let go of");
}

#[tokio::test]
async fn what_is_not_available_fails_the_task_with_its_reason() {
    let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut master, fake) = (Master::start().await, Fake::default());
    let _agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let mut stream = master.stream().await;
    stream.hear().await;
    stream.say(registered("a1")).await;
    let missing = Image::new(format!("oci:{}", source.path().join("gone").display()).parse().unwrap());
    let mut fetched = task("fetched", &["run"]);
    fetched.container.artifacts.push(artifact(&source.path().join("gone")));
    for (id, info, reason) in [
        ("image", with_image("image", &["run"], &missing), Reason::ImageNotAvailable),
        ("fetched", fetched, Reason::ArtifactNotFetched),
    ] {
        stream.run(vec![info]).await;
        let update = stream.until(id, TaskState::Failed).await;
        assert_eq!(update.reason, Some(reason));
        assert!(update.message.contains("gone"), "{}", update.message);
    }
    assert!(fake.launched().is_empty());
    assert_eq!(fs::read_dir(folder.path().join("scratch")).unwrap().count(), 0);
}

#[tokio::test]
async fn where_no_image_can_be_had_a_task_is_told_why() {
    let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut master = Master::start().await;
    let unenforced =
        Unenforced { control: Control::Images, reason: "this kernel has no overlays".to_owned() };
    let _agent = start(config(folder.path(), &master.address), Fake::new(vec![unenforced])).await;
    let mut stream = master.stream().await;
    stream.hear().await;
    stream.say(registered("a1")).await;
    stream.run(vec![with_image("t", &[], &image(source.path()))]).await;
    let update = stream.until("t", TaskState::Failed).await;
    assert!(update.message.contains("this kernel has no overlays"), "{update:?}");
}

#[tokio::test]
async fn a_kill_ends_a_pull_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    // A registry that listens and never answers.
    let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = registry.local_addr().unwrap().to_string();
    let mut config = config(folder.path(), &master.address);
    config.registry_insecure.insert(address.clone());
    let _agent = start(config, fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    let image = Image::new(format!("{address}/app:1").parse().unwrap());
    stream.run(vec![with_image("t", &["run"], &image)]).await;
    let (mut asked, _) = timeout(LONG, registry.accept()).await.expect("the registry is asked").unwrap();
    // What the agent waits for is an answer.
    assert_ne!(asked.read(&mut [0; 16]).await.unwrap(), 0);

    let (task_id, reason) = (TaskId::new("t").unwrap(), Reason::KilledByFramework);
    stream.say(MasterMessage::KillTask { framework_id: framework_id(), task_id, grace: None, reason }).await;
    let update = stream.until("t", TaskState::Killed).await;
    assert_eq!(update.reason, Some(Reason::KilledDuringLaunch), "{update:?}");
    assert!(fake.launched().is_empty());
    // Nobody else waits for the pull: it is given up, too.
    let mut rest = Vec::new();
    timeout(LONG, asked.read_to_end(&mut rest)).await.expect("the pull is given up").unwrap();
    for kept in ["scratch", "images/leases"] {
        assert_eq!(fs::read_dir(folder.path().join(kept)).unwrap().count(), 0, "{kept}");
    }
}
