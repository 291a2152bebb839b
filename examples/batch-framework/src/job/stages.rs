//! The stages of a job file: the tables that there are, each to a [`Stage`].

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use super::{
    Elements, JobError, STAGES_MAX, Stage, TASKS_MAX,
    array::Axis,
    check_name,
    dag::{self, Edge, Waits},
    file::{ArrayTable, RetryTable, SpeculateTable, TaskTable},
    source::Source,
    submission::Files,
    table::Table,
    template::{Scope, Values},
};
use crate::state::{IfFailed, Policy};

/// What of the file says which tasks there are, and what they do.
pub(super) struct Tables {
    pub task: Option<Spanned<TaskTable>>,
    pub array: Option<Spanned<ArrayTable>>,
    pub stage: BTreeMap<Spanned<String>, Spanned<TaskTable>>,
    pub retry: Option<Spanned<RetryTable>>,
    pub speculate: Option<Spanned<SpeculateTable>>,
}

/// What holds for all stages, unless one has its own.
#[derive(Clone, Copy)]
struct Common<'a> {
    scope: Scope<'a>,
    retry: Option<&'a Spanned<RetryTable>>,
    speculate: Option<&'a Spanned<SpeculateTable>>,
    /// Whether there is a folder for what tasks leave.
    output: bool,
}

