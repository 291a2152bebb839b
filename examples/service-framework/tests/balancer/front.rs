//! The front: balancers and discovery that follow what a scheduler says of its services.

use std::{net::TcpListener, sync::Arc};

use apportion_sdk::TaskId;
use apportion_service::{
    balancer::{Listener, State},
    discovery::http::Pages as _,
    event::Told,
    front::Front,
    scheduler::Views,
    spec::Spec,
    state::{AppView, Endpoint, Phase, TaskView},
};
use http_body_util::BodyExt as _;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    backend::{Backend, answer},
    client::{Tunnel, get},
    soon,
};

/// A front, and who tells it how services are.
struct Stage {
    front: Arc<Front>,
    views: watch::Sender<Views>,
    drained: mpsc::UnboundedReceiver<TaskId>,
    events: mpsc::UnboundedReceiver<Told>,
}

impl Stage {
    fn new() -> Self {
        let views = watch::Sender::<Views>::default();
        let ((told, events), (drains, drained)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let front = Arc::new(Front::new(views.subscribe(), told, drains, false));
        Self { front, views, drained, events }
    }

    /// From now on these are the services; true when the front could follow.
    async fn show(&self, apps: Vec<AppView>) -> bool {
        self.views.send_replace(Arc::new(apps));
        soon(self.front.bring_up()).await
    }

    fn address(&self, app: &str) -> std::net::SocketAddr {
        self.front.balancer(app).expect("it has a balancer").address()
    }

    async fn page(&self, path: &str) -> String {
        let page = self.front.page(path).unwrap();
        String::from_utf8(page.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn said(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|told| told.to_string()).collect()
    }
}

fn free() -> Listener {
    Listener::new(([127, 0, 0, 1], 0).into())
}

fn app(name: &str, balancer: Option<Listener>, tasks: Vec<TaskView>) -> AppView {
    AppView {
        trouble: Default::default(),
        name: name.to_owned(),
        replicas: tasks.len() as u32,
        ready: 0,
        revision: 1,
        phase: Phase::Steady,
        good: vec![1],
        rejected: None,
        waits_for: Vec::new(),
        removed: false,
        scaling: None,
        balancer,
        unserved: None,
        tasks,
    }
}

fn ready(backend: &Backend) -> TaskView {
    let address = backend.replica().address;
    TaskView {
        task_id: TaskId::new(backend.replica().id).unwrap(),
        replica: 0,
        revision: 1,
        hostname: "nobody-knows-this-name".to_owned(),
        agent: String::new(),
        addresses: Vec::new(),
        ready: true,
        ending: false,
        draining: false,
        endpoint: Some(Endpoint { host: address.ip().to_string(), port: address.port() }),
    }
}

fn ending(backend: &Backend) -> TaskView {
    TaskView { ending: true, draining: true, ..ready(backend) }
}

#[tokio::test]
async fn a_task_that_is_to_end_finishes_what_it_has_before_that_is_told() {
    let mut stage = Stage::new();
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = Backend::start("old", {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        move |_| {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                Some(answer(200, "old"))
            }
        }
    })
    .await;
    let new = Backend::echo("new").await;
    assert!(stage.show(vec![app("web", Some(free()), vec![ready(&slow)])]).await);
    let address = stage.address("web");
    assert_eq!(stage.said(), [format!("web: listening on {address}")]);
    let under_way = tokio::spawn(get(address));
    soon(begun.notified()).await;
    // Of two views in a row the last one counts.
    for _ in 0..2 {
        stage.show(vec![app("web", Some(free()), vec![ending(&slow), ready(&new)])]).await;
    }
    assert_eq!(soon(get(address)).await.body(), "new");
    assert!(stage.drained.try_recv().is_err());
    go.notify_one();
    assert_eq!(soon(under_way).await.unwrap().body(), "old");
    assert_eq!(soon(stage.drained.recv()).await.unwrap().as_str(), "old");
    stage.show(vec![app("web", Some(free()), vec![ready(&new)])]).await;
    assert!(stage.drained.try_recv().is_err(), "it is told once");
    // One that it never led anybody to, as after it was started anew.
    stage
        .show(vec![app("web", Some(free()), vec![ending(&Backend::echo("other").await), ready(&new)])])
        .await;
    assert_eq!(soon(stage.drained.recv()).await.unwrap().as_str(), "other");
}

#[tokio::test]
async fn other_settings_hold_at_once_and_turn_nobody_away() {
    let stage = Stage::new();
    let backend = Backend::echo("a").await;
    stage.show(vec![app("web", Some(free()), vec![ready(&backend)])]).await;
    let address = stage.address("web");
    let (end, ending) = watch::channel(false);
    let client = tokio::spawn(async move {
        let mut count = 0;
        while !*ending.borrow() {
            assert_eq!(get(address).await.body(), "a");
            count += 1;
        }
        count
    });
    for workers in [1, 3, 2, 1] {
        let listener = Listener { workers, retries: Default::default(), ..free() };
        let begun = backend.count();
        assert!(stage.show(vec![app("web", Some(listener.clone()), vec![ready(&backend)])]).await);
        assert_eq!(
            (stage.address("web"), stage.front.balancer("web").unwrap().listener()),
            (address, &listener)
        );
        crate::until("requests go on", || backend.count() > begun + 20).await;
    }
    end.send_replace(true);
    assert!(soon(client).await.unwrap() >= 80);
}

#[tokio::test]
async fn other_settings_leave_tunnels_as_they_are() {
    let stage = Stage::new();
    let backend = Backend::reversing("a").await;
    stage.show(vec![app("web", Some(free()), vec![ready(&backend)])]).await;
    let mut tunnel = Tunnel::open(stage.address("web")).await;
    let before = stage.front.balancer("web").unwrap();
    let listener = Listener { workers: 2, ..free() };
    assert!(stage.show(vec![app("web", Some(listener), vec![ready(&backend)])]).await);
    assert_eq!(Tunnel::open(stage.address("web")).await.say("1234").await, "4321");
    assert_eq!((tunnel.say("abcd").await.as_str(), before.statistics().clients), ("dcba", 1));
    drop(tunnel);
    assert!(soon(before.shutdown(crate::LONG)).await, "it has nobody left");
}

#[tokio::test]
async fn an_address_that_cannot_be_had_leaves_the_old_one_as_it_is() {
    let mut stage = Stage::new();
    let backend = Backend::echo("a").await;
    stage.show(vec![app("web", Some(free()), vec![ready(&backend)])]).await;
    let before = stage.address("web");
    stage.said();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = Listener::new(taken.local_addr().unwrap());
    for _ in 0..2 {
        let apps = vec![app("web", Some(wanted.clone()), vec![ready(&backend)])];
        assert!(!stage.show(apps).await, "it is to be tried again");
    }
    let said = stage.said();
    assert!(
        said.len() == 1 && said[0].contains("cannot listen on") && said[0].contains("another port"),
        "{said:?}"
    );
    assert_eq!(soon(get(before)).await.body(), "a");
    let page = stage.page("/v1/services").await;
    let unserved = stage.front.unserved("web").unwrap();
    assert!(
        unserved.starts_with("cannot listen on") && page.contains("\"unserved\":\"cannot listen on"),
        "{page}"
    );
    drop(taken);
    assert!(soon(stage.front.bring_up()).await);
    assert_eq!(stage.front.unserved("web"), None);
    assert_eq!(soon(get(wanted.address)).await.body(), "a");
    crate::until("nobody listens at the old one", || std::net::TcpStream::connect(before).is_err()).await;
    // Without a balancer nobody listens, and without the service nothing is left.
    stage.show(vec![app("web", None, vec![ready(&backend)])]).await;
    crate::until("nobody listens", || std::net::TcpStream::connect(wanted.address).is_err()).await;
    stage.show(Vec::new()).await;
    assert_eq!(stage.front.directory().apps(), [""; 0]);
}

#[tokio::test]
async fn a_service_is_gone_when_another_differs_only_by_case() {
    let stage = Stage::new();
    stage.show(vec![app("Web", Some(free()), Vec::new())]).await;
    stage.show(vec![app("web", None, Vec::new())]).await;
    assert!(stage.front.balancer("Web").is_none());
    assert_eq!(stage.front.directory().apps(), ["web"]);
}

#[tokio::test]
async fn an_address_is_opened_before_a_description_is_applied() {
    let stage = Stage::new();
    let spec = |name: &str, listener: &Listener| {
        Arc::new(Spec { ports: 1, balancer: Some(listener.clone()), ..Spec::new(name, ["serve"]) })
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = Listener::new(taken.local_addr().unwrap());
    let refused = stage.front.reserve(&[spec("web", &wanted)]).await.unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("balancer.address: service `web`: cannot listen on {}", wanted.address)),
        "{refused}"
    );
    drop(taken);
    let reserved = stage.front.reserve(&[spec("web", &wanted)]).await.unwrap();
    assert!(TcpListener::bind(wanted.address).is_err());
    drop(reserved);
    drop(TcpListener::bind(wanted.address).expect("what was not used is let go"));

