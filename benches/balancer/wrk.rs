//! The client: wrk, with a script that says its result in one line.

use std::{fs, path::Path, process::Command, time::Duration};

const SCRIPT: &str = r#"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency:percentile(99.9), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#;

/// What one turn came to.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) wall: Duration,
    /// Of the balancer.
    pub(crate) processor: Duration,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) errors: u64,
}

impl Load {
    /// Requests each second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }

    /// Requests for each second of the balancer's processor time.
    pub(crate) fn per_second_of_processor(&self) -> f64 {
        // A tick of the kernel's clock at least, so that a short turn does not divide by nothing.
        self.requests as f64 / self.processor.as_secs_f64().max(0.01)
    }
}

/// Asks on so many connections for so many seconds.
pub(crate) fn run(port: u16, connections: usize, seconds: u64, folder: &Path) -> Load {
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT).unwrap();
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("RESULT "))
        .unwrap_or_else(|| panic!("wrk said {text}"));
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    Load {
        requests: numbers[0],
        wall: Duration::from_micros(numbers[1]),
        processor: Duration::ZERO,
        p50_us: numbers[2],
        p99_us: numbers[3],
        p999_us: numbers[4],
        errors: numbers[5],
    }
}
