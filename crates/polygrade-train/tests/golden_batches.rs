//! The batches of the default settings stay what they were when results in docs/ were measured.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Split};
use polygrade_nn::rng::CounterRng;
use polygrade_train::examples::{Batch, PerQuery};
use polygrade_train::{Examples, LabelPolicies, Policy, Scenario};
use std::path::Path;

#[test]
fn default_batches_are_those_of_before() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini");
    let c = Collection::load(&mini).unwrap();
    let graded = c.graded(Split::Train);
    let mut found = Vec::new();
    for scenario in Scenario::ALL {
        for policy in [Policy::Threshold(2.0), Policy::Band { lo: 0.0, hi: 3.0 }] {
            let e = Examples::new(&c, &graded, scenario, &c.langs(), &LabelPolicies::uniform(policy));
            // FNV-1a
            let mut hash = 0xcbf2_9ce4_8422_2325u64;
            let mut add = |n: u64| hash = (hash ^ n).wrapping_mul(0x0100_0000_01b3);
            let rng = CounterRng::new(7);
            for (step, draw) in e.epoch(32, &rng).iter().enumerate() {
                let mut b = Batch::default();
                let per_query = PerQuery { positives: 2, negatives: 4 };
                e.batch(draw, per_query, &rng.fork(step as u64), &mut b);
                b.queries.iter().chain(&b.passages).for_each(|i| add(u64::from(*i)));
                b.roles.iter().for_each(|r| add(*r as u64));
                b.grades.iter().for_each(|g| add(u64::from(g.to_bits())));
            }
            found.push(hash);
        }
    }
    let want: [u64; 6] = [
        0x8c14_145c_a313_1f3f,
        0x89b8_6478_92da_ce2d,
        0x23dc_6d76_3869_80bd,
        0x10d8_ee90_c55b_d37b,
        0xa38c_bbdb_d534_58b0,
        0x848f_ca22_8432_4f56,
    ];
    assert_eq!(found, want, "{found:#x?}");
}
