//! Which stage waits for which: names to numbers, and no cycles.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use super::{JobError, source::Source};
use crate::state::Dependency;

/// What one stage says of others.
#[derive(Debug)]
pub(super) struct Waits {
    pub name: String,
    pub after: Vec<Spanned<String>>,
    pub after_each: Vec<Spanned<String>>,
}

/// One dependency, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub on: Dependency,
    pub span: Range<usize>,
}

/// The dependencies of each stage.
pub(super) fn resolve(source: Source<'_>, stages: &[Waits]) -> Result<Vec<Vec<Edge>>, JobError> {
    let numbers: BTreeMap<_, _> =
        stages.iter().enumerate().map(|(number, stage)| (stage.name.as_str(), number)).collect();
    let edges = stages.iter().map(|stage| {
        let whole = stage.after.iter().map(|name| ("after", name, false));
        let each = stage.after_each.iter().map(|name| ("after_each", name, true));
        let mut edges: Vec<Edge> = Vec::new();
        for (list, name, each) in whole.chain(each) {
            let key = format!("stage.{}.{list}", stage.name);
            let number = *numbers.get(name.get_ref().as_str()).ok_or_else(|| {
                let known: Vec<_> = numbers.keys().copied().collect();
                let what =
                    format!("there is no stage `{}`; the stages are {}", name.get_ref(), known.join(", "));
                source.at(&key, name, what)
            })?;
            if edges.iter().any(|edge| edge.on.stage == number) {
                let what = format!("`{}` is named twice; once is enough", name.get_ref());
                return Err(source.at(&key, name, what));
            }
            edges.push(Edge { on: Dependency { stage: number, each }, span: name.span() });
        }
        Ok(edges)
    });
    edges.collect()
}

/// The stages in an order in which each comes behind those that it waits for; or the cycle that leaves none.
pub(super) fn order(
    source: Source<'_>,
    stages: &[Waits],
    edges: &[Vec<Edge>],
) -> Result<Vec<usize>, JobError> {
    let mut order = Vec::new();
    let mut placed = vec![false; stages.len()];
    // Few stages: looking through all of them again for each costs nothing, and reads in one go.
    while order.len() < stages.len() {
        let free = |stage: &usize| !placed[*stage] && edges[*stage].iter().all(|edge| placed[edge.on.stage]);
        let Some(next) = (0..stages.len()).find(free) else {
            return Err(cycle(source, stages, edges, &placed));
        };
        placed[next] = true;
        order.push(next);
    }
    Ok(order)
}

/// Of the stages that are left each waits for one that is left: whoever goes from one to the next comes back.
fn cycle(source: Source<'_>, stages: &[Waits], edges: &[Vec<Edge>], placed: &[bool]) -> JobError {
    let left = |stage: usize| edges[stage].iter().find(|edge| !placed[edge.on.stage]);
    let start = placed.iter().position(|placed| !placed).expect("the order is not whole");
    let mut path = Vec::new();
    let mut stage = start;
    while !path.contains(&stage) {
        path.push(stage);
        stage = left(stage).expect("what is not placed waits for another that is not").on.stage;
    }
    let cycle = &path[path.iter().position(|seen| *seen == stage).expect("it was seen")..];
    let steps = cycle.iter().map(|stage| {
        let edge = left(*stage).expect("it is on the way");
        let (from, to) = (&stages[*stage].name, &stages[edge.on.stage].name);
        format!("`{from}` after `{to}` (line {})", source.line(&edge.span))
    });
    let steps: Vec<_> = steps.collect();
    let first = left(cycle[0]).expect("it is on the way").span.clone();
    let what = format!(
        "the stages wait for each other, so that none could begin: {}; take one of these out",
        steps.join(", ")
    );
    source.refuse(first, what)
}
