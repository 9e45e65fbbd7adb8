//! Numbers of a loss that are learnt along with the encoder, by AdamW without decay.

use polygrade_nn::optim::{AdamW, Moments};

/// Values, the gradient since the last step, and AdamW's moments.
#[derive(Default)]
pub(crate) struct Parameters {
    values: Vec<f32>,
    pub(crate) grads: Vec<f64>,
    moments: Moments,
}

impl Parameters {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Parameters { grads: vec![0.0; values.len()], moments: Moments::new(values.len()), values }
    }

    /// A value.
    pub(crate) fn get(&self, i: usize) -> f64 {
        f64::from(self.values[i])
    }

    pub(crate) fn step(&mut self, adam: &AdamW, rate: f32, step: u64) {
        let grads: Vec<f32> = self.grads.iter().map(|g| *g as f32).collect();
        let adam = AdamW { weight_decay: 0.0, ..*adam };
        adam.step(&mut self.values, &grads, &mut self.moments, rate, step);
        self.grads.fill(0.0);
    }

    pub(crate) fn state(&self) -> Vec<f32> {
        [&self.values, &self.moments.first, &self.moments.second].into_iter().flatten().copied().collect()
    }

    pub(crate) fn load(&mut self, state: &[f32]) -> bool {
        let n = self.values.len();
        if state.len() != 3 * n || !state.iter().all(|x| x.is_finite()) {
            return false;
        }
        self.values.copy_from_slice(&state[..n]);
        self.moments.first.copy_from_slice(&state[n..2 * n]);
        self.moments.second.copy_from_slice(&state[2 * n..]);
        true
    }
}
