//! How large the agents are, asked of the master while replicas wait for offers: what no agent could ever run is never offered anything.

use std::time::Duration;

use apportion_sdk::{
    Handle,
    operator::{AgentState, Operator, OperatorError},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::ANSWER_TIMEOUT;
use crate::{
    scheduler::{Order, Request, Views},
    state::{AppView, Size},
};

/// What waits for a shorter time than this is about to be launched.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked, while something waits.
const LOOK: Duration = Duration::from_secs(10);

/// Looks for as long as it is polled; ends when the scheduler does.
pub async fn compare(scheduler: Handle<Request>, mut views: watch::Receiver<Views>, master: &str) {
    let waits = |views: &Views| views.iter().any(AppView::lacks_replicas);
    let mut operator = None;
    while views.wait_for(waits).await.is_ok() {
        sleep(PATIENCE).await;
        if !waits(&views.borrow()) {
            continue;
        }
        // A master that does not answer is told of elsewhere.
        let asked = timeout(ANSWER_TIMEOUT, sizes(operator.take(), master)).await;
        if let Ok(Ok((connected, agents))) = asked {
            operator = Some(connected);
            if scheduler.send(Order::Agents(agents).into()).await.is_err() {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

/// The agents on which the master counts. One that is unreachable may never return.
async fn sizes(operator: Option<Operator>, master: &str) -> Result<(Operator, Vec<Size>), OperatorError> {
    let operator = match operator {
        Some(operator) => operator,
        None => Operator::connect(master).await?,
    };
    let agents = operator.agents().await?.into_iter().filter(|agent| agent.state != AgentState::Unreachable);
    let sizes = agents.map(|agent| Size { place: agent.info.place(), total: agent.total }).collect();
    Ok((operator, sizes))
}
