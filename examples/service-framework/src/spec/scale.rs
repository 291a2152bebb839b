//! `[scale]` beside what else a description says.

use toml::Spanned;

use super::{Problem, REPLICAS_MAX, Source, SpecError};
use crate::scale::{Scale, spec::ScaleTable};

impl Source<'_> {
    /// The table, and where it begins: `replicas`, or one when nothing is said.
    pub(super) fn scale(
        self,
        table: Option<Spanned<ScaleTable>>,
        replicas: Option<&Spanned<i64>>,
        balanced: bool,
    ) -> Result<Option<Scale>, SpecError> {
        let Some(table) = table else { return Ok(None) };
        let span = table.span();
        if let Some(problem) = table.get_ref().needs_balancer().filter(|_| !balanced) {
            return Err(self.say(problem));
        }
        let scale =
            table.into_inner().checked(REPLICAS_MAX).map_err(|problem| match problem.span.is_empty() {
                // What is missing is missing there.
                true => self.refuse(span, problem.what),
                false => self.say(problem),
            })?;
        if let Some(replicas) = replicas
            && let Some(what) = begins_outside(&scale, *replicas.get_ref())
        {
            return Err(self.say(Problem::at(replicas, what)));
        }
        Ok(Some(scale))
    }
}

fn begins_outside(scale: &Scale, replicas: i64) -> Option<String> {
    let (min, max) = (scale.min, scale.max);
    let outside = !(i64::from(min)..=i64::from(max)).contains(&replicas);
    outside.then(|| {
        format!(
            "replicas: is {replicas}, and [scale] keeps from {min} to {max}; it is where that begins: give a number between them, or leave it \
             out"
        )
    })
}
