//! This binary as a task.

use std::{
    ffi::OsString,
    fs, hint,
    io::Write,
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Runs the task that the arguments name.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.into_string().unwrap()).collect();
    let number = |at: usize| args[at].parse::<u64>().unwrap();
    match args[0].as_str() {
        // Takes so many MiB.
        "eat" => {
            eat(number(1));
            ExitCode::SUCCESS
        }
        // Maps so many bytes of huge pages of 2 MiB, and touches each; the exit code is the error.
        "map-huge" => ExitCode::from(crate::attempts::map_huge(number(1) as usize)),
        // Has a child of a child take so many MiB, and stays.
        "have-eaten" => {
            let exe = std::env::current_exe().unwrap();
            let script = format!("'{}' task eat {}; echo >survived; sleep 1000", exe.display(), number(1));
            let mut child = Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
            child.wait().unwrap();
            rest()
        }
        // Uses so many milliseconds of processor time and so many MiB, says so, and stays.
        "use" => {
            let eaten = eat(number(2));
            let start = cpu();
            while cpu() - start < Duration::from_millis(number(1)) {
                hint::spin_loop();
            }
            fs::write("used", "done\n").unwrap();
            hint::black_box(&eaten);
            rest()
        }
        // Computes for so many milliseconds of wall time.
        "spin" => {
            let (start, time) = (Instant::now(), Duration::from_millis(number(1)));
            while start.elapsed() < time {
                hint::spin_loop();
            }
            ExitCode::SUCCESS
        }
        // Starts processes until it may not, says how many, and stays.
        "fork-bomb" => {
            let mut count = 0;
            while count < 10_000 && Command::new("sleep").arg("1000").spawn().is_ok() {
                count += 1;
            }
            fs::write("count", format!("{count}\n")).unwrap();
            rest()
        }
        // Says hello on a socket.
        "connect" => {
            UnixStream::connect(&args[1]).unwrap().write_all(b"hello").unwrap();
            ExitCode::SUCCESS
        }
        "attempts" => crate::attempts::main(&args[1..]),
        "facts" => crate::facts::main(&args[1..]),
        "escape" => crate::escapes::main(&args[1..]),
        other => panic!("no task {other}"),
    }
}

fn eat(mib: u64) -> Vec<u8> {
    let mut eaten = vec![0_u8; (mib << 20) as usize];
    eaten.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    hint::black_box(eaten)
}

/// The processor time of this process, as the kernel accounts it.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn rest() -> ! {
    loop {
        std::thread::park();
    }
}
