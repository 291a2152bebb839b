//! Seeds that once went wrong, each with what was wrong.

use apportion_sim::{Cluster, Failure, Sim};

use super::{mixed, support, swarm};

/// Of the small cluster.
const SMALL: &[(u64, &str)] = &[(
    7180,
    "the master answered for a task whose accept was lost that it could not be reached, and never more when its agent was back",
)];

/// Of the mixed cluster, where streams overtake each other.
const OVERTAKEN: &[(u64, &str)] = &[
    (50, "an agent was told that another had its id, when what it had said on an older stream arrived"),
    (56, "a framework was told that another had its id, when what it had said on an older stream arrived"),
];

fn run_clean<H>(
    seeds: &[(u64, &str)],
    build: impl Fn() -> (Cluster, H),
    story: impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) {
    for (seed, was) in seeds {
        if let Err(found) = apportion_sim::find([*seed], &build, &story) {
            panic!("it was that {was}; now {found}");
        }
    }
}

#[test]
fn seeds_that_went_wrong_run_clean() {
    run_clean(SMALL, support::small, swarm::to_the_end);
    run_clean(OVERTAKEN, mixed::overtaken, mixed::to_the_end);
}
