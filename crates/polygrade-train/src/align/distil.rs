//! Distillation on parallel texts (Reimers & Gurevych 2020): the teacher's vector of a pivot-language text is the
//! target for that text and for its translations,
//!
//! L = mean over texts of ‖M(pivot) − M̂(text)‖², or of 1 − cos(M(pivot), M̂(text)).
//!
//! Both sides have unit length here, where the first is twice the second: they differ in nothing but weight.

use polygrade_nn::Matrix;
use serde::{Deserialize, Serialize};

/// The distance to the teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// Squared Euclidean distance. (sentence-transformers' `MSELoss` divides it by the number of dimensions.)
    #[default]
    Mse,
    /// 1 − cosine.
    Cosine,
}

/// Settings of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distil {
    /// Weight; 0 switches it off.
    pub weight: f32,
    /// The distance.
    pub distance: Distance,
}

impl Distil {
    /// The mean distance of the rows of `student` and `teacher`, unit vectors both. The gradient at `student`, times
    /// `share`, is added to `grad`.
    pub fn value(&self, student: &Matrix, teacher: &Matrix, share: f32, grad: &mut Matrix) -> f64 {
        let rows = student.rows().max(1) as f64;
        let factor = f64::from(share) / rows;
        let mut sum = 0.0;
        for i in 0..student.rows() {
            let (s, t) = (student.row(i), teacher.row(i));
            let pairs = s.iter().zip(t).zip(grad.row_mut(i));
            match self.distance {
                Distance::Mse => pairs.for_each(|((s, t), g)| {
                    let apart = f64::from(*s) - f64::from(*t);
                    sum += apart * apart;
                    *g += (2.0 * factor * apart) as f32;
                }),
                Distance::Cosine => {
                    sum += 1.0;
                    pairs.for_each(|((s, t), g)| {
                        sum -= f64::from(*s) * f64::from(*t);
                        *g -= (factor * f64::from(*t)) as f32;
                    });
                }
            }
        }
        sum / rows
    }
}
