//! Every bound in one place, each with its reason. One that a peer can reach is answered with a reason, never a panic.

use std::time::Duration;

/// Bytes of an id or a role component: an id becomes a file name, and 255 is the most that Linux file systems take;
/// rounded down so that a suffix fits.
pub const ID_BYTES_MAX: usize = 200;

/// Components of a role: deeper trees cost each cycle time and serve nobody.
pub const ROLE_DEPTH_MAX: usize = 16;

/// Roles of one framework.
pub const ROLES_MAX: usize = 64;

/// The most thousandths that one scalar of one agent or task may hold (10^10 whole units): a hundred thousand such agents
/// still add up within an `i64`.
pub const SCALAR_MILLI_MAX: i64 = 10_000_000_000_000;

/// Disjoint ranges of one resource of one agent or task: bounds the cost of arithmetic on them.
pub const RANGES_MAX: usize = 4096;

/// Members of one set of one agent or task.
pub const SET_MEMBERS_MAX: usize = 4096;

/// Resources of different names in one place.
pub const RESOURCE_NAMES_MAX: usize = 64;

/// Bytes of one gRPC message of or to a scheduler: an accept with [`TASKS_PER_ACCEPT_MAX`] ordinary tasks fits well.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Bytes of one gRPC message of or to an agent: Register names all tasks of the agent, and Registered all that it did not name.
/// Some fifty thousand ordinary ones; an agent above it could never register.
pub const AGENT_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Bytes of a task's command line, environment, labels and name together: what `execve` takes, with room.
pub const TASK_BYTES_MAX: usize = 128 << 10;

/// Volumes of one task: each costs its container a mount.
pub const VOLUMES_MAX: usize = 64;

/// Bytes of a path (Linux: PATH_MAX, with the NUL behind it).
pub const PATH_BYTES_MAX: usize = 4095;

/// The longest name of an image: a registry's host (253), a repository (255), a tag (128), a digest (71) and what is between them; a
/// path may be as long as any.
pub const IMAGE_BYTES_MAX: usize = PATH_BYTES_MAX + 256;

/// Bytes of the name of a network: it becomes a part of file names of plugins, and of names of chains in the kernel.
pub const NETWORK_NAME_BYTES_MAX: usize = 64;

/// Ports of the host that lead to one task: each is some rules of the kernel.
pub const PORT_MAPPINGS_MAX: usize = 64;

/// Rules of the network of one task: each connection may be compared with all.
pub const NETWORK_RULES_MAX: usize = 128;

/// Addresses of one task.
pub const TASK_ADDRESSES_MAX: usize = 16;

/// Artifacts of a task: they are fetched one after the other.
pub const ARTIFACTS_MAX: usize = 64;

/// The shortest pause between two probes, and the shortest time an answer is awaited: more would be load, not knowledge.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Commands of probes that one agent executes at once: each is a process; more wait for their turn.
pub const COMMAND_PROBES_MAX: usize = 32;

/// Commands that people execute beside the tasks of one agent at once: each is two processes of the agent's; more are refused.
pub const EXEC_SESSIONS_MAX: usize = 64;

/// Bytes of a file that is written to a sandbox from elsewhere: as many as an artifact has that a task fetches, unless that is set.
pub const SANDBOX_FILE_BYTES_MAX: u64 = 8 << 30;

/// Files and logs of one agent's tasks that are read at once, those that are followed included: each holds up to five file descriptors; more
/// are refused.
pub const SANDBOX_READS_MAX: usize = 256;

/// Files that are written to the sandboxes of one agent at once: each holds three file descriptors; more are refused.
pub const SANDBOX_WRITES_MAX: usize = 64;

/// Connections of probes that one agent has open at once: each holds a file descriptor; more wait for their turn.
pub const CONNECTION_PROBES_MAX: usize = 512;

