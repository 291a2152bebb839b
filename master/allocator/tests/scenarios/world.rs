//! What a scenario can say.
//!
//! ```text
//! config [minimum=cpus:1|mem:64] [excluded=gpus] [weight=R:2]… [limit=R:cpus:4]… [random=SEED] [filter_gpus=yes] [region=R]
//!        [offers_max=N]  before everything else
//! agent A RESOURCES [host=H] [region=R] [zone=Z] [ATTRIBUTE=TEXT]…
//! agent A gone | active | inactive | lends RESOURCES | expected RESOURCES | unexpected
//! framework F roles=R,… [suppressed=R,…] [can=CAPABILITY,…] [offers_max=N] [minimum=R:cpus:1|mem:64]… [only=R:rack=r1&zone!=b|…]…
//! framework F gone | active | inactive         wants F roles=… (as framework; what it wants from now on)
//! suppress F [R,…]       revive F [R,…]
//! weight R N             quota R [guarantee=RESOURCES] [limit=LIMIT] [forced]   `forced` sets it though it is judged
//! charge F R A RESOURCES
//! cycle [max=N]          runs a cycle; each allocation is an offer with a number: `o1 f1 eng a1 cpus:4`
//! decline O [DURATION]   accept O RESOURCES [DURATION]   the rest comes back; what is refused is so for that long
//! end F R A RESOURCES    a task ends
//! free A OPERATION…      held F R A OPERATION…      an operation with what is free, or held
//! claim F R A RESOURCES
//! explain F [agent=A] [needs=RESOURCES]
//! show free A | shares | due | over R | short | changes          watch on|off
//! wait 5s                time passes
//! ```
//!
//! After each command the allocator checks its own laws.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apportion_allocator::{
    Allocation, Allocator, Hierarchical, HierarchicalConfig, Inactive, Question, Quota, SorterKind, Wants,
};
use apportion_types::{
    AgentId, FaultDomain, FrameworkId, FrameworkOptions, Place, Resources, Role, Time, resources::Name,
};

use crate::{show, words, words::Settings};

#[derive(Default)]
pub(crate) struct World {
    now: Time,
    allocator: Hierarchical,
    quotas: BTreeMap<Role, Quota>,
    offers: Vec<Option<Allocation>>,
}

fn agent_id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn framework_id(text: &str) -> FrameworkId {
    text.parse().unwrap()
}

