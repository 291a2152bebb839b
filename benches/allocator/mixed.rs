//! Mesos' `MultiFrameworkAllocations`: 80 large agents, and frameworks like Marathon, Jenkins and Spark.

use std::{collections::BTreeMap, time::Duration};

use apportion_allocator::{Allocation, Allocator};
use apportion_types::{FrameworkId, Resources, Role};

use crate::{
    Rows,
    cluster::{Cluster, resources},
};

/// What frameworks of a kind run.
struct Kind {
    frameworks: usize,
    /// Into how many roles they are shared out.
    roles: usize,
    task: &'static str,
    tasks: usize,
    tasks_per_offer: usize,
}

const KINDS: [Kind; 3] = [
    Kind { frameworks: 4, roles: 4, task: "cpus:0.07;mem:400", tasks: 4_000, tasks_per_offer: 100 },
    Kind { frameworks: 500, roles: 1, task: "cpus:0.1;mem:4000", tasks: 5, tasks_per_offer: 1 },
    Kind { frameworks: 50, roles: 50, task: "cpus:1;mem:1000", tasks: 20, tasks_per_offer: 5 },
];
const REPORTED: [(usize, &str); 4] =
    [(1, "H round 1"), (2, "H round 2"), (10, "H round 10"), (1_000, "H round 1000")];

struct Job {
    task: Resources,
    left: usize,
    at_once: usize,
}

/// H: one cycle, in rounds of a second. What frameworks launch is their own, the rest is declined for five seconds; those who have
/// launched everything suppress.
pub(crate) fn all(rows: &mut Rows) {
    let mut c = Cluster::new(80, KINDS.iter().map(|kind| kind.frameworks).sum());
    let mut jobs = BTreeMap::new();
    let (mut next, mut role_next) = (0, 0);
    for kind in &KINDS {
        for number in 0..kind.frameworks {
            let role: Role =
                format!("role{:02}", role_next + number % kind.roles).parse().expect("it is a role");
            c.add_framework(next, &role);
            let job = Job { task: resources(kind.task), left: kind.tasks, at_once: kind.tasks_per_offer };
            jobs.insert(c.frameworks[next].clone(), job);
            next += 1;
        }
        role_next += kind.roles;
    }
    c.add_agents(&resources("cpus:64;mem:488000"), None);
    for round in 1..=1_000 {
        let (took, offers) = c.cycle();
        if let Some((_, bracket)) = REPORTED.iter().find(|(reported, _)| *reported == round) {
            rows.note(bracket, (80, 554), offers.len(), took);
        }
        offers.iter().for_each(|offer| launch(&mut c, &mut jobs, offer));
    }
}

fn launch(c: &mut Cluster, jobs: &mut BTreeMap<FrameworkId, Job>, offer: &Allocation) {
    let job = jobs.get_mut(&offer.framework).expect("each has one");
    let mut rest = offer.resources.clone();
    for _ in 0..job.at_once.min(job.left) {
        let Some(less) = rest.checked_sub(&job.task) else { break };
        rest = less;
        job.left -= 1;
    }
    let until = Some(c.now + Duration::from_secs(5));
    c.allocator.offers_closed(&offer.framework, 1);
    c.allocator.recover(&offer.framework, &offer.role, &offer.agent, &rest, until);
    if job.left == 0 {
        c.allocator.suppress(&offer.framework, &[]);
    }
}
