//! Reservations and volumes by operators.

use apportion_proto::v1;
use apportion_types::{Operation, protocol::agent::MasterMessage};
use serde_json::json;
use tonic::Code;

use crate::harness::{Master, config, refused, resources};

fn operate(agent_id: &str, operation: Operation) -> v1::OperateRequest {
    v1::OperateRequest { agent_id: agent_id.to_owned(), operation: Some(operation.into()) }
}

fn reserve(text: &str) -> Operation {
    Operation::Reserve { resources: resources(text) }
}

#[tokio::test]
async fn what_is_reserved_and_made_is_listed_and_reaches_the_agent() {
    let master = Master::start(config()).await;
    let mut agent = master.agent().await;
    let id = agent.register("cpus:4;mem:4096;disk:1000;cpus(ops):2").await;
    let mut operator = master.operator().await;
    operator.operate(operate(id.as_str(), reserve("cpus(+eng@ann):1;disk(+eng@ann):100"))).await.unwrap();
    let MasterMessage::Apply { operation, .. } = agent.expect().await else { panic!("it is told") };
    assert_eq!(operation, reserve("cpus(+eng@ann):1;disk(+eng@ann):100"));
    let volume = "disk(+eng@ann)[data=var/data]:40";
    let create = json!({"agent_id": id.as_str(), "operation": {"create": {"volumes": volume}}});
    let answer = master.post("/api/v1/operations", &create).await;
    assert_eq!(answer.status, 200, "{}", answer.body);

    let listed =
        operator.list_reservations(v1::ListReservationsRequest::default()).await.unwrap().into_inner();
    let rows: Vec<(&str, bool, &str)> = listed
        .reservations
        .iter()
        .map(|row| (row.role.as_str(), row.dynamic, row.principal.as_str()))
        .collect();
    assert_eq!(rows, [("eng", true, "ann"), ("ops", false, "")]);
    let held =
        apportion_types::Resources::try_from(listed.reservations[0].resources.clone().unwrap()).unwrap();
    assert_eq!(held, resources(&format!("cpus(+eng@ann):1;disk(+eng@ann):60;{volume}")));
    let one = v1::ListReservationsRequest { page_size: 1, ..Default::default() };
    let one = operator.list_reservations(one).await.unwrap().into_inner();
    let rest = v1::ListReservationsRequest { page_token: one.next_page_token, ..Default::default() };
    let rest = operator.list_reservations(rest).await.unwrap().into_inner();
    assert_eq!((rest.reservations.len(), rest.reservations[0].role.as_str()), (1, "ops"));

    let volumes = master.json("/api/v1/volumes").await;
    let row = &volumes["volumes"][0];
    assert_eq!(
        (&row["volume_id"], &row["path"], &row["used"]),
        (&json!("data"), &json!("var/data"), &json!(false))
    );
    assert_eq!(row["resources"]["text"], volume);
    let page = master.json("/api/v1/reservations").await;
    assert_eq!(page["reservations"][0]["agent_id"], id.as_str());
    let roles = master.json("/api/v1/roles").await;
    assert_eq!(roles["roles"][0]["reserved"]["text"], "cpus:1;disk:100");
    assert_eq!(master.json("/api/v1/agents").await["agents"][0]["total"]["scalars"]["cpus"], 6.0);
}

#[tokio::test]
async fn operations_that_cannot_be_are_refused_and_nothing_changes() {
    let master = Master::start(config()).await;
    let mut agent = master.agent().await;
    let id = agent.register("cpus:4;mem:4096;disk:1000").await;
    let mut operator = master.operator().await;
    let id = id.as_str();
    for (request, code, what) in [
        (operate("nobody", reserve("cpus(+eng):1")), Code::NotFound, "agent `nobody` does not exist"),
        (operate("a/b", reserve("cpus(+eng):1")), Code::InvalidArgument, "agent_id: agent id `a/b`"),
        (operate(id, reserve("cpus:1")), Code::InvalidArgument, "operation.reserve: "),
        (operate(id, reserve("")), Code::InvalidArgument, "no resources are given"),
        (operate(id, reserve("cpus(+eng):5")), Code::FailedPrecondition, "cpus"),
        (operate(id, reserve("cpus(+eng):1000000000")), Code::FailedPrecondition, "cpus"),
        (
            operate(id, Operation::Unreserve { resources: resources("cpus(+eng):1") }),
            Code::FailedPrecondition,
            "cpus(+eng)",
        ),
        (
            operate(id, Operation::Create { volumes: resources("disk(+eng):1") }),
            Code::InvalidArgument,
            "is not a volume",
        ),
        (
            operate(id, Operation::Shrink { volume: resources("disk(+eng)[v=v]:10"), subtract_milli: -1 }),
            Code::InvalidArgument,
            "shrinks by more than nothing",
        ),
        (
            v1::OperateRequest { agent_id: id.to_owned(), operation: None },
            Code::InvalidArgument,
            "operation: is missing",
        ),
    ] {
        let (found, message) = refused(operator.operate(request).await);
        assert!(found == code && message.contains(what), "{what}: {found:?} {message}");
    }
    for milli in [-1000, 1_000_000_000_000_000_000] {
        let (code, message) = refused(operator.operate(reserve_milli(id, milli)).await);
        assert!(
            code == Code::InvalidArgument && message.contains("operation.reserve.resources"),
            "{message}"
        );
    }
    for (body, status) in [
        (json!({"agent_id": id, "operation": {"reserve": {"resources": "cpus(+eng):-1"}}}), 400),
        (
            json!({"agent_id": id, "operation": {"shrink": {"volume": "disk(+eng)[v=v]:10", "subtract": "x"}}}),
            400,
        ),
        (json!({"agent_id": id, "operation": {"burn": {}}}), 400),
        (json!({"agent_id": "nobody", "operation": {"reserve": {"resources": "cpus(+eng):1"}}}), 404),
        (json!({"agent_id": id, "operation": {"reserve": {"resources": "cpus(+eng):9"}}}), 409),
    ] {
        let answer = master.post("/api/v1/operations", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    assert_eq!(master.json("/api/v1/reservations").await["reservations"], json!([]));
    assert_eq!(
        master.json("/api/v1/agents").await["agents"][0]["total"]["text"],
        "cpus:4;mem:4096;disk:1000"
    );
}

/// A wish to reserve an amount that no text could hold.
fn reserve_milli(agent_id: &str, milli: i64) -> v1::OperateRequest {
    let mut request = operate(agent_id, reserve("cpus(+eng):1"));
    let operation = request.operation.as_mut().unwrap().operation.as_mut().unwrap();
    let v1::resource_operation::Operation::Reserve(wire) = operation else { panic!("it reserves") };
    wire.resources.as_mut().unwrap().resources[0].value = Some(v1::resource::Value::ScalarMilli(milli));
    request
}
