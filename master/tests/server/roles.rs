//! What operators set for roles.

use std::sync::Arc;

use apportion_master::registry::{InMemory, Registry};
use apportion_master_core::{RegistryOp, view::RoleSettings};
use apportion_proto::v1;
use apportion_types::Role;
use serde_json::json;
use tonic::Code;

use crate::harness::{Master, config, framework, refused};

fn change(role: &str) -> v1::RoleChange {
    v1::RoleChange { role: role.to_owned(), ..Default::default() }
}

fn quota(guarantee: &str, limit: &[(&str, i64)]) -> Option<v1::Quota> {
    let scalars_milli = limit.iter().map(|(name, milli)| ((*name).to_owned(), *milli)).collect();
    Some(v1::Quota {
        guarantee: Some(crate::harness::resources(guarantee).into()),
        limit: Some(v1::QuotaLimit { scalars_milli }).filter(|_| !limit.is_empty()),
    })
}

async fn roles(master: &Master) -> Vec<v1::RoleSummary> {
    let request = v1::ListRolesRequest::default();
    master.operator().await.list_roles(request).await.unwrap().into_inner().roles
}

#[tokio::test]
async fn what_is_set_is_listed_with_shares_and_the_roles_above() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let info =
        apportion_types::FrameworkInfo { roles: vec![Role::new("eng/ads").unwrap()], ..framework("f") };
    let framework_id = scheduler.subscribe(info).await;
    agent.register("cpus:4;mem:4096").await;
    scheduler.offer().await;
    let mut operator = master.operator().await;
    let changes = vec![
        v1::RoleChange { weight_milli: Some(2500), priority: Some(-3), ..change("eng") },
        v1::RoleChange { quota: quota("cpus:1", &[("cpus", 8000), ("gpus", 0)]), ..change("ops") },
    ];
    operator.update_roles(v1::UpdateRolesRequest { changes, force: false }).await.unwrap();
    let listed = roles(&master).await;
    let names: Vec<&str> = listed.iter().map(|role| role.settings.as_ref().unwrap().role.as_str()).collect();
    assert_eq!(names, ["eng", "eng/ads", "ops"]);
    let eng = listed[0].settings.as_ref().unwrap();
    assert_eq!((eng.weight_milli, eng.priority), (2500, -3));
    assert_eq!(listed[1].frameworks[0].framework_id, framework_id.as_str());
    assert_eq!((listed[1].dominant_share_ppm, listed[1].framework_count), (1_000_000, 1));

    let page = master.json("/api/v1/roles?page_size=2").await;
    assert_eq!(page["roles"][0]["weight_milli"], 2500);
    let token = page["next_page_token"].as_str().unwrap();
    let page = master.json(&format!("/api/v1/roles?page_token={token}")).await;
    assert_eq!(page["roles"][0]["role"], "ops");
    assert_eq!(page["roles"][0]["guarantee"]["text"], "cpus:1");
    assert_eq!(page["roles"][0]["limit"]["text"], "cpus:8;gpus:0");
}

