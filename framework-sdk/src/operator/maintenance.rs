//! What operators plan of maintenance.

use std::collections::BTreeSet;

use apportion_proto::v1;
use apportion_types::{MachineId, Window, convert::ConvertError, document::MachineStatus};

use super::{Operator, OperatorError};

impl Operator {
    /// The maintenance schedule, as it was set last, without what is over.
    pub async fn maintenance_schedule(&self) -> Result<Vec<Window>, OperatorError> {
        const CALL: &str = "asking for the maintenance schedule";
        let answer = self.client.clone().get_maintenance_schedule(v1::GetMaintenanceScheduleRequest {}).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        let windows: Result<Vec<Window>, ConvertError> =
            wire.windows.into_iter().map(Window::try_from).collect();
        self.understood(CALL, windows)
    }

    /// How the machine stands with its maintenance, or every one for which something is planned.
    pub async fn maintenance_status(
        &self,
        machine: Option<&MachineId>,
    ) -> Result<Vec<MachineStatus>, OperatorError> {
        const CALL: &str = "asking how machines stand";
        let request = v1::GetMaintenanceStatusRequest { machine: machine.map(ToString::to_string) };
        let answer = self.client.clone().get_maintenance_status(request).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        let machines: Result<Vec<MachineStatus>, ConvertError> =
            wire.machines.into_iter().map(MachineStatus::try_from).collect();
        self.understood(CALL, machines)
    }

    /// Replaces the whole maintenance schedule, or nothing of it. Returns when it is written.
    pub async fn update_maintenance_schedule(&self, windows: &[Window]) -> Result<(), OperatorError> {
        let request =
            v1::UpdateMaintenanceScheduleRequest { windows: windows.iter().map(Into::into).collect() };
        match self.client.clone().update_maintenance_schedule(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("changing the maintenance schedule", &status)),
        }
    }

    /// Takes machines down, all or none: their agents end with their tasks, and none may register there. Returns when it is written.
    pub async fn start_maintenance(&self, machines: &BTreeSet<MachineId>) -> Result<(), OperatorError> {
        let machines = machines.iter().map(ToString::to_string).collect();
        match self.client.clone().start_maintenance(v1::StartMaintenanceRequest { machines }).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("taking machines down", &status)),
        }
    }

    /// Lets machines be up again, all or none. Returns when it is written.
    pub async fn stop_maintenance(&self, machines: &BTreeSet<MachineId>) -> Result<(), OperatorError> {
        let machines = machines.iter().map(ToString::to_string).collect();
        match self.client.clone().stop_maintenance(v1::StopMaintenanceRequest { machines }).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("ending maintenance", &status)),
        }
    }
}
