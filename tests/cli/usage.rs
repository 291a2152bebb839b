//! Arguments, settings, and what is said when they are wrong.

use serde_json::json;

use crate::support::Place;

#[test]
fn help_lists_every_command_and_the_rules() {
    let help = Place::new().run(&["--help"]).expect(0).stdout;
    let commands = [
        "dev",
        "master",
        "agent",
        "batch",
        "service",
        "agents",
        "frameworks",
        "tasks",
        "offers",
        "logs",
        "attach",
        "exec",
        "files",
        "cp",
        "top",
        "images",
        "kill",
        "replay",
        "sim",
        "version",
    ];
    for command in commands {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {help}"
        );
    }
    assert!(help.contains("130 interrupted") && help.contains("APPORTION_MASTER_LISTEN"), "{help}");
    assert!(!help.contains("runner"), "{help}");
}

#[test]
fn version_is_told_to_people_and_programs() {
    let place = Place::new();
    assert!(place.run(&["version"]).expect(0).stdout.starts_with("apportion 0."));
    let version = place.run(&["version", "-o", "json"]).expect(0).json();
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION"), "protocol": "apportion.v1"}));
}

#[test]
fn wrong_arguments_exit_with_2_and_say_where() {
    let place = Place::new();
    place.run(&["frobnicate"]).expect(2);
    let refused = place.run(&["agent", "--resources", "cpus:4;mem:lots"]).expect(2);
    assert!(refused.stderr.contains("column 12"), "{}", refused.stderr);
    let refused = place.run(&["kill", "t", "--grace", "3"]).expect(2);
    assert!(refused.stderr.contains("`3` is not a duration such as `30s`"), "{}", refused.stderr);
}

#[test]
fn an_unknown_key_is_refused_with_its_file_and_line() {
    let place = Place::new();
    let file = place.file("a.toml", "[master]\nlisten = '127.0.0.1:0'\nofer_timeout = '1s'\n");
    for command in ["master", "agent", "tasks"] {
        let refused = place.run(&[command, "--config", file.to_str().unwrap()]).expect(2);
        let expected =
            format!("error: {}:3: unknown key `ofer_timeout` in [master]; known are ", file.display());
        assert!(refused.stderr.starts_with(&expected), "{}", refused.stderr);
    }
}

#[test]
fn a_setting_that_cannot_work_is_refused() {
    let refused =
        Place::new().run(&["master", "--listen", "127.0.0.1:0", "--agent-pings-missed-max", "0"]).expect(2);
    assert!(refused.stderr.contains("`agent_pings_missed_max` is 0"), "{}", refused.stderr);
}

#[test]
fn weights_and_limits_of_roles_come_from_flags_or_a_table() {
    let place = Place::new();
    let text = "[master]\nweights = { eng = 0.5, \"eng/ads\" = 3 }\n[master.quota_limits]\neng = 'mem:1GiB;gpus:0'\n";
    let file = place.file("a.toml", text);
    let path = file.to_str().unwrap();
    let shown = |flags: &[&str]| {
        let args = [&["master", "--print-config", "--config", path, "-o", "json"], flags].concat();
        let shown: serde_json::Value = serde_json::from_str(&place.run(&args).expect(0).stdout).unwrap();
        let value = |key: &str| {
            let rows = shown["settings"].as_array().unwrap();
            rows.iter().find(|row| row["setting"] == key).unwrap()["value"].as_str().unwrap().to_owned()
        };
        (value("master.weights"), value("master.quota_limits"))
    };
    assert_eq!(shown(&[]), ("eng=0.5,eng/ads=3".to_owned(), "eng=mem:1024;gpus:0".to_owned()));
    let flags = ["--weight", "ops=2", "--weight", "*=1.5", "--quota-limit", "ops=cpus:4;mem:1024"];
    assert_eq!(shown(&flags), ("*=1.5,ops=2".to_owned(), "ops=cpus:4;mem:1024".to_owned()));

    for (args, what) in [
        (&["--weight", "eng=0"][..], "role `eng`: `0` is not a weight: it is zero; give a number from 0.001"),
        (
            &["--weight", "eng=1", "--weight", "eng=2"],
            "--weight: the role `eng` is given twice; name it once",
        ),
        (&["--quota-limit", "eng=4"], "role `eng`: `4` is not a quota limit: `4` is not `name:value`; name"),
    ] {
        let refused = place.run(&[&["master", "--listen", "127.0.0.1:0"], args].concat()).expect(2);
        assert!(refused.stderr.contains(what), "{}", refused.stderr);
    }
}

#[test]
fn print_config_shows_what_wins_and_why() {
    let place = Place::new();
    let text = "[master]\nlisten = '127.0.0.1:1'\noffer_timeout = '1s'\nagent_ping_interval = '1s'\n";
    let file = place.file("a.toml", text);
    let path = file.to_str().unwrap();
    let args = ["master", "--print-config", "--config", path, "--listen", "127.0.0.1:3", "-o", "json"];
    let mut command = place.command(&args);
    command.env("APPORTION_MASTER_LISTEN", "127.0.0.1:2").env("APPORTION_MASTER_OFFER_TIMEOUT", "2s");
    let output = command.output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = shown["settings"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["setting"] == name).unwrap().clone();
    assert_eq!(
        row("master.listen"),
        json!({"setting": "master.listen", "value": "127.0.0.1:3", "source": "flag", "origin": "--listen"})
    );
    let offer_timeout = row("master.offer_timeout");
    assert_eq!(
        (&offer_timeout["value"], &offer_timeout["source"], &offer_timeout["origin"]),
        (&json!("2s"), &json!("environment"), &json!("APPORTION_MASTER_OFFER_TIMEOUT"))
    );
    let ping = row("master.agent_ping_interval");
    assert_eq!((&ping["source"], &ping["origin"]), (&json!("file"), &json!(format!("{path}:4"))));
    let heartbeat = row("master.scheduler_heartbeat");
    assert_eq!((&heartbeat["source"], &heartbeat["origin"]), (&json!("default"), &json!(null)));

    let table = place.run(&["agents", "--print-config", "--master", "localhost:1"]).expect(0).stdout;
    let line = table.lines().find(|line| line.starts_with("client.master")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["client.master", "http://localhost:1", "flag", "--master"]);
    for command in ["agent", "frameworks", "offers", "tasks"] {
        assert!(place.run(&[command, "--print-config"]).expect(0).stdout.starts_with("SETTING"));
    }
}
