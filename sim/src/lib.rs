//! The whole cluster from one seed: the real master, the real agents, the real driver, your scheduler.

mod random;
