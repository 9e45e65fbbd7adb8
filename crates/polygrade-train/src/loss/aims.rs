//! What graded losses aim at: for each pair a number in 0..1, or NaN for a pair that takes no part.
//!
//! A judged pair has its share of the highest grade, g/G. Where the query's policy is a threshold or a band it has 1
//! or 0, and what a band drops takes no part; `soft:τ` leaves grades as they are from τ on and makes 0 of those below.
//! A pair that is not judged has 0 where it is a negative, if such pairs count at all; a positive without a grade has 1.

use super::{Role, Targets};
use crate::labels::{Label, Policy};

/// Writes the aim of each pair to `out`.
pub(crate) fn of_grades(targets: &Targets, in_batch: bool, max_grade: f32, out: &mut Vec<f64>) {
    out.clear();
    let cols = targets.roles.len() / targets.policies.len().max(1);
    for (i, policy) in targets.policies.iter().enumerate() {
        let row = i * cols..(i + 1) * cols;
        out.extend(targets.grades[row.clone()].iter().zip(&targets.roles[row]).map(|(grade, role)| {
            match (grade.is_nan(), role) {
                (false, _) => of_grade(*grade, policy, max_grade),
                (true, Role::Positive) => 1.0,
                (true, Role::Negative) if in_batch => 0.0,
                (true, _) => f64::NAN,
            }
        }));
    }
}

fn of_grade(grade: f32, policy: &Policy, max_grade: f32) -> f64 {
    let share = || (f64::from(grade) / f64::from(max_grade)).clamp(0.0, 1.0);
    match (policy, policy.label(grade)) {
        (Policy::Graded | Policy::AllThresholds, _) | (Policy::Soft(_), Label::Positive) => share(),
        (_, Label::Positive) => 1.0,
        (_, Label::Negative) => 0.0,
        (_, Label::Dropped) => f64::NAN,
    }
}

/// A teacher's scores, as they are.
pub(crate) fn of_teacher(targets: &Targets, out: &mut Vec<f64>) {
    out.clear();
    out.extend(targets.teacher.iter().map(|s| f64::from(*s)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Ignored as I, Negative as N, Positive as P};

    #[test]
    fn policies_and_loss_combine() {
        let (grades, roles) = ([3.0, 1.0, 0.0, 2.0, f32::NAN, f32::NAN, f32::NAN], [P, N, N, I, N, I, P]);
        let aims = |policy: &str, in_batch| {
            let policies = [Policy::parse(policy).unwrap()];
            let targets = Targets {
                roles: &roles,
                grades: &grades,
                policies: &policies,
                temperatures: &[0.1],
                teacher: &[],
            };
            let mut out = Vec::new();
            of_grades(&targets, in_batch, 3.0, &mut out);
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
