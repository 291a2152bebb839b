//! Commands beside tasks, over a real connection.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod support;

use apportion_proto::v1::{
    ExecCommand, ExecEnd, ExecRequest, ExecResponse, TerminalSize, exec_end::Exit, exec_request::Request,
    exec_response::Response,
};
use apportion_types::{TaskState, container, limits::EXEC_SESSIONS_MAX};
use support::{world::World, *};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

fn command(argv: &[&str]) -> ExecCommand {
    ExecCommand {
        framework_id: "f1".to_owned(),
        task_id: "t1".to_owned(),
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        ..ExecCommand::default()
    }
}

/// A command that was executed.
struct Session {
    requests: mpsc::Sender<ExecRequest>,
    responses: Streaming<ExecResponse>,
}

impl World {
    async fn begin(&mut self, first: Request) -> Result<Session, Status> {
        let (requests, outgoing) = mpsc::channel(4);
        requests.send(ExecRequest { request: Some(first) }).await.unwrap();
        let responses = timeout(LONG, self.client.exec(ReceiverStream::new(outgoing))).await.unwrap()?;
        Ok(Session { requests, responses: responses.into_inner() })
    }

    async fn exec(&mut self, command: ExecCommand) -> Result<Session, Status> {
        self.begin(Request::Command(command)).await
    }
}

impl Session {
    async fn say(&self, request: Request) {
        self.requests.send(ExecRequest { request: Some(request) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<Response, Status> {
        let response = timeout(LONG, self.responses.message()).await.expect("the agent answers")?;
        Ok(response.expect("an end comes first").response.unwrap())
    }

    /// All output, and the end.
    async fn rest(&mut self) -> (Vec<u8>, ExecEnd) {
        let mut output = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Response::Output(bytes) => {
                    assert!(bytes.len() <= 64 << 10);
                    output.extend_from_slice(&bytes);
                }
                Response::Errors(bytes) => panic!("a fake writes no errors: {bytes:?}"),
                Response::End(end) => {
                    let after = timeout(LONG, self.responses.message()).await.unwrap();
                    assert!(matches!(after, Ok(None)), "{after:?}");
                    return (output, end);
                }
            }
        }
    }
}

#[tokio::test]
async fn input_goes_in_and_output_and_the_end_come_back() {
    let mut world = World::new().await;
    let asked = ExecCommand {
        env: [("A".to_owned(), "b".to_owned())].into(),
        user: "nobody".to_owned(),
        working_dir: "/tmp".to_owned(),
        ..command(&["exit", "3"])
    };
    let (output, end) = world.exec(asked).await.unwrap().rest().await;
    assert_eq!((output, end.exit, end.message.as_str()), (vec![], Some(Exit::ExitCode(3)), ""));
    let (container, spec) = world.fake.executed().remove(0);
    assert_eq!((container, spec.env["A"].as_str()), (world.id.clone(), "b"));
    assert_eq!((spec.user.as_deref(), spec.terminal), (Some("nobody"), None));
    assert_eq!(spec.working_dir.unwrap().to_str(), Some("/tmp"));

    // More than is kept anywhere on the way: the command waits for its reader, and what is typed for the command.
    let bytes: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut session = world.exec(command(&["cat"])).await.unwrap();
    let (requests, typed) = (session.requests.clone(), bytes.clone());
    let typing = tokio::spawn(async move {
        for part in typed.chunks(100_000) {
            let request = Some(Request::Input(part.to_vec().into()));
            requests.send(ExecRequest { request }).await.unwrap();
        }
        requests.send(ExecRequest { request: Some(Request::CloseInput(true)) }).await.unwrap();
    });
    let (output, end) = session.rest().await;
    typing.await.unwrap();
    assert!(output == bytes, "{} bytes instead of {}", output.len(), bytes.len());
    assert_eq!(end.exit, Some(Exit::ExitCode(0)));

    // Whoever asks no more has closed the input.
    let Session { requests, responses } = world.exec(command(&["cat"])).await.unwrap();
    drop(requests);
    let (unused, _) = mpsc::channel(1);
    let (_, end) = Session { requests: unused, responses }.rest().await;
    assert_eq!(end.exit, Some(Exit::ExitCode(0)));
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let mut world = World::new().await;
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let mut session = world.exec(ExecCommand { terminal, ..command(&["cat"]) }).await.unwrap();
    session.say(Request::Resize(TerminalSize { rows: 30, columns: 100 })).await;
    assert_eq!(session.next().await.unwrap(), Response::Output("[30x100]".into()));
    session.say(Request::Resize(TerminalSize { rows: 30, columns: 100_000 })).await;
    let refused = session.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("100000"), "{refused}");
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_executed_is_said() {
    let mut world = World::new().await;
    let (output, end) = world.exec(command(&["missing"])).await.unwrap().rest().await;
    assert_eq!((output, end.exit), (vec![], Some(Exit::ExitCode(127))));
    assert!(end.message.contains("missing"), "{end:?}");
    for (asked, code, about) in [
        (command(&[]), Code::InvalidArgument, "command"),
        (ExecCommand { task_id: "t2".to_owned(), ..command(&["cat"]) }, Code::NotFound, "task t2"),
        (ExecCommand { framework_id: "f2".to_owned(), ..command(&["cat"]) }, Code::NotFound, "framework f2"),
        (ExecCommand { task_id: "../t1".to_owned(), ..command(&["cat"]) }, Code::InvalidArgument, "../t1"),
    ] {
        let Err(refused) = world.exec(asked.clone()).await else { panic!("{asked:?} was executed") };
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(about), "{refused}");
    }
    let Err(refused) = world.begin(Request::CloseInput(true)).await else { panic!("nothing was executed") };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut session = world.exec(command(&["cat"])).await.unwrap();
    session.say(Request::Command(command(&["cat"]))).await;
    assert_eq!(session.next().await.unwrap_err().code(), Code::InvalidArgument);
    world.agent.end().await.unwrap();
}

#[tokio::test]
async fn a_command_ends_with_its_task_and_with_its_agent() {
    let mut world = World::new().await;
    let mut session = world.exec(command(&["wait"])).await.unwrap();
    world.fake.end(&world.id, container::Exit::Code(0));
    let (_, end) = session.rest().await;
    assert_eq!(end.exit, Some(Exit::ExitSignal(9)));
    world.stream.until("t1", TaskState::Finished).await;
    let Err(refused) = world.exec(command(&["cat"])).await else { panic!("beside nothing") };
    assert!(matches!(refused.code(), Code::NotFound | Code::FailedPrecondition), "{refused}");

    world.stream.run(vec![task("t2", &["serve"])]).await;
    world.stream.until("t2", TaskState::Running).await;
    let beside = ExecCommand { task_id: "t2".to_owned(), ..command(&["wait"]) };
    let mut session = world.exec(beside).await.unwrap();
    world.agent.end().await.unwrap();
    assert!(session.next().await.is_err());
}

#[tokio::test]
async fn an_agent_executes_so_many_commands_at_once_and_says_so() {
    let mut world = World::new().await;
    let mut sessions = Vec::new();
    for _ in 0..EXEC_SESSIONS_MAX {
        sessions.push(world.exec(command(&["serve"])).await.unwrap());
    }
    let refusal = world.exec(command(&["serve"])).await.err().unwrap();
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.message().contains("end one of them"), "{refusal}");
    drop(sessions.pop());
    loop {
        // The agent hears of the end of a stream in its own time.
        match world.exec(command(&["serve"])).await {
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
}
