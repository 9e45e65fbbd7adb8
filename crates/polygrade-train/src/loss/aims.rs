//! What graded losses aim at: for each pair a number in 0..1, or NaN for a pair that takes no part.
//!
//! A judged pair has the aim of its own label and policy ([`Policy::aim`](crate::Policy::aim)), whatever those of the
//! query's other pairs are. A pair that is not judged has 0 where it is a negative, if such pairs count at all; a positive
//! without a grade has 1.

use super::{Role, Targets};

/// Writes the aim of each pair to `out`.
pub(crate) fn of_grades(targets: &Targets, in_batch: bool, out: &mut Vec<f64>) {
    let aim = |((grade, aim), role): ((&f32, &f64), &Role)| match (grade.is_nan(), role) {
        (false, _) => *aim,
        (true, Role::Positive) => 1.0,
        (true, Role::Negative) if in_batch => 0.0,
        (true, _) => f64::NAN,
    };
    out.clear();
    out.extend(targets.grades.iter().zip(targets.aims).zip(targets.roles).map(aim));
}

/// A teacher's scores, as they are.
pub(crate) fn of_teacher(targets: &Targets, out: &mut Vec<f64>) {
    out.clear();
    out.extend(targets.teacher.iter().map(|s| f64::from(*s)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Policy;
    use Role::{Ignored as I, Negative as N, Positive as P};

    #[test]
    fn policies_and_loss_combine() {
        let (grades, roles) = ([3.0, 1.0, 0.0, 2.0, f32::NAN, f32::NAN, f32::NAN], [P, N, N, I, N, I, P]);
        let aims = |policy: &str, in_batch| {
            let policy = Policy::parse(policy).unwrap();
            let own =
                grades.map(|g: f32| if g.is_nan() { f64::NAN } else { policy.aim(policy.label(g), g, 3.0) });
            let targets = Targets {
                roles: &roles,
                grades: &grades,
                aims: &own,
                policies: &[policy],
                temperatures: &[0.1],
                teacher: &[],
            };
            let mut out = Vec::new();
            of_grades(&targets, in_batch, &mut out);
            out.iter().map(|x| if x.is_nan() { -1.0 } else { *x }).collect::<Vec<f64>>()
        };
        let (one, two) = (1.0 / 3.0, 2.0 / 3.0);
        assert_eq!(aims("graded", true), [1.0, one, 0.0, two, 0.0, -1.0, 1.0]);
        assert_eq!(aims("all", false), [1.0, one, 0.0, two, -1.0, -1.0, 1.0]);
        assert_eq!(aims("2", true), [1.0, 0.0, 0.0, 1.0, 0.0, -1.0, 1.0]);
        assert_eq!(aims("0:2", true), [1.0, -1.0, 0.0, 1.0, 0.0, -1.0, 1.0]);
        assert_eq!(aims("soft:2", true), [1.0, 0.0, 0.0, two, 0.0, -1.0, 1.0]);
    }
}
