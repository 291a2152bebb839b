//! Agents as a person names them: by their ids, or by their hosts' names where one agent alone is there.

use anyhow::{anyhow, bail};
use apportion_sdk::operator::{AgentSummary, OperatorError};
use apportion_types::AgentId;

use crate::client::Master;

/// An agent that was named, and what the master lists of it.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) listed: Option<AgentSummary>,
}

impl Agent {
    /// Its id, and the name of its host.
    pub(crate) fn name(&self) -> String {
        match &self.listed {
            Some(listed) => format!("{} ({})", self.id, listed.info.hostname),
            None => self.id.to_string(),
        }
    }
}

/// The agent of this id, or the only one on a host of this name.
pub(crate) async fn find(master: &Master, text: &str) -> anyhow::Result<Agent> {
    let id = text.parse::<AgentId>();
    if let Ok(id) = &id
        && let Some(listed) = listed(master, id).await?
    {
        return Ok(Agent { id: id.clone(), listed: Some(listed) });
    }
    let mut there = on_host(master, text).await?;
    match (there.pop(), there.is_empty(), id) {
        (Some(only), true, _) => Ok(Agent { id: only.agent_id.clone(), listed: Some(only) }),
        (Some(last), false, _) => {
            there.push(last);
            let ids: Vec<&str> = there.iter().map(|agent| agent.agent_id.as_str()).collect();
            bail!("there are several agents on `{text}`: {}; name one of them", ids.join(", "))
        }
        // The master may know one that it does not list: what is gone is gone.
        (None, _, Ok(id)) => Ok(Agent { id, listed: None }),
        (None, _, Err(_)) => {
            bail!("no agent has the id or is on the host `{text}`; `apportion agents` lists them")
        }
    }
}

/// What the master lists of the agent of this id, or of the only one on a host of this name.
pub(crate) async fn find_listed(master: &Master, text: &str) -> anyhow::Result<AgentSummary> {
    let Agent { id, listed } = find(master, text).await?;
    listed.ok_or_else(|| {
        anyhow!("no agent has the id or is on the host `{id}`; `apportion agents` lists those that are known")
    })
}

/// What the master lists of an agent, if anything.
pub(super) async fn listed(master: &Master, id: &AgentId) -> anyhow::Result<Option<AgentSummary>> {
    match master.ask(|operator| operator.agent(id)).await {
        Ok(agent) => Ok(Some(agent)),
        Err(error) if matches!(error.downcast_ref(), Some(OperatorError::NotFound { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn on_host(master: &Master, name: &str) -> anyhow::Result<Vec<AgentSummary>> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = master.ask(|operator| operator.agents_page(0, after.as_deref())).await?;
        found.extend(page.items.into_iter().filter(|agent| agent.info.hostname == name));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(found),
        }
    }
}
