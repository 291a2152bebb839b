//! What is written into a group's files for given limits, and what their text means. Pure.

use apportion_types::{
    IoLimits,
    pressure::{Stall, Stalls},
};

use crate::spec::Limits;

/// The period over which a processor quota is counted; the kernel's own default.
pub const CPU_PERIOD_US: u64 = 100_000;

/// The smallest quota that the kernel accepts.
pub const CPU_QUOTA_MIN_US: u64 = 1_000;

/// The largest: 2^44 microseconds less one. A ceiling above it never binds.
pub const CPU_QUOTA_MAX_US: u64 = (1 << 44) - 1;

/// The largest `pids.max`: as many processes as Linux can number.
pub const PIDS_MAX: u64 = 1 << 22;

/// The container's own process 1 is in the group too and must not count against the task.
pub const PIDS_OF_OURS: u64 = 1;

/// How far below its limit a group's peak may stay although the limit stopped it: a refused request is not counted, and the
/// kernel charges in batches per processor.
const PEAK_SLACK_BYTES: u64 = 4 << 20;

/// `cpu.shares`: 1024 for one processor, within what the kernel accepts.
pub fn cpu_shares(limits: &Limits) -> u64 {
    (u128::from(limits.cpus_request_milli) * 1024 / 1000).clamp(2, 262_144) as u64
}

/// `cpu.weight`: the range 2..=262144 of shares mapped onto 1..=10000, as systemd and the OCI runtimes do.
pub fn cpu_weight(limits: &Limits) -> u64 {
    1 + (cpu_shares(limits) - 2) * 9_999 / 262_142
}

/// Microseconds of processor time per [`CPU_PERIOD_US`], if there is a ceiling.
pub fn cpu_quota_us(limits: &Limits) -> Option<u64> {
    let milli = limits.cpus_limit_milli?;
    Some(milli.saturating_mul(CPU_PERIOD_US / 1000).clamp(CPU_QUOTA_MIN_US, CPU_QUOTA_MAX_US))
}

/// `pids.max`, if there is a ceiling.
pub fn pids_max(limits: &Limits) -> Option<u64> {
    // A task of no process cannot be started.
    Some(limits.pids_max?.max(1).saturating_add(PIDS_OF_OURS).min(PIDS_MAX))
}

/// Bytes as the memory controller accepts them: above the signed range means no limit.
pub fn memory_bytes(bytes: u64) -> u64 {
    bytes.min(i64::MAX as u64)
}

/// What memory and swap may take together.
pub fn memory_and_swap_bytes(memory: u64, swap: u64) -> u64 {
    memory_bytes(memory.saturating_add(swap))
}

/// The most requests in a second that the kernel can be told; it never makes more.
const OPS_MAX: u64 = u32::MAX as u64;

/// The files of version 1 with the limits of a disk, and what is written into each behind the disk: 0 is no limit.
pub fn blkio(io: &IoLimits) -> [(&'static str, u64); 4] {
    let ops = |ops: Option<u64>| ops.unwrap_or(0).min(OPS_MAX);
    [
        ("blkio.throttle.read_bps_device", io.read_bytes_per_second.unwrap_or(0)),
        ("blkio.throttle.write_bps_device", io.write_bytes_per_second.unwrap_or(0)),
        ("blkio.throttle.read_iops_device", ops(io.read_ops_per_second)),
        ("blkio.throttle.write_iops_device", ops(io.write_ops_per_second)),
    ]
}

/// `io.max` of version 2 behind the disk.
pub fn io_max(io: &IoLimits) -> String {
    let value = |limit: Option<u64>| limit.map_or("max".to_owned(), |limit| limit.to_string());
    let ops = |ops: Option<u64>| value(ops.map(|ops| ops.min(OPS_MAX)));
    format!(
        "rbps={} wbps={} riops={} wiops={}",
        value(io.read_bytes_per_second),
        value(io.write_bytes_per_second),
        ops(io.read_ops_per_second),
        ops(io.write_ops_per_second)
    )
}

/// The size of a huge page as it is in the name of a file, such as `hugetlb.2MB.max`.
pub fn huge_page_bytes(name: &str) -> Option<u64> {
    let size = name.strip_prefix("hugetlb.")?.split('.').next()?;
    let (number, unit) = size.split_at_checked(size.len().checked_sub(2)?)?;
    let unit: u64 = match unit {
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The value behind `key` in lines of `key value`.
pub fn flat_keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok()).flatten()
    })
}

/// What a pressure file says: a line of `some`, and mostly one of `full`; none when it is another text.
pub fn stalls(text: &str) -> Option<Stalls> {
    let line = |word| text.lines().find_map(|line| line.strip_prefix(word)).and_then(stall);
    Some(Stalls { some: line("some ")?, full: line("full ") })
}

/// `avg10=0.12 avg60=0.00 avg300=0.00 total=1234`, in any order.
fn stall(line: &str) -> Option<Stall> {
    let value = |key| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    Some(Stall {
        avg10_basis_points: hundredths(value("avg10")?)?,
        avg60_basis_points: hundredths(value("avg60")?)?,
        avg300_basis_points: hundredths(value("avg300")?)?,
        total_us: value("total")?.parse().ok()?,
    })
}

