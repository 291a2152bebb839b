//! The house's rules as data: which crate is pure, who may know whom, where unsafe code may stand.

/// Crates that know no runtime, no network, no clock and no randomness. Their `clippy.toml` forbids what `std` offers of these.
pub(crate) const PURE: &[(&str, &str)] = &[
    ("apportion-types", "types"),
    ("apportion-allocator", "master/allocator"),
    ("apportion-master-core", "master/core"),
    ("apportion-agent-core", "agent/core"),
    ("apportion-sdk", "framework-sdk"),
    ("apportion-sim", "sim"),
];

/// Crates that are pure without their default features, each with a place that these bring in.
pub(crate) const FEATURES: &[(&str, &str)] = &[
    ("apportion-sdk", "framework-sdk/src/driver/net"),
    ("apportion-sdk", "framework-sdk/src/executor"),
    ("apportion-sdk", "framework-sdk/src/lines.rs"),
    ("apportion-sdk", "framework-sdk/src/store/embedded.rs"),
];

/// What must not stand anywhere under a pure crate.
pub(crate) const IMPURE: &[&str] =
    &["tokio", "tonic", "hyper", "mio", "socket2", "rustix", "getrandom", "chrono", "jiff", "time"];

/// Words that are forbidden in pure crates and stand in one all the same: file, word, why.
pub(crate) const EXCUSED: &[(&str, &str, &str)] = &[
    (
        "framework-sdk/src/placement/planner/mod.rs",
        "Instant::now",
        "only when a plan is given a time to keep to",
    ),
    ("sim/src/harness.rs", "std::thread", "the name of the test that is running; no thread is made"),
];

/// For each of our crates, which others of ours it may use directly.
pub(crate) const MAY_USE: &[(&str, &[&str])] = &[
    ("apportion-proto", &[]),
    ("apportion-types", &["apportion-proto"]),
    ("apportion-allocator", &["apportion-types"]),
    ("apportion-master-core", &["apportion-types", "apportion-allocator"]),
    ("apportion-agent-core", &["apportion-types"]),
    ("apportion-containerizer", &["apportion-types"]),
    ("apportion-content", &["apportion-types"]),
    ("apportion-network", &["apportion-containerizer", "apportion-types"]),
    ("apportion-sdk", &["apportion-types", "apportion-proto"]),
    (
        "apportion-master",
        &["apportion-master-core", "apportion-allocator", "apportion-types", "apportion-proto"],
    ),
    (
        "apportion-agent",
        &[
            "apportion-agent-core",
            "apportion-containerizer",
            "apportion-content",
            "apportion-network",
            "apportion-types",
            "apportion-proto",
        ],
    ),
    ("apportion-batch", &["apportion-sdk"]),
    ("apportion-service", &["apportion-sdk"]),
    ("apportion-command-executor", &["apportion-sdk"]),
    (
        "apportion-sim",
        &[
            "apportion-types",
            "apportion-allocator",
            "apportion-master-core",
            "apportion-agent-core",
            "apportion-sdk",
        ],
    ),
];

/// The only folders in which unsafe code may be allowed: the runner, and the tests that try to break out of it.
pub(crate) const UNSAFE: &[&str] = &["agent/containerizer/src/linux", "agent/containerizer/tests/linux"];
