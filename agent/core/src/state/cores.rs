//! Which cores of the machine are tasks' own, and which all others share.

use apportion_types::CpuSet;

/// The cores that containers run on.
#[derive(Debug)]
pub(crate) struct Cores {
    /// All of them; none when containers cannot be held to any here.
    all: Option<CpuSet>,
    /// Those that are tasks' own; never all of them.
    exclusive: Option<CpuSet>,
    /// Some are shared again.
    freed: bool,
}

impl Cores {
    /// None of them any task's own.
    pub(crate) fn new(all: Option<CpuSet>) -> Self {
        Self { all, exclusive: None, freed: false }
    }

    /// Those on which what has none of its own runs; at least one, or none when it can be held to none.
    pub(crate) fn shared(&self) -> Option<CpuSet> {
        let all = self.all.as_ref()?;
        let shared = self.exclusive.as_ref().map_or(Some(all.clone()), |exclusive| all.without(exclusive));
        Some(shared.expect("the last core is never given away"))
    }

    /// Makes the lowest so many, at least one, a task's own; or says why it cannot have them, and what to do.
    pub(crate) fn take(&mut self, count: usize) -> Result<CpuSet, String> {
        let Some(shared) = self.shared() else {
            return Err("this agent cannot hold containers to cores, as it says among what it does not enforce; take another agent".to_owned());
        };
        let free = shared.count() - 1;
        let Some(own) = shared.lowest(count).filter(|_| count <= free) else {
            let all = self.all.as_ref().expect("some of them are shared");
            let exclusive = self.exclusive.as_ref().map_or("none".to_owned(), CpuSet::to_string);
            return Err(format!(
                "it asks for {count} of its agent's cores for itself, which can give {free}: it has {all}, of which other tasks have \
                 {exclusive} for themselves, and one is always left to share; ask for fewer, wait until others end, or take another agent"
            ));
        };
        self.exclusive = Some(self.exclusive_with(&own));
        Ok(own)
    }

    /// Makes those of a task of an earlier process its own again, or says why they cannot be.
    pub(crate) fn take_back(&mut self, own: &CpuSet) -> Result<(), String> {
        let Some(all) = &self.all else {
            return Err(
                "cannot be held to it any more, as this agent says among what it does not enforce".to_owned()
            );
        };
        if let Some(missing) = own.without(all) {
            return Err(format!("cannot run on {missing}: containers run on {all} now"));
        }
        let exclusive = self.exclusive_with(own);
        if all.without(&exclusive).is_none() {
            return Err(format!("would leave none to share: containers run on {all} now"));
        }
        self.exclusive = Some(exclusive);
        Ok(())
    }

    /// Has all share those that a task had.
    pub(crate) fn give_back(&mut self, own: &CpuSet) {
        self.exclusive = self.exclusive.as_ref().and_then(|exclusive| exclusive.without(own));
        self.freed = true;
    }

    /// True when some were given back since this was last asked.
    pub(crate) fn were_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    fn exclusive_with(&self, own: &CpuSet) -> CpuSet {
        self.exclusive.as_ref().map_or(own.clone(), |exclusive| exclusive.with(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_are_given_and_the_last_is_kept() {
        let mut cores = Cores::new(Some(of("0-3")));
        assert_eq!((cores.take(2), cores.shared()), (Ok(of("0-1")), Some(of("2-3"))));
        let refusal = cores.take(2).unwrap_err();
        let which = "asks for 2 of its agent's cores for itself, which can give 1: it has 0-3, of which other tasks have 0-1";
        assert!(refusal.contains(which), "{refusal}");
        assert_eq!((cores.take(1), cores.shared()), (Ok(of("2")), Some(of("3"))));
        assert!(cores.take(1).unwrap_err().contains("which can give 0: "));
        cores.give_back(&of("0-1"));
        assert_eq!((cores.take(1), cores.shared()), (Ok(of("0")), Some(of("1,3"))));
        cores.give_back(&of("0"));
        cores.give_back(&of("2"));
        assert_eq!(cores.shared(), Some(of("0-3")));
        assert!(cores.take(usize::MAX).is_err());
    }

    #[test]
    fn nobody_is_held_to_cores_where_that_is_not_possible() {
        let mut cores = Cores::new(None);
        assert_eq!(cores.shared(), None);
        assert!(cores.take(1).unwrap_err().contains("take another agent"));
        assert!(cores.take_back(&of("0")).is_err());
    }

    #[test]
    fn an_earlier_process_gave_what_is_there_still() {
        let mut cores = Cores::new(Some(of("0-2")));
        assert!(
            cores.take_back(&of("2-3")).unwrap_err().contains("cannot run on 3: containers run on 0-2 now")
        );
        cores.take_back(&of("1")).unwrap();
        cores.take_back(&of("0")).unwrap();
        assert!(cores.take_back(&of("2")).unwrap_err().contains("none to share"));
        assert_eq!(cores.shared(), Some(of("2")));
    }
}
