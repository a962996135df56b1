//! Fitting: from labelled rows to a bundle.

use std::collections::BTreeMap;

use super::boosting::{self, Boosted, LOG_ODDS};
use super::card::check_features;
use super::conformal;
use super::crossfit;
use super::onnx::Foreign;
use super::panel::{Panel, PanelSpec};
use super::preprocess::Preprocess;
use super::sequence::tabular;
use super::threshold;
use super::{
    Abstain, Aim, Bundle, Calibration, Card, Conformal, Counts, FORMAT, Family, Hyper, Matrix, Model, ModelError,
    Select, Selection,
};

/// What to fit.
#[derive(Clone, Debug)]
pub struct FitSpec {
    /// Kind of model.
    pub family: Family,
    /// Seed of everything random; the same seed, rows and library versions give the same
    /// model (a perceptron's only on the same number of cores).
    pub seed: u64,
    /// Hyperparameters.
    pub params: Hyper,
    /// Name of the model.
    pub name: String,
    /// Names of the columns, in order.
    pub features: Vec<String>,
    /// Hash of the feature specification.
    pub spec_hash: String,
    /// Now, microseconds UTC: this room has no clock.
    pub created_at: i64,
    /// The file of [`Family::Onnx`].
    pub onnx: Option<Vec<u8>>,
    /// Whose each training row is, so that early stopping judges on other subjects than it
    /// fits on; none: each row counts as a subject.
    pub groups: Option<Vec<i64>>,
    /// Whose each tuning row is, so that a calibration is judged on other subjects than it was
    /// fitted on; none: each row counts as a subject.
    pub tuning_groups: Option<Vec<i64>>,
    /// Hours from each training row's prediction until its outcome happens, also after the window that its label is
    /// about; none of a row where it does not, as far as is known. For [`Family::Hazard`]; none at all: its labels
    /// alone tell.
    pub onsets: Option<Vec<Option<f32>>>,
    /// The same of each tuning row, for a fit that takes them in ([`FitSpec::crossfit`]).
    pub tuning_onsets: Option<Vec<Option<f32>>>,
    /// What the threshold is chosen for.
    pub aim: Aim,
    /// How many patient-days the training and the tuning rows watch over; for
    /// [`Aim::AlertsPerPatientDay`].
    pub patient_days: Option<[f64; 2]>,
    /// When to abstain; none: never.
    pub abstain: Option<Abstain>,
    /// What is asked beyond yes or no; the labels then tell whether what is watched happened.
    pub panel: Option<PanelSpec>,
    /// Which columns to leave out; none: no column.
    pub select: Option<Select>,
    /// In how many folds by subject the training and the tuning rows serve both: the model is fitted on
    /// all of them, and calibrated by what models of the other folds say of each fold; none: the model sees the
    /// training rows only, and calibration the tuning rows.
    pub crossfit: Option<usize>,
}

impl FitSpec {
    /// A fit with default hyperparameters, seed 0, no groups, no onsets and time 0.
    pub fn new(
        family: Family,
        name: impl Into<String>,
        features: Vec<String>,
        spec_hash: impl Into<String>,
    ) -> FitSpec {
        FitSpec {
            family,
            seed: 0,
            params: Hyper::default(),
            name: name.into(),
            features,
            spec_hash: spec_hash.into(),
            created_at: 0,
            onnx: None,
            groups: None,
            tuning_groups: None,
            onsets: None,
            tuning_onsets: None,
            aim: Aim::default(),
            patient_days: None,
            abstain: None,
            panel: None,
            select: None,
            crossfit: None,
        }
    }

    /// The same fit of some of the training rows; of `all` there are so many. A family that takes only so many of them
    /// takes the same share: it takes all of the rarer outcome first, so of fewer rows it would take more of the
    /// commoner one, and its margins would mean something else.
    pub(super) fn of_rows(&self, rows: &[usize], all: usize) -> FitSpec {
        let groups = self.groups.as_ref().map(|groups| rows.iter().map(|&row| groups[row]).collect());
        let onsets = self.onsets.as_ref().map(|onsets| rows.iter().map(|&row| onsets[row]).collect());
        let mut params = self.params.clone();
        for most in [&mut params.svm.landmarks, &mut params.knn.rows] {
            if *most < all {
                *most = (*most * rows.len()).div_ceil(all);
            }
        }
        FitSpec { groups, onsets, params, ..self.clone() }
    }
}

