//! Lists, page by page or as a whole.

use apportion_proto::v1;
use apportion_types::{
    AgentId,
    convert::ConvertError,
    document::{ReservationState, RoleState, VolumeState},
};

use super::{
    AgentSummary, FrameworkSummary, OfferSummary, Operator, OperatorError, TaskFilter, TaskSummary, all,
};

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of keys.
    pub items: Vec<T>,
    /// Where the next one begins; none at the end of the list.
    pub next: Option<String>,
}

/// Entries of a page when a list is read as a whole: the most that a master gives at once.
const WHOLE: u32 = u32::MAX;

macro_rules! pages {
    ($(
        $(#[$doc:meta])*
        $page:ident / $all:ident: $rpc:ident($request:ident) -> $field:ident: $item:ident, $call:literal, $whole:literal;
    )*) => {$(
        $(#[$doc])*
        ///
        /// So many at most, as many as the master likes when 0, from where the page before ended on; none for the first.
        pub async fn $page(&self, size: u32, after: Option<&str>) -> Result<Page<$item>, OperatorError> {
            let page_token = after.unwrap_or_default().to_owned();
            #[allow(clippy::needless_update, reason = "some requests have more fields")]
            let request = v1::$request { page_size: size, page_token, ..Default::default() };
            let answer = self.client.clone().$rpc(request).await;
            let wire = answer.map_err(|status| self.failed($call, &status))?.into_inner();
            self.understood($call, page(stringify!($field), wire.$field, wire.next_page_token))
        }

        #[doc = $whole]
        pub async fn $all(&self) -> Result<Vec<$item>, OperatorError> {
            let (mut items, mut after) = (Vec::new(), None);
            loop {
                let page: Page<$item> = self.$page(WHOLE, after.as_deref()).await?;
                items.extend(page.items);
                match page.next {
                    None => return Ok(items),
                    next => after = next,
                }
            }
        }
    )*};
}

fn page<W, T: TryFrom<W, Error = ConvertError>>(
    field: &str,
    wire: Vec<W>,
    next: String,
) -> Result<Page<T>, ConvertError> {
    Ok(Page { items: all(field, wire)?, next: Some(next).filter(|next| !next.is_empty()) })
}

impl Operator {
    pages! {
        /// A page of agents, in the order of their ids.
        agents_page / agents: list_agents(ListAgentsRequest) -> agents: AgentSummary, "listing agents", "Every agent, in the order of their ids.";
        /// A page of frameworks, in the order of their ids.
        frameworks_page / frameworks: list_frameworks(ListFrameworksRequest) -> frameworks: FrameworkSummary, "listing frameworks", "Every framework, in the order of their ids.";
        /// A page of outstanding offers, in the order of their ids.
        offers_page / offers: list_offers(ListOffersRequest) -> offers: OfferSummary, "listing offers", "Every outstanding offer, in the order of their ids.";
        /// A page of roles, in the order of names: a role stands before those below it.
        roles_page / roles: list_roles(ListRolesRequest) -> roles: RoleState, "listing roles", "Every role, in the order of names: a role stands before those below it.";
        /// A page of what is reserved, in the order of agents and reservations.
        reservations_page / reservations: list_reservations(ListReservationsRequest) -> reservations: ReservationState, "listing reservations", "All that is reserved, in the order of agents and reservations.";
        /// A page of persistent volumes, in the order of agents, roles and names.
        volumes_page / volumes: list_volumes(ListVolumesRequest) -> volumes: VolumeState, "listing volumes", "Every persistent volume, in the order of agents, roles and names.";
    }

    /// One agent.
    pub async fn agent(&self, id: &AgentId) -> Result<AgentSummary, OperatorError> {
        const CALL: &str = "asking for an agent";
        let request = v1::ListAgentsRequest { agent_id: Some(id.to_string()), ..Default::default() };
        let answer = self.client.clone().list_agents(request).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        let found: Vec<AgentSummary> = self.understood(CALL, all("agents", wire.agents))?;
        let missing = || OperatorError::NotFound { message: format!("agent `{id}` does not exist") };
        found.into_iter().next().ok_or_else(missing)
    }

    /// A page of tasks: those that have not ended in the order of frameworks and names, then the others, if they are wanted, as
    /// they ended. See [`Operator::agents_page`].
    pub async fn tasks_page(
        &self,
        filter: &TaskFilter,
        size: u32,
        after: Option<&str>,
    ) -> Result<Page<TaskSummary>, OperatorError> {
        const CALL: &str = "listing tasks";
        let request = v1::ListTasksRequest {
            framework_id: filter.framework_id.as_ref().map(ToString::to_string),
            task_id: filter.task_id.as_ref().map(ToString::to_string),
            completed: filter.completed,
            page_size: size,
            page_token: after.unwrap_or_default().to_owned(),
        };
        let answer = self.client.clone().list_tasks(request).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        self.understood(CALL, page("tasks", wire.tasks, wire.next_page_token))
    }

    /// Every task that is wanted, in the order of [`Operator::tasks_page`].
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskSummary>, OperatorError> {
        let (mut tasks, mut after) = (Vec::new(), None);
        loop {
            let page = self.tasks_page(filter, WHOLE, after.as_deref()).await?;
            tasks.extend(page.items);
            match page.next {
                None => return Ok(tasks),
                next => after = next,
            }
        }
    }
}