impl Source<'_> {
    /// The stages of a job, in the order of the file: one from `[task]` and `[array]`, or each `[stage.NAME]`.
    pub(super) fn stages(
        self,
        tables: Tables,
        (job, output): (&str, bool),
        scope: Scope<'_>,
        files: Files<'_>,
    ) -> Result<Vec<Stage>, JobError> {
        let Tables { task, array, stage, retry, speculate } = tables;
        let common = Common { scope, retry: retry.as_ref(), speculate: speculate.as_ref(), output };
        if stage.is_empty() {
            let example = "[task]\ncommand = [\"/bin/echo\", \"hello\"]";
            let task = task.ok_or_else(|| self.missing(0..0, "task", example))?;
            self.alone(task.get_ref())?;
            let elements = self.elements("array", array, scope, files)?;
            return Ok(vec![self.stage("task", String::new(), task, elements, Vec::new(), common)?]);
        }
        if let Some(task) = &task {
            let what = "task: stands beside [stage.…]; make it a stage of its own, as [stage.NAME]";
            return Err(self.refuse(task.span(), what.to_owned()));
        }
        if let Some(array) = &array {
            let what = "array: stands beside [stage.…]; each stage has its own, as [stage.NAME.array]";
            return Err(self.refuse(array.span(), what.to_owned()));
        }
        self.linked(stage, job, common, files)
    }

    fn linked(
        self,
        tables: BTreeMap<Spanned<String>, Spanned<TaskTable>>,
        job: &str,
        common: Common<'_>,
        files: Files<'_>,
    ) -> Result<Vec<Stage>, JobError> {
        let mut tables: Vec<_> = tables.into_iter().collect();
        // A person reads the file from its top; a map is sorted by name.
        tables.sort_by_key(|(name, _)| name.span().start);
        if let Some((name, _)) = tables.get(STAGES_MAX) {
            let what = format!("{} stages, but a job has at most {STAGES_MAX}; split it", tables.len());
            return Err(self.at("stage", name, what));
        }
        for (name, _) in &tables {
            check_stage(name.get_ref(), job).map_err(|what| self.at("stage", name, what))?;
        }
        let waits = tables.iter_mut().map(|(name, table)| {
            let table = table.get_mut();
            let (after, after_each) =
                (std::mem::take(&mut table.after), std::mem::take(&mut table.after_each));
            Waits { name: name.get_ref().clone(), after, after_each }
        });
        let waits: Vec<_> = waits.collect();
        let edges = dag::resolve(self, &waits)?;
        // Behind those that it waits for, a stage can be told to have the array of one of them.
        let mut elements: Vec<Option<Elements>> = vec![None; tables.len()];
        for number in dag::order(self, &waits, &edges)? {
            let (name, table) = &mut tables[number];
            let array = table.get_mut().array.take();
            let each = edges[number].iter().filter(|edge| edge.on.each);
            let own = match (array, each.clone().next()) {
                (None, Some(edge)) => elements[edge.on.stage].clone().expect("it comes behind it"),
                (array, _) => {
                    let key = format!("stage.{}.array", name.get_ref());
                    self.elements(&key, array, common.scope, files)?
                }
            };
            for edge in each {
                let other = elements[edge.on.stage].as_ref().expect("it comes behind it");
                self.same(&waits, number, edge, &own, other)?;
            }
            elements[number] = Some(own);
        }
        let tasks: usize = elements.iter().flatten().map(Elements::count).sum();
        if tasks > TASKS_MAX {
            let what =
                format!("{tasks} tasks in all stages together, but a job has at most {TASKS_MAX}; split it");
            return Err(self.at("stage", &tables[0].0, what));
        }
        let stages = tables.into_iter().zip(elements).zip(edges).map(|(((name, table), elements), edges)| {
            let key = format!("stage.{}", name.get_ref());
            let elements = elements.expect("each stage comes once in the order");
            self.stage(&key, name.into_inner(), table, elements, edges, common)
        });
        stages.collect()
    }

    /// `after_each` means the task of the same element, so there must be one.
    fn same(
        self,
        waits: &[Waits],
        number: usize,
        edge: &Edge,
        own: &Elements,
        other: &Elements,
    ) -> Result<(), JobError> {
        let (mine, theirs) = (own.count(), other.count());
        let why = match (0..mine.min(theirs)).find(|at| own.item(*at) != other.item(*at)) {
            Some(at) => {
                format!("element {} is `{}` there and `{}` here", at + 1, other.item(at), own.item(at))
            }
            None if mine != theirs => format!("it has {theirs} elements, and this stage {mine}"),
            None => return Ok(()),
        };
        let (name, other) = (&waits[number].name, &waits[edge.on.stage].name);
        let what = format!(
            "stage.{name}.after_each: each task waits for that of `{other}` with the same element, but {why}; leave out \
             stage.{name}.array to have that of `{other}`, or write `after` to wait for all of it"
        );
        Err(self.refuse(edge.span.clone(), what))
    }

    /// `[task]` is alone: there is nothing that it could wait for, and its array has a place already.
    fn alone(self, task: &TaskTable) -> Result<(), JobError> {
        let beside = "is for jobs of several stages; write [stage.NAME] for each instead of [task]";
        if let Some(first) = task.after.first() {
            return Err(self.at("task.after", first, beside));
        }
        if let Some(first) = task.after_each.first() {
            return Err(self.at("task.after_each", first, beside));
        }
        if let Some(given) = &task.if_failed {
            return Err(self.at("task.if_failed", given, beside));
        }
        match &task.array {
            Some(array) => Err(self.at("task.array", array, "the array of [task] is [array], beside it")),
            None => Ok(()),
        }
    }

    fn stage(
        self,
        key: &str,
        name: String,
        task: Spanned<TaskTable>,
        elements: Elements,
        edges: Vec<Edge>,
        common: Common<'_>,
    ) -> Result<Stage, JobError> {
        let table = Table { source: self, key };
        let axes: Vec<_> = elements.axes().iter().map(|axis| axis.name.clone()).collect();
        let item = elements != Elements::Single;
        let scope = Scope { index: true, item, axes: &axes, ..common.scope };
        let resources = table.resources(task.get_ref())?;
        let (span, task) = (task.span(), task.into_inner());
        let exclusive_cpus = table.exclusive_cpus(task.exclusive_cpus, &resources)?;
        let gang = task.gang.as_ref().is_some_and(|gang| *gang.get_ref());
        if let (true, Some(own)) = (gang, &task.speculate) {
            let what =
                "the tasks of a gang start together, so none has a second copy; leave out one of the two";
            return Err(self.at(&format!("{key}.speculate"), own, what));
        }
        let policy = Policy {
            retry: table.retry(task.retries, task.retry.as_ref(), common.retry, &resources)?,
            timeout: table.timeout(task.timeout)?,
            speculate: table.speculate(task.speculate.as_ref(), common.speculate.filter(|_| !gang))?,
        };
        let first = Values { item: elements.item(0), index: 1, axes: elements.parts(0) };
        Ok(Stage {
            inputs: table.inputs(task.artifacts, scope, &first)?,
            collect: table.collect(task.collect, common.scope, common.output)?,
            name,
            after: edges.into_iter().map(|edge| edge.on).collect(),
            if_failed: table.if_failed(task.if_failed)?,
            gang,
            policy,
            resources,
            exclusive_cpus,
            kill_grace: table.kill_grace(task.kill_grace)?,
            pids_max: table.pids_max(task.pids_max)?,
            io: table.io(task.io)?,
            argv: table.argv(span, task.command, task.image.is_some(), scope)?,
            image: table.image(task.image)?,
            user: task.user,
            network: table.network(task.network)?,
            env: table.env(task.env, scope)?,
            elements,
        })
    }

    /// The elements of an array; without one a single task.
    fn elements(
        self,
        key: &str,
        array: Option<Spanned<ArrayTable>>,
        scope: Scope<'_>,
        files: Files<'_>,
    ) -> Result<Elements, JobError> {
        let Some(array) = array else { return Ok(Elements::Single) };
        let (span, mut array) = (array.span(), array.into_inner());
        let axes = std::mem::take(&mut array.axes);
        if axes.is_empty() {
            return self.axis(key, span, array, scope, files);
        }
        if array.glob.is_some() || array.list.is_some() || array.range.is_some() {
            let what = format!(
                "{key}: one of glob, list and range stands beside axes; make it an axis of its own, such as \
                 axes.level = {{ range = [1, 9] }}"
            );
            return Err(self.refuse(span, what));
        }
        let mut axes: Vec<_> = axes.into_iter().collect();
        axes.sort_by_key(|(name, _)| name.span().start);
        let axes = axes.into_iter().map(|(name, table)| {
            let key = format!("{key}.axes.{}", name.get_ref());
            check_axis(name.get_ref(), scope).map_err(|what| self.at(&key, &name, what))?;
            let (span, table) = (table.span(), table.into_inner());
            if let Some((inner, _)) = table.axes.first_key_value() {
                return Err(self.at(&key, inner, "an axis has no axes of its own"));
            }
            let elements = self.axis(&key, span, table, scope, files)?;
            Ok(Axis { name: name.into_inner(), elements })
        });
        let axes = axes.collect::<Result<Vec<_>, JobError>>()?;
        Elements::product(axes).map_err(|error| self.refuse(span, format!("{key}.axes: {error}")))
    }

    /// A glob, a list or a range.
    fn axis(
        self,
        key: &str,
        span: Range<usize>,
        array: ArrayTable,
        scope: Scope<'_>,
        files: Files<'_>,
    ) -> Result<Elements, JobError> {
        let at = |part: &str| format!("{key}.{part}");
        let ArrayTable { glob, exclude, list, range, axes: _ } = array;
        let given = [glob.is_some(), list.is_some(), range.is_some()].iter().filter(|given| **given).count();
        if given != 1 {
            let what = format!(
                "{key}: {given} of glob, list and range are given; give exactly one, it says which tasks there are"
            );
            return Err(self.refuse(span, what));
        }
        if let (None, Some(first)) = (&glob, exclude.first()) {
            return Err(self.at(&at("exclude"), first, "takes files out of a glob, but there is no glob"));
        }
        if let Some(glob) = glob {
            let refuse = |error| self.at(&at("glob"), &glob, error);
            let pattern = scope.expand(glob.get_ref()).map_err(|error| self.at(&at("glob"), &glob, error))?;
            let exclude = exclude.iter().map(|text| {
                scope.expand(text.get_ref()).map_err(|error| self.at(&at("exclude"), text, error))
            });
            return files
                .glob(&at("glob"), &pattern, &exclude.collect::<Result<Vec<_>, _>>()?)
                .map_err(refuse);
        }
        if let Some(list) = list {
            let texts = list
                .get_ref()
                .iter()
                .map(|text| scope.expand(text.get_ref()).map_err(|error| self.at(&at("list"), text, error)));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            return Elements::list(texts).map_err(|error| self.at(&at("list"), &list, error));
        }
        let range = range.expect("one of three is given, and two are not");
        Elements::range(range.get_ref()).map_err(|error| self.at(&at("range"), &range, error))
    }
}

