//! Schedulers that do one thing wrong each, and everything else as the right one does.

mod amnesiac;
mod archivist;
mod asker;
mod assuming;
mod deaf;
mod ditherer;
mod hasty;
mod hoarder;
mod idler;
mod optimist;
mod picky;
mod stubborn;
mod twins;
mod waiter;

pub(crate) use self::{
    amnesiac::Amnesiac, archivist::Archivist, asker::Asker, assuming::Assuming, deaf::Deaf,
    ditherer::Ditherer, hasty::Hasty, hoarder::Hoarder, idler::Idler, optimist::Optimist, picky::Picky,
    stubborn::Stubborn, twins::Twins, waiter::Waiter,
};