#[tokio::test]
async fn roles_are_changed_over_http_and_what_is_left_out_stays() {
    let master = Master::start(config()).await;
    let both = json!({"changes": [{"role": "eng", "weight": "2", "quota": {"limit": "cpus:8"}}]});
    let answer = master.post("/api/v1/roles", &both).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = master.post("/api/v1/roles", &json!({"changes": [{"role": "eng", "priority": 7}]})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let eng = &master.json("/api/v1/roles").await["roles"][0];
    assert_eq!((&eng["weight_milli"], &eng["priority"]), (&json!(2000), &json!(7)));
    assert_eq!(eng["limit"]["text"], "cpus:8");
    for (body, what) in [
        (json!({"changes": []}), "changes: is empty"),
        (json!({"changes": [{"role": "eng"}]}), "nothing of role `eng` changes"),
        (json!({"changes": [{"role": "eng", "weight": "-1"}]}), "negative"),
        (json!({"changes": [{"role": "eng", "wieght": "1"}]}), "unknown field `wieght`"),
        (json!({"changes": [{"role": "a//b", "weight": "1"}]}), "role `a//b`"),
        (
            json!({"changes": [{"role": "eng", "quota": {"limit": "cpus:1000000000000000000"}}]}),
            "more than the most",
        ),
        (json!({"changes": [{"role": "eng", "quota": {"guarantee": "ports:[1-2]"}}]}), "guarantee scalars"),
    ] {
        let answer = master.post("/api/v1/roles", &body).await;
        assert!(answer.status == 400 && answer.body.contains(what), "{body}: {}", answer.body);
    }
    assert_eq!(master.json("/api/v1/roles").await["roles"][0], *eng, "nothing has changed");
}

#[tokio::test]
async fn bad_changes_are_refused_by_the_field_and_nothing_changes() {
    let master = Master::start(config()).await;
    let mut operator = master.operator().await;
    let deep = vec!["a"; 10_000].join("/");
    let good = v1::RoleChange { priority: Some(1), ..change("good") };
    let cases = [
        (v1::RoleChange { weight_milli: Some(0), ..change("eng") }, "changes[1].weight_milli: is zero"),
        (v1::RoleChange { weight_milli: Some(1), ..change(&deep) }, "10000 components deep"),
        (v1::RoleChange { weight_milli: Some(1), ..change("") }, "changes[1].role: role ``"),
        (change("eng"), "nothing of role `eng` changes"),
        (v1::RoleChange { quota: quota("", &[("cpus", -1)]), ..change("eng") }, "changes[1].quota.limit: "),
        (
            v1::RoleChange { quota: quota("", &[("cpus", 1_000_000_000_000_000_000)]), ..change("eng") },
            "more than the most",
        ),
        (v1::RoleChange { quota: quota("", &[("ports", 1)]), ..change("eng") }, "ports of different agents"),
        (v1::RoleChange { quota: quota("x:{a}", &[]), ..change("eng") }, "x is more than a plain number"),
        (
            v1::RoleChange { quota: quota("cpus(eng):1", &[]), ..change("eng") },
            "cpus is more than a plain number",
        ),
        (good.clone(), "role `good` is named twice"),
    ];
    for (bad, what) in cases {
        let changes = vec![good.clone(), bad];
        let (code, message) =
            refused(operator.update_roles(v1::UpdateRolesRequest { changes, force: true }).await);
        assert!(code == Code::InvalidArgument && message.contains(what), "{what}: {code:?} {message}");
    }
    assert_eq!(roles(&master).await, []);
}

#[tokio::test]
async fn guarantees_beyond_the_cluster_need_force() {
    let master = Master::start(config()).await;
    let mut agent = master.agent().await;
    agent.register("cpus:4;mem:4096").await;
    let mut operator = master.operator().await;
    let changes = vec![
        v1::RoleChange { weight_milli: Some(3000), ..change("ops") },
        v1::RoleChange { quota: quota("cpus:5", &[]), ..change("eng") },
    ];
    let request = v1::UpdateRolesRequest { changes: changes.clone(), force: false };
    let (code, message) = refused(operator.update_roles(request).await);
    assert_eq!(code, Code::FailedPrecondition, "{message}");
    assert_eq!(roles(&master).await, [], "all together or not at all");
    operator.update_roles(v1::UpdateRolesRequest { changes, force: true }).await.unwrap();
    assert_eq!(roles(&master).await.len(), 2);
}

#[tokio::test]
async fn what_is_set_is_in_the_registry_and_there_after_a_start() {
    let registry = Arc::new(InMemory::new());
    let eng = Role::new("eng").unwrap();
    let settings = RoleSettings { priority: 9, ..RoleSettings::default() };
    registry.commit(vec![RegistryOp::SetRole { role: eng.clone(), settings }]).await.unwrap();
    let master = Master::with_registry(Arc::clone(&registry) as Arc<dyn Registry>).await;
    assert_eq!(roles(&master).await[0].settings.as_ref().unwrap().priority, 9);
    let changes = vec![v1::RoleChange { weight_milli: Some(2000), ..change("eng") }];
    master.operator().await.update_roles(v1::UpdateRolesRequest { changes, force: false }).await.unwrap();
    let kept = registry.load().await.unwrap().roles[&eng].clone();
    assert_eq!((kept.priority, kept.weight.milli()), (9, 2000));
}
