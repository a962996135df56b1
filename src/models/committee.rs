//! Several networks of one family whose log-odds are averaged.
//!
//! Each begins from other weights and stops early by other subjects (Hansen and Salamon 1990; deep ensembles:
//! Lakshminarayanan, Pritzel and Blundell 2017): what one network learned by chance the others have not. The average of
//! exact explanations is exact. A single network is stored as it always was.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::files::MODEL;
use super::jobs::{at_once, side_by_side};
use super::random::seeds;
use super::{Attribution, Link, Matrix, Model, ModelError};

/// Most networks of a committee.
pub(super) const MOST: usize = 20;

/// Networks over the same columns, with log-odds for margins; at least one.
#[derive(Debug)]
struct Committee {
    networks: Vec<Box<dyn Model>>,
}

/// The committee in `model.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// What a single network has there, byte for byte.
    networks: Vec<Box<RawValue>>,
}

/// What of a `model.json` tells a committee from a single network.
#[derive(Deserialize)]
struct Peek {
    networks: Option<Vec<Box<RawValue>>>,
}

/// Fits `count` networks, each with a seed of its own, the first with `seed`; `fit` gives a network and the epoch that it
/// is of. Returns their average and the largest epoch.
///
/// # Errors
/// The first that a fit gives.
pub(super) fn fit(
    count: usize,
    seed: u64,
    x: &Matrix,
    fit: impl Fn(u64) -> Result<(Box<dyn Model>, usize), ModelError> + Sync,
) -> Result<(Box<dyn Model>, usize), ModelError> {
    let seeds = seeds(seed, count);
    if let [seed] = seeds[..] {
        return fit(seed);
    }
    let fitted = side_by_side(at_once(x), &seeds, |&seed| fit(seed), &mut |_, _| {});
    let (networks, epochs): (Vec<_>, Vec<usize>) =
        fitted.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    Ok((Box::new(Committee { networks }), epochs.into_iter().max().unwrap_or_default()))
}

/// Reads a committee, or the single network that `decode` reads.
///
/// # Errors
/// [`ModelError::Corrupt`] if it is no usable one.
pub(super) fn decode(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<Box<dyn Model>, ModelError>,
) -> Result<Box<dyn Model>, ModelError> {
    let Ok(Peek { networks: Some(stored) }) = serde_json::from_slice(bytes) else { return decode(bytes) };
    let networks: Vec<Box<dyn Model>> =
        stored.iter().map(|one| decode(one.get().as_bytes())).collect::<Result<_, ModelError>>()?;
    let columns = networks.first().map(|first| first.columns());
    if networks.len() > MOST || columns.is_none() || networks.iter().any(|one| Some(one.columns()) != columns) {
        return Err(ModelError::corrupt(MODEL, "its networks are none, too many, or not of the same columns"));
    }
    Ok(Box::new(Committee { networks }))
}

impl Model for Committee {
    fn columns(&self) -> usize {
        self.networks.first().map_or(0, |first| first.columns())
    }

    fn link(&self) -> Link {
        Link::LogOdds
    }

    fn margins(&self, rows: &[f32], out: &mut Vec<f64>) {
        let first = out.len();
        let mut one = Vec::new();
        for network in &self.networks {
            one.clear();
            network.margins(rows, &mut one);
            out.resize(first + one.len(), 0.0);
            out[first..].iter_mut().zip(&one).for_each(|(sum, margin)| *sum += margin);
        }
        let count = self.networks.len() as f64;
        out[first..].iter_mut().for_each(|sum| *sum /= count);
    }

    fn attribute(&self, row: &[f32]) -> Attribution {
        let mut mean = Attribution { base: 0.0, contributions: vec![0.0; self.columns()], error: None };
        for network in &self.networks {
            let Attribution { base, contributions, error } = network.attribute(row);
            mean.base += base;
            mean.contributions.iter_mut().zip(contributions).for_each(|(sum, part)| *sum += part);
            if let Some(error) = error {
                // At worst they err the same way.
                *mean.error.get_or_insert(0.0) += error;
            }
        }
        let count = self.networks.len() as f64;
        mean.base /= count;
        mean.contributions.iter_mut().for_each(|sum| *sum /= count);
        mean.error = mean.error.map(|error| error / count);
        mean
    }

