//! Enumerations: each number that is known, and a refusal that names the number that is not.

use apportion_proto::v1;

use super::ConvertError;
use crate::{
    container::Control,
    protocol::{
        agent::RefuseCode,
        scheduler::{ErrorCode, Refusal},
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
        AgentDisconnected, AgentRemoved, AgentUnreachable, AgentReregistered, AgentForgot, Reconciliation,
    }
}

wire_enum! {
    /// The source of this number on the wire; refuses none and unknown ones, naming the field.
    source: Source, Source { Master, Agent }
}

wire_enum! {
    /// The control of this number on the wire; refuses none and unknown ones, naming the field.
    control: Control, Control {
        CpuWeight, CpuQuota, Memory, Pids, Namespaces, ReadOnlyRoot, Capabilities, Seccomp, AtomicKill,
    }
}

wire_enum! {
    /// The refusal of a call of this number on the wire; refuses none and unknown ones, naming the field.
    refusal: Refusal, RefusalCode { Invalid, OutOfOrder, InvalidOffers, Limit, NotFound }
}

wire_enum! {
    /// The cause of a stream's end of this number on the wire; refuses none and unknown ones, naming the field.
    error_code: ErrorCode, ErrorCode { FailedOver, Removed, Refused, TooSlow, ShuttingDown }
}

wire_enum! {
    /// The refusal of an agent of this number on the wire; refuses none and unknown ones, naming the field.
    refuse_code: RefuseCode, RefuseCode { Invalid, Removed, Replaced, TooSlow, ShuttingDown }
}

/// A reason where none is a value of its own: an ordinary step forward.
pub(super) fn optional_reason(field: &str, number: i32) -> Result<Option<Reason>, ConvertError> {
    if number == v1::Reason::Unspecified as i32 { Ok(None) } else { reason(field, number).map(Some) }
}

pub(super) fn optional_reason_number(reason: Option<Reason>) -> i32 {
    reason.map_or(v1::Reason::Unspecified, v1::Reason::from) as i32
}
