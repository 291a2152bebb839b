//! The registry in a real etcd, and how changes are split for it.

use std::{collections::BTreeMap, sync::Arc};

use apportion_master_core::{RemovedAgent, view::RoleSettings};
use apportion_proto::v1::registry_entry::Entry;
use apportion_types::{Activation, AgentCapability, AgentId, AgentInfo, Resources, Role};

use super::{
    proxy::{Fails, Proxy},
    *,
};
use crate::{etcd::testing, registry::InMemory};

fn agent(number: usize) -> AgentId {
    AgentId::new(format!("a{number:05}")).unwrap()
}

fn admit(number: usize, hostname_bytes: usize) -> RegistryOp {
    let info = AgentInfo {
        hostname: "h".repeat(hostname_bytes.max(1)),
        address: "h:1".to_owned(),
        resources: Resources::new(),
        attributes: BTreeMap::new(),
        domain: None,
        unenforced: Vec::new(),
        version: "1".to_owned(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    };
    RegistryOp::AdmitAgent { agent_id: agent(number), info }
}

fn mark(number: usize) -> RegistryOp {
    RegistryOp::MarkUnreachable { agent_id: agent(number), at: None }
}

/// What is in each part, by its agents, with a `!` behind those that are unreachable in it.
fn shown(parts: &[Part]) -> Vec<String> {
    let entry = |(_, value): &(Key, Option<Vec<u8>>)| {
        let value = value.as_deref().expect("nothing is removed here");
        match v1::RegistryEntry::decode(value).unwrap().entry {
            Some(Entry::Agent(agent)) => {
                format!("{}{}", agent.agent_id, if agent.unreachable { "!" } else { "" })
            }
            other => panic!("{other:?}"),
        }
    };
    parts.iter().map(|part| part.entries.iter().map(entry).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn changes_are_split_in_order_where_etcd_takes_no_more() {
    let mut contents = Contents::default();
    assert!(split(&mut contents, Vec::new()).0.is_empty());
    // One entry, changed again, is written once.
    let (parts, _) = split(&mut contents, vec![admit(1, 1), admit(2, 1), mark(1)]);
    assert_eq!(shown(&parts), ["a00001! a00002"]);

    let many = PART_OPS_MAX + 2;
    let (parts, _) = split(&mut Contents::default(), (0..many).map(|number| admit(number, 1)).collect());
    assert_eq!(parts.iter().map(|part| part.entries.len()).collect::<Vec<_>>(), [PART_OPS_MAX, 2]);
    // A change of what is in a full part goes there; one of what is in an earlier part is written again.
    let ops = (0..PART_OPS_MAX).map(|number| admit(number, 1)).chain([mark(0), admit(900, 1), mark(1)]);
    let (parts, _) = split(&mut Contents::default(), ops.collect());
    let texts = shown(&parts);
    assert_eq!((texts.len(), texts[1].as_str()), (2, "a00900 a00001!"));
    assert!(texts[0].starts_with("a00000! a00001 a00002"), "{}", texts[0]);

    let half = PART_BYTES_MAX / 2;
    let ops = vec![admit(1, half), admit(2, half), admit(3, 10), admit(4, 3 * half), admit(5, 1)];
    let (parts, _) = split(&mut Contents::default(), ops);
    assert_eq!(shown(&parts), ["a00001", "a00002 a00003", "a00004", "a00005"]);
    // An entry that grows leaves the part in which it has no room any more, and what was there stays.
    let (parts, _) = split(&mut Contents::default(), vec![admit(1, 10), admit(2, half), admit(1, half)]);
    assert_eq!(shown(&parts), ["a00001 a00002", "a00001"]);
}

/// An etcd, and a client of it.
fn start(test: &str, flags: &[&str]) -> Option<(testing::Etcd, Client)> {
    let etcd = testing::Etcd::start(test, 1, flags)?;
    let client = Client::new(&etcd.endpoints().parse().unwrap());
    Some((etcd, client))
}

async fn write(client: &Client, key: &str, value: &[u8]) -> i64 {
    let request = pb::TxnRequest { success: vec![put(key, value.to_vec(), 0)], ..Default::default() };
    client.txn("a key", request).await.unwrap().header.unwrap().revision
}

async fn remove(client: &Client, key: &str) {
    let request = pb::TxnRequest { success: vec![delete(key)], ..Default::default() };
    client.txn("a key", request).await.unwrap();
}

async fn value(client: &Client, key: &str) -> Option<Vec<u8>> {
    let request = pb::RangeRequest { key: key.into(), ..Default::default() };
    client.range("a key", request).await.unwrap().kvs.pop().map(|kv| kv.value)
}

#[tokio::test]
async fn etcd_keeps_what_a_leader_writes_and_refuses_a_deposed_one() {
    let Some((_etcd, client)) = start("a registry in etcd", &[]) else { return };
    let cluster: Cluster = "one".parse().unwrap();
    let keys = Keys::new(&cluster);
    let error = read_etcd(&client, &cluster).await.unwrap_err();
    assert!(matches!(error, EtcdError::Missing { .. }), "{error}");

    let leadership = write(&client, &keys.leader(), b"a:1 m1").await;
    let registry = Etcd::open(client.clone(), &cluster, leadership).await.unwrap();
    assert!(read_etcd(&client, &cluster).await.unwrap().is_empty(), "it is there since a master leads");
    let memory = InMemory::new();
    let count = PAGE_KEYS_MAX as usize + PART_OPS_MAX;
    // More than one transaction takes, and more than one page tells.
    let ops: Vec<RegistryOp> = (0..count).map(|number| admit(number, 1)).chain([mark(7)]).collect();
    let removed = vec![RegistryOp::RemoveAgent { agent_id: agent(8), removed: RemovedAgent::default() }];
    let role = |name| Role::new(name).unwrap();
    let some = RoleSettings { priority: 1, ..RoleSettings::default() };
    let roles = vec![
        RegistryOp::SetRole { role: role("eng/ads"), settings: some.clone() },
        RegistryOp::SetRole { role: role("ops"), settings: some },
        RegistryOp::SetRole { role: role("ops"), settings: RoleSettings::default() },
    ];
    for ops in [ops, removed, roles] {
        registry.commit(ops.clone()).await.unwrap();
        memory.commit(ops).await.unwrap();
    }
    let contents = memory.load().await.unwrap();
    assert_eq!(registry.load().await.unwrap(), contents);
    assert_eq!(read_etcd(&client, &cluster).await.unwrap(), contents);
    let other: Cluster = "one.more".parse().unwrap();
    assert!(matches!(read_etcd(&client, &other).await, Err(EtcdError::Missing { .. })), "it is another's");

    // Another one leads: the same key, made again.
    remove(&client, &keys.leader()).await;
    let next = write(&client, &keys.leader(), b"b:1 m2").await;
    let error = registry.commit(vec![mark(1)]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Deposed { leader } if leader == "b:1 m2"), "{error}");
    assert_eq!(read_etcd(&client, &cluster).await.unwrap(), contents, "nothing was written");
    let registry = Etcd::open(client.clone(), &cluster, next).await.unwrap();
    registry.commit(vec![mark(1)]).await.unwrap();
    memory.commit(vec![mark(1)]).await.unwrap();
    assert_eq!(read_etcd(&client, &cluster).await.unwrap(), memory.load().await.unwrap());
    // Nobody leads.
    remove(&client, &keys.leader()).await;
    let error = registry.commit(vec![mark(2)]).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Deposed { leader } if leader == "nobody now"), "{error}");
}

