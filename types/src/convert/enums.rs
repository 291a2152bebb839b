//! Enumerations: each number that is known, and a refusal that names the number that is not.
//!
//! A peer of a later version may say a number that is not known here. Where that only tells why something is so, it counts as the value
//! after `or`, or as not said; where what to do depends on it, it is refused.

use apportion_proto::v1;

use super::ConvertError;
use crate::{
    AgentCapability, Capability, MachineMode,
    container::Control,
    container_info::RlimitResource,
    group::Part,
    image::PullPolicy,
    network::{Direction, Protocol, Verdict},
    operation::OperationState,
    protocol::{
        agent::RefuseCode,
        executor::ExecutorRefuseCode,
        scheduler::{ClaimRefusal, DeclineCode, ErrorCode, Refusal},
    },
    task::{Reason, Source, TaskState},
};

macro_rules! wire_enum {
    ($(#[$doc:meta])* $function:ident: $domain:ident, $wire:ident $(or $later:ident)? { $($variant:ident),* $(,)? }) => {
        impl From<$domain> for v1::$wire {
            fn from(value: $domain) -> Self {
                match value {
                    $($domain::$variant => v1::$wire::$variant,)*
                }
            }
        }

        impl TryFrom<v1::$wire> for $domain {
            type Error = ConvertError;

            fn try_from(value: v1::$wire) -> Result<Self, ConvertError> {
                match value {
                    v1::$wire::Unspecified => Err(ConvertError::new("", "is not set")),
                    $(v1::$wire::$variant => Ok($domain::$variant),)*
                }
            }
        }

        $(#[$doc])*
        pub fn $function(field: &str, number: i32) -> Result<$domain, ConvertError> {
            match v1::$wire::try_from(number) {
                Ok(wire) => <$domain>::try_from(wire).map_err(|error| ConvertError::new(field, error.what)),
                $(Err(_) if number > 0 => Ok($domain::$later),)?
                Err(_) => {
                    let what = format_args!(concat!("{} is not a number of ", stringify!($wire), " known here"), number);
                    Err(ConvertError::new(field, what))
                }
            }
        }
    };
}

wire_enum! {
    /// The state of this number on the wire; refuses none and unknown ones, naming the field.
    task_state: TaskState, TaskState {
        Staging, Starting, Running, Killing, Finished, Failed, Killed, Error, Dropped, Gone, GoneByOperator, Unreachable,
        Unknown,
    }
}

wire_enum! {
    /// The reason of this number on the wire; refuses none and unknown ones, naming the field.
    reason: Reason, Reason {
        CommandExited, CommandNotExecuted, ContainerLaunchFailed, ContainerLimitationMemory, ContainerLost,
        KilledDuringLaunch, KilledByFramework, KilledByOperator, FrameworkRemoved, InvalidOffers, TaskInvalid,
        AgentDisconnected, AgentRemoved, AgentUnreachable, AgentReregistered, AgentForgot, Reconciliation, Preempted,
        ResourcesUnknown, GangRefused, OperationInvalid, ContainerLimitationDisk, ImageNotAvailable, ArtifactNotFetched,
        MaxCompletionTime, Unhealthy, HealthChanged, CheckChanged, NotEnforceable,
        NetworkNotAvailable, ContainerLimitationPorts, TaskGroupInvalid, TaskGroupFailed,
        TaskGroupFinished, ExecutorTerminated, ExecutorSubscribeTimeout, AgentDraining,
    }
}

wire_enum! {
    /// The part of this number on the wire; refuses none and unknown ones, naming the field.
    part: Part, GroupPart { Init, Sidecar, Main }
}

wire_enum! {
    /// The source of this number on the wire; refuses none and unknown ones, naming the field.
    source: Source, Source { Master, Agent }
}

wire_enum! {
    /// The control of this number on the wire; refuses none and unknown ones, naming the field.
    control: Control, Control {
        CpuWeight, CpuQuota, Memory, Pids, Namespaces, ReadOnlyRoot, Capabilities, Seccomp, AtomicKill, Images,
        Disk, Swap, Cpuset, Io, HugePages,
    }
}

wire_enum! {
    /// The refusal of a call of this number on the wire; refuses none, naming the field.
    refusal: Refusal, RefusalCode or Invalid { Invalid, OutOfOrder, InvalidOffers, Limit, NotFound, RateLimited }
}

wire_enum! {
    /// The cause of a stream's end of this number on the wire; refuses none, naming the field.
    error_code: ErrorCode, ErrorCode or Refused { FailedOver, Removed, Refused, TooSlow, ShuttingDown }
}

wire_enum! {
    /// The refusal of an agent of this number on the wire; refuses none, naming the field.
    refuse_code: RefuseCode, RefuseCode or Invalid { Invalid, Removed, Replaced, TooSlow, ShuttingDown, Gone, Maintenance }
}

wire_enum! {
    /// The refusal of an executor of this number on the wire; refuses none, naming the field.
    executor_refuse_code: ExecutorRefuseCode, ExecutorRefuseCode or Invalid { Invalid, Replaced, TooSlow, ShuttingDown, Ended }
}

wire_enum! {
    /// The state of an operation of this number on the wire; refuses none and unknown ones, naming the field.
    operation_state: OperationState, OperationState { Pending, Finished, Failed, Error, Dropped, Unreachable, Unknown }
}

wire_enum! {
    /// The capability of this number on the wire; refuses none and unknown ones, naming the field.
    capability: Capability, Capability {
        RevocableResources, SharedResources, GpuResources, RegionAware, InverseOffers,
    }
}

wire_enum! {
    /// The mode of a machine of this number on the wire; refuses none and unknown ones, naming the field.
    machine_mode: MachineMode, MachineMode { Up, Draining, Down }
}

wire_enum! {
    /// The capability of an agent of this number on the wire; refuses none and unknown ones, naming the field.
    agent_capability: AgentCapability, AgentCapability { TaskGroups, Executors, GroupNetworks, ExclusiveCpus, Drain }
}

wire_enum! {
    /// The refusal of a claim of this number on the wire; refuses none, naming the field.
    claim_refusal: ClaimRefusal, ClaimRefusal or NotAllowed { NotFree, Fairness, Quota, NotAllowed, AllOrNothing }
}

wire_enum! {
    /// The limit of this number on the wire; refuses none and unknown ones, naming the field.
    rlimit_resource: RlimitResource, RlimitResource { As, Core, Cpu, Data, Fsize, Memlock, Nofile, Nproc, Stack }
}

wire_enum! {
    /// The pull policy of this number on the wire; refuses none and unknown ones, naming the field.
    pull_policy: PullPolicy, PullPolicy { Missing, Always, Never }
}

wire_enum! {
    /// The protocol of this number on the wire; refuses none and unknown ones, naming the field.
    network_protocol: Protocol, NetworkProtocol { Tcp, Udp }
}

wire_enum! {
    /// The verdict of this number on the wire; refuses none and unknown ones, naming the field.
    network_verdict: Verdict, NetworkVerdict { Allow, Deny }
}

wire_enum! {
    /// The direction of this number on the wire; refuses none and unknown ones, naming the field.
    network_direction: Direction, NetworkDirection { In, Out }
}

/// The code of a decline of this number on the wire; a call that does not say has one too.
pub fn decline_code(number: i32) -> DeclineCode {
    match v1::DeclineCode::try_from(number) {
        Ok(v1::DeclineCode::Unspecified) => DeclineCode::NotSaid,
        Ok(v1::DeclineCode::NoWork) => DeclineCode::NoWork,
        Ok(v1::DeclineCode::TooSmall) => DeclineCode::TooSmall,
        Ok(v1::DeclineCode::Constraint) => DeclineCode::Constraint,
        Ok(v1::DeclineCode::Spread) => DeclineCode::Spread,
        Ok(v1::DeclineCode::Waiting) => DeclineCode::Waiting,
        Ok(v1::DeclineCode::Other) | Err(_) => DeclineCode::Other,
    }
}

impl From<DeclineCode> for v1::DeclineCode {
    fn from(code: DeclineCode) -> Self {
        match code {
            DeclineCode::NotSaid => Self::Unspecified,
            DeclineCode::NoWork => Self::NoWork,
            DeclineCode::TooSmall => Self::TooSmall,
            DeclineCode::Constraint => Self::Constraint,
            DeclineCode::Spread => Self::Spread,
            DeclineCode::Waiting => Self::Waiting,
            DeclineCode::Other => Self::Other,
        }
    }
}

/// A reason where none is a value of its own: an ordinary step forward, or a reason that only a later version knows.
pub(super) fn optional_reason(number: i32) -> Option<Reason> {
    v1::Reason::try_from(number).ok().and_then(|wire| Reason::try_from(wire).ok())
}

/// Why a task is to be killed. One that only a later version knows is an operator's to whoever cannot tell.
pub(super) fn kill_reason(field: &str, number: i32) -> Result<Reason, ConvertError> {
    let is_later = number > 0 && v1::Reason::try_from(number).is_err();
    if is_later { Ok(Reason::KilledByOperator) } else { reason(field, number) }
}

pub(super) fn optional_reason_number(reason: Option<Reason>) -> i32 {
    reason.map_or(v1::Reason::Unspecified, v1::Reason::from) as i32
}
