//! Clocks that show another time than this machine's: no kernel gives a process a wall clock of its own, but a library in front of libc's can.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a process is told of how far its clock is off, in seconds.
const VARIABLE: &str = "SOAK_CLOCK_AHEAD";

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*system_clock)(clockid_t, struct timespec *);
    static long ahead;
    if (!system_clock) {
        const char *text = getenv("SOAK_CLOCK_AHEAD");
        ahead = text ? atol(text) : 0;
        system_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = system_clock(id, at);
    if (result == 0 && id == CLOCK_REALTIME) at->tv_sec += ahead;
    return result;
}
"#;

/// A library that shifts the wall clock of who is started with it.
pub(super) struct Clocks(PathBuf);

impl Clocks {
    /// Builds it, or says why it cannot be built.
    pub(super) fn build(folder: &Path) -> Result<Clocks, String> {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
        match compiler.output() {
            Ok(output) if output.status.success() => Ok(Clocks(library)),
            Ok(output) => Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("cc: {error}")),
        }
    }

    /// The clock of what this starts is so many seconds ahead, or behind.
    pub(super) fn shift(&self, command: &mut Command, ahead: i64) {
        command.env("LD_PRELOAD", &self.0).env(VARIABLE, ahead.to_string());
    }
}