#[tokio::test]
async fn what_an_earlier_version_wrote_is_closed_to_it_once_it_would_lose_something() {
    let Some((_etcd, client)) = start("a registry of an earlier version in etcd", &[]) else { return };
    let cluster = Cluster::default();
    let keys = Keys::new(&cluster);
    let removed = v1::RegistryEntry { entry: Some(Entry::RemovedAgentId(agent(1).to_string())) };
    write(&client, &format!("{}agent/a00001", keys.entries()), &removed.encode_to_vec()).await;
    write(&client, &keys.version(), b"1").await;
    let contents = read_etcd(&client, &cluster).await.unwrap();
    assert_eq!(contents.recovered.removed_agents, BTreeMap::from([(agent(1), RemovedAgent::default())]));
    assert_eq!(value(&client, &keys.version()).await.unwrap(), b"1", "whoever reads writes nothing");
    let leadership = write(&client, &keys.leader(), b"a:1 m1").await;
    let registry = Etcd::open(client.clone(), &cluster, leadership).await.unwrap();
    assert_eq!(registry.load().await.unwrap(), contents);
    registry.commit(vec![admit(2, 1)]).await.unwrap();
    assert_eq!(value(&client, &keys.version()).await.unwrap(), b"1", "it knows that too");
    let activation = Activation::Deactivated;
    registry.commit(vec![RegistryOp::SetActivation { agent_id: agent(2), activation }]).await.unwrap();
    assert_eq!(value(&client, &keys.version()).await.unwrap(), b"2");
}

