//! Commands executed in containers without processes.

use apportion_types::container::Exit;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, empty},
    sync::{mpsc, oneshot, watch},
};

use super::{Fake, lock};
use crate::{
    error::LaunchError,
    exec::{Exec, ExecError, ExecProcess, ExecSpec, TerminalSize},
    spec::ContainerId,
};

/// Bytes that wait in each direction, as in a small pipe.
const PIPE_BYTES: usize = 4 << 10;

pub(super) fn exec(fake: &Fake, id: &ContainerId, spec: ExecSpec) -> Result<Exec, ExecError> {
    let Some(script) = spec.argv.first().cloned() else { return Err(LaunchError::EmptyCommand.into()) };
    {
        let mut state = lock(&fake.state);
        if state.container(id)?.termination.is_some() {
            return Err(ExecError::NotRunning { id: id.clone() });
        }
        state.executed.push((id.clone(), spec.clone()));
    }
    if script == "missing" {
        return Err(LaunchError::CommandNotFound { command: script, searched: "PATH=".to_owned() }.into());
    }
    let (input, read) = duplex(PIPE_BYTES);
    let (output, write) = duplex(PIPE_BYTES);
    let (tell, exit) = watch::channel(None);
    let (held, let_go) = oneshot::channel();
    let (resized, resizes) = mpsc::unbounded_channel();
    let (fake, id, terminal) = (fake.clone(), id.clone(), spec.terminal.is_some());
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = play(&spec, read, write, resizes) => exit,
            () = fake.over(&id) => Exit::Signal(9),
            _ = let_go => Exit::Signal(9),
        };
        // Whoever asked may have gone.
        let _ = tell.send(Some(exit));
    });
    let resize = move |size| resized.send(size).map_err(std::io::Error::other);
    Ok(Exec {
        input: Box::new(input),
        output: Box::new(output),
        errors: (!terminal).then(|| Box::new(empty()) as _),
        process: ExecProcess { exit, resize: terminal.then(|| Box::new(resize) as _), _held: held },
    })
}

impl Fake {
    /// Returns when a container has ended.
    async fn over(&self, id: &ContainerId) {
        let mut ended = self.ended.subscribe();
        while lock(&self.state).containers.get(id).is_some_and(|c| c.termination.is_none()) {
            // The sender lives in `self`, so that this cannot fail before it returns.
            let _ = ended.changed().await;
        }
    }
}

/// Does what the command says; returns how it ends.
async fn play(
    spec: &ExecSpec,
    mut input: DuplexStream,
    mut output: DuplexStream,
    mut resizes: mpsc::UnboundedReceiver<TerminalSize>,
) -> Exit {
    // A reader that has gone is to a fake what it is to a program that ignores it.
    match spec.argv[0].as_str() {
        "exit" => Exit::Code(spec.argv.get(1).and_then(|code| code.parse().ok()).unwrap_or(0)),
        "echo" => {
            let _ = output.write_all(format!("{}\n", spec.argv[1..].join(" ")).as_bytes()).await;
            Exit::Code(0)
        }
        "cat" => {
            let mut buffer = [0; 1024];
            loop {
                tokio::select! {
                    read = input.read(&mut buffer) => match read {
                        Ok(0) | Err(_) => return Exit::Code(0),
                        Ok(read) => drop(output.write_all(&buffer[..read]).await),
                    },
                    Some(TerminalSize { rows, columns }) = resizes.recv() => {
                        let _ = output.write_all(format!("[{rows}x{columns}]").as_bytes()).await;
                    }
                }
            }
        }
        _ => std::future::pending().await,
    }
}
