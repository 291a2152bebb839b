//! Each write of a run may be the last one of the process that writes it.

use apportion_sim::{find_at_every_write, scenario::Scenario};

use super::files;

fn scenario(file: &str) -> Scenario {
    let (_, text) = files().into_iter().find(|(path, _)| path.ends_with(file)).unwrap();
    Scenario::parse(file, &text).unwrap()
}

#[test]
fn all_work_is_done_whichever_write_is_a_processs_last() {
    let scenario = scenario("every-write.txt");
    let found = find_at_every_write(0..2, || (scenario.build(), ()), |sim, ()| scenario.story(sim));
    let searched = found.unwrap_or_else(|found| panic!("{found}"));
    assert!(searched.writes > 200, "{searched:?}");
    assert_eq!(searched.runs, searched.seeds + 2 * searched.writes);
}