/// Rows of subjects that the model whose margins they have did not see.
pub(super) struct Unseen<'a> {
    pub(super) x: &'a Matrix,
    pub(super) labels: &'a [bool],
    pub(super) groups: Option<&'a [i64]>,
    pub(super) margins: Vec<f64>,
    /// The range of each feature in the rows that the model saw; empty if nobody asks.
    pub(super) ranges: Vec<Option<[f32; 2]>>,
    /// Of each row, how many of its features were out of range; likewise.
    pub(super) outside: Vec<u32>,
    /// How many patient-days they watch over.
    pub(super) patient_days: Option<f64>,
}

impl Bundle {
    /// Fits selection, preprocessing and model on `train`; calibration (the method that cross-validation
    /// speaks for), threshold (for the spec's aim, over all rows) and abstention on `tuning`, rows
    /// of other subjects. With [`FitSpec::crossfit`] the rows of both serve for all of it, fold by fold.
    ///
    /// # Errors
    /// Empty matrices, labels of one outcome only, lengths that differ, infinite values,
    /// hyperparameters out of range, or a fit that does not succeed.
    pub fn fit(
        spec: FitSpec,
        train: &Matrix,
        labels: &[bool],
        tuning: &Matrix,
        tuning_labels: &[bool],
    ) -> Result<Bundle, ModelError> {
        check(&spec, train, labels, tuning, tuning_labels)?;
        if let Some(folds) = spec.crossfit {
            return crossfit::fit(&spec, folds, (train, labels), (tuning, tuning_labels));
        }
        let mut bundle = Bundle::uncalibrated(&spec, train, labels, tuning)?;
        // Of a panel's rows, those on which it was seen whether the watched thing happened.
        let seen: Option<(Matrix, Vec<bool>)> = spec.panel.as_ref().map(|panel| {
            let seen = panel.seen();
            (tuning.pick(&seen), seen.iter().map(|&row| tuning_labels[row]).collect())
        });
        let (x, labels): (&Matrix, &[bool]) = match &seen {
            Some((rows, labels)) => (rows, labels),
            None => (tuning, tuning_labels),
        };
        check_rows("tuning", &bundle.card.features, x, labels)?;
        let margins = bundle.margins(x.values())?;
        let ranges = spec.abstain.map(|settings| settings.ranges(train)).unwrap_or_default();
        let outside = conformal::outside_of(x, &ranges);
        let groups = spec.tuning_groups.as_deref();
        let patient_days = spec.patient_days.map(|[_, tuning]| tuning);
        bundle.calibrate(&spec, Unseen { x, labels, groups, margins, ranges, outside, patient_days })?;
        Ok(bundle)
    }

    /// Fits selection, preprocessing and model; `tuning` is for the heads of a panel.
    pub(super) fn uncalibrated(
        spec: &FitSpec,
        train: &Matrix,
        labels: &[bool],
        tuning: &Matrix,
    ) -> Result<Bundle, ModelError> {
        let mut found = BTreeMap::new();
        let selected = Selection::fit(spec, train, labels, &mut found)?;
        let (preprocess, model) = match &selected {
            None => fit_model(spec, train, labels, tuning, &mut found)?,
            Some(selected) => {
                let spec = FitSpec { features: selected.names(&spec.features), ..spec.clone() };
                let (train, tuning) = (train.columns_at(selected.kept()), tuning.columns_at(selected.kept()));
                fit_model(&spec, &train, labels, &tuning, &mut found)?
            }
        };
        Bundle::of_parts(spec, (train, labels), selected, (preprocess, model), found)
    }

