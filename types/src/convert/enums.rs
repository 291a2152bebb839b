//! Enumerations: each number that is known, and a refusal that names the number that is not.

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
    ($(#[$doc:meta])* $function:ident: $domain:ident, $wire:ident { $($variant:ident),* $(,)? }) => {
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
            let wire = v1::$wire::try_from(number).map_err(|_| {
                let what = format_args!(concat!("{} is not a number of ", stringify!($wire), " known here"), number);
                ConvertError::new(field, what)
            })?;
            <$domain>::try_from(wire).map_err(|error| ConvertError::new(field, error.what))
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
        TaskGroupFinished, ExecutorTerminated, ExecutorSubscribeTimeout,
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
    /// The refusal of a call of this number on the wire; refuses none and unknown ones, naming the field.
    refusal: Refusal, RefusalCode { Invalid, OutOfOrder, InvalidOffers, Limit, NotFound, RateLimited }
}

wire_enum! {
    /// The cause of a stream's end of this number on the wire; refuses none and unknown ones, naming the field.
    error_code: ErrorCode, ErrorCode { FailedOver, Removed, Refused, TooSlow, ShuttingDown }
}

wire_enum! {
    /// The refusal of an agent of this number on the wire; refuses none and unknown ones, naming the field.
    refuse_code: RefuseCode, RefuseCode { Invalid, Removed, Replaced, TooSlow, ShuttingDown, Maintenance }
}

wire_enum! {
    /// The refusal of an executor of this number on the wire; refuses none and unknown ones, naming the field.
    executor_refuse_code: ExecutorRefuseCode, ExecutorRefuseCode { Invalid, Replaced, TooSlow, ShuttingDown, Ended }
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
    agent_capability: AgentCapability, AgentCapability { TaskGroups, Executors, GroupNetworks, ExclusiveCpus }
}

wire_enum! {
    /// The refusal of a claim of this number on the wire; refuses none and unknown ones, naming the field.
    claim_refusal: ClaimRefusal, ClaimRefusal { NotFree, Fairness, Quota, NotAllowed, AllOrNothing }
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
pub fn decline_code(field: &str, number: i32) -> Result<DeclineCode, ConvertError> {
    let wire = v1::DeclineCode::try_from(number).map_err(|_| {
        ConvertError::new(field, format_args!("{number} is not a number of DeclineCode known here"))
    })?;
    Ok(match wire {
        v1::DeclineCode::Unspecified => DeclineCode::NotSaid,
        v1::DeclineCode::NoWork => DeclineCode::NoWork,
        v1::DeclineCode::TooSmall => DeclineCode::TooSmall,
        v1::DeclineCode::Constraint => DeclineCode::Constraint,
        v1::DeclineCode::Spread => DeclineCode::Spread,
        v1::DeclineCode::Waiting => DeclineCode::Waiting,
        v1::DeclineCode::Other => DeclineCode::Other,
    })
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

/// A reason where none is a value of its own: an ordinary step forward.
pub(super) fn optional_reason(field: &str, number: i32) -> Result<Option<Reason>, ConvertError> {
    if number == v1::Reason::Unspecified as i32 { Ok(None) } else { reason(field, number).map(Some) }
}

pub(super) fn optional_reason_number(reason: Option<Reason>) -> i32 {
    reason.map_or(v1::Reason::Unspecified, v1::Reason::from) as i32
}
