//! What holds for every description, read or made by a program.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    Resources, Role, TaskId, limits,
    resources::{Name, Value},
};

use super::{
    CPUS_MILLI_DEFAULT, FAILOVER_TIMEOUT, MEM_MILLI_DEFAULT, NAME_BYTES_MAX, PORTS_MAX, Placement,
    REPLACE_AFTER, REPLICAS_MAX, Restart, Spec, SpecError, Update, balancer,
    fault::{Fault, Way},
};
use crate::template;

impl Spec {
    /// Begins a description without a file: one replica, everything else as it is without a word. To be changed as wished, and
    /// then [checked](Spec::checked).
    ///
    /// ```
    /// use apportion_service::spec::Spec;
    ///
    /// let web = Spec { replicas: 3, ports: 1, ..Spec::new("web", ["serve", "${port0}"]) }.checked().unwrap();
    /// assert_eq!(web.resources.to_string(), "cpus:0.1;mem:64");
    /// ```
    pub fn new(name: impl Into<String>, argv: impl IntoIterator<Item = impl Into<String>>) -> Spec {
        let mut resources = Resources::new();
        resources.insert(Name::Cpus, Value::Scalar(CPUS_MILLI_DEFAULT));
        resources.insert(Name::Mem, Value::Scalar(MEM_MILLI_DEFAULT));
        Spec {
            name: name.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            image: None,
            user: None,
            artifacts: Vec::new(),
            volumes: Vec::new(),
            init: Vec::new(),
            sidecars: Vec::new(),
            health: None,
            replicas: 1,
            resources,
            io: None,
            exclusive_cpus: false,
            ports: 0,
            network: None,
            role: Role::default().to_string(),
            kill_grace: None,
            failover_timeout: FAILOVER_TIMEOUT,
            replace_after: REPLACE_AFTER,
            restart: Restart::default(),
            update: Update::default(),
            scale: None,
            after: Vec::new(),
            balancer: None,
            placement: Placement::default(),
        }
    }

    /// The description as it is, when a scheduler can run it.
    pub fn checked(self) -> Result<Spec, SpecError> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(Fault { what, .. }) => {
                Err(SpecError::Refused { service: self.name.escape_default().to_string(), what })
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        check_name(&self.name).map_err(|what| Fault::at("name", what))?;
        let ports: Vec<u16> =
            (0..self.ports.min(PORTS_MAX + 1)).map(|place| u16::MAX - place as u16).collect();
        within("ports", ports.len(), 0..=PORTS_MAX)?;
        within("replicas", self.replicas, 0..=REPLICAS_MAX)?;
        if self.resources.ports().is_some() {
            return Err(Fault::at("resources", NAMES_PORTS));
        }
        if let Some(fault) = self.program().fault(&ports).or_else(|| self.fault_of_helpers(&ports)) {
            return Err(fault);
        }
        if let Some(health) = &self.health {
            for text in health.templates() {
                template::render(text, 0, &ports).map_err(|unknown| Fault::at("health.command", unknown))?;
            }
            if let Some(fault) = health.fault(self.ports) {
                return Err(fault);
            }
        }
        if let Some(fault) = self.network.as_ref().and_then(|network| network.fault(self.ports)) {
            return Err(fault);
        }
        let balancer = self.balancer.as_ref();
        if let Some(fault) = balancer.and_then(|listener| balancer::fault(listener, self.ports)) {
            return Err(fault);
        }
        if let Some(fault) = self.placement.fault() {
            return Err(fault);
        }
        Role::new(&self.role).map_err(|error| Fault::at("role", error))?;
        let Restart { min, max, .. } = self.restart;
        if min.is_zero() {
            let what = "restart: min is zero; what ends at once would start without end";
            return Err(Fault::new(Way::to("restart.min"), what));
        }
        if max < min {
            let what = format!(
                "restart: max ({max:?}) is below min ({min:?}); make it as long, or leave one of them out"
            );
            return Err(Fault::new(Way::to("restart.max"), what));
        }
        let most = self.scale.as_ref().map_or(self.replicas, |scale| scale.max.max(self.replicas));
        if let Some(fault) = self.update.fault(most) {
            return Err(fault);
        }
        if let Some(scale) = &self.scale
            && let Some(what) = scale
                .problem(REPLICAS_MAX)
                .or_else(|| scale.needs_balancer().filter(|_| self.balancer.is_none()))
        {
            return Err(Fault::new(Way::to("scale"), what));
        }
        if self.after.contains(&self.name) {
            return Err(Fault::at(
                "after",
                "names the service itself, which would never start; leave it out",
            ));
        }
        let durations = [
            ("kill_grace", self.kill_grace.unwrap_or(Duration::ZERO), limits::KILL_GRACE_MAX),
            ("failover_timeout", self.failover_timeout, limits::FAILOVER_TIMEOUT_MAX),
        ];
        if let Some((key, _, longest)) =
            durations.into_iter().find(|(_, duration, longest)| duration > longest)
        {
            let longest = humantime::format_duration(longest);
            return Err(Fault::at(key, format!("is longer than the longest that is allowed, {longest}")));
        }
        // The longest of each part: what can be described so can be described for every replica.
        let task_id = TaskId::new(format!("{}.{REPLICAS_MAX}.{}", self.name, u64::MAX))
            .expect("the name has left room");
        let launch = self.describe(REPLICAS_MAX, &task_id, &ports);
        launch.map(|_| ()).map_err(|error| self.fault_of(&error, &task_id))
    }
}

/// Why ports do not stand among the resources.
pub(super) const NAMES_PORTS: &str =
    "names ports, which only one replica of each agent could have; say how many with `ports = 1`";

pub(super) fn check_name(name: &str) -> Result<(), String> {
    let bytes = name.len();
    if bytes > NAME_BYTES_MAX {
        return Err(format!("{bytes} bytes long; at most {NAME_BYTES_MAX} leave room for task ids"));
    }
    TaskId::new(name).map(|_| ()).map_err(|_| {
        let text = name.escape_default();
        format!("`{text}` cannot begin a task id: no `/`, no white space, not empty, no `-` in front")
    })
}

pub(super) fn check_variable(name: &str) -> Result<(), &'static str> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err("is not a name of a variable: not empty, no `=`"),
        false => Ok(()),
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &str,
    given: T,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<(), Fault> {
    match allowed.contains(&given) {
        true => Ok(()),
        false => Err(Fault::at(key, format!("{given} is not from {} to {}", allowed.start(), allowed.end()))),
    }
}
