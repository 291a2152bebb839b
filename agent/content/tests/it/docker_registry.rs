//! The registry that most use, as Debian has it: with and without passwords.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    layout::{Item, Layer, Layout, tar},
    open, prepare, why,
};

/// The bcrypt of `secret`.
const HTPASSWD: &str = "ann:$2b$04$Pb6rlMRXBAaXufZuMziWwePMidYvZw./IV7xa58eUPX.myMI.m3Ja\n";

struct Registry {
    process: Child,
    address: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Registry {
    fn start(folder: &Path, auth: &str) -> Registry {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let storage = folder.join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n{auth}",
            storage.display()
        );
        fs::write(folder.join("registry.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Registry { process: command.spawn().unwrap(), address };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn push(&self, layout: &Path, tag: &str, password: Option<&str>) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
        if let Some(password) = password {
            skopeo.args(["--dest-creds", password]);
        }
        let to = format!("docker://{}/team/app:{tag}", self.address);
        let output = skopeo.arg(format!("oci:{}:{tag}", layout.display())).arg(to).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// False, with a word of it, where a tool is not installed.
fn has_tools() -> bool {
    let missing = ["docker-registry", "skopeo"].into_iter().find(|tool| {
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
    });
    let Some(tool) = missing else { return true };
    let required = env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
    assert!(!required, "{tool} is not installed, and APPORTION_NO_SKIP forbids to skip it");
    println!("skipped: {tool} is not installed");
    false
}

#[tokio::test]
async fn an_image_that_another_tool_pushed() {
    if !has_tools() {
        return;
    }
    for auth in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let mut layout = Layout::new(&place.path().join("layout"));
        let layers = [
            Layer::gzip(&tar(&[("hello", Item::File("text"))])),
            Layer::gzip(&tar(&[(".wh.hello", Item::File("")), ("bye", Item::File("text"))])),
        ];
        layout.image("1", &layers, json!({ "Cmd": ["/bye"] }));
        fs::write(place.path().join("htpasswd"), HTPASSWD).unwrap();
        let settings = format!(
            "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            place.path().join("htpasswd").display()
        );
        let registry = Registry::start(place.path(), if auth { &settings } else { "" });
        registry.push(&layout.path, "1", auth.then_some("ann:secret"));
        let file = place.path().join("config.json");
        let images = open(place.path(), |config| {
            config.registry = registry.address.clone();
            config.registry_insecure.insert("127.0.0.1".to_owned());
            config.registry_config = auth.then(|| file.clone());
        });
        if auth {
            fs::write(&file, "{}").unwrap();
            let error = why(&prepare(&images, "team/app:1", "x").await.unwrap_err());
            assert!(error.contains("may not be read by this agent"), "{error}");
            let auths = json!({ "auths": { &registry.address: { "auth": "YW5uOnNlY3JldA==" } } });
            fs::write(&file, auths.to_string()).unwrap();
        }
        let prepared =
            prepare(&images, "team/app:1", "x").await.unwrap_or_else(|error| panic!("{}", why(&error)));
        assert_eq!((prepared.layers.len(), prepared.config.cmd), (2, vec!["/bye".to_owned()]));
        assert_eq!(fs::read_to_string(prepared.layers[1].join("bye")).unwrap(), "text");
        let error = why(&prepare(&images, "team/app:2", "x").await.unwrap_err());
        assert!(error.contains("no such manifest"), "{error}");
    }
}
