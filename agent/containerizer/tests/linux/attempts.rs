//! What a task must not be able to do, tried; and kernels that lack something, imitated.

use std::{collections::BTreeMap, ffi::OsString, process::ExitCode};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

pub fn main(_: &[String]) -> ExitCode { ExitCode::SUCCESS }

fn refuse(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let action = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// The runner as on a kernel before 5.9 in these respects: no `mount_setattr`, no `close_range`.
pub fn without_new_calls(args: impl Iterator<Item = OsString>) -> ExitCode {
    let calls = [libc::SYS_mount_setattr, libc::SYS_close_range];
    refuse(calls.map(|call| (call, Vec::new())).into(), libc::ENOSYS);
    apportion_containerizer::runner_main(args)
}

/// The runner where the administrator has forbidden user namespaces.
pub fn without_namespaces(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flag = libc::CLONE_NEWUSER as u64;
    let condition =
        SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag).unwrap();
    let rule = SeccompRule::new(vec![condition]).unwrap();
    refuse(BTreeMap::from([(libc::SYS_clone, vec![rule])]), libc::EPERM);
    apportion_containerizer::runner_main(args)
}