impl Table<'_> {
    fn if_failed(&self, given: Option<Spanned<String>>) -> Result<IfFailed, JobError> {
        let Some(given) = given else { return Ok(IfFailed::default()) };
        match given.get_ref().as_str() {
            "skip" => Ok(IfFailed::Skip),
            "continue" => Ok(IfFailed::Continue),
            other => {
                let what = format!(
                    "`{}` is neither \"skip\" (its tasks are not run then) nor \"continue\" (they run all the same)",
                    other.escape_default()
                );
                Err(self.at("if_failed", &given, what))
            }
        }
    }
}

/// The names of tasks are made from that of their stage.
fn check_stage(name: &str, job: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!(
            "`{}` is no name of a stage: letters, digits, `_` and `-`",
            name.escape_default()
        ));
    }
    check_name(&format!("{job}-{name}"))
}

fn check_axis(name: &str, scope: Scope<'_>) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if ["item", "index"].contains(&name) {
        return Err(format!("`{name}` is the array's own; choose another name"));
    }
    if scope.params.contains_key(name) {
        return Err(format!("`{name}` is a parameter already; choose another name"));
    }
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(()),
        false => {
            Err(format!("`{}` is no name of an axis: letters, digits, `_` and `-`", name.escape_default()))
        }
    }
}