/// A number with two digits behind its point.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').filter(|(_, part)| part.len() == 2)?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

/// True when a peak shows that the limit was reached; an unknown peak does not speak against it.
pub fn peak_reached(peak_bytes: Option<u64>, limit_bytes: u64) -> bool {
    peak_bytes.is_none_or(|peak| peak.saturating_add(PEAK_SLACK_BYTES) >= limit_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(request: u64, limit: Option<u64>) -> Limits {
        Limits {
            cpus_request_milli: request,
            cpus_limit_milli: limit,
            memory_request_bytes: 0,
            memory_limit_bytes: None,
            swap_max_bytes: 0,
            pids_max: None,
            io: IoLimits::NONE,
            cores: None,
            huge_pages: apportion_types::HugePages::NONE,
        }
    }

    #[test]
    fn shares_and_weight_stay_in_the_kernels_range() {
        for (milli, shares, weight) in [
            (0, 2, 1),
            (1, 2, 1),
            (100, 102, 4),
            (1_000, 1_024, 39),
            (2_500, 2_560, 98),
            (256_000, 262_144, 10_000),
            (u64::MAX, 262_144, 10_000),
        ] {
            let limits = limits(milli, None);
            assert_eq!((cpu_shares(&limits), cpu_weight(&limits)), (shares, weight), "{milli}");
        }
    }

    #[test]
    fn quota() {
        for (milli, quota) in [
            (None, None),
            (Some(0), Some(1_000)),
            (Some(1), Some(1_000)),
            (Some(200), Some(20_000)),
            (Some(1_500), Some(150_000)),
            // As much as a task may be given at all, and more: the kernel takes neither as it stands.
            (Some(10_000_000_000_000), Some(CPU_QUOTA_MAX_US)),
            (Some(u64::MAX), Some(CPU_QUOTA_MAX_US)),
        ] {
            assert_eq!(cpu_quota_us(&limits(0, milli)), quota, "{milli:?}");
        }
    }

    #[test]
    fn one_process_more_for_the_containers_own() {
        assert_eq!(pids_max(&Limits { pids_max: Some(5), ..limits(0, None) }), Some(6));
        assert_eq!(pids_max(&Limits { pids_max: Some(0), ..limits(0, None) }), Some(2));
        assert_eq!(pids_max(&Limits { pids_max: Some(u64::MAX), ..limits(0, None) }), Some(PIDS_MAX));
        assert_eq!(pids_max(&limits(0, None)), None);
    }

    #[test]
    fn limits_of_a_disk() {
        let io = IoLimits {
            read_bytes_per_second: Some(1 << 40),
            write_ops_per_second: Some(u64::MAX),
            ..IoLimits::NONE
        };
        assert_eq!(blkio(&io).map(|(_, value)| value), [1 << 40, 0, 0, OPS_MAX], "version 1 takes 32 bits");
        assert_eq!(io_max(&io), "rbps=1099511627776 wbps=max riops=max wiops=4294967295");
        assert_eq!(io_max(&IoLimits::NONE), "rbps=max wbps=max riops=max wiops=max");
    }

    #[test]
    fn sizes_of_huge_pages() {
        for (name, bytes) in [
            ("hugetlb.2MB.max", Some(2 << 20)),
            ("hugetlb.1GB.rsvd.limit_in_bytes", Some(1 << 30)),
            ("hugetlb.64KB.current", Some(64 << 10)),
            ("hugetlb.MB.max", None),
            ("hugetlb.2é.max", None),
            ("hugetlb.2", None),
            ("memory.max", None),
        ] {
            assert_eq!(huge_page_bytes(name), bytes, "{name}");
        }
    }

    #[test]
    fn keyed_text() {
        let text = "low 0\nmax 35\noom 1\noom_kill 2\noom_group_kill 0\nbad\nnumber x\n";
        assert_eq!(flat_keyed(text, "oom_kill"), Some(2));
        assert_eq!(flat_keyed(text, "oom"), Some(1));
        assert_eq!(flat_keyed(text, "number"), None);
        assert_eq!(flat_keyed(text, "absent"), None);
    }

    #[test]
    fn pressure_text() {
        let some = Stall {
            avg10_basis_points: 9_725,
            avg60_basis_points: 5,
            avg300_basis_points: 10_000,
            total_us: 30_515_162_134,
        };
        let text = "some avg10=97.25 avg60=0.05 avg300=100.00 total=30515162134\n";
        assert_eq!(stalls(text), Some(Stalls { some, full: None }), "an older kernel, of the processor");
        let both = stalls(&format!("{text}full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"));
        assert_eq!(both, Some(Stalls { some, full: Some(Stall::default()) }));
        for garbage in [
            "",
            "some",
            "full ",
            "some avg10=0.00 total=1",
            "some avg10=1 avg60=0.00 avg300=0.00 total=0",
            "some avg10=99999999999.00 avg60=0.00 avg300=0.00 total=1",
        ] {
            assert_eq!(stalls(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn a_peak_far_below_the_limit_did_not_reach_it() {
        let limit = 64 << 20;
        assert!(peak_reached(Some(limit), limit));
        assert!(peak_reached(Some(limit - (1 << 20)), limit));
        assert!(!peak_reached(Some(limit / 2), limit));
        assert!(peak_reached(None, limit));
    }
}