    let reserved = stage.front.reserve(&[spec("web", &wanted)]).await.unwrap();
    let backend = Backend::echo("a").await;
    stage.show(vec![app("web", Some(wanted.clone()), vec![ready(&backend)])]).await;
    drop(reserved);
    assert_eq!(soon(get(wanted.address)).await.body(), "a");
    // Its own address is nobody's trouble, also when something else is new.
    drop(stage.front.reserve(&[spec("web", &Listener { workers: 2, ..wanted.clone() })]).await.unwrap());
    let refused = stage.front.reserve(&[spec("shop", &wanted)]).await.unwrap_err().to_string();
    assert!(refused.contains("where `web` does still; apply `web` first"), "{refused}");
    // All addresses instead of one: the framework knows its own.
    let all = Listener::new(([0, 0, 0, 0], wanted.address.port()).into());
    let refused = stage.front.reserve(&[spec("web", &all)]).await.unwrap_err().to_string();
    let remedy = format!(
        "for as long as it does on {}; take another port, or apply it without [balancer]",
        wanted.address
    );
    assert!(refused.contains(&remedy), "{refused}");
    let refused = stage.front.reserve(&[spec("shop", &all)]).await.unwrap_err().to_string();
    assert!(refused.contains("where `web` does still; apply `web` first"), "{refused}");
    stage.show(vec![app("web", None, vec![ready(&backend)])]).await;
    drop(soon(stage.front.reserve(&[spec("web", &all)])).await.expect("the remedy works"));
    stage.show(vec![app("web", Some(wanted.clone()), vec![ready(&backend)])]).await;
    // Given up a moment ago.
    stage.show(Vec::new()).await;
    drop(soon(stage.front.reserve(&[spec("shop", &wanted)])).await.unwrap());
}

