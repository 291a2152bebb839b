//! Operations on resources, and what became of them.

use apportion_proto::v1::{self, resource_operation::Operation as Wire};

use super::{
    ConvertError, Within as _, enums, from_ref, id, message, operation_state, optional_id, update_id,
    update_id_bytes,
};
use crate::{Operation, OperationStatus, Time, limits, text::cut};

impl From<Operation> for v1::ResourceOperation {
    fn from(operation: Operation) -> Self {
        let operation = match operation {
            Operation::Reserve { resources } => {
                Wire::Reserve(v1::Reserve { resources: Some(resources.into()) })
            }
            Operation::Unreserve { resources } => {
                Wire::Unreserve(v1::Unreserve { resources: Some(resources.into()) })
            }
            Operation::Create { volumes } => {
                Wire::Create(v1::CreateVolumes { volumes: Some(volumes.into()) })
            }
            Operation::Destroy { volumes } => {
                Wire::Destroy(v1::DestroyVolumes { volumes: Some(volumes.into()) })
            }
            Operation::Grow { volume, addition } => {
                Wire::Grow(v1::GrowVolume { volume: Some(volume.into()), addition: Some(addition.into()) })
            }
            Operation::Shrink { volume, subtract_milli } => {
                Wire::Shrink(v1::ShrinkVolume { volume: Some(volume.into()), subtract_milli })
            }
        };
        Self { operation: Some(operation) }
    }
}

/// Judges form alone; whether it makes sense is for [`Operation::conversion`].
impl TryFrom<v1::ResourceOperation> for Operation {
    type Error = ConvertError;

    fn try_from(wire: v1::ResourceOperation) -> Result<Self, ConvertError> {
        let operation = wire
            .operation
            .ok_or_else(|| ConvertError::new("operation", "is missing, or of a kind not known here"))?;
        Ok(match operation {
            Wire::Reserve(reserve) => {
                Operation::Reserve { resources: message("resources", reserve.resources).within("reserve")? }
            }
            Wire::Unreserve(unreserve) => Operation::Unreserve {
                resources: message("resources", unreserve.resources).within("unreserve")?,
            },
            Wire::Create(create) => {
                Operation::Create { volumes: message("volumes", create.volumes).within("create")? }
            }
            Wire::Destroy(destroy) => {
                Operation::Destroy { volumes: message("volumes", destroy.volumes).within("destroy")? }
            }
            Wire::Grow(grow) => Operation::Grow {
                volume: message("volume", grow.volume).within("grow")?,
                addition: message("addition", grow.addition).within("grow")?,
            },
            Wire::Shrink(shrink) => Operation::Shrink {
                volume: message("volume", shrink.volume).within("shrink")?,
                subtract_milli: shrink.subtract_milli,
            },
        })
    }
}

impl From<OperationStatus> for v1::OperationStatus {
    fn from(status: OperationStatus) -> Self {
        Self {
            operation_id: status.operation_id.to_string(),
            agent_id: status.agent_id.map(|id| id.to_string()),
            state: v1::OperationState::from(status.state) as i32,
            reason: enums::optional_reason_number(status.reason),
            message: status.message,
            at_us: status.at.as_micros(),
            update_id: status.update_id.map(update_id_bytes),
        }
    }
}

impl TryFrom<v1::OperationStatus> for OperationStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::OperationStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            operation_id: id("operation_id", &wire.operation_id)?,
            agent_id: optional_id("agent_id", wire.agent_id)?,
            state: operation_state("state", wire.state)?,
            reason: enums::optional_reason(wire.reason),
            message: cut(wire.message, limits::STATUS_MESSAGE_BYTES_MAX),
            at: Time::from_micros(wire.at_us),
            update_id: wire.update_id.map(|bytes| update_id("update_id", &bytes)).transpose()?,
        })
    }
}

from_ref!(
    Operation => v1::ResourceOperation,
    OperationStatus => v1::OperationStatus,
);