#[tokio::test]
async fn what_etcd_keeps_is_judged_whole() {
    let Some((_etcd, client)) = start("a damaged registry in etcd", &[]) else { return };
    let (cluster, other) = (Cluster::default(), "other".parse().unwrap());
    let keys = Keys::new(&cluster);
    let registry = Etcd::open_without_master(client.clone(), &cluster).await.unwrap();
    registry.commit(vec![admit(1, 1), admit(2, 1)]).await.unwrap();
    let contents = registry.load().await.unwrap();
    let entry = format!("{}agent/a00001", keys.entries());
    let whole = value(&client, &entry).await.unwrap();
    let version = keys.version();
    let damages: [(&str, Option<&[u8]>, &str); 6] = [
        (&entry, Some(b"\xff"), "agent/a00001"),
        (&entry, Some(b""), "agent/a00001"),
        (&format!("{}agent/a00003", keys.entries()), Some(&whole), "agent/a00003"),
        (&version, Some(b"one"), "/version"),
        (&version, None, "/version"),
        (&version, Some(b"3"), "later version"),
    ];
    for (key, damage, named) in damages {
        let before = value(&client, key).await;
        match damage {
            Some(value) => drop(write(&client, key, value).await),
            None => remove(&client, key).await,
        }
        for error in [
            read_etcd(&client, &cluster).await.unwrap_err(),
            Etcd::open_without_master(client.clone(), &cluster).await.unwrap_err(),
            Etcd::open(client.clone(), &cluster, 1).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains(named) && text.contains("/apportion/default/"), "{text}");
            let later = matches!(error, EtcdError::Later { version: 3, .. });
            assert!(later || matches!(error, EtcdError::Damaged { .. }), "{text}");
        }
        match before {
            Some(value) => drop(write(&client, key, &value).await),
            None => remove(&client, key).await,
        }
    }
    assert_eq!(read_etcd(&client, &cluster).await.unwrap(), contents, "all is as it was");

    // An import wants nobody to lead.
    write(&client, &keys.leader(), b"a:1 m1").await;
    let error = registry.commit(vec![mark(1)]).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("stop every master") && source.contains("a:1 m1"), "{source}");
    let error = Etcd::open_without_master(client.clone(), &cluster).await.unwrap_err();
    assert!(matches!(&error, EtcdError::Led { leader } if leader == "a:1 m1"), "{error}");
    assert!(matches!(read_etcd(&client, &other).await, Err(EtcdError::Missing { .. })));
}

#[tokio::test]
async fn etcd_that_does_not_take_a_write_is_named_with_the_remedy() {
    let flags = ["--quota-backend-bytes=200000", "--max-request-bytes=20000"];
    let Some((mut etcd, client)) = start("an etcd without room", &flags) else { return };
    let cluster = Cluster::default();
    // An import of which a part was refused is not taken for whole, also where an empty registry was.
    let half: Cluster = "half".parse().unwrap();
    write(&client, &Keys::new(&half).version(), b"1").await;
    let registry = Etcd::open_without_master(client.clone(), &half).await.unwrap();
    let removed = RemovedAgent::default();
    let remove = |number| RegistryOp::RemoveAgent { agent_id: agent(number), removed };
    let ops = (0..PART_OPS_MAX).map(remove).chain([admit(1000, 40_000)]);
    registry.commit(ops.collect()).await.unwrap_err();
    let error = read_etcd(&client, &half).await.unwrap_err();
    assert!(matches!(error, EtcdError::Damaged { .. }), "{error}");

    let registry = Etcd::open_without_master(client.clone(), &cluster).await.unwrap();
    let source = |error: RegistryError| std::error::Error::source(&error).unwrap().to_string();
    let text = source(registry.commit(vec![admit(1, 40_000)]).await.unwrap_err());
    assert!(text.contains("entry agent/a00001 of 40") && text.contains("--max-request-bytes"), "{text}");
    // A message beyond what it reads at all.
    let text = source(registry.commit(vec![admit(1, 900_000)]).await.unwrap_err());
    assert!(text.contains("--max-request-bytes"), "{text}");
    let mut refused = None;
    for number in 2..200 {
        if let Err(error) = registry.commit(vec![admit(number, 15_000)]).await {
            refused = Some(source(error));
            break;
        }
    }
    let text = refused.expect("there is no room for it");
    assert!(text.contains("out of space") && text.contains("alarm disarm"), "{text}");

    let request = pb::RangeRequest { key: "a".into(), revision: 1, ..Default::default() };
    client.range("a key", request).await.unwrap();
    etcd.kill(0);
    // Known not to be sent, or sent and not answered: an error in both cases.
    let error = client.txn("a key", pb::TxnRequest::default()).await.unwrap_err();
    assert!(matches!(error, etcd::Error::Unreachable { .. } | etcd::Error::Unknown { .. }), "{error}");
    let error = read_etcd(&client, &cluster).await.unwrap_err();
    assert!(error.to_string().contains(&format!("does not answer at {}", etcd.endpoints())), "{error}");
}

