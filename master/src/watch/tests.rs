use std::sync::Arc;

use apportion_master_core::{
    View,
    view::{OfferView, RoleSettings},
};
use apportion_types::{Offer, OfferId, Resources, Role, Time, limits};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

use super::{hub::TooMany, watcher::Watching, *};
use crate::metrics::{Metrics, PeerKind};

/// A hub, and the door by which views get to it; they are compared by hand.
fn hub() -> (Arc<Hub>, watch::Sender<Arc<View>>) {
    let (sender, receiver) = watch::channel(view(&[]));
    (Hub::new(receiver), sender)
}

fn view(roles: &[(&str, i32)]) -> Arc<View> {
    let mut view = View { master_id: "m1".to_owned(), ..View::default() };
    for (role, priority) in roles {
        let settings = RoleSettings { priority: *priority, ..RoleSettings::default() };
        view.roles.insert(Role::new(role).unwrap(), settings);
    }
    Arc::new(view)
}

fn advance(hub: &Hub, views: &watch::Sender<Arc<View>>, view: Arc<View>) {
    views.send_replace(Arc::clone(&view));
    hub.advance(view);
}

fn start(hub: &Arc<Hub>, kinds: &[Kind], since: Option<&Position>) -> Watching<Told> {
    hub.watch(kinds, since).unwrap().start(Arc::default(), |_, told| vec![told])
}

async fn next(watching: &mut Watching<Told>) -> Told {
    watching.next().await.unwrap().unwrap()
}

fn role(name: &str, priority: i32) -> Change {
    let settings = RoleSettings { priority, ..RoleSettings::default() };
    Change::Role(Role::new(name).unwrap(), settings)
}

#[tokio::test]
async fn a_snapshot_then_what_changes_to_each_by_kind() {
    let (hub, views) = hub();
    views.send_replace(view(&[("a", 1)]));
    let (mut all, mut offers) = (start(&hub, &[], None), start(&hub, &[Kind::Offers], None));
    let snapshot = next(&mut all).await;
    assert!(snapshot.snapshot && snapshot.complete);
    assert_eq!(snapshot.changes, [role("a", 1)]);
    let none = next(&mut offers).await;
    assert!(none.snapshot && none.complete && none.changes.is_empty());
    advance(&hub, &views, view(&[("a", 1)]));
    advance(&hub, &views, view(&[("a", 2), ("b", 1)]));
    advance(&hub, &views, view(&[("b", 1)]));
    let first = next(&mut all).await;
    assert_eq!((first.position.version, first.snapshot), (snapshot.position.version + 1, false));
    assert_eq!(first.changes, [role("a", 2), role("b", 1)]);
    assert_eq!(next(&mut all).await.changes, [Change::RoleRemoved(Role::new("a").unwrap())]);
}

#[tokio::test]
async fn who_returns_goes_on_where_it_was_while_that_is_known() {
    let (hub, views) = hub();
    let position = next(&mut start(&hub, &[], None)).await.position;
    advance(&hub, &views, view(&[("a", 1)]));
    let told = next(&mut start(&hub, &[], Some(&position))).await;
    assert_eq!((told.snapshot, told.changes), (false, vec![role("a", 1)]));
    let ahead = Position { version: position.version + 9, ..position.clone() };
    let other = Position { master_id: "m2".to_owned(), ..position.clone() };
    for unknown in [ahead, other] {
        let told = next(&mut start(&hub, &[], Some(&unknown))).await;
        assert_eq!((told.snapshot, told.changes), (true, vec![role("a", 1)]));
    }
    // What is far behind is forgotten.
    let names: Vec<String> = (0..limits::WATCH_CHANGES_MAX / 2).map(|number| format!("r{number}")).collect();
    for priority in 1..=3 {
        hub.advance(view(&names.iter().map(|name| (name.as_str(), priority)).collect::<Vec<_>>()));
    }
    assert!(next(&mut start(&hub, &[], Some(&position))).await.snapshot);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_ended_and_nobody_else_notices() {
    let (hub, views) = hub();
    let metrics = Arc::<Metrics>::default();
    let mut slow = hub.watch(&[], None).unwrap().start(Arc::clone(&metrics), |_, told| vec![told]);
    let mut other = start(&hub, &[], None);
    next(&mut other).await;
    // Each time so much changes that it is told in several parts.
    const ROLES: usize = 20_000;
    let names: Vec<String> = (0..ROLES).map(|number| format!("r{number}")).collect();
    let mut told = 0;
    for priority in 1..=(limits::WATCH_CHANGES_MAX / ROLES) as i32 + 2 {
        let roles: Vec<(&str, i32)> = names.iter().map(|name| (name.as_str(), priority)).collect();
        advance(&hub, &views, view(&roles));
        let mut complete = false;
        while !complete {
            let part = next(&mut other).await;
            told += part.changes.len();
            complete = part.complete;
        }
    }
    assert!(told > limits::WATCH_CHANGES_MAX);
    let streams = [(PeerKind::Scheduler, 0), (PeerKind::Agent, 0), (PeerKind::Watcher, hub.watchers())];
    let mut last = None;
    let mut read = 0;
    while let Some(message) = slow.next().await {
        read += usize::from(message.is_ok());
        last = Some(message);
    }
    assert_eq!(last, Some(Err(WatchEnd::TooSlow)));
    assert!(read < 10, "{read} messages were kept for it");
    let page = metrics.page(&View::default(), Time::from_micros(1), streams);
    assert!(page.contains("apportion_master_peers_too_slow_total{peer=\"watcher\"} 1"), "{page}");
}

#[tokio::test]
async fn large_snapshots_come_in_parts_and_only_the_last_is_complete() {
    let (hub, views) = hub();
    let mut large = View { master_id: "m1".to_owned(), ..View::default() };
    for number in 0..2500 {
        let offer_id = OfferId::new(format!("o{number}")).unwrap();
        let offer = Offer {
            offer_id: offer_id.clone(),
            framework_id: "f".parse().unwrap(),
            agent_id: "a".parse().unwrap(),
            role: Role::default(),
            resources: Resources::new(),
            place: Default::default(),
            unavailability: None,
        };
        let at = Time::from_micros(1);
        large.offers.insert(offer_id, Arc::new(OfferView { offer, made_at: at, expires_at: at }));
    }
    views.send_replace(Arc::new(large));
    let mut watching = start(&hub, &[], None);
    let (mut sizes, mut complete) = (Vec::new(), false);
    while !complete {
        let told = next(&mut watching).await;
        assert!(told.snapshot);
        sizes.push(told.changes.len());
        complete = told.complete;
    }
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[tokio::test]
async fn so_many_watch_and_no_more() {
    let (hub, _views) = hub();
    let all: Vec<_> = (0..limits::WATCHERS_MAX).map(|_| hub.watch(&[], None).unwrap()).collect();
    assert_eq!(hub.watch(&[], None).err(), Some(TooMany));
    drop(all);
    assert_eq!(hub.watchers(), 0);
    hub.watch(&[], None).unwrap();
}

#[tokio::test]
async fn at_the_end_every_watcher_is_told() {
    let (hub, views) = hub();
    let running = tokio::spawn(Arc::clone(&hub).run());
    let mut watching = start(&hub, &[], None);
    next(&mut watching).await;
    drop(views);
    running.await.unwrap();
    assert_eq!(watching.next().await, Some(Err(WatchEnd::Ending)));
    assert_eq!(watching.next().await, None);
}
