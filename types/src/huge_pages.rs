//! Huge pages: memory that the operator of a machine has set apart, in pages of a certain size.

use serde::{Deserialize, Serialize};

use crate::resources::{Name, Resources, milli_mib_to_bytes};

/// How a resource begins that is memory in huge pages; the size of a page follows: `hugepages-2MiB`.
const PREFIX: &str = "hugepages-";

/// No kernel has pages of more sizes.
const SIZES_MAX: usize = 4;

/// Units in which the size of a page is written, the largest first.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// How much memory in huge pages, for each size of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HugePages([(u64, u64); SIZES_MAX]);

impl HugePages {
    /// None of any size.
    pub const NONE: HugePages = HugePages([(0, 0); SIZES_MAX]);

    /// Those among resources. Of more sizes than any kernel has the rest is passed over.
    pub fn of(resources: &Resources) -> HugePages {
        let mut all = Self::NONE;
        for (name, milli) in resources.scalars() {
            if let Some(page_bytes) = page_bytes(name) {
                all.add(page_bytes, milli_mib_to_bytes(milli));
            }
        }
        all
    }

    /// Adds so many bytes in pages of a size.
    pub fn add(&mut self, page_bytes: u64, bytes: u64) {
        let place = self.0.iter_mut().find(|(size, _)| *size == page_bytes || *size == 0);
        if let Some((size, sum)) = place.filter(|_| page_bytes > 0 && bytes > 0) {
            *size = page_bytes;
            *sum = sum.saturating_add(bytes);
        }
    }

    /// Bytes in pages of a size.
    pub fn bytes(&self, page_bytes: u64) -> u64 {
        self.iter().find(|(size, _)| *size == page_bytes).map_or(0, |(_, bytes)| bytes)
    }

    /// The size of a page, and the bytes in pages of that, of each size of which there are some.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied().filter(|(size, _)| *size > 0)
    }
}

/// The name of the resource that is memory in pages of so many bytes, in MiB; a size is a whole number of KiB.
pub fn resource_name(page_bytes: u64) -> Option<Name> {
    let (unit, bytes) =
        UNITS.iter().find(|(_, bytes)| page_bytes >= *bytes && page_bytes.is_multiple_of(*bytes))?;
    Name::new(&format!("{PREFIX}{}{unit}", page_bytes / bytes))
}

/// The size of the pages that a resource is memory in, if it is such memory.
pub fn page_bytes(name: &Name) -> Option<u64> {
    let size = name.as_str().strip_prefix(PREFIX)?;
    let (number, unit) = UNITS.iter().find_map(|(unit, bytes)| Some((size.strip_suffix(unit)?, bytes)))?;
    let bytes = number.parse::<u64>().ok()?.checked_mul(*unit)?;
    // As it is written by everybody, or two names would be one resource.
    resource_name(bytes).filter(|written| written == name).map(|_| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_in_one_way() {
        for (bytes, name) in
            [(64 << 10, "hugepages-64KiB"), (2 << 20, "hugepages-2MiB"), (1 << 30, "hugepages-1GiB")]
        {
            assert_eq!(resource_name(bytes), Name::new(name));
            assert_eq!(page_bytes(&Name::new(name).unwrap()), Some(bytes));
        }
        assert_eq!((resource_name(0), resource_name(1000)), (None, None));
        for name in ["hugepages", "hugepages-", "hugepages-2MB", "hugepages-0MiB", "hugepages-1024MiB", "mem"]
        {
            assert_eq!(page_bytes(&Name::new(name).unwrap()), None, "{name}");
        }
        assert_eq!(page_bytes(&Name::new("hugepages-02MiB").unwrap()), None);
        assert_eq!(page_bytes(&Name::new("hugepages-99999999999999999GiB").unwrap()), None);
    }

    #[test]
    fn each_page_is_counted_once_on_whatever_terms() {
        let some: Resources =
            "hugepages-2MiB:2;hugepages-2MiB(eng):4;hugepages-2MiB{revocable}:6".parse().unwrap();
        assert_eq!(HugePages::of(&some).iter().collect::<Vec<_>>(), [(2 << 20, 12 << 20)]);
        let twice = "hugepages-2MiB:2;hugepages-2MiB:4".parse::<Resources>().unwrap_err();
        assert!(twice.what.contains("given twice"), "{twice}");
    }

    #[test]
    fn sums_for_each_size() {
        let mut all = HugePages::of(&"cpus:1;hugepages-2MiB:5;hugepages-1GiB:1024".parse().unwrap());
        all.add(2 << 20, 1 << 20);
        let each: Vec<_> = all.iter().collect();
        assert_eq!(each.len(), 2);
        assert_eq!([all.bytes(2 << 20), all.bytes(1 << 30), all.bytes(4096)], [6 << 20, 1 << 30, 0]);
        (1..=9).for_each(|size| all.add(size, 1));
        assert_eq!((all.iter().count(), all.bytes(2), all.bytes(9)), (SIZES_MAX, 1, 0));
        all.add(2 << 20, u64::MAX);
        assert_eq!(all.bytes(2 << 20), u64::MAX);
        assert_eq!(HugePages::of(&Resources::new()), HugePages::NONE);
    }
}
