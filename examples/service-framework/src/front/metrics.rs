//! What Prometheus reads of services as such: how many replicas there are, and what they are scaled by.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    balancer::{Statistics, metrics},
    state::AppView,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppLabel {
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    app: String,
    rule: String,
}

/// The page of services and of what balancers count for them.
pub(super) fn page(services: &[AppView], statistics: &[Statistics]) -> String {
    let (wanted, ready) = (Family::<AppLabel, Gauge>::default(), Family::<AppLabel, Gauge>::default());
    let value = Family::<RuleLabel, Gauge<f64, AtomicU64>>::default();
    let aim = Family::<RuleLabel, Gauge<f64, AtomicU64>>::default();
    for service in services {
        let app = || service.name.clone();
        wanted.get_or_create(&AppLabel { app: app() }).set(service.replicas.into());
        ready.get_or_create(&AppLabel { app: app() }).set(service.ready.into());
        for said in service.scaling.iter().flat_map(|decision| &decision.said) {
            let label = RuleLabel { app: app(), rule: said.rule.clone() };
            aim.get_or_create(&label).set(said.aim);
            // What is not known is not none: it is not there.
            if let Some(known) = said.value {
                value.get_or_create(&label).set(known);
            }
        }
    }
    let mut registry = Registry::with_prefix("apportion_service");
    registry.register("replicas_wanted", "Replicas that there are to be", wanted);
    registry.register("replicas_ready", "Replicas that are ready", ready);
    registry.register("scaling_value", "What a rule of [scale] measured last, for each replica", value);
    registry.register("scaling_aim", "What a rule of [scale] aims at", aim);
    let mut page = String::new();
    // Writing to a string does not fail; a page cut short is better than none.
    let _ = text::encode(&mut page, &registry);
    // Each page has an end of its own, and only the last one is to have it.
    let page = page.trim_end_matches("# EOF\n");
    page.to_owned() + &metrics::page(statistics)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apportion_sdk::Time;

    use super::*;
    use crate::{scale::Measured, spec::Spec, state::Services};

    #[test]
    fn what_is_not_known_is_not_told() {
        let spec = "name = 'web'\ncommand = 'serve'\nreplicas = 2\n[scale]\nmax = 9\n[[scale.rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
        let spec = Arc::new(Spec::parse(std::path::Path::new("web.toml"), spec).unwrap());
        let mut services = Services::default();
        services.apply(vec![spec], false, Time::ZERO, &mut Vec::new()).unwrap();
        services.measured(
            &[Measured { service: "web".into(), ..Measured::default() }],
            Time::ZERO,
            &mut Vec::new(),
        );
        let page = page(&services.view(), &[]);
        assert!(page.contains("apportion_service_replicas_wanted{app=\"web\"} 2\n"), "{page}");
        assert!(
            page.contains("apportion_service_scaling_aim{app=\"web\",rule=\"cpu at 0.5 for each\"} 0.5\n"),
            "{page}"
        );
        assert!(!page.contains("apportion_service_scaling_value{"), "{page}");
        assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1, "{page}");
    }
}
