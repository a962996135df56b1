//! Tests of the registry, of task files, and of the whole way from a library to a champion.

mod features;
mod kinds;
mod label;
mod registry;
mod settle;
mod spill;
mod task;
mod text;
mod whole;

use crate::models::{Bundle, Family, FitSpec, Matrix};

/// A model of two columns of which the first tells the outcome.
pub(super) fn bundle(name: &str, seed: u64) -> Bundle {
    let mut matrix = Matrix::new(2);
    let mut outcomes = Vec::new();
    for i in 0_u8..60 {
        matrix.push_row(&[f32::from(i), f32::from(i * 7 % 11)]).unwrap();
        outcomes.push(i > 30 || i % 9 == 0);
    }
    let features = vec!["a".to_owned(), "b".to_owned()];
    let spec = FitSpec { seed, ..FitSpec::new(Family::Logistic, name, features, "a hash") };
    Bundle::fit(spec, &matrix, &outcomes, &matrix, &outcomes).unwrap()
}