impl World {
    pub(crate) fn command(&mut self, line: &str) -> Vec<String> {
        let words = words::split(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answers = match *words.as_slice() {
            ["config", ref settings @ ..] => self.configure(Settings::new(settings)),
            ["agent", agent, ref rest @ ..] => self.agent(&agent_id(agent), rest),
            ["framework", framework, ref rest @ ..] => self.framework(&framework_id(framework), rest),
            ["wants", framework, ref rest @ ..] => {
                let framework = framework_id(framework);
                wanting(rest, |wants| self.allocator.set_framework_wants(&framework, wants))
            }
            ["suppress", framework] => self.tell(|a| a.suppress(&framework_id(framework), &[])),
            ["suppress", framework, roles] => {
                self.tell(|a| a.suppress(&framework_id(framework), &words::roles(roles)))
            }
            ["revive", framework] => self.tell(|a| a.revive(&framework_id(framework), &[])),
            ["revive", framework, roles] => {
                self.tell(|a| a.revive(&framework_id(framework), &words::roles(roles)))
            }
            ["weight", role, weight] => {
                self.tell(|a| a.set_weight(&words::role(role), weight.parse().unwrap()))
            }
            ["quota", role, ref rest @ ..] => self.quota(words::role(role), rest),
            ["charge", framework, role, agent, what] => self.tell(|a| {
                a.charge(
                    &framework_id(framework),
                    &words::role(role),
                    &agent_id(agent),
                    &words::resources(what),
                )
            }),
            ["cycle"] => self.cycle(usize::MAX),
            ["cycle", max] => self.cycle(max.strip_prefix("max=").unwrap().parse().unwrap()),
            ["decline", offer, ref refuse @ ..] => self.close(offer, &Resources::new(), refuse),
            ["accept", offer, kept, ref refuse @ ..] => self.close(offer, &words::resources(kept), refuse),
            ["end", framework, role, agent, what] => self.tell(|a| {
                a.recover(
                    &framework_id(framework),
                    &words::role(role),
                    &agent_id(agent),
                    &words::resources(what),
                    None,
                )
            }),
            ["free", agent, ref operation @ ..] => self.convert_free(&agent_id(agent), operation),
            ["held", framework, role, agent, ref operation @ ..] => {
                let conversion = words::operation(operation).conversion().unwrap();
                self.tell(|a| {
                    a.convert_allocated(
                        &framework_id(framework),
                        &words::role(role),
                        &agent_id(agent),
                        &conversion,
                    )
                })
            }
            ["claim", framework, role, agent, what] => {
                self.claim(&framework_id(framework), &words::role(role), &agent_id(agent), what)
            }
            ["explain", framework, ref settings @ ..] => self.explain(framework, Settings::new(settings)),
            ["show", ref what @ ..] => self.show(what),
            ["watch", on] => self.tell(|a| a.watch_free(on == "on")),
            ["wait", pause] => {
                self.now = self.now + words::duration(pause);
                Vec::new()
            }
            _ => panic!("command `{line}`"),
        };
        self.allocator.check();
        answers
    }

    /// What has no answer.
    fn tell(&mut self, call: impl FnOnce(&mut Hierarchical)) -> Vec<String> {
        call(&mut self.allocator);
        Vec::new()
    }

    fn configure(&mut self, mut settings: Settings) -> Vec<String> {
        let mut config = HierarchicalConfig::default();
        if let Some(minimum) = settings.one("minimum") {
            config.allocatable_min = words::alternatives(&minimum);
        }
        let excluded = settings.one("excluded").unwrap_or_default();
        config.fairness_excluded = excluded.split(',').filter_map(Name::new).collect();
        for weight in settings.all("weight") {
            let (role, weight) = words::of_role(&weight);
            config.weights.insert(role, weight.parse().unwrap());
        }
        for limit in settings.all("limit") {
            let (role, limit) = words::of_role(&limit);
            config.quotas.entry(role).or_default().limit = Some(limit.parse().unwrap());
        }
        if let Some(seed) = settings.one("random") {
            config.sorter = SorterKind::Random { seed: seed.parse().unwrap() };
        }
        config.filter_gpus = settings.one("filter_gpus").is_some();
        config.region = settings.one("region");
        if let Some(most) = settings.one("offers_max") {
            config.offers_max = most.parse().unwrap();
        }
        settings.end();
        *self = Self { allocator: Hierarchical::new(config), ..Self::default() };
        Vec::new()
    }

    fn agent(&mut self, agent: &AgentId, rest: &[&str]) -> Vec<String> {
        match *rest {
            ["gone"] => {
                for offer in &mut self.offers {
                    offer.take_if(|offer| offer.agent == *agent);
                }
                self.allocator.remove_agent(agent);
            }
            ["active"] => self.allocator.set_agent_inactive(agent, None),
            ["expected", total] => self.allocator.expect_agent(agent, &words::resources(total)),
            ["unexpected"] => self.allocator.expect_agent_no_more(agent),
            ["inactive"] => self.allocator.set_agent_inactive(agent, Some(Inactive::Disconnected)),
            ["lends"] => self.allocator.set_revocable(agent, &Resources::new()),
            ["lends", what] => self.allocator.set_revocable(agent, &words::resources(what)),
            [total, ref settings @ ..] => {
                let total = words::resources(total);
                let mut settings = Settings::new(settings);
                let hostname = settings.one("host").unwrap_or_else(|| agent.to_string());
                let (region, zone) = (settings.one("region"), settings.one("zone"));
                let domain = region.map(|region| FaultDomain { region, zone: zone.unwrap_or_default() });
                let address = format!("{hostname}:5051");
                let place = Place { hostname, address, attributes: settings.rest(), domain };
                self.allocator.add_agent(agent, &Arc::new(place), &total);
            }
            [] => panic!("an agent has resources"),
        }
        Vec::new()
    }

    fn framework(&mut self, framework: &FrameworkId, rest: &[&str]) -> Vec<String> {
        match *rest {
            ["gone"] => {
                for offer in &mut self.offers {
                    offer.take_if(|offer| offer.framework == *framework);
                }
                self.allocator.remove_framework(framework);
            }
            ["active"] => self.allocator.set_framework_active(framework, true),
            ["inactive"] => self.allocator.set_framework_active(framework, false),
            ref settings => return wanting(settings, |wants| self.allocator.add_framework(framework, wants)),
        }
        Vec::new()
    }

    fn quota(&mut self, role: Role, rest: &[&str]) -> Vec<String> {
        let forced = rest.last() == Some(&"forced");
        let mut settings = Settings::new(&rest[..rest.len() - usize::from(forced)]);
        let guarantee = settings.one("guarantee").map(|text| words::resources(&text)).unwrap_or_default();
        let limit = settings.one("limit").map(|text| text.parse().unwrap());
        settings.end();
        let quota = Quota { guarantee, limit };
        let judged =
            self.allocator.judge_quotas(&BTreeMap::from([(role.clone(), quota.clone())]), &BTreeMap::new());
        if judged.is_ok() || forced {
            self.allocator.set_quota(&role, quota.clone());
            self.quotas.insert(role, quota);
        }
        judged.err().into_iter().collect()
    }

    fn cycle(&mut self, max: usize) -> Vec<String> {
        let given = self.allocator.allocate(self.now, max);
        let number = self.offers.len();
        self.offers.extend(given.iter().cloned().map(Some));
        let numbered = given.iter().zip(number + 1..);
        numbered.map(|(offer, number)| format!("o{number} {}", show::allocation(offer))).collect()
    }

    fn close(&mut self, offer: &str, kept: &Resources, refuse: &[&str]) -> Vec<String> {
        let number: usize = offer.strip_prefix('o').unwrap().parse().unwrap();
        let offer = self.offers[number - 1].take().expect("an offer is closed once");
        let rest = offer.resources.checked_sub(kept).expect("no more is kept than was offered");
        let until: Option<Duration> = refuse.first().map(|text| words::duration(text));
        let until = until.map(|pause| self.now + pause);
        self.allocator.recover(&offer.framework, &offer.role, &offer.agent, &rest, until);
        self.allocator.offers_closed(&offer.framework, 1);
        Vec::new()
    }

    fn convert_free(&mut self, agent: &AgentId, operation: &[&str]) -> Vec<String> {
        let conversion = words::operation(operation).conversion().unwrap();
        match self.allocator.convert_free(agent, &conversion) {
            true => Vec::new(),
            false => vec!["it is not all free".to_owned()],
        }
    }

    fn claim(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, what: &str) -> Vec<String> {
        match self.allocator.claim(self.now, framework, role, agent, &words::resources(what)) {
            Ok(()) => vec!["granted".to_owned()],
            Err(denied) => vec![show::denied(&denied)],
        }
    }

    fn explain(&self, framework: &str, mut settings: Settings) -> Vec<String> {
        let question = Question {
            framework: framework_id(framework),
            agent: settings.one("agent").map(|agent| agent_id(&agent)),
            needs: settings.one("needs").map(|needs| words::resources(&needs)).unwrap_or_default(),
        };
        settings.end();
        show::explanation(&self.allocator.explain(self.now, &question))
    }

    fn show(&mut self, what: &[&str]) -> Vec<String> {
        match *what {
            ["free", agent] => vec![show::amount(&self.allocator.free(&agent_id(agent)))],
            ["shares"] => self.allocator.shares().iter().map(show::share).collect(),
            ["over", role] => vec![show::amount(&self.allocator.over_limit(&words::role(role)))],
            ["short"] => vec![show::amount(&self.allocator.short_of_guarantees())],
            ["changes"] => self.allocator.free_changes().iter().map(ToString::to_string).collect(),
            ["due"] => {
                let deadline = self.allocator.next_deadline();
                let later = deadline.map_or("never".to_owned(), |time| format!("at {time}"));
                vec![if self.allocator.is_dirty() { "now".to_owned() } else { later }]
            }
            _ => panic!("show {what:?}"),
        }
    }
}

fn wanting(settings: &[&str], tell: impl FnOnce(Wants<'_>)) -> Vec<String> {
    let mut settings = Settings::new(settings);
    let roles = words::roles(&settings.one("roles").expect("a framework has roles"));
    let suppressed = words::roles(&settings.one("suppressed").unwrap_or_default()).into_iter().collect();
    let can = settings.one("can").unwrap_or_default();
    let options = FrameworkOptions {
        capabilities: can.split(',').filter(|name| !name.is_empty()).map(words::capability).collect(),
        offers_max: settings.one("offers_max").map(|most| most.parse().unwrap()),
        stand_by: None,
        min_allocatable: settings
            .all("minimum")
            .iter()
            .map(|text| words::of_role(text))
            .map(|(role, minimum)| (role, words::alternatives(minimum)))
            .collect(),
        constraints: settings
            .all("only")
            .iter()
            .map(|text| words::of_role(text))
            .map(|(role, only)| (role, words::constraints(only)))
            .collect(),
    };
    settings.end();
    tell(Wants { roles: &roles, suppressed: &suppressed, options: &options });
    Vec::new()
}
