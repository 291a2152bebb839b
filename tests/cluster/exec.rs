//! Commands beside a task: as if they ran here.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::{Cluster, is_root};
use crate::support::until;

const TASK: &str = "beside-0001";

/// A terminal: the side that a person sees, and the one that a program has.
struct Terminal {
    person: File,
    program: OwnedFd,
    seen: String,
}

impl Terminal {
    fn open(rows: u16, columns: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let program = ioctl_tiocgptpeer(&person, flags).unwrap();
        let terminal = Terminal { person: File::from(person), program, seen: String::new() };
        terminal.resize(rows, columns);
        terminal
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.person, size).unwrap();
    }

    fn start(&self, mut command: Command) -> Child {
        let side = || Stdio::from(self.program.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap()
    }

    /// Reads until this was said.
    fn read_until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut buffer = [0; 1024];
            let read = self.person.read(&mut buffer).unwrap();
            assert!(read > 0, "it ended without {text:?}: {}", self.seen);
            self.seen += &String::from_utf8_lossy(&buffer[..read]);
        }
    }

    /// What it does by itself with what is typed.
    fn modes(&self) -> LocalModes {
        tcgetattr(&self.program).unwrap().local_modes
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Whether a process with just this command line runs.
fn runs(argv: &[&str]) -> bool {
    let wanted: Vec<u8> = argv.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).any(|line| line == wanted)
}

#[test]
fn a_command_beside_a_task_is_as_if_it_ran_here() {
    if !is_root("a_command_beside_a_task_is_as_if_it_ran_here") {
        return;
    }
    let cluster = Cluster::start(&[("exec", "cpus:2;mem:1GiB")]);
    let job =
        "name = 'beside'\n[task]\ncommand = 'echo mine > file; sleep 1000'\ncpus = 0.5\nmemory = '256MiB'\n";
    let _job = cluster.submit("beside", job, &[]);
    until("the task runs", || (!cluster.tasks("running").is_empty()).then_some(()));
    let exec = |flags: &[&str], argv: &[&str]| {
        let args = [&["exec", "--master", &cluster.url], flags, &[TASK, "--"], argv].concat();
        cluster.place.command(&args)
    };

    // Input, output, errors and the code; and where it is.
    let script = "cat; echo no >&2; exit 3";
    let mut child = exec(&["-i"], &["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    assert_eq!((&ended.stdout[..], &ended.stderr[..]), (&b"typed\n"[..], &b"no\n"[..]));
    let ended = exec(&["-e", "A=b"], &["sh", "-c", "cat file; echo $A; cat"]).output().unwrap();
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "mine\nb\n");
    for (argv, code, said) in [
        (&["sh", "-c", "kill -9 $$"][..], 137, ""),
        (&["no-such-program"], 127, "no-such-program"),
        (&["/etc/passwd"], 126, "/etc/passwd"),
    ] {
        let ended = exec(&[], argv).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains(said), "{ended:?}");
    }

    // A terminal has this one's size, follows it, and Ctrl-C goes to the command.
    let mut terminal = Terminal::open(33, 77);
    let before = terminal.modes();
    let mut child = terminal.start(exec(&["-it"], &["sh", "-c", "while :; do stty size; sleep 0.1; done"]));
    terminal.read_until("33 77\r\n");
    assert!(!terminal.modes().intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    terminal.resize(44, 88);
    kill_process(pid(&child), Signal::WINCH).unwrap();
    terminal.read_until("44 88\r\n");
    terminal.person.write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", terminal.seen);
    assert_eq!(terminal.modes(), before);

    // Whatever ends the client ends the command, and gives the terminal back.
    let mut child = terminal.start(exec(&["-it"], &["sleep", "86398.5"]));
    until("it runs", || runs(&["sleep", "86398.5"]).then_some(()));
    until("the terminal is taken over", || (terminal.modes() != before).then_some(()));
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(terminal.modes(), before);
    until("it is gone", || (!runs(&["sleep", "86398.5"])).then_some(()));
    let mut child = exec(&[], &["sleep", "86397.5"]).spawn().unwrap();
    until("it runs", || runs(&["sleep", "86397.5"]).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    until("it is gone", || (!runs(&["sleep", "86397.5"])).then_some(()));

    // Beside nothing there is nothing to execute.
    cluster.place.run(&["kill", TASK, "--master", &cluster.url]).expect(0);
    until("the task has ended", || cluster.tasks("running").is_empty().then_some(()));
    until("that is said", || {
        let ended = exec(&[], &["true"]).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        String::from_utf8_lossy(&ended.stderr).contains("has ended").then_some(())
    });
}
