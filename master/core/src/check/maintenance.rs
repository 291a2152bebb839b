//! The laws of maintenance: windows reach the agents, machines that are down have none, and each framework is asked once at a time.

use crate::{
    state::{State, timers::Timer},
    view::AskedAgain,
};

/// Agents have the windows of their machines, offers carry them, and of a machine that is down no agent takes part.
pub(super) fn windows(state: &State) {
    for (id, view) in &state.view.agents {
        let agent = &state.agents[id];
        assert_eq!(agent.unavailability, state.window_of(&view.info.hostname), "the window of agent {id}");
        let down = state.why_down(&view.info.hostname).is_some();
        assert!(!down || agent.conn.is_none(), "agent {id} is connected, and its machine is down");
    }
    for (id, view) in &state.view.offers {
        let window = state.agents[&view.offer.agent_id].unavailability;
        assert_eq!(view.offer.unavailability, window, "the window that offer {id} carries");
    }
    let ends = state.view.maintenance.next_end().is_some();
    assert_eq!(state.timers.is_set(&Timer::WindowEnds), ends, "a window ends for ever, or none does");
}

/// Whoever is to leave is known, is asked once at a time, and each inverse offer is counted once when made and once when closed.
pub(super) fn inverse_offers(state: &State) {
    let mut outstanding = 0;
    for (id, agent) in &state.agents {
        let asked = state.view.inverse_offers.get(id);
        let Some(window) = agent.unavailability else {
            assert!(asked.is_none(), "agent {id} has no window and is to be left");
            continue;
        };
        let held = state.held_by_frameworks(id);
        let known = asked.map(|asked| asked.keys().collect::<Vec<_>>()).unwrap_or_default();
        assert!(held.keys().eq(known), "who holds something of agent {id} is to leave it");
        for (framework_id, asked) in asked.iter().flat_map(|asked| asked.iter()) {
            assert_eq!(
                asked.unavailability, window,
                "the window for which {framework_id} is to leave agent {id}"
            );
            assert_eq!(asked.resources, held[framework_id], "what {framework_id} holds of agent {id}");
            let quiet = matches!(asked.asked_again, AskedAgain::At(_));
            let filter = Timer::InverseFilter(id.clone(), framework_id.clone());
            assert_eq!(state.timers.is_set(&filter), quiet, "{framework_id} is asked about {id} again");
            let takes = state.takes_inverse_offers(framework_id) && agent.conn.is_some();
            match &asked.outstanding {
                Some(offer) => {
                    outstanding += 1;
                    assert!(takes, "{framework_id} is asked about agent {id}, and cannot be");
                    assert!(
                        asked.asked_again == AskedAgain::Now,
                        "{framework_id} is asked too early about {id}"
                    );
                    assert!(state.timers.is_set(&Timer::InverseOffer(offer.clone())), "{offer} has no end");
                    let known = &state.inverse_offers.outstanding[offer];
                    assert_eq!(*known, (id.clone(), framework_id.clone()), "whom {offer} asks");
                }
                None => assert!(
                    !takes || asked.asked_again != AskedAgain::Now,
                    "{framework_id} is to be asked about agent {id}, and is not"
                ),
            }
        }
    }
    let known = |id| state.agents.contains_key(id);
    assert!(state.view.inverse_offers.keys().all(known), "an agent is to be left that is not known");
    assert_eq!(state.inverse_offers.outstanding.len(), outstanding, "inverse offers that are outstanding");
    let counters = &state.view.counters;
    let closed = counters.inverse_offers_accepted
        + counters.inverse_offers_declined
        + counters.inverse_offers_rescinded;
    assert_eq!(
        counters.inverse_offers_made,
        closed + outstanding as u64,
        "inverse offers made, closed and outstanding"
    );
}
