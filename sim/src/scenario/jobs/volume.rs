//! A persistent volume for each task.

use apportion_sdk::{
    Offer, OperationId, Resources, TaskId, TaskInfo,
    ids::VolumeId,
    resources::{Entry, Name, PersistentVolume},
};

use super::{Jobs, Stage, parts};

impl Jobs {
    /// The volume of a task: as it is offered, or made of the offer's disk.
    pub(super) fn volume_for(&self, offer: &mut Offer, number: usize, task: &TaskInfo) -> Option<Resources> {
        let id = self.volume_id(number);
        let mine = |entry: &Entry| {
            entry.role() == Some(&self.work.role) && entry.volume().is_some_and(|volume| volume.id == id)
        };
        let there = offer.resources().only(mine);
        if !there.is_empty() {
            return Some(there);
        }
        let milli = i64::try_from(self.work.volume_mib * 1000).ok()?;
        let disk = Resources::scalar(Name::Disk, milli);
        if !offer.missing(&(task.resources.clone() + &disk)).is_empty() {
            return None;
        }
        let name = |what: &str| OperationId::new(format!("{what}-{}", task.task_id)).ok();
        if create(offer, &id, self.work.volume_mib, name("create")).is_none() {
            let no_labels: [(String, String); 0] = [];
            let made = offer.reserve(&disk, no_labels).ok()?;
            if let Some(id) = name("reserve") {
                made.named(id);
            }
            create(offer, &id, self.work.volume_mib, name("create"))?;
        }
        Some(offer.resources().only(mine))
    }

    /// Ends the volumes of tasks that are over, or that have moved to another agent.
    pub(super) fn tidy(&self, offer: &mut Offer) {
        if self.work.volume_mib == 0 {
            return;
        }
        let of_role = offer.resources().only(|entry| entry.role() == Some(&self.work.role));
        for volume in of_role.entries().filter_map(Entry::volume) {
            let task = TaskId::new(volume.id.as_str()).ok();
            let number = task.as_ref().and_then(parts).filter(|(name, ..)| *name == self.work.name);
            let Some(job) = number.and_then(|(_, number, _)| self.jobs.get(number)) else { continue };
            let moved = job.stage == Stage::Launched && job.agent_id.as_ref() != Some(offer.agent_id());
            if (moved || matches!(job.stage, Stage::Finished | Stage::Failed | Stage::Killed))
                && let Ok(disk) = offer.destroy(&volume.id).map(|made| made.produced())
            {
                // Disk that an agent's own settings reserve stays so.
                _ = offer.unreserve(&disk);
            }
        }
    }

    fn volume_id(&self, number: usize) -> VolumeId {
        VolumeId::new(format!("{}-{number}", self.work.name))
            .expect("a framework's name is bounded and plain")
    }
}

fn create(offer: &mut Offer, id: &VolumeId, mib: u64, name: Option<OperationId>) -> Option<()> {
    let volume = PersistentVolume { id: id.clone(), path: "data".to_owned(), shared: false };
    let made = offer.create_volume(volume, mib).ok()?;
    if let Some(name) = name {
        made.named(name);
    }
    Some(())
}