    fn encode(&self) -> Result<Vec<u8>, ModelError> {
        let corrupt = |e: &dyn std::fmt::Display| ModelError::corrupt(MODEL, e);
        let one = |network: &dyn Model| {
            let text = String::from_utf8(network.encode()?).map_err(|e| corrupt(&e))?;
            RawValue::from_string(text).map_err(|e| corrupt(&e))
        };
        let networks = self.networks.iter().map(|network| one(&**network)).collect::<Result<_, ModelError>>()?;
        serde_json::to_vec(&Stored { networks }).map_err(|e| corrupt(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::super::neural::Network;
    use super::super::{MlpHyper, random::Random};
    use super::*;

    fn rows() -> (Matrix, Vec<bool>) {
        let mut random = Random::new(4);
        let mut x = Matrix::new(3);
        let mut labels = Vec::new();
        for _ in 0..400 {
            let row: Vec<f32> = (0..3).map(|_| random.unit() as f32 * 2.0 - 1.0).collect();
            labels.push(f64::from(row[0] * row[1]) + random.unit() > 0.6);
            x.push_row(&row).unwrap();
        }
        (x, labels)
    }

    fn network(seed: u64, (x, labels): &(Matrix, Vec<bool>)) -> Result<(Box<dyn Model>, usize), ModelError> {
        let hyper = MlpHyper { hidden: vec![6], epochs: 8, rate: 1e-2, ..MlpHyper::default() };
        Network::fit(&hyper, seed, x, labels, None).map(|(model, epochs)| (Box::new(model) as _, epochs))
    }

    fn load(bytes: &[u8]) -> Result<Box<dyn Model>, ModelError> {
        decode(bytes, |one| Network::decode(one).map(|model| Box::new(model) as _))
    }

    fn margins(model: &dyn Model, x: &Matrix) -> Vec<f64> {
        let mut out = vec![7.0];
        model.margins(x.values(), &mut out);
        out.split_off(1)
    }

    #[test]
    fn a_committee_says_the_mean_of_its_networks_and_why() {
        let rows = rows();
        let (committee, _) = fit(3, 9, &rows.0, |seed| network(seed, &rows)).unwrap();
        let bytes = committee.encode().unwrap();
        let Peek { networks } = serde_json::from_slice(&bytes).unwrap();
        let networks: Vec<_> = networks.unwrap().iter().map(|one| load(one.get().as_bytes()).unwrap()).collect();
        let each: Vec<Vec<f64>> = networks.iter().map(|one| margins(&**one, &rows.0)).collect();
        assert!(each[0] != each[1] && each[1] != each[2]);
        assert_eq!(each[0], margins(&*network(9, &rows).unwrap().0, &rows.0), "the first has the seed itself");
        for (row, margin) in margins(&*committee, &rows.0).into_iter().enumerate() {
            assert_eq!(margin, (each[0][row] + each[1][row] + each[2][row]) / 3.0);
            let Attribution { base, contributions, .. } = committee.attribute(rows.0.row(row));
            assert!((base + contributions.iter().sum::<f64>() - margin).abs() < 1e-9);
        }
        let loaded = load(&bytes).unwrap();
        assert_eq!(margins(&*loaded, &rows.0), margins(&*committee, &rows.0));
        assert_eq!(loaded.encode().unwrap(), bytes);
    }

    #[test]
    fn one_network_is_stored_as_it_always_was() {
        let rows = rows();
        let (one, _) = fit(1, 9, &rows.0, |seed| network(seed, &rows)).unwrap();
        assert_eq!(one.encode().unwrap(), network(9, &rows).unwrap().0.encode().unwrap());
    }

    #[test]
    fn a_damaged_committee_is_refused() {
        let rows = rows();
        let text =
            String::from_utf8(fit(2, 9, &rows.0, |seed| network(seed, &rows)).unwrap().0.encode().unwrap()).unwrap();
        assert!(load(br#"{"networks":[]}"#).is_err());
        assert!(load(br#"{"networks":[{}]}"#).is_err());
        let Peek { networks } = serde_json::from_str(&text).unwrap();
        let one = networks.unwrap()[0].get().to_owned();
        assert!(load(format!(r#"{{"networks":[{}]}}"#, vec![one; MOST + 1].join(",")).as_bytes()).is_err());
        assert!(load(&text.as_bytes()[..text.len() - 2]).is_err());
    }
}