#[tokio::test]
async fn one_member_that_is_gone_costs_nothing_but_a_moment() {
    let Some(mut etcd) = testing::Etcd::start("an etcd of three members", 3, &[]) else { return };
    let client = Client::new(&etcd.endpoints().parse().unwrap());
    let key = "/apportion/default/leader";
    let leadership = write(&client, key, b"a:1 m1").await;
    // Nobody has connected to it yet: it is known that nothing was sent.
    etcd.kill(0);
    let client = Client::new(&etcd.endpoints().parse().unwrap());
    // With nothing to read in it, a member answers from what it knows itself, which may be old.
    let (compare, success) = (vec![created_at(key, leadership)], vec![range(key)]);
    let request =
        || pb::TxnRequest { compare: compare.clone(), success: success.clone(), ..Default::default() };
    // Its leader may have been the one that is gone.
    let answer = loop {
        match client.txn("nothing", request()).await {
            Ok(answer) => break answer,
            Err(error) => assert!(matches!(error, etcd::Error::Unknown { .. }), "{error}"),
        }
    };
    assert!(answer.succeeded);
    let registry = Arc::new(Etcd::open(client.clone(), &Cluster::default(), leadership).await.unwrap());
    registry.commit(vec![admit(1, 1)]).await.unwrap();
    assert_eq!(read_etcd(&client, &Cluster::default()).await.unwrap(), registry.load().await.unwrap());
}

fn prioritize(priority: i32) -> RegistryOp {
    let settings = RoleSettings { priority, ..RoleSettings::default() };
    RegistryOp::SetRole { role: Role::new("eng").unwrap(), settings }
}

#[tokio::test]
async fn a_leader_asks_whether_a_write_was_done_and_does_it_once() {
    let Some((etcd, direct)) = start("a registry behind a bad network", &[]) else { return };
    let mut proxy = Proxy::start(etcd.endpoints()).await;
    let client = Client::new(&proxy.address.parse().unwrap());
    let cluster = Cluster::default();
    let keys = Keys::new(&cluster);
    let leadership = write(&direct, &keys.leader(), b"a:1 m1").await;
    let registry = Etcd::open(client, &cluster, leadership).await.unwrap();
    let memory = InMemory::new();
    for (round, how) in [Fails::Answer, Fails::Request, Fails::Late].into_iter().cycle().take(9).enumerate() {
        let ops = vec![prioritize(10 + round as i32), admit(round, 1)];
        proxy.fail(how);
        registry.commit(ops.clone()).await.unwrap();
        assert!(proxy.has_failed(), "{how:?}");
        memory.commit(ops).await.unwrap();
        if how == Fails::Late {
            // What was written since is newer than what arrives now.
            let newer = vec![prioritize(100 + round as i32)];
            registry.commit(newer.clone()).await.unwrap();
            memory.commit(newer).await.unwrap();
            proxy.deliver().await;
        }
        assert_eq!(read_etcd(&direct, &cluster).await.unwrap(), memory.load().await.unwrap(), "{how:?}");
    }
    // Of whose leadership nothing is left it is known that nothing was done.
    let before = read_etcd(&direct, &cluster).await.unwrap();
    remove(&direct, &keys.leader()).await;
    proxy.fail(Fails::Request);
    let error = registry.commit(vec![prioritize(7)]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Deposed { .. }), "{error}");
    assert_eq!(read_etcd(&direct, &cluster).await.unwrap(), before);
}

#[tokio::test]
async fn a_leader_whose_registry_somebody_else_writes_to_writes_no_more() {
    let Some((_etcd, client)) = start("a registry with two writers", &[]) else { return };
    let cluster = Cluster::default();
    let leadership = write(&client, &Keys::new(&cluster).leader(), b"a:1 m1").await;
    let one = Etcd::open(client.clone(), &cluster, leadership).await.unwrap();
    let other = Etcd::open(client.clone(), &cluster, leadership).await.unwrap();
    one.commit(vec![prioritize(1)]).await.unwrap();
    let error = other.commit(vec![prioritize(2)]).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("somebody else wrote") && source.contains("/sequence"), "{source}");
    assert_eq!(read_etcd(&client, &cluster).await.unwrap(), one.load().await.unwrap());
}
