//! The huge pages that this machine has set apart.

use std::{collections::BTreeMap, fs, path::Path};

/// The bytes that are set apart in huge pages, by the size of a page; whether they are in use or not.
pub fn huge_pages() -> BTreeMap<u64, u64> {
    pools(Path::new("/sys/kernel/mm/hugepages"))
}

/// Of the folders `hugepages-2048kB`, each with the number of its pages.
fn pools(folder: &Path) -> BTreeMap<u64, u64> {
    let pool = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let kib: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages: u64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
        let page_bytes = kib.checked_mul(1024)?;
        Some((page_bytes, page_bytes.checked_mul(pages).filter(|bytes| *bytes > 0)?))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_apart() {
        let dir = tempfile::tempdir().unwrap();
        for (size, pages) in [("2048kB", "3\n"), ("1048576kB", "0\n"), ("64kB", "x"), ("big", "1")] {
            let folder = dir.path().join(format!("hugepages-{size}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("nr_hugepages"), pages).unwrap();
        }
        assert_eq!(pools(dir.path()), [(2 << 20, 6 << 20)].into());
        assert_eq!(pools(Path::new("/nowhere/at/all")), BTreeMap::new());
    }
}