    /// Puts fitted parts together, with a card that awaits its calibration.
    pub(super) fn of_parts(
        spec: &FitSpec,
        (train, labels): (&Matrix, &[bool]),
        selected: Option<Selection>,
        (preprocess, model): (Preprocess, Box<dyn Model>),
        found: BTreeMap<String, f64>,
    ) -> Result<Bundle, ModelError> {
        let mut usual = train.medians();
        if !spec.family.reads_grid() {
            usual.truncate(tabular(&spec.features));
        }
        let card = Card {
            format: FORMAT,
            name: spec.name.clone(),
            version: 0,
            family: spec.family,
            features: spec.features.clone(),
            spec_hash: spec.spec_hash.clone(),
            created_at: spec.created_at,
            trained_on: Counts::of(labels),
            tuned_on: Counts::default(),
            metrics: BTreeMap::new(),
            found,
            threshold: 0.5,
            calibration: Calibration::Identity,
            params: spec.params.clone(),
            seed: spec.seed,
            aim: Some(spec.aim),
            threshold_note: None,
            conformal: None,
            usual,
            question: spec.panel.as_ref().map(|panel| panel.question.clone()),
            selected,
        };
        Bundle::assemble(card, preprocess, model)
    }

    /// Fits calibration, threshold and abstention on rows that the model did not see.
    pub(super) fn calibrate(&mut self, spec: &FitSpec, unseen: Unseen<'_>) -> Result<(), ModelError> {
        let Unseen { x, labels, groups, margins, ranges, outside, patient_days } = unseen;
        let link = self.link();
        self.card.tuned_on = Counts::of(labels);
        if spec.panel.is_none() {
            let found = &mut self.card.found;
            self.card.calibration = Calibration::fit(link, &margins, labels, groups, spec.seed, found);
        }
        let risks: Vec<f64> = margins.iter().map(|&margin| self.card.calibration.risk(link, margin)).collect();
        (self.card.threshold, self.card.threshold_note) = threshold::choose(spec.aim, &risks, labels, patient_days)?;
        self.card.conformal =
            spec.abstain.map(|settings| Conformal::fit(settings, ranges, x, &outside, &margins, labels));
        Ok(())
    }

    /// Takes in a model that XGBoost saved as JSON: a binary classifier over numeric
    /// features, scored as it is (no calibration), alerting at `threshold`. So it must tell
    /// log-odds; a hazard ratio is no risk.
    ///
    /// # Errors
    /// [`ModelError::Import`] if it is no such model or names other features.
    pub fn import_xgboost(
        json: &[u8],
        name: impl Into<String>,
        features: Vec<String>,
        spec_hash: impl Into<String>,
        threshold: f64,
        created_at: i64,
    ) -> Result<Bundle, ModelError> {
        let problem = |reason: String| ModelError::Import { reason };
        check_features(&features)?;
        let named = boosting::feature_names(json).map_err(problem)?;
        if !named.is_empty() && named != features {
            return Err(problem("its feature names are not those of the feature set, or in another order".to_owned()));
        }
        let model = Boosted::decode(json.to_vec(), features.len(), &LOG_ODDS).map_err(problem)?;
        let card = Card {
            format: FORMAT,
            name: name.into(),
            version: 0,
            family: Family::Boosting,
            features,
            spec_hash: spec_hash.into(),
            created_at,
            trained_on: Counts::default(),
            tuned_on: Counts::default(),
            metrics: BTreeMap::new(),
            found: BTreeMap::new(),
            threshold,
            calibration: Calibration::Identity,
            params: Hyper::default(),
            seed: 0,
            aim: None,
            threshold_note: None,
            conformal: None,
            usual: Vec::new(),
            question: None,
            selected: None,
        };
        let features = model.columns();
        Bundle::assemble(card, Preprocess::Raw { features }, Box::new(model))
    }
}

