use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use apportion_master_core::{Cause, Maintenance, RecoveredAgent, RemovedAgent, view::RoleSettings};
use apportion_proto::v1::{self, registry_entry::Entry};
use apportion_types::{
    Activation, AgentCapability, AgentId, AgentInfo, Drain, FrameworkId, FrameworkInfo, Resources, Role,
    Time, Unavailability, Window, limits,
};

use super::*;

fn agent(id: &str) -> AgentId {
    AgentId::new(id).unwrap()
}

fn ops() -> Vec<RegistryOp> {
    let framework = |id| FrameworkId::new(id).unwrap();
    let info = |version: &str| AgentInfo {
        hostname: "h".to_owned(),
        address: "h:1".to_owned(),
        resources: Resources::new(),
        attributes: BTreeMap::new(),
        domain: None,
        unenforced: Vec::new(),
        version: version.to_owned(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    };
    let framework_info = FrameworkInfo {
        name: "f".to_owned(),
        principal: "p".to_owned(),
        roles: vec![Role::default()],
        failover_timeout: limits::FAILOVER_TIMEOUT_DEFAULT,
        labels: BTreeMap::new(),
    };
    let role = |name| Role::new(name).unwrap();
    let none = RoleSettings::default();
    let at = |seconds: u64| Some(Time::from_micros(seconds * 1_000_000));
    let draining = Activation::Draining(Drain { grace_max: Some(Duration::from_secs(9)), mark_gone: true });
    vec![
        RegistryOp::AdmitAgent { agent_id: agent("a"), info: info("1") },
        RegistryOp::MarkUnreachable { agent_id: agent("a"), at: at(1) },
        RegistryOp::MarkUnreachable { agent_id: agent("a"), at: at(2) },
        RegistryOp::MarkUnreachable { agent_id: agent("nobody"), at: None },
        RegistryOp::AdmitAgent { agent_id: agent("b"), info: info("1") },
        RegistryOp::AdmitAgent { agent_id: agent("b"), info: info("2") },
        RegistryOp::AdmitAgent { agent_id: agent("c"), info: info("1") },
        RegistryOp::SetActivation { agent_id: agent("c"), activation: Activation::Deactivated },
        RegistryOp::RemoveAgent {
            agent_id: agent("c"),
            removed: RemovedAgent { at: at(3), cause: Cause::Gone },
        },
        RegistryOp::RemoveAgent {
            agent_id: agent("c"),
            removed: RemovedAgent { at: at(4), cause: Cause::Left },
        },
        RegistryOp::SetActivation { agent_id: agent("b"), activation: draining },
        RegistryOp::AdmitAgent { agent_id: agent("b"), info: info("2") },
        RegistryOp::SetActivation { agent_id: agent("nobody"), activation: draining },
        RegistryOp::AdmitAgent { agent_id: agent("d"), info: info("1") },
        RegistryOp::MarkUnreachable { agent_id: agent("d"), at: at(5) },
        RegistryOp::ForgetAgent { agent_id: agent("d") },
        RegistryOp::AdmitAgent { agent_id: agent("e"), info: info("1") },
        RegistryOp::RemoveAgent {
            agent_id: agent("e"),
            removed: RemovedAgent { at: at(6), cause: Cause::Left },
        },
        RegistryOp::ForgetAgent { agent_id: agent("e") },
        RegistryOp::AdmitFramework { framework_id: framework("f"), info: framework_info.clone() },
        RegistryOp::RemoveFramework { framework_id: framework("f") },
        RegistryOp::AdmitFramework { framework_id: framework("g"), info: framework_info },
        RegistryOp::RemoveFramework { framework_id: framework("h") },
        RegistryOp::ForgetFramework { framework_id: framework("h") },
        RegistryOp::SetRole { role: role("eng"), settings: RoleSettings { priority: 1, ..none.clone() } },
        RegistryOp::SetRole { role: role("eng"), settings: RoleSettings { priority: 2, ..none.clone() } },
        RegistryOp::SetRole { role: role("ops"), settings: RoleSettings { priority: 1, ..none.clone() } },
        RegistryOp::SetRole { role: role("ops"), settings: none },
        RegistryOp::SetMaintenance { maintenance: planned(&["m1"], &[]) },
        RegistryOp::SetMaintenance { maintenance: planned(&["m1", "m2"], &["m2"]) },
    ]
}

/// A window of some machines, some of which are down.
pub(super) fn planned(machines: &[&str], down: &[&str]) -> Arc<Maintenance> {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let unavailability = Unavailability {
        start: Time::from_micros(1_000_001),
        duration: Some(std::time::Duration::from_secs(60)),
    };
    let windows = match machines {
        [] => Vec::new(),
        machines => vec![Window { machines: names(machines), unavailability }],
    };
    Arc::new(Maintenance { windows, down: names(down) })
}

/// Registries without maintenance can be written by masters that do not know of it; with it they cannot, nor ever again.
#[tokio::test]
async fn a_file_with_maintenance_needs_a_master_that_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let least_writer = || {
        let database = redb::Database::open(folder.path().join("registry")).unwrap();
        let reading = redb::ReadableDatabase::begin_read(&database).unwrap();
        let table = redb::TableDefinition::<&str, u64>::new("about");
        reading.open_table(table).unwrap().get("least writer").unwrap().unwrap().value()
    };
    let commit = async |ops: Vec<RegistryOp>| {
        Embedded::open(folder.path()).unwrap().commit(ops).await.unwrap();
    };
    let mut before = ops();
    before.retain(|op| {
        let later = matches!(
            op,
            RegistryOp::SetMaintenance { .. }
                | RegistryOp::SetActivation { .. }
                | RegistryOp::RemoveAgent { .. }
        );
        !later
    });
    commit(before).await;
    assert_eq!(least_writer(), 1);
    commit(vec![RegistryOp::SetMaintenance { maintenance: planned(&["m1"], &["m1"]) }]).await;
    assert_eq!(least_writer(), 2);
    assert_eq!(kept(folder.path()).await.recovered.maintenance, *planned(&["m1"], &["m1"]));
    commit(vec![RegistryOp::SetMaintenance { maintenance: planned(&[], &[]) }]).await;
    assert_eq!(kept(folder.path()).await.recovered.maintenance, Maintenance::default());
    assert_eq!(least_writer(), 2);
}

