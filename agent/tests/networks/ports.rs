//! Tasks on the host's network are held to the ports that they hold.

use apportion_types::{Network, Reason, TaskState, container::Limitation};

use super::{Process, folder, kill, listener, support::*};

pub(crate) async fn held() {
    let folder = folder();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    // The agent offers 31000 to 31009. Who listens elsewhere, or in a network of its own, takes nobody's port.
    let good = listener("good", 31_001, "cpus:0.1;mem:64;ports:[31001-31001]");
    let elsewhere = listener("elsewhere", 40_000, "cpus:0.1;mem:64");
    let mut alone = listener("alone", 31_003, "cpus:0.1;mem:64");
    alone.container.network = Some(Box::new(Network::new(Network::NONE)));
    stream.run(vec![good, elsewhere, alone]).await;
    stream.all_until(&["good", "elsewhere", "alone"], TaskState::Running).await;
    for id in ["bad", "worse"] {
        // A shell between the task and who listens makes no difference.
        let mut bad = listener(id, 31_002, "cpus:0.1;mem:64;ports:[31004-31004]");
        if id == "worse" {
            let words = bad.command.argv.join(" ");
            bad.command.argv = ["sh", "-c", &format!("{words} & wait")].map(str::to_owned).to_vec();
        }
        stream.run(vec![bad]).await;
        let end = stream.until(id, TaskState::Failed).await;
        assert_eq!(end.reason, Some(Reason::ContainerLimitationPorts), "{end:?}");
        assert_eq!(end.message, "listened on port 31002 of its agent, which it does not hold");
        assert_eq!(end.container.unwrap().limitation, Some(Limitation::Port { port: 31_002 }));
    }
    for id in ["good", "elsewhere", "alone"] {
        stream.say(kill(id)).await;
        stream.until(id, TaskState::Killed).await;
    }
    drop(process);
}