/// The longest time in a description of checks: beyond a day it is a mistake in the unit.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest time that a task may be given to complete.
pub const MAX_COMPLETION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Bytes of the free text with which a framework (name, principal, labels) or an agent (host name, address, attributes,
/// version, reasons) describes itself: it goes along with every launch or offer, which must fit in a message.
pub const DESCRIPTION_BYTES_MAX: usize = TASK_BYTES_MAX;

/// Bytes of the resources of one agent, task or offer on the wire: they too go along with every offer.
pub const RESOURCES_BYTES_MAX: usize = 256 << 10;

/// Tasks of one accept: more of them hardly fit in [`MESSAGE_BYTES_MAX`].
pub const TASKS_PER_ACCEPT_MAX: usize = 2000;

/// Tasks of one task group: they share a machine, and are told of together.
pub const GROUP_TASKS_MAX: usize = 32;

/// Tasks of one executor that have not ended: all are told again to one that subscribes anew.
pub const EXECUTOR_TASKS_MAX: usize = 1000;

/// Updates of one executor that are not acknowledged: it names all of them when it subscribes.
pub const EXECUTOR_UPDATES_MAX: usize = 1000;

/// Bytes of one gRPC message of or to an executor: a subscription that names [`EXECUTOR_TASKS_MAX`] runs and [`EXECUTOR_UPDATES_MAX`] updates with
/// the longest messages fits.
pub const EXECUTOR_MESSAGE_BYTES_MAX: usize = 5 << 20;

/// How long an executor that has tasks may be without a subscription (Mesos: 1 min).
pub const EXECUTOR_SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// From the last wish that a task ends, without a grace, to the end of its executor.
pub const EXECUTOR_KILL_WAIT: Duration = Duration::from_secs(5);

/// Offers of one accept or decline.
pub const OFFERS_PER_CALL_MAX: usize = 100_000;

/// Tasks of one explicit reconciliation; a longer list is sent in several calls.
pub const RECONCILE_TASKS_MAX: usize = 10_000;

/// Tasks of one framework that are not yet acknowledged as ended: a reconciliation of all is answered at once, and the answers
/// wait in its outbox ([`OUTBOX_ITEMS_MAX`]).
pub const TASKS_PER_FRAMEWORK_MAX: usize = 100_000;

/// Ended and acknowledged tasks that the master still lists, of all frameworks together; the oldest is forgotten first
/// (Mesos: 1,000 for each framework).
pub const COMPLETED_TASKS_MAX: usize = 10_000;

/// Removed frameworks that the master still lists, and whose ids it refuses with the reason (Mesos: 50).
pub const COMPLETED_FRAMEWORKS_MAX: usize = 1000;

/// Offers, tasks and statuses queued to one peer; one that reads so slowly is disconnected with a reason, and nobody else
/// notices. A framework that returns is told all its tasks twice over (repeated updates, reconciliation) and offered what a
/// cycle gives; less room than that would end those that do read, again and again.
pub const OUTBOX_ITEMS_MAX: usize = 2 * TASKS_PER_FRAMEWORK_MAX + 2 * OFFERS_PER_CYCLE_MAX;

/// Calls taken from one peer and not yet handled: a flood waits in its own connection.
pub const INBOX_CALLS_MAX: usize = 1024;

/// Offers made in one allocation cycle; what is left is offered in the next, a moment later.
pub const OFFERS_PER_CYCLE_MAX: usize = 20_000;

/// Un-acknowledged updates of one task that an agent keeps, however often its executor tells of it.
pub const UPDATES_PER_TASK_MAX: usize = 1000;

/// Bytes of a message for people within a status.
pub const STATUS_MESSAGE_BYTES_MAX: usize = 4096;

/// How long changes are gathered before an allocation runs: long enough for a burst, too short to be felt.
pub const ALLOCATION_COALESCE: Duration = Duration::from_millis(2);

/// How long an offer may be held. Mesos has no default, and hoarded offers were its users' loudest complaint.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a refused offer is not made again when a call does not say (Mesos: 5 s).
pub const REFUSE_DEFAULT: Duration = Duration::from_secs(5);

/// The longest refusal (Mesos: 365 days).
pub const REFUSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a framework that has declined an inverse offer, or let it time out, is not asked again when a call does not say. Longer than for
/// offers: windows are hours away, and nothing is lost meanwhile.
pub const INVERSE_REFUSE_DEFAULT: Duration = Duration::from_secs(60);

/// The least time until a framework is asked again: nobody but itself would stand between its answers and the next question.
pub const INVERSE_REFUSE_MIN: Duration = Duration::from_secs(1);

/// Windows of a maintenance schedule.
pub const MAINTENANCE_WINDOWS_MAX: usize = 1000;

/// Machines in a maintenance schedule, those of several windows counted in each: all of it is one entry of the registry, which etcd takes up to
/// 1.5 MiB, with names of ordinary length.
pub const MAINTENANCE_MACHINES_MAX: usize = 10_000;

/// Bytes of the names in a maintenance schedule, for the same reason.
pub const MAINTENANCE_BYTES_MAX: usize = 1 << 20;

/// Between pings of an agent (Mesos: 15 s).
pub const AGENT_PING_INTERVAL: Duration = Duration::from_secs(15);

/// Pings that may go unanswered before an agent is unreachable (Mesos: 5).
pub const AGENT_PINGS_MISSED_MAX: u32 = 5;

/// How long a disconnected agent may take to return before it is unreachable (Mesos: 10 min).
pub const AGENT_REREGISTER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Between two times that agents of an earlier master are given up which have not returned within [`AGENT_REREGISTER_TIMEOUT`].
pub const RECOVERED_AGENTS_GIVEN_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many agents of an earlier master one is given up at a time, and at least one (Mesos: a rate, none by default). To lose a whole
/// cluster takes this many seconds, in whatever size: time for an operator who sees the first to look at the master's network, or to end
/// the master.
pub const RECOVERED_AGENTS_GIVEN_UP_PART: usize = 100;

/// How long it is remembered that an agent cannot be reached, or was removed (Mesos: 2 weeks). Whoever asks for its tasks later hears that
/// nothing is known of them.
pub const LOST_AGENTS_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// How many such agents are remembered; the oldest is forgotten first (Mesos: 102,400). Each is read when a master begins.
pub const LOST_AGENTS_MAX: usize = 102_400;

/// Between two times that such agents are forgotten (Mesos: 15 min).
pub const LOST_AGENTS_FORGOTTEN_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// How many are forgotten at once: each is a write. The rest follows after [`LOST_AGENTS_FORGOTTEN_PAUSE`].
pub const LOST_AGENTS_FORGOTTEN_MAX: usize = 1000;

/// See [`LOST_AGENTS_FORGOTTEN_MAX`].
pub const LOST_AGENTS_FORGOTTEN_PAUSE: Duration = Duration::from_secs(1);

/// How many ids of removed frameworks are remembered, in the registry too; the oldest is forgotten first. Jobs come and go by the thousand, each as a
/// framework of its own.
pub const REMOVED_FRAMEWORKS_MAX: usize = 102_400;

/// Between heartbeats to a scheduler (Mesos: 15 s).
pub const SCHEDULER_HEARTBEAT: Duration = Duration::from_secs(15);

/// How long after etcd last heard of a leader another master may lead: a cluster without a master decides nothing, and a leader that is well
/// is heard of three times meanwhile, also while etcd takes its own second or so to elect a leader.
pub const LEADER_LEASE: Duration = Duration::from_secs(3);

/// The shortest lease that etcd gives with its own defaults.
pub const LEADER_LEASE_MIN: Duration = Duration::from_secs(2);

/// Beyond it a cluster whose master is gone would be without one for longer than anybody wants.
pub const LEADER_LEASE_MAX: Duration = Duration::from_secs(60);

/// How long the tasks of a disconnected framework run on when it does not say. Mesos' 0 killed them at once.
pub const FAILOVER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// The longest failover time-out that a framework may ask for.
pub const FAILOVER_TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a framework that an earlier master knew may stay away at least, however short its failover time-out: it has to notice that its master
/// is gone and to find the next one, which with several masters takes some attempts of some seconds each.
pub const RECOVERED_FRAMEWORK_AWAY_MIN: Duration = Duration::from_secs(60);

/// From TERM to KILL when neither the task nor the kill says (Mesos: 3 s).
pub const KILL_GRACE_DEFAULT: Duration = Duration::from_secs(3);

/// The longest grace.
pub const KILL_GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// First pause before an un-acknowledged update is sent again (Mesos: 10 s); doubles each time.
pub const UPDATE_RETRY_MIN: Duration = Duration::from_secs(10);

/// Longest pause before an un-acknowledged update is sent again (Mesos: 10 min).
pub const UPDATE_RETRY_MAX: Duration = Duration::from_secs(10 * 60);

/// Least limit of the bytes that a task reads or writes in a second: all who share a file system may have to wait for what one of them has
/// begun to write.
pub const IO_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Least limit of the requests that a task makes of its disk in a second, for the same reason.
pub const IO_OPS_PER_SECOND_MIN: u64 = 10;

/// Processes and threads of a container when the task does not say: a fork bomb ends here.
pub const PIDS_DEFAULT: u64 = 1024;

/// The least offered: fewer cpus, and less memory (MiB), is no use to a task (Mesos: min_allocatable_resources).
pub const ALLOCATABLE_CPUS_MILLI_MIN: i64 = 10;

/// See [`ALLOCATABLE_CPUS_MILLI_MIN`]; in thousandths of a MiB.
pub const ALLOCATABLE_MEM_MILLI_MIN: i64 = 32_000;

/// Bytes of a regular expression as it is written.
pub const PATTERN_TEXT_BYTES_MAX: usize = 4096;

/// Bytes that a regular expression may need once compiled (Mesos: 4 KB of RE2, which is too little for `[a-z]{1,63}`).
pub const PATTERN_BYTES_MAX: usize = 64 << 10;

/// How deep parentheses of a regular expression may be nested.
pub const PATTERN_DEPTH_MAX: u32 = 32;

/// Offer constraints of one role, over all groups: each costs a comparison for every agent.
pub const CONSTRAINTS_MAX: usize = 128;

/// Operations of one accept, a launch counting as one.
pub const OPERATIONS_PER_ACCEPT_MAX: usize = 1000;

/// Accepts of one gang.
pub const ACCEPTS_PER_GANG_MAX: usize = 10_000;

/// Operations of one framework whose outcome it has not acknowledged.
pub const OPERATIONS_PER_FRAMEWORK_MAX: usize = 10_000;

/// Schedulers of one framework that stand by for the one that is subscribed: two or three are of use.
pub const STAND_BYS_MAX: usize = 16;

/// Outstanding offers of one framework, unless an operator sets otherwise: one that needs little is not given the whole cluster to hold.
pub const OFFERS_PER_FRAMEWORK_MAX: u32 = 10_000;

/// The longest that a lease may hold an offer.
pub const LEASE_MAX: Duration = Duration::from_secs(10 * 60);

/// Bytes of what a decline says of its reason, beyond its kind.
pub const DECLINE_DETAIL_BYTES_MAX: usize = 256;

/// Between reports of an agent on what it could lend (Mesos: 15 s).
pub const OVERSUBSCRIPTION_INTERVAL: Duration = Duration::from_secs(15);

/// From the notice of a preemption to the kill: time to write down what was done.
pub const PREEMPTION_GRACE: Duration = Duration::from_secs(30);

/// Between two looks for what to preempt: each may look through the whole cluster.
pub const PREEMPTION_INTERVAL: Duration = Duration::from_millis(100);

/// How often one look goes through the cluster, once for each preemption that it begins; who is left has its turn in the next.
pub const PREEMPTION_SEARCHES_MAX: usize = 16;

/// Preemptions under way for one framework.
pub const PREEMPTIONS_PER_FRAMEWORK_MAX: usize = 64;

/// Kinds of tasks that a framework may say it waits to place, for preemption and explanations.
pub const REQUESTS_MAX: usize = 256;

/// Entries of one page of a list when it is not said: some hundred kilobytes.
pub const PAGE_SIZE_DEFAULT: usize = 500;

/// The most entries of one page of a list: a page is made at once, and beyond this size larger ones save nothing.
pub const PAGE_SIZE_MAX: usize = 5000;

/// Bytes after which a page of a list, or a part of what a watcher is told, ends: with one entry more it stays below what gRPC
/// clients take by default, 4 MiB.
pub const PAGE_BYTES_MAX: usize = 2 << 20;

/// Operators that watch at once: each may hold a snapshot, and a few messages beside it.
pub const WATCHERS_MAX: usize = 256;

/// Changes that are kept for watchers, one second of a busy master: a watcher that falls behind further is ended, and one that
/// returns later is told everything anew.
pub const WATCH_CHANGES_MAX: usize = 100_000;

/// How long changes are kept for watchers to return when nobody watches any more.
pub const WATCH_LINGER: Duration = Duration::from_secs(60);

/// Between signs of life to a watcher.
pub const WATCH_HEARTBEAT: Duration = Duration::from_secs(15);

/// Frameworks of a role that are listed with it, those first in order of fairness.
pub const ROLE_FRAMEWORKS_LISTED: usize = 100;

/// Agents of each verdict that an explanation names.
pub const EXPLAIN_EXAMPLES: usize = 5;