/// A registry in memory and one in a file.
fn both(folder: &Path) -> [Box<dyn Registry>; 2] {
    [Box::new(InMemory::new()), Box::new(Embedded::open(folder).unwrap())]
}

#[tokio::test]
async fn keeps_what_was_written_last() {
    let folder = tempfile::tempdir().unwrap();
    for registry in both(folder.path()) {
        assert!(registry.load().await.unwrap().is_empty());
        registry.commit(ops()).await.unwrap();
        let contents = registry.load().await.unwrap();
        let agents: Vec<_> = contents
            .recovered
            .agents
            .iter()
            .map(|(id, agent)| {
                (id.as_str(), agent.info.version.as_str(), agent.unreachable, agent.activation.name())
            })
            .collect();
        assert_eq!(agents, [("a", "1", true, "active"), ("b", "2", false, "draining")]);
        let first = Some(Time::from_micros(1_000_000));
        assert_eq!(contents.recovered.agents[&agent("a")].unreachable_at, first, "the first time stays");
        let drain = contents.recovered.agents[&agent("b")].activation.drain();
        assert_eq!(drain, Some(Drain { grace_max: Some(Duration::from_secs(9)), mark_gone: true }));
        let gone = RemovedAgent { at: Some(Time::from_micros(3_000_000)), cause: Cause::Gone };
        assert_eq!(contents.recovered.removed_agents, BTreeMap::from([(agent("c"), gone)]));
        assert_eq!(contents.recovered.frameworks.keys().map(FrameworkId::as_str).collect::<Vec<_>>(), ["g"]);
        assert_eq!(
            contents.recovered.removed_frameworks.iter().map(FrameworkId::as_str).collect::<Vec<_>>(),
            ["f"]
        );
        let roles: Vec<_> =
            contents.roles.iter().map(|(role, settings)| (role.as_str(), settings.priority)).collect();
        assert_eq!(roles, [("eng", 2)]);
    }
}

