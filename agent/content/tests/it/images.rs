//! Images of this machine.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use super::{
    always, image, is_empty,
    layout::{Item, Layer, Layout, tar},
    open, prepare, why,
};
use apportion_content::Digest;
use apportion_types::image::{Image, PullPolicy};

fn hello(text: &str) -> Layer {
    Layer::gzip(&tar(&[("etc/", Item::Folder), ("etc/hello", Item::File(text))]))
}

#[tokio::test]
async fn a_layout_an_archive_of_it_and_what_docker_saves() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let mut layout = Layout::new(&path("layout"));
    let zstd = tar(&[("etc/.wh.hello", Item::File("")), ("bin", Item::Executable(b"#!"))]);
    let zstd = Layer { blob: zstd::encode_all(&zstd[..], 1).unwrap(), diff_id: Digest::of(&zstd) };
    let layers = [hello("one"), zstd, Layer::plain(&tar(&[("top", Item::Link("etc/hello"))]))];
    let config =
        json!({ "Entrypoint": ["/bin"], "Cmd": ["x"], "Env": ["A=b"], "User": "7:8", "WorkingDir": "/w" });
    let digest = layout.image("one", &layers, config);
    layout.image("two", &[hello("two")], json!({}));
    let mut archive = tar::Builder::new(fs::File::create(path("oci.tar")).unwrap());
    archive.append_dir_all(".", &layout.path).unwrap();
    archive.finish().unwrap();
    let configuration = fs::read(layout.blob(&digest)).unwrap();
    let configuration: serde_json::Value = serde_json::from_slice(&configuration).unwrap();
    let configuration: Digest = serde_json::from_value(configuration["config"]["digest"].clone()).unwrap();
    let manifest = json!([{
        "Config": format!("{}.json", configuration.hex()), "RepoTags": ["app:1"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
    }]);
    let name = format!("{}.json", configuration.hex());
    let configuration = fs::read_to_string(layout.blob(&configuration)).unwrap();
    let (first, third) = (hello("one").blob, &layers[2].blob);
    let docker = tar(&[
        ("manifest.json", Item::File(&manifest.to_string())),
        (&name, Item::File(&configuration)),
        ("x/layer.tar", Item::Executable(&first)),
        ("a/layer.tar", Item::Link("../x/layer.tar")),
        ("b/layer.tar", Item::Executable(&layers[1].blob)),
        ("c/layer.tar", Item::Executable(third)),
    ]);
    fs::write(path("docker.tar"), docker).unwrap();

    let images = open(place.path(), |_| ());
    let at = |kind: &str, name: &str, tag: &str| format!("{kind}:{}:{tag}", path(name).display());
    let from_layout = prepare(&images, &at("oci", "layout", "one"), "a").await.unwrap();
    let from_archive = prepare(&images, &at("oci-archive", "oci.tar", "one"), "b").await.unwrap();
    let from_docker = prepare(&images, &at("docker-archive", "docker.tar", "app:1"), "c").await.unwrap();
    assert_eq!(from_layout, from_archive);
    assert_eq!((from_layout.digest, &from_layout.layers), (digest, &from_docker.layers));
    let config = from_docker.config;
    assert_eq!((config.command(), config.env["A"].as_str()), (vec!["/bin".to_owned(), "x".to_owned()], "b"));
    assert_eq!((config.user.as_deref(), config.working_dir.as_deref()), (Some("7:8"), Some("/w")));
    let [low, middle, top] = &from_layout.layers[..] else { panic!("three layers") };
    assert_eq!(fs::read_to_string(low.join("etc/hello")).unwrap(), "one");
    assert_eq!(fs::metadata(middle.join("bin")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(top).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(fs::read_link(top.join("top")).is_ok());
    assert_eq!(fs::read_dir(place.path().join("images/layers")).unwrap().count(), 3);
    for (reference, message) in [
        (at("oci", "layout", "three"), "there are: one, two"),
        (format!("oci:{}", path("layout").display()), "one, two"),
        (at("oci", "nowhere", "x"), "nowhere"),
        (at("oci-archive", "docker.tar", "x"), "index.json"),
        (at("docker-archive", "docker.tar", "other"), "app:1"),
    ] {
        let error = why(&prepare(&images, &reference, "x").await.unwrap_err());
        assert!(error.contains(message), "{reference}: {error}");
    }
}

#[tokio::test]
async fn when_it_is_looked_for_again() {
    let place = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(&place.path().join("layout"));
    layout.image("a", &[hello("old")], json!({}));
    let reference = format!("oci:{}", layout.path.display());
    let images = open(place.path(), |_| ());
    let never = Image { pull: PullPolicy::Never, ..image(&reference) };
    let error = images.prepare(&never, "x", |_| ()).await.unwrap_err();
    assert!(why(&error).contains("does not have it"), "{}", why(&error));
    let old = prepare(&images, &reference, "x").await.unwrap();
    assert_eq!(images.prepare(&never, "y", |_| ()).await.unwrap(), old);
    let mut layout = Layout::new(&place.path().join("layout"));
    layout.image("a", &[hello("new")], json!({}));
    assert_eq!(prepare(&images, &reference, "z").await.unwrap(), old);
    let new = images.prepare(&always(&reference), "z", |_| ()).await.unwrap();
    assert_ne!(new, old);
    assert!(old.layers[0].exists(), "it is used by others");
}

#[tokio::test]
async fn what_is_damaged_is_refused_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let layer = hello("text");
    for (change, message) in [
        (0, "digest of the unpacked layer is"),
        (1, "its digest is"),
        (2, "cannot be read"),
        (3, "digest of its configuration"),
        (4, "names 1 layers, its configuration 2"),
    ] {
        let folder = place.path().join(change.to_string());
        let mut layout = Layout::new(&folder.join("layout"));
        let mut wrong = layer.clone();
        if change == 0 {
            wrong.diff_id = Digest::of(b"else");
        }
        let manifest = layout.image("a", std::slice::from_ref(&wrong), json!({}));
        let blob = layout.blob(&Digest::of(&wrong.blob));
        let document: serde_json::Value =
            serde_json::from_slice(&fs::read(layout.blob(&manifest)).unwrap()).unwrap();
        let config = layout.blob(&serde_json::from_value(document["config"]["digest"].clone()).unwrap());
        match change {
            // Another way to pack the same.
            1 => fs::write(
                &blob,
                zstd::encode_all(&tar(&[("etc/", Item::Folder), ("etc/hello", Item::File("text"))])[..], 3)
                    .unwrap(),
            )
            .unwrap(),
            2 => fs::write(&blob, &wrong.blob[..wrong.blob.len() / 2]).unwrap(),
            3 => fs::write(&config, "{}").unwrap(),
            4 => {
                let both = layout.image("a", &[wrong.clone(), wrong.clone()], json!({}));
                let text = fs::read_to_string(layout.blob(&both)).unwrap();
                let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
                value["layers"].as_array_mut().unwrap().pop();
                let bytes = value.to_string();
                let digest = Digest::of(bytes.as_bytes());
                fs::write(layout.blob(&digest), &bytes).unwrap();
                let index =
                    json!({"schemaVersion": 2, "manifests": [{"digest": digest, "size": bytes.len()}]});
                fs::write(layout.path.join("index.json"), index.to_string()).unwrap();
            }
            _ => {}
        }
        let images = open(&folder, |_| ());
        let reference = format!("oci:{}", layout.path.display());
        let error = why(&prepare(&images, &reference, "x").await.unwrap_err());
        assert!(error.contains(message), "{change}: {error}");
        assert!(is_empty(&folder), "{change}");
    }
}

#[tokio::test]
async fn a_bomb_and_ten_thousand_layers_are_refused_and_leave_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(&place.path().join("layout"));
    // A gigabyte of nothing, in a few kilobytes: it is to be cut off early, not unpacked.
    let zeros = "\0".repeat(1 << 20);
    let mut unit = tar(&[("zeros", Item::File(&zeros))]);
    unit.truncate(unit.len() - 1024);
    let packed = super::layout::gzip(&unit).repeat(1024);
    layout.image(
        "bomb",
        &[hello("x"), Layer { blob: packed, diff_id: Digest::of(b"never seen") }],
        json!({}),
    );
    let many = vec![hello("x"); 10_000];
    layout.image("many", &many, json!({}));
    let small: Vec<_> = (0..20).map(|number| hello(&number.to_string())).collect();
    layout.image("sum", &small, json!({}));
    let images = open(place.path(), |config| config.image_bytes_max = 64 << 10);
    for (tag, message) in [
        ("bomb", "more than 65536 bytes"),
        ("many", "10000 layers, more than 128"),
        ("sum", "more than 65536"),
    ] {
        let reference = format!("oci:{}:{tag}", layout.path.display());
        let error = why(&prepare(&images, &reference, "x").await.unwrap_err());
        assert!(error.contains(message), "{tag}: {error}");
        assert!(is_empty(place.path()), "{tag}");
    }
}

#[tokio::test]
async fn the_cache_is_bounded_but_for_what_is_used() {
    let place = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(&place.path().join("layout"));
    for tag in ["a", "b", "c"] {
        layout.image(tag, &[hello(tag)], json!({}));
    }
    let reference = |tag: &str| format!("oci:{}:{tag}", layout.path.display());
    let images = open(place.path(), |config| config.cache_bytes_max = 1);
    let a = prepare(&images, &reference("a"), "task").await.unwrap();
    let b = prepare(&images, &reference("b"), "other").await.unwrap();
    images.release("other");
    images.prune().await;
    assert!(a.layers[0].exists() && !b.layers[0].exists());
    let [listed] = &images.list()[..] else { panic!("one image") };
    assert!(listed.in_use && listed.name.ends_with(":a"));
    images.release("task");
    // What a release has begun, this ends.
    images.prune().await;
    assert!(images.bytes() == 0 && is_empty(place.path()));
}
