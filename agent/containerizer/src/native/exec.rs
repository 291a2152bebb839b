//! Executing one more command in a container: the agent's side.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
};

use apportion_types::container::Exit;
use rustix::{
    net::{RecvFlags, SendFlags, send},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::Interest,
    process::Child,
    sync::{oneshot, watch},
    time::timeout,
};

use super::{Shared, launch, read};
use crate::{
    containerizer::LAUNCH_TIMEOUT,
    error::{ContainerError, LaunchError},
    exec::{Exec, ExecError, ExecProcess, ExecSpec, TerminalSize},
    folder::{self, Pids},
    linux::{
        EXEC, EXEC_BYTES_MAX,
        stream::Stream,
        wire::{self, Heard, Word},
    },
    spec::ContainerId,
};

pub(super) async fn exec(shared: &Shared, id: &ContainerId, spec: ExecSpec) -> Result<Exec, ExecError> {
    launch::passable(&spec.argv, &spec.env)?;
    let request = serde_json::to_vec(&spec).map_err(io::Error::from)?;
    if request.len() > EXEC_BYTES_MAX {
        return Err(ExecError::TooLong { bytes: request.len(), bytes_max: EXEC_BYTES_MAX });
    }
    shared.known(id)?;
    if !runs(shared, id)? {
        return Err(ExecError::NotRunning { id: id.clone() });
    }
    let (keeper, theirs) = wire::pair()?;
    // Before the other side reads: a message waits in the socket.
    send(&keeper, &request, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
    let child = spawn(shared, id, theirs)?;
    let keeper = Stream::new(keeper, Interest::READABLE)?;
    let heard = timeout(LAUNCH_TIMEOUT, hear(&keeper)).await;
    let heard = heard.map_err(|_| LaunchError::TimedOut { after: LAUNCH_TIMEOUT })??;
    match heard {
        Some(Heard { word: Word::Executing, descriptors, .. }) => {
            talk(spec.terminal.is_some(), descriptors, keeper, child)
        }
        // Whatever went wrong, that the container is ending explains it.
        _ if !runs(shared, id)? => Err(ExecError::NotRunning { id: id.clone() }),
        Some(Heard { word: Word::Failed(failure), .. }) => Err(LaunchError::from(failure).into()),
        _ => {
            let status = "it said nothing".to_owned();
            Err(LaunchError::RunnerDied { status, log: "nothing".to_owned() }.into())
        }
    }
}

/// True while the container's process 1 runs, and its runner.
fn runs(shared: &Shared, id: &ContainerId) -> Result<bool, ContainerError> {
    let pids: Pids = read(&shared.folder(id), folder::PIDS)?.unwrap_or_default();
    let unseen = |source| ContainerError::Unseen { id: id.clone(), source };
    Ok(match (pids.live_runner().map_err(unseen)?, pids.init) {
        (Some(_), Some(init)) => init.runs().map_err(unseen)?,
        _ => false,
    })
}

fn spawn(shared: &Shared, id: &ContainerId, socket: OwnedFd) -> Result<Child, LaunchError> {
    let program = &shared.program;
    let failed = |source| program.failed(source);
    let folder = std::path::absolute(shared.folder(id)).map_err(failed)?;
    let mut helper = program.command().map_err(failed)?;
    helper
        .arg(EXEC)
        .arg(folder)
        // As for a runner: nothing of the agent's own.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}

async fn hear(keeper: &Stream) -> io::Result<Option<Heard>> {
    match keeper.when_readable(|socket| wire::receive(socket, RecvFlags::DONTWAIT)).await {
        // It was killed with something unread.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        heard => heard,
    }
}

/// The command's input and output, from the ends that its keeper has sent.
fn talk(terminal: bool, ends: Vec<OwnedFd>, keeper: Stream, child: Child) -> Result<Exec, ExecError> {
    let missing = || io::Error::from(io::ErrorKind::InvalidData);
    let (input, output, errors, resize) = if terminal {
        let [master] = <[OwnedFd; 1]>::try_from(ends).map_err(|_| missing())?;
        let master = Stream::new(master, Interest::READABLE | Interest::WRITABLE)?;
        let resized = master.clone();
        let resize = move |size: TerminalSize| {
            let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(resized.descriptor().as_fd(), size).map_err(io::Error::from)
        };
        (master.clone(), master, None, Some(Box::new(resize) as _))
    } else {
        let [input, output, errors] = <[OwnedFd; 3]>::try_from(ends).map_err(|_| missing())?;
        let (output, errors) =
            (Stream::new(output, Interest::READABLE)?, Stream::new(errors, Interest::READABLE)?);
        (Stream::new(input, Interest::WRITABLE)?, output, Some(Box::new(errors) as _), None)
    };
    let (tell, exit) = watch::channel(None);
    let (held, let_go) = oneshot::channel();
    tokio::spawn(look_after(keeper, child, tell, let_go));
    Ok(Exec {
        input: Box::new(input),
        output: Box::new(output),
        errors,
        process: ExecProcess { exit, resize, _held: held },
    })
}

/// Tells how the command ends, and reaps the helper. When nobody holds the command any more, its keeper sees the socket closed.
async fn look_after(
    keeper: Stream,
    mut child: Child,
    tell: watch::Sender<Option<Exit>>,
    let_go: oneshot::Receiver<()>,
) {
    let ended = tokio::select! {
        heard = hear(&keeper) => heard,
        _ = let_go => Ok(None),
    };
    let exit = match ended {
        Ok(Some(Heard { word: Word::Ended(exit), .. })) => exit,
        _ => Exit::Signal(libc::SIGKILL),
    };
    drop(keeper);
    let _ = child.wait().await;
    // Whoever asked may have gone.
    let _ = tell.send(Some(exit));
}