#[tokio::test]
async fn whoever_scales_learns_what_goes_on_and_that_somebody_waits() {
    let stage = Stage::new();
    let front = Arc::clone(&stage.front);
    let wanted = tokio::spawn(async move { front.wanted("web").await });
    assert!(stage.front.statistics("web").is_none());
    stage.show(vec![app("web", Some(free()), Vec::new())]).await;
    let client = tokio::spawn(get(stage.address("web")));
    soon(wanted).await.unwrap();
    assert_eq!(stage.front.statistics("web").unwrap().waiting, 1);
    let backend = Backend::echo("a").await;
    stage.show(vec![app("web", Some(free()), vec![ready(&backend)]), app("db", None, Vec::new())]).await;
    assert_eq!(soon(client).await.unwrap().body(), "a");
    assert_eq!(stage.front.statistics("web").unwrap().requests, 1);

    stage.show(vec![app("web", Some(free()), vec![ready(&backend)])]).await;
    assert_eq!(stage.front.directory().apps(), ["web"], "db is gone");
    stage.show(vec![app("web", Some(free()), vec![ready(&backend)]), app("db", None, Vec::new())]).await;

    let metrics = stage.page("/metrics").await;
    assert!(metrics.contains("apportion_balancer_requests_total{app=\"web\"} 1"), "{metrics}");
    let services: serde_json::Value = serde_json::from_str(&stage.page("/v1/services").await).unwrap();
    assert_eq!(services[0]["statistics"]["replicas"][0]["standing"], "ready");
    assert_eq!(services[0]["listening"], stage.address("web").to_string());
    assert_eq!((&services[1]["name"], &services[1]["statistics"]), (&"db".into(), &serde_json::Value::Null));
    let known = stage.front.directory().replicas("web").unwrap();
    assert_eq!((known.len(), known[0].state), (1, State::Ready));
}
