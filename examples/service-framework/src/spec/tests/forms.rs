//! What a description is written in.

use super::*;

#[test]
fn a_description_in_json_is_one_in_toml() {
    let good = r#"{
  "name": "web", "command": ["serve", "${port0}"],
  "replicas": 3, "ports": 1, "cpus": 0.25, "env": {"WHO": "${replica}"},
  "update": {"max_surge": "25%"},
  "balancer": {"address": "127.0.0.1:8080", "retries": {"attempts": 1}},
  "placement": {"spread": [{"over": "zone"}]},
  "volumes": [{"host": "/a,{}[\"", "at": "/a"}, {"host": "/b", "at": "/b"}],
  "sidecar": [{"name": "one", "command": "a"}, {"name": "two", "command": "b"}]
}"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json");
    std::fs::write(&file, good).unwrap();
    let spec = Spec::load(&file).unwrap();
    assert_eq!(
        (spec.replicas, spec.update.max_surge, spec.placement.spread.len()),
        (3, Share::Percent(25), 1)
    );
    assert_eq!(spec.balancer.unwrap().retries.attempts, 1);
    for (line, other, expected) in [
        ("\"replicas\": 3", "\"replicas\": -3", "web.json:3:3: replicas: -3 is not from 0 to 1000"),
        ("\"replicas\"", "\"replicsa\"", "web.json:3:3: unknown field `replicsa`"),
        ("\"attempts\": 1", "\"attempts\": 99", "web.json:5:57: balancer.retries.attempts: 99 is not from"),
        ("\"25%\"", "\"many\"", "web.json:4:14: update.max_surge: `many` is neither"),
        ("${replica}", "${relpica}", "web.json:3:52: env.WHO: "),
        ("\"ports\": 1", "\"ports\": one", "web.json:3:"),
        ("\"replicas\": 3", "\"replicas\": \"two\"", "web.json:3:3: replicas: invalid type: string \"two\""),
        (
            "{\"name\": \"two\", \"command\": \"b\"}",
            "{\"name\": \"7\", \"command\": \"b\"}",
            "web.json:8:49: sidecar[1].name: `7` is none",
        ),
        ("\"command\": \"b\"}", "\"cpus\": 1}", "web.json:8:48: command is missing"),
        ("\"at\": \"/b\"", "\"at\": \"b/..\"", "web.json:7:49: volumes[1]: "),
        ("\"host\": \"/b\", ", "", "web.json:7:49: volumes[1]: each is one of"),
        ("\"at\": \"/b\"", "\"at\": 7", "web.json:7:64: volumes[1].at: invalid type: integer `7`"),
        ("\"over\": \"zone\"", "\"over\": \"\"", "web.json:6:28: placement.spread: "),
        ("\"name\": \"web\",", "", "web.json:1:1: name is missing"),
    ] {
        assert!(good.contains(line), "{line}");
        let message =
            Spec::parse_json(Path::new("web.json"), &good.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{other}: {message}");
    }
}

#[test]
fn one_that_is_written_in_another_form_than_its_name_tells_is_told_the_name() {
    let toml = "# A service.\nname = 'web'\ncommand = 'serve'\n";
    let json = "\n {\"name\": \"web\", \"command\": \"serve\"}\n";
    let refused = Spec::parse_json(Path::new("a/web.json"), toml).unwrap_err().to_string();
    let expected = "a/web.json:1:1: this seems to be TOML, and by its name it is JSON; call it web.toml";
    assert_eq!(refused, expected);
    let refused = Spec::parse(Path::new("a/web.toml"), json).unwrap_err().to_string();
    assert_eq!(
        refused,
        "a/web.toml:1:1: this seems to be JSON, and by its name it is TOML; call it web.json"
    );
    for neither in ["", "serve the web", "[1, 2"] {
        let refused = Spec::parse_json(Path::new("web.json"), neither).unwrap_err().to_string();
        assert!(!refused.contains("seems"), "{refused}");
    }
}