#[tokio::test]
async fn twice_is_once_and_removed_stays_removed() {
    let (once, twice) = (InMemory::new(), InMemory::new());
    once.commit(ops()).await.unwrap();
    for op in ops() {
        twice.commit(vec![op.clone(), op]).await.unwrap();
    }
    twice.commit(ops()).await.unwrap();
    let (once, twice) = (once.load().await.unwrap(), twice.load().await.unwrap());
    assert!(once.recovered.removed_agents.keys().all(|id| !twice.recovered.agents.contains_key(id)));
    // A repeated history revives the agent that was unreachable only until it is marked again.
    assert_eq!(once, twice);
}

async fn kept(folder: &Path) -> Contents {
    Embedded::open(folder).unwrap().load().await.unwrap()
}

/// A registry on disk in which something is kept.
async fn filled() -> (tempfile::TempDir, Contents) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Embedded::open(folder.path()).unwrap();
    registry.commit(ops()).await.unwrap();
    let contents = registry.load().await.unwrap();
    (folder, contents)
}

#[tokio::test]
async fn a_file_keeps_it_and_is_one_masters() {
    let (folder, contents) = filled().await;
    assert_eq!(kept(folder.path()).await, contents);
    // One by one, it is the same.
    let other = tempfile::tempdir().unwrap();
    for op in ops() {
        Embedded::open(other.path()).unwrap().commit(vec![op]).await.unwrap();
    }
    assert_eq!(kept(other.path()).await, contents);

    let registry = Embedded::open(folder.path()).unwrap();
    assert!(matches!(Embedded::open(folder.path()), Err(OpenError::InUse { .. })));
    assert_eq!(read(folder.path()).unwrap(), contents, "a backup is made beside the master");
    let settings = RoleSettings { priority: 7, ..RoleSettings::default() };
    registry.commit(vec![RegistryOp::SetRole { role: Role::new("new").unwrap(), settings }]).await.unwrap();
    assert_eq!(read(folder.path()).unwrap(), registry.load().await.unwrap());
}

