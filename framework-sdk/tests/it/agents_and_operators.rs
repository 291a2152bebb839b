//! Questions to masters, and files of agents.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use apportion_proto::v1::{
    self,
    operator_service_server::{OperatorService, OperatorServiceServer},
    sandbox_service_server::{SandboxService, SandboxServiceServer},
};
use apportion_sdk::{
    AgentId, FrameworkId, TaskId, TaskState,
    operator::{AgentState, Operator, OperatorError, TaskFilter},
    sandbox::{self, Chunk, Kind, Output, Position, SandboxError},
};
use apportion_types::Drain;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use crate::server::standing_by;

/// Answers from a small, fixed world.
#[derive(Default)]
struct World {
    /// Or stands by, and names perhaps the one that leads.
    stands_by: Option<Status>,
}

fn resources(text: &str) -> Option<v1::Resources> {
    Some(text.parse::<apportion_sdk::Resources>().unwrap().into())
}

fn agent(agent_id: &str) -> v1::AgentSummary {
    v1::AgentSummary {
        agent_id: agent_id.to_owned(),
        info: Some(v1::AgentInfo {
            hostname: "host".to_owned(),
            address: "host:5051".to_owned(),
            resources: resources("cpus:4"),
            ..Default::default()
        }),
        state: v1::AgentState::Unreachable as i32,
        allocated: resources("cpus:1"),
        tasks: 1,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl OperatorService for World {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn get_cluster(
        &self,
        _request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        if let Some(status) = &self.stands_by {
            return Err(status.clone());
        }
        // Two agents that each have the most that one may have.
        let most: apportion_sdk::Resources = "cpus:2;mem:10000000000".parse().unwrap();
        let cluster = v1::GetClusterResponse {
            master_id: "m1".to_owned(),
            agents: 3,
            total: Some((most.clone() + &most).into()),
            ..Default::default()
        };
        Ok(Response::new(cluster))
    }

    async fn list_agents(
        &self,
        _request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        Ok(Response::new(v1::ListAgentsResponse {
            agents: vec![agent("a1"), agent("a2")],
            ..Default::default()
        }))
    }

    async fn list_frameworks(
        &self,
        _request: Request<v1::ListFrameworksRequest>,
    ) -> Result<Response<v1::ListFrameworksResponse>, Status> {
        let info = v1::FrameworkInfo { roles: vec!["*".to_owned()], ..Default::default() };
        let framework = v1::FrameworkSummary {
            framework_id: "f1".to_owned(),
            info: Some(info),
            // A state of a newer master.
            state: 99,
            ..Default::default()
        };
        Ok(Response::new(v1::ListFrameworksResponse { frameworks: vec![framework], ..Default::default() }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let info = v1::TaskInfo {
            task_id: request.task_id.unwrap_or_default(),
            resources: resources("cpus:1"),
            command: Some(v1::Command { argv: vec!["true".to_owned()], ..Default::default() }),
            ..Default::default()
        };
        let task = v1::TaskSummary {
            framework_id: request.framework_id.unwrap_or_default(),
            agent_id: "a1".to_owned(),
            role: "*".to_owned(),
            info: Some(info),
            state: v1::TaskState::Running as i32,
            agent_address: "host:5051".to_owned(),
            ..Default::default()
        };
        let copies = if request.completed { 2 } else { 1 };
        Ok(Response::new(v1::ListTasksResponse { tasks: vec![task; copies], ..Default::default() }))
    }

    async fn deactivate_agent(
        &self,
        request: Request<v1::DeactivateAgentRequest>,
    ) -> Result<Response<v1::DeactivateAgentResponse>, Status> {
        match request.into_inner().agent_id.as_str() {
            "a1" => Ok(Response::new(v1::DeactivateAgentResponse {})),
            other => Err(Status::not_found(format!("agent `{other}` does not exist"))),
        }
    }

    async fn reactivate_agent(
        &self,
        _request: Request<v1::ReactivateAgentRequest>,
    ) -> Result<Response<v1::ReactivateAgentResponse>, Status> {
        Err(Status::failed_precondition("agent a1 is being drained"))
    }

    async fn drain_agent(
        &self,
        request: Request<v1::DrainAgentRequest>,
    ) -> Result<Response<v1::DrainAgentResponse>, Status> {
        let drain = request.into_inner().drain;
        assert_eq!(drain, Some(v1::Drain { grace_max_ms: Some(1500), mark_gone: true }));
        Ok(Response::new(v1::DrainAgentResponse {}))
    }

    async fn mark_agent_gone(
        &self,
        _request: Request<v1::MarkAgentGoneRequest>,
    ) -> Result<Response<v1::MarkAgentGoneResponse>, Status> {
        Ok(Response::new(v1::MarkAgentGoneResponse {}))
    }

    async fn list_roles(
        &self,
        _request: Request<v1::ListRolesRequest>,
    ) -> Result<Response<v1::ListRolesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_reservations(
        &self,
        _request: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_volumes(
        &self,
        _request: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn explain(
        &self,
        _request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn update_roles(
        &self,
        _request: Request<v1::UpdateRolesRequest>,
    ) -> Result<Response<v1::UpdateRolesResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn operate(
        &self,
        _request: Request<v1::OperateRequest>,
    ) -> Result<Response<v1::OperateResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn watch(
        &self,
        _request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_offers(
        &self,
        _request: Request<v1::ListOffersRequest>,
    ) -> Result<Response<v1::ListOffersResponse>, Status> {
        let offer = v1::Offer {
            offer_id: "o1".to_owned(),
            framework_id: "f1".to_owned(),
            agent_id: "a1".to_owned(),
            role: "*".to_owned(),
            resources: resources("cpus:2"),
            ..Default::default()
        };
        let summary = v1::OfferSummary { offer: Some(offer), made_at_us: 1, expires_at_us: 2 };
        Ok(Response::new(v1::ListOffersResponse { offers: vec![summary], ..Default::default() }))
    }

    async fn kill_task(
        &self,
        request: Request<v1::KillTaskRequest>,
    ) -> Result<Response<v1::KillTaskResponse>, Status> {
        match request.into_inner().task_id.as_str() {
            "t1" => Ok(Response::new(v1::KillTaskResponse { framework_id: "f1".to_owned() })),
            other => Err(Status::not_found(format!("there is no task `{other}`"))),
        }
    }

    async fn get_maintenance_schedule(
        &self,
        _request: Request<v1::GetMaintenanceScheduleRequest>,
    ) -> Result<Response<v1::GetMaintenanceScheduleResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }

    async fn get_maintenance_status(
        &self,
        _request: Request<v1::GetMaintenanceStatusRequest>,
    ) -> Result<Response<v1::GetMaintenanceStatusResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }

    async fn update_maintenance_schedule(
        &self,
        _request: Request<v1::UpdateMaintenanceScheduleRequest>,
    ) -> Result<Response<v1::UpdateMaintenanceScheduleResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }

    async fn start_maintenance(
        &self,
        _request: Request<v1::StartMaintenanceRequest>,
    ) -> Result<Response<v1::StartMaintenanceResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }

    async fn stop_maintenance(
        &self,
        _request: Request<v1::StopMaintenanceRequest>,
    ) -> Result<Response<v1::StopMaintenanceResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }

    async fn teardown_framework(
        &self,
        _request: Request<v1::TeardownFrameworkRequest>,
    ) -> Result<Response<v1::TeardownFrameworkResponse>, Status> {
        Err(Status::permission_denied("not yours"))
    }
}

#[tonic::async_trait]
impl SandboxService for World {
    type ReadFileStream = ReceiverStream<Result<v1::ReadFileResponse, Status>>;

    async fn read_file(
        &self,
        request: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        if request.path != "stdout" {
            return Err(Status::not_found(format!("no file `{}`", request.path)));
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let offset = u64::try_from(100 + request.offset).unwrap();
        let chunk = |offset, data: &'static [u8]| v1::ReadFileResponse { offset, data: data.into() };
        sender.try_send(Ok(chunk(offset, b"hello "))).unwrap();
        sender.try_send(Ok(chunk(offset + 6, b"world"))).unwrap();
        if request.follow {
            sender.try_send(Err(Status::aborted("the agent ends"))).unwrap();
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type ReadLogStream = ReceiverStream<Result<v1::ReadLogResponse, Status>>;

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let request = request.into_inner();
        assert_eq!((request.tail_lines, request.after.len(), request.follow), (Some(3), 1, true));
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let part = |output: v1::Output, data: &'static [u8], missed| v1::ReadLogResponse {
            output: output.into(),
            data: data.into(),
            position: "here".to_owned(),
            missed,
        };
        sender.try_send(Ok(part(v1::Output::Stderr, b"late", true))).unwrap();
        sender.try_send(Err(Status::not_found("it is gone"))).unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_files(
        &self,
        request: Request<v1::ListFilesRequest>,
    ) -> Result<Response<v1::ListFilesResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((&request.path[..], &request.after[..]), (&b"a\xff"[..], &b"b"[..]));
        let file = |name: &'static [u8], kind: v1::FileKind| v1::FileInfo {
            name: name.into(),
            kind: kind.into(),
            link_target: b"to".as_slice().into(),
            ..v1::FileInfo::default()
        };
        let files = vec![file(b"\xfe", v1::FileKind::File), file(b"l", v1::FileKind::Link)];
        Ok(Response::new(v1::ListFilesResponse {
            itself: Some(file(b"a\xff", v1::FileKind::Folder)),
            files,
            more: true,
        }))
    }

    async fn write_file(
        &self,
        request: Request<tonic::Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        let mut requests = request.into_inner();
        let (mut size_bytes, mut finished) = (0, false);
        while let Some(request) = requests.message().await? {
            match request.request {
                Some(v1::write_file_request::Request::Data(data)) => size_bytes += data.len() as u64,
                Some(v1::write_file_request::Request::Finish(_)) => finished = true,
                _ => {}
            }
        }
        if finished {
            Ok(Response::new(v1::WriteFileResponse { size_bytes }))
        } else {
            Err(Status::cancelled("cut"))
        }
    }

    async fn read_usage(
        &self,
        _request: Request<v1::ReadUsageRequest>,
    ) -> Result<Response<v1::ReadUsageResponse>, Status> {
        let task = |framework_id: &str| v1::TaskUsage {
            framework_id: framework_id.to_owned(),
            task_id: "t".to_owned(),
            cpu_us: 7,
            ..v1::TaskUsage::default()
        };
        Ok(Response::new(v1::ReadUsageResponse { tasks: vec![task("f"), task("")] }))
    }

    type ExecStream = ReceiverStream<Result<v1::ExecResponse, Status>>;

    async fn exec(
        &self,
        _request: Request<tonic::Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Err(Status::unimplemented("nothing runs here"))
    }
}

async fn serve() -> (String, JoinHandle<()>) {
    serve_as(None).await
}

async fn serve_as(stands_by: Option<Status>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let server = Server::builder()
            .add_service(OperatorServiceServer::new(World { stands_by }))
            .add_service(SandboxServiceServer::new(World::default()));
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (address, server)
}

#[tokio::test]
async fn a_master_is_asked() {
    let (address, server) = serve().await;
    let operator = Operator::connect(&address).await.unwrap();

    let cluster = operator.cluster().await.unwrap();
    assert_eq!((cluster.master_id.as_str(), cluster.agents), ("m1", 3));
    assert_eq!(cluster.total.to_string(), "cpus:4;mem:20000000000");
    assert!(cluster.offered.is_empty());

    let agents = operator.agents().await.unwrap();
    assert_eq!(
        (agents.len(), agents[1].agent_id.as_str(), agents[1].state),
        (2, "a2", AgentState::Unreachable)
    );

    let filter = TaskFilter {
        framework_id: Some(FrameworkId::new("f1").unwrap()),
        task_id: Some(TaskId::new("t1").unwrap()),
        completed: true,
    };
    let tasks = operator.tasks(&filter).await.unwrap();

    let agent_id = AgentId::new("a1").unwrap();
    operator.deactivate_agent(&agent_id).await.unwrap();
    let drain = Drain { grace_max: Some(Duration::from_millis(1500)), mark_gone: true };
    operator.drain_agent(&agent_id, drain).await.unwrap();
    operator.mark_agent_gone(&agent_id).await.unwrap();
    assert_eq!((tasks.len(), tasks[0].info.task_id.as_str(), tasks[0].state), (2, "t1", TaskState::Running));

    let offers = operator.offers().await.unwrap();
    assert_eq!(offers[0].resources.to_string(), "cpus:2");

    let killed = operator.kill(None, &TaskId::new("t1").unwrap(), None).await.unwrap();
    assert_eq!(killed.as_str(), "f1");
    server.abort();
}

#[tokio::test]
async fn of_several_masters_the_one_that_leads_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (leader, _leads) = serve().await;
    let (named, _names) = serve_as(Some(standing_by(Some(&leader)))).await;
    let (nothing, _knows_nothing) = serve_as(Some(standing_by(None))).await;
    for masters in
        [named.clone(), format!("{nobody},{nothing},{leader}"), format!("{nothing}, http://{named}")]
    {
        let operator = Operator::connect(&masters).await.unwrap();
        assert_eq!(operator.cluster().await.unwrap().master_id, "m1", "{masters}");
    }
    let error = Operator::connect(&format!("{nobody},{nothing}")).await.unwrap_err().to_string();
    assert!(error.contains(&nothing) && error.contains("stands by"), "{error}");
    let error = Operator::connect(&format!("{leader},nonsense")).await.unwrap_err().to_string();
    assert!(error.contains("`nonsense` is not the address of a master"), "{error}");
}

#[tokio::test]
async fn a_refusal_says_what_failed() {
    let (address, server) = serve().await;
    let operator = Operator::connect(&format!("http://{address}")).await.unwrap();

    let missing = operator.kill(None, &TaskId::new("t2").unwrap(), None).await.unwrap_err();
    assert_eq!(missing, OperatorError::NotFound { message: "there is no task `t2`".to_owned() });

    let refused = operator.teardown(&FrameworkId::new("f1").unwrap()).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("tearing a framework down at the master at http://{address} failed: not yours")
    );

    let refused = operator.reactivate_agent(&AgentId::new("a1").unwrap()).await.unwrap_err().to_string();
    assert!(refused.ends_with("failed: agent a1 is being drained"), "{refused}");
    let missing = operator.deactivate_agent(&AgentId::new("a9").unwrap()).await.unwrap_err();
    assert_eq!(missing, OperatorError::NotFound { message: "agent `a9` does not exist".to_owned() });

    let malformed = operator.frameworks().await.unwrap_err().to_string();
    assert!(malformed.contains("frameworks[0].state: 99 is not a state known here"), "{malformed}");

    let nonsense = Operator::connect("nonsense").await.unwrap_err().to_string();
    assert!(nonsense.contains("`nonsense` is not the address of a master: it names no port"), "{nonsense}");
    server.abort();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let nobody = Operator::connect(&nobody).await.unwrap_err().to_string();
    assert!(nobody.contains("refused") && nobody.contains("`apportion dev` starts one"), "{nobody}");
}

#[tokio::test]
async fn a_file_is_read() {
    let (address, server) = serve().await;
    let request = |path: &str| {
        sandbox::Request::new(FrameworkId::new("f1").unwrap(), TaskId::new("t1").unwrap(), path).offset(-10)
    };
    let mut file = sandbox::read(&address, request("stdout")).await.unwrap();
    assert_eq!(file.chunk().await.unwrap(), Some(Chunk { offset: 90, data: b"hello ".to_vec() }));
    assert_eq!(file.chunk().await.unwrap(), Some(Chunk { offset: 96, data: b"world".to_vec() }));
    assert_eq!(file.chunk().await.unwrap(), None);
    assert_eq!(
        sandbox::read(&address, request("stdout")).await.unwrap().bytes().await.unwrap(),
        b"hello world"
    );

    let mut after = sandbox::LogRequest::new(FrameworkId::new("f1").unwrap(), TaskId::new("t1").unwrap());
    after = after.only(Output::Stderr).tail(3).after(Position("here".to_owned())).follow(true);
    let mut log = sandbox::log(&address, after).await.unwrap();
    let part = log.part().await.unwrap().unwrap();
    assert_eq!((part.output, part.missed, &part.data[..]), (Output::Stderr, true, &b"late"[..]));
    assert_eq!(part.position, Position("here".to_owned()));
    assert!(log.part().await.unwrap_err().to_string().contains("has no log on the agent at"));

    let (framework_id, task_id) = (FrameworkId::new("f1").unwrap(), TaskId::new("t1").unwrap());
    let mut files = sandbox::Files::connect(&address, framework_id, task_id).await.unwrap();
    let odd = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
    let listing = files.list(odd(b"a\xff"), OsStr::new("b")).await.unwrap();
    assert!(listing.more && listing.itself.kind == Kind::Folder);
    assert_eq!(listing.entries[0].name, odd(b"\xfe").as_os_str());
    assert_eq!(listing.entries[1].kind, Kind::Link("to".into()));
    let large = vec![b'x'; 300_000];
    assert_eq!(files.write(Path::new("f"), 0o644, &large[..]).await.unwrap(), 300_000);
    assert_eq!(files.write(Path::new("f"), 0o644, tokio::io::empty()).await.unwrap(), 0);
    let usage = sandbox::usage(&address, None).await.unwrap();
    assert_eq!((usage.len(), usage[0].cpu_us), (1, 7), "one without a framework is none");

    let missing = sandbox::read(&address, request("stderr")).await.unwrap_err();
    assert!(matches!(missing, SandboxError::NotFound { .. }), "{missing}");
    assert!(missing.to_string().contains("task `t1` has no file `stderr` on the agent at"), "{missing}");

    let broken =
        sandbox::read(&address, request("stdout").follow(true)).await.unwrap().bytes().await.unwrap_err();
    assert!(broken.to_string().contains("the agent ends"), "{broken}");
    server.abort();
}