/// Refuses what cannot be fitted.
fn check(
    spec: &FitSpec,
    train: &Matrix,
    labels: &[bool],
    tuning: &Matrix,
    tuning_labels: &[bool],
) -> Result<(), ModelError> {
    spec.params.check(spec.family)?;
    check_features(&spec.features)?;
    check_rows("training", &spec.features, train, labels)?;
    check_rows("tuning", &spec.features, tuning, tuning_labels)?;
    for (part, rows, groups, onsets) in [
        ("training", train.rows(), &spec.groups, &spec.onsets),
        ("tuning", tuning.rows(), &spec.tuning_groups, &spec.tuning_onsets),
    ] {
        for (what, found) in [("groups", groups.as_ref().map(Vec::len)), ("onsets", onsets.as_ref().map(Vec::len))] {
            if let Some(found) = found.filter(|&found| found != rows) {
                return Err(ModelError::Lengths { part, what, rows, found });
            }
        }
        if onsets.iter().flatten().flatten().any(|hours| !(hours.is_finite() && *hours > 0.0)) {
            return Err(ModelError::Parameter { name: "onsets", reason: "must be finite hours above 0" });
        }
    }
    spec.aim.check().map_err(|reason| ModelError::Parameter { name: "aim", reason })?;
    if let Some(panel) = &spec.panel {
        for (part, rows, found) in
            [("training", train.rows(), panel.train.len()), ("tuning", tuning.rows(), panel.tuning.len())]
        {
            if rows != found {
                return Err(ModelError::Lengths { part, what: "targets", rows, found });
            }
        }
    }
    if let Some(reason) = spec.abstain.and_then(|abstain| abstain.check().err()) {
        return Err(ModelError::Parameter { name: "abstain.error_rate", reason });
    }
    if let Some(reason) = spec.select.and_then(|select| select.check().err()) {
        return Err(ModelError::Parameter { name: "select", reason });
    }
    if spec.crossfit.is_some() && spec.panel.is_some() {
        return Err(ModelError::Parameter { name: "crossfit", reason: "is for labels that are yes or no" });
    }
    Ok(())
}

/// Fits a family, or a panel of it, on the columns that are read.
fn fit_model(
    spec: &FitSpec,
    train: &Matrix,
    labels: &[bool],
    tuning: &Matrix,
    found: &mut BTreeMap<String, f64>,
) -> Result<(Preprocess, Box<dyn Model>), ModelError> {
    match &spec.panel {
        None => fit_on(spec.family, spec, train, labels, found),
        Some(panel) => {
            let panel = Panel::fit(spec, panel, train, tuning, found)?;
            Ok((Preprocess::Raw { features: train.columns() }, Box::new(panel)))
        }
    }
}

/// Fits the preprocessing of a family and the family on raw rows, of which it sees what it reads: a model of a
/// table sees no hourly grid.
pub(super) fn fit_on(
    family: Family,
    spec: &FitSpec,
    x: &Matrix,
    labels: &[bool],
    found: &mut BTreeMap<String, f64>,
) -> Result<(Preprocess, Box<dyn Model>), ModelError> {
    let table = tabular(&spec.features);
    if table == 0 && !family.reads_grid() {
        let reason = format!("all are hours of the grid, which a {family} model does not read");
        return Err(ModelError::Features { reason });
    }
    let cut = (!family.reads_grid() && table < x.columns()).then(|| x.leading(table));
    let x = cut.as_ref().unwrap_or(x);
    let preprocess = match &spec.onnx {
        Some(file) if family == Family::Onnx && Foreign::knows_gaps(file) => Preprocess::Raw { features: x.columns() },
        _ => Preprocess::fit(family, x),
    };
    let prepared = (!preprocess.is_raw()).then(|| preprocess.apply_all(x));
    let model = family.fit(spec, prepared.as_ref().unwrap_or(x), labels, found)?;
    Ok((preprocess, model))
}

/// Refuses rows that nothing can be learned from.
fn check_rows(part: &'static str, features: &[String], x: &Matrix, labels: &[bool]) -> Result<(), ModelError> {
    if x.columns() != features.len() {
        return Err(ModelError::Columns { expected: features.len(), found: x.columns() });
    }
    if x.rows() == 0 {
        return Err(ModelError::Empty { part, what: "rows" });
    }
    if x.rows() != labels.len() {
        return Err(ModelError::Lengths { part, what: "labels", rows: x.rows(), found: labels.len() });
    }
    if labels.iter().all(|&label| label == labels[0]) {
        return Err(ModelError::OneClass { part, label: labels[0] });
    }
    match x.values().iter().position(|value| value.is_infinite()) {
        Some(at) => Err(ModelError::Infinite { part, feature: features[at % features.len()].clone() }),
        None => Ok(()),
    }
}