/// Whoever reads beside the master sees one of its commits, and never an earlier one than before.
#[tokio::test]
async fn what_is_read_beside_a_master_is_what_some_commit_left() {
    let (folder, _) = filled().await;
    let registry = Embedded::open(folder.path()).unwrap();
    let priority = || read(folder.path()).unwrap().roles[&Role::new("eng").unwrap()].priority;
    let written = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut readings) = (0, 0);
            while !written.load(std::sync::atomic::Ordering::SeqCst) {
                let now = priority();
                assert!(now >= seen, "{now} was read after {seen}");
                (seen, readings) = (now, readings + 1);
            }
            readings
        });
        for priority in 3..100 {
            let settings = RoleSettings { priority, ..RoleSettings::default() };
            let role = Role::new("eng").unwrap();
            registry.store.commit(vec![RegistryOp::SetRole { role, settings }]).unwrap();
        }
        written.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(priority(), 99);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Embedded::open(&folder.path().join("file/below")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

/// Whatever a byte of this file becomes, what is read is what was acknowledged last, or it is refused and left as it is. Of the bytes behind
/// the header those are flipped whose place is `odd` or not.
fn flip(whole: &[u8], contents: &Contents, odd: bool) {
    const HEADER: usize = 320;
    const FLAGS: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registry");
    let masks = [1, 2, 4, 5, 8, 0x40, 0xff];
    let mut refused = 0;
    let told = |at: &usize| *at < HEADER || whole[*at] != 0 && (*at % 2 == 1) == odd;
    for (count, at) in (0..whole.len()).filter(told).enumerate() {
        for mask in if at < FLAGS { &masks[..] } else { &masks[count % 7..=count % 7] } {
            let mut bytes = whole.to_vec();
            bytes[at] ^= mask;
            let judged = embedded::judge(&path, &bytes);
            refused += u32::from(judged.is_err());
            if let Ok(judged) = &judged {
                assert_eq!(judged.contents, *contents, "byte {at} ^ {mask}");
            }
            // To open it waits for the disk.
            if at >= FLAGS && count % 300 != 0 {
                continue;
            }
            fs::write(&path, &bytes).unwrap();
            let opened = Embedded::open(folder.path());
            match (&judged, &opened) {
                (Ok(_), Ok(opened)) => assert_eq!(opened.contents(), *contents, "byte {at} ^ {mask}"),
                (Err(_), Err(OpenError::Damaged { .. } | OpenError::Later { .. })) => {
                    assert_eq!(fs::read(&path).unwrap(), bytes, "byte {at} ^ {mask}");
                }
                _ => panic!("byte {at} ^ {mask}: {judged:?}, but opened {opened:?}"),
            }
            drop(opened);
            if judged.is_ok() {
                assert_eq!(read(folder.path()).unwrap(), *contents, "byte {at} ^ {mask}, opened again");
            }
        }
    }
    assert!(refused > 0);
}

/// Also when what was before it is still whole in the file, as it is when a master was killed.
#[tokio::test]
async fn a_flipped_byte_changes_nothing_unseen() {
    let (folder, _) = filled().await;
    let path = folder.path().join("registry");
    let registry = Embedded::open(folder.path()).unwrap();
    let settings = RoleSettings { priority: 7, ..RoleSettings::default() };
    registry.commit(vec![RegistryOp::SetRole { role: Role::new("last").unwrap(), settings }]).await.unwrap();
    let contents = registry.load().await.unwrap();
    let killed = fs::read(&path).unwrap();
    drop(registry);
    let closed = fs::read(&path).unwrap();
    assert_ne!(killed, closed);
    std::thread::scope(|scope| {
        scope.spawn(|| flip(&killed, &contents, false));
        scope.spawn(|| flip(&closed, &contents, true));
    });
    for cut in [0, 1, 100, 4096, closed.len() / 2, closed.len() - 1] {
        fs::write(&path, &closed[..cut]).unwrap();
        let error = Embedded::open(folder.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "cut at {cut}: {error}");
        assert_eq!(fs::read(&path).unwrap(), &closed[..cut]);
    }
}

#[tokio::test]
async fn a_later_version_is_asked_for_where_this_one_would_lose_something() {
    let (folder, contents) = filled().await;
    let path = folder.path().join("registry");
    let about = |name: &str, value: u64| {
        let database = redb::Database::open(&path).unwrap();
        let writing = database.begin_write().unwrap();
        let table = redb::TableDefinition::<&str, u64>::new("about");
        writing.open_table(table).unwrap().insert(name, value).unwrap();
        writing.commit().unwrap();
    };
    about("version", 9);
    assert_eq!(kept(folder.path()).await, contents, "a later version wrote it, and allows this one to");
    about("least writer", 8);
    let before = fs::read(&path).unwrap();
    for error in [Embedded::open(folder.path()).unwrap_err(), read(folder.path()).unwrap_err()] {
        assert!(matches!(error, OpenError::Later { version: 8, .. }), "{error}");
        assert!(error.to_string().contains("start the version that wrote it last"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// A file of the format before it was known since when agents are lost, and whether they may be offered.
#[tokio::test]
async fn a_file_of_an_earlier_version_is_taken_on_and_closed_to_it_once_it_would_lose_something() {
    let (folder, contents) = filled().await;
    let path = folder.path().join("registry");
    let about = |name: &str| {
        let database = redb::Database::open(&path).unwrap();
        let table = redb::TableDefinition::<&str, u64>::new("about");
        let reading = redb::ReadableDatabase::begin_read(&database).unwrap();
        reading.open_table(table).unwrap().get(name).unwrap().unwrap().value()
    };
    {
        let database = redb::Database::open(&path).unwrap();
        let mut writing = database.begin_write().unwrap();
        writing.set_two_phase_commit(true);
        {
            let mut entries =
                writing.open_table(redb::TableDefinition::<&str, &[u8]>::new("entries")).unwrap();
            entries.retain(|_, _| false).unwrap();
            let info = contents.recovered.agents[&agent("a")].info.clone();
            let unreachable = v1::RegistryAgent {
                agent_id: "a".to_owned(),
                info: Some(info.into()),
                unreachable: true,
                ..Default::default()
            };
            for (key, entry) in
                [("agent/a", Entry::Agent(unreachable)), ("agent/c", Entry::RemovedAgentId("c".to_owned()))]
            {
                let bytes = prost::Message::encode_to_vec(&v1::RegistryEntry { entry: Some(entry) });
                entries.insert(key, bytes.as_slice()).unwrap();
            }
            let mut table = writing.open_table(redb::TableDefinition::<&str, u64>::new("about")).unwrap();
            table.insert("version", 1).unwrap();
            table.insert("least writer", 1).unwrap();
        }
        writing.commit().unwrap();
    }
    {
        let registry = Embedded::open(folder.path()).unwrap();
        let Recovered { agents, removed_agents, .. } = registry.load().await.unwrap().recovered;
        let info = agents[&agent("a")].info.clone();
        let known = RecoveredAgent { unreachable: true, ..RecoveredAgent::new(info) };
        assert_eq!(agents, BTreeMap::from([(agent("a"), known)]));
        assert_eq!(removed_agents, BTreeMap::from([(agent("c"), RemovedAgent::default())]));
    }
    assert_eq!((about("version"), about("least writer")), (1, 1), "nothing was written yet");
    let at = Some(Time::from_micros(7));
    {
        let registry = Embedded::open(folder.path()).unwrap();
        let mark = RegistryOp::MarkUnreachable { agent_id: agent("a"), at };
        let remove = RegistryOp::RemoveAgent {
            agent_id: agent("c"),
            removed: RemovedAgent { at, cause: Cause::Left },
        };
        registry.commit(vec![mark, remove]).await.unwrap();
    }
    assert_eq!((about("version"), about("least writer")), (2, 2));
    let Recovered { agents, removed_agents, .. } = kept(folder.path()).await.recovered;
    assert_eq!((agents[&agent("a")].unreachable_at, removed_agents[&agent("c")].at), (at, at));
}

async fn import(registry: &dyn Registry, path: &Path) -> Result<Contents, BackupError> {
    Backup::read(path)?.import(registry).await
}

#[tokio::test]
async fn an_export_replaces_nothing_but_an_export() {
    let (folder, contents) = filled().await;
    let path = folder.path().join("backup");
    let draft = folder.path().join("backup.new");
    export(&Contents::default(), &path).unwrap();
    // Of one that was cut off.
    for start in ["", "apportion registry 1\nand no more"] {
        fs::write(&draft, start).unwrap();
        export(&contents, &path).unwrap();
        assert_eq!(import(&InMemory::new(), &path).await.unwrap(), contents);
        assert!(!draft.exists());
    }
    let other = folder.path().join("other");
    fs::write(&other, "a letter").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
    for occupied in ["other", "folder", "link", "registry"] {
        let error = export(&contents, &folder.path().join(occupied)).unwrap_err();
        assert!(matches!(error, BackupError::Occupied { .. }), "{occupied}: {error}");
        assert!(error.to_string().contains(occupied), "{error}");
    }
    assert_eq!(fs::read(&other).unwrap(), b"a letter");
    fs::rename(&other, &draft).unwrap();
    let error = export(&contents, &path).unwrap_err();
    assert!(matches!(&error, BackupError::Occupied { path } if *path == draft), "{error}");
    assert_eq!(fs::read(&draft).unwrap(), b"a letter");
    let error = export(&contents, &folder.path().join("nowhere/backup")).unwrap_err();
    assert!(matches!(error, BackupError::Draft { .. }), "{error}");
}

#[tokio::test]
async fn an_export_is_taken_on_whole_or_not_at_all() {
    let (folder, contents) = filled().await;
    let path = folder.path().join("backup");
    export(&contents, &path).unwrap();
    // One of an earlier format differs in what it does not say.
    let bytes = fs::read(&path).unwrap();
    let earlier = folder.path().join("earlier");
    fs::write(&earlier, [b"apportion registry 1\n", &bytes[b"apportion registry 1\n".len()..]].concat())
        .unwrap();
    assert_eq!(import(&InMemory::new(), &earlier).await.unwrap(), contents);
    let registry = InMemory::new();
    assert_eq!(import(&registry, &path).await.unwrap(), contents);
    assert_eq!(registry.load().await.unwrap(), contents);
    assert!(matches!(import(&registry, &path).await, Err(BackupError::NotEmpty)));

    let whole = fs::read(&path).unwrap();
    let refused = async |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let registry = InMemory::new();
        let error = import(&registry, &path).await.expect_err(what);
        assert!(!matches!(error, BackupError::Registry(_) | BackupError::NotEmpty), "{what}: {error}");
        assert!(registry.load().await.unwrap().is_empty(), "{what}");
    };
    for at in 0..whole.len() {
        refused(&whole[..at], &format!("cut at {at}")).await;
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        refused(&bytes, &format!("byte {at} flipped")).await;
    }
    refused(&[&whole[..], b"more"].concat(), "more behind it").await;
}
